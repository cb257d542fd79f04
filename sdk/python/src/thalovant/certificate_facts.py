# SPDX-License-Identifier: Apache-2.0
"""What a server's certificate says of itself, for people: names, dates, who signed it. Trusts nothing."""

from __future__ import annotations

import datetime
import ssl
from collections.abc import Iterable
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.x509.oid import NameOID

__all__ = ["CertificateFacts", "signer_among"]

_SHOWN = 8  # names
_PEM = "-----BEGIN CERTIFICATE-----"


@dataclass(frozen=True)
class CertificateFacts:
    """A certificate as it was shown: its names and addresses, when it is good (UTC), and the name of its signer."""

    names: tuple[str, ...]
    begins: datetime.datetime
    ends: datetime.datetime
    issuer: str
    certificate: x509.Certificate

    @classmethod
    def of(cls, der: bytes | None) -> CertificateFacts | None:
        """Read a certificate (DER); None for what is none."""
        try:
            certificate = x509.load_der_x509_certificate(der or b"")
            names = _names(certificate)
        except ValueError:
            return None
        begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        return cls(names, begins, ends, _common_name(certificate.issuer), certificate)

    def good_at(self, moment: datetime.datetime) -> bool:
        """Whether its dates cover that moment."""
        return self.begins <= moment <= self.ends

    def __str__(self) -> str:
        more = f" and {len(self.names) - _SHOWN} more" if len(self.names) > _SHOWN else ""
        names = ", ".join(self.names[:_SHOWN]) + more
        dates = f"good from {self.begins:%Y-%m-%d} to {self.ends:%Y-%m-%d}"
        return f"for {names or 'no name'}, {dates}, signed by {self.issuer!r}"


def signer_among(facts: CertificateFacts, authorities: Iterable[bytes]) -> bool:
    """Whether one of these certificates (DER) has signed it directly."""
    return any(_has_signed(der, facts.certificate) for der in authorities)


def der_of(pem: str) -> list[bytes]:
    """The certificates of a PEM text; what cannot be read is left out."""
    found = []
    for block in pem.split(_PEM)[1:]:
        try:
            found.append(
                ssl.PEM_cert_to_DER_cert(
                    _PEM + block.partition("-----END CERTIFICATE-----")[0].rstrip() + "\n-----END CERTIFICATE-----\n"
                )
            )
        except ValueError:
            continue
    return found


def _has_signed(der: bytes, certificate: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(x509.load_der_x509_certificate(der))
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _names(certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    return tuple(str(each) for kind in (x509.DNSName, x509.IPAddress) for each in names.get_values_for_type(kind))


def _common_name(name: x509.Name) -> str:
    found = name.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(found[0].value) if found else name.rfc4514_string()
