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

from thalovant.diagnoses import diagnose, diagnosed
from thalovant.errors import ThalovantConnectionError, ThalovantIdentityError

__all__ = [
    "BUNDLE_VARIABLES",
    "NAME_ADVICE",
    "bundle_advice",
    "client_context",
    "is_expired",
    "is_not_yet_valid",
    "is_other_authority",
    "is_other_name",
]

BUNDLE_VARIABLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE")
# OpenSSL's verify codes for a chain that ends at an authority that is not trusted (x509_vfy.h): issuer not found,
# signature wrong (the same name, another key), self-signed leaf, self-signed root, issuer not here, leaf not verified.
_OTHER_AUTHORITY = frozenset({2, 7, 18, 19, 20, 21})
_OTHER_NAME = frozenset({62, 64})  # host name, address
_NOT_YET_VALID = 9
_EXPIRED = 10
NAME_ADVICE = (
    "The server is known by other names: use one of those, or start it with `thalovant-server up --public-host NAME` "
    "for this one, too."
)


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


def is_other_authority(error: ssl.SSLCertVerificationError) -> bool:
    """Whether a certificate was refused for who signed it, and not for its name or its dates."""
    return getattr(error, "verify_code", None) in _OTHER_AUTHORITY


def is_other_name(error: ssl.SSLCertVerificationError) -> bool:
    """Whether a certificate was refused for the name or address that was dialled alone: who signed it is trusted."""
    return getattr(error, "verify_code", None) in _OTHER_NAME


def is_expired(error: ssl.SSLCertVerificationError) -> bool:
    """Whether a certificate was refused because it is over."""
    return getattr(error, "verify_code", None) == _EXPIRED


def is_not_yet_valid(error: ssl.SSLCertVerificationError) -> bool:
    """Whether a certificate was refused because it has not begun."""
    return getattr(error, "verify_code", None) == _NOT_YET_VALID


def bundle_advice(environ: Mapping[str, str] | None = None) -> str:
    """How a user makes a private authority trusted: part of a sentence that names the variable that counts."""
    env = os.environ if environ is None else environ
    named = [variable for variable in BUNDLE_VARIABLES if env.get(variable)]
    if not named:
        return "name its file in SSL_CERT_FILE"
    also = f"; {' and '.join(named[1:])} did not count" if named[1:] else ""
    return f"add it to the bundle that {named[0]} names, which was used{also}"


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
        raise diagnosed(
            ThalovantConnectionError, diagnose("bundle_unreadable", variable=variable, path=path)
        ) from error


def _add_authorities(context: ssl.SSLContext, ca_pem: str) -> None:
    try:
        context.load_verify_locations(cadata=ca_pem)
    except (ssl.SSLError, ValueError, TypeError) as error:  # TypeError: not ASCII
        raise ThalovantIdentityError(
            "The identity's ca_pem is not PEM text of a certificate. Create a fresh identity, or remove ca_pem "
            "if the hub's certificate is publicly trusted."
        ) from error
