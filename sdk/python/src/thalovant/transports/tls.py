# SPDX-License-Identifier: Apache-2.0
"""Whom a carrier trusts: one TLS context an identity. Opens no connection, caches nothing, reads no clock.

Trusted is the first bundle named by REQUESTS_CA_BUNDLE, CURL_CA_BUNDLE or SSL_CERT_FILE, else the system's
store (contract 2); and in addition the identity's own `ca_pem`, for that identity's endpoints only, because the
context is used for nothing else. Making a context reads files: call it from a thread, not from an event loop.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from pathlib import Path

from thalovant.errors import ThalovantConnectionError, ThalovantIdentityError

__all__ = ["BUNDLE_VARIABLES", "client_context"]

BUNDLE_VARIABLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE")


def client_context(
    ca_pem: str | None = None, *, self_signed: bool = False, environ: Mapping[str, str] | None = None
) -> ssl.SSLContext:
    """Make a context for TLS 1.2 or newer (blocking).

    `ca_pem` is PEM text of one or more authorities. `self_signed=True` switches the checking of certificates and
    names off: the hub is then known by its Noise key alone. Raises `ThalovantConnectionError` for a bundle that
    cannot be read and `ThalovantIdentityError` for a `ca_pem` that is no PEM text.
    """
    context = _context_with_bundle(os.environ if environ is None else environ)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if self_signed:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif ca_pem:
        _add_authorities(context, ca_pem)
    return context


def _context_with_bundle(environ: Mapping[str, str]) -> ssl.SSLContext:
    for variable in BUNDLE_VARIABLES:
        if path := environ.get(variable):
            return _context_from(variable, Path(path))
    return ssl.create_default_context()


def _context_from(variable: str, path: Path) -> ssl.SSLContext:
    try:
        if path.is_dir():
            return ssl.create_default_context(capath=str(path))
        return ssl.create_default_context(cafile=str(path))
    except OSError as error:  # ssl.SSLError is one
        raise ThalovantConnectionError(
            f"The environment variable {variable} names {path}, which is not a readable PEM file of certificate "
            f"authorities. Correct it or unset it."
        ) from error


def _add_authorities(context: ssl.SSLContext, ca_pem: str) -> None:
    try:
        context.load_verify_locations(cadata=ca_pem)
    except (ssl.SSLError, ValueError, TypeError) as error:  # TypeError: not ASCII
        raise ThalovantIdentityError(
            "The identity's ca_pem is not PEM text of a certificate. Create a fresh identity, or remove ca_pem "
            "if the hub's certificate is publicly trusted."
        ) from error
