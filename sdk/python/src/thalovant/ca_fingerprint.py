# SPDX-License-Identifier: Apache-2.0
"""Trust a server's authority by its fingerprint: how a second machine gets the certificate that it needs.

The certificates are fetched over a connection that is not trusted, with nothing secret in the request; the one whose
SHA-256 the user has read from the server itself is believed, no other. Who uses it then checks the server's own
certificate and name against it, as always.
"""

from __future__ import annotations

import hmac
import re
import ssl

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from thalovant.api_session import HttpRequest
from thalovant.errors import ThalovantAPIError
from thalovant.http_client import untrusted_get

__all__ = ["fetch_ca"]

_MAX_ANSWER = 64 * 1024
_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----")
_FINGERPRINT = re.compile(r"[0-9a-f]{64}")


def fetch_ca(root: str, fingerprint: str, *, timeout: float) -> str:
    """Return the PEM text of the authority of the server at `root` whose SHA-256 (of its DER form) is `fingerprint`.

    `fingerprint` is 64 hex digits in any case, with colons or without. Nothing is sent but a bare GET. Raises
    ThalovantAPIError for a fingerprint or an address that is none, when the server shows no certificate with it, and
    when that certificate is no authority; ThalovantAPIUnreachableError when there is no answer.
    """
    wanted = re.sub(r"[:\s]", "", fingerprint).lower()
    if not _FINGERPRINT.fullmatch(wanted):
        raise ThalovantAPIError("A fingerprint is the SHA-256 of the CA certificate: 64 hex digits.")
    if not root.startswith("https:"):
        raise ThalovantAPIError(f"{root} is not encrypted, so it has no certificate: use its https:// address.")
    request = HttpRequest("GET", f"{root}/v1/ca.pem", {"accept": "application/x-pem-file"})
    answer = untrusted_get(request, timeout)
    shown = _certificates(answer.body[:_MAX_ANSWER].decode("ascii", "replace"))
    found = next((one for digest, one in shown.items() if hmac.compare_digest(digest, wanted)), None)
    if found is None:
        raise ThalovantAPIError(_mismatch(root, list(shown)), code="fingerprint_mismatch")
    _refuse_unless_authority(found, root)
    # Not the server's text, which another parser might read as another certificate: the one that was compared.
    return found.public_bytes(serialization.Encoding.PEM).decode()


def _certificates(text: str) -> dict[str, x509.Certificate]:
    """Each certificate in a text by its fingerprint; what only looks like one is left out."""
    found = {}
    for pem in _CERTIFICATE.findall(text):
        try:
            certificate = x509.load_der_x509_certificate(ssl.PEM_cert_to_DER_cert(pem))
        except ValueError:
            continue
        found[certificate.fingerprint(hashes.SHA256()).hex()] = certificate
    return found


def _mismatch(root: str, shown: list[str]) -> str:
    what = f"It showed {' and '.join(shown)}" if shown else "It showed none"
    return (
        f"{root} has no CA certificate with that fingerprint; no password was sent. {what}. Compare with what "
        "`thalovant-server up` prints on the server: if that is what you typed, somebody stands in between."
    )


def _refuse_unless_authority(certificate: x509.Certificate, root: str) -> None:
    try:
        is_authority = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (ValueError, x509.ExtensionNotFound):
        is_authority = False
    if not is_authority:
        raise ThalovantAPIError(
            f"That is the fingerprint of a certificate of {root} which is no authority: use the one that "
            "`thalovant-server up` prints on the server."
        )
