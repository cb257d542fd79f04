# SPDX-License-Identifier: Apache-2.0
"""An authority and certificates as an operator brings them, in every state of disorder; for tests."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DAY = datetime.timedelta(days=1)
PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


@dataclass(frozen=True)
class Issued:
    """A certificate with its key."""

    certificate: x509.Certificate
    key: PrivateKey

    @property
    def pem(self) -> str:
        """The certificate."""
        return self.certificate.public_bytes(serialization.Encoding.PEM).decode()

    @property
    def key_pem(self) -> str:
        """The key, without a password."""
        return self.locked_key_pem(serialization.NoEncryption())

    def locked_key_pem(self, lock: serialization.KeySerializationEncryption) -> str:
        """Return the key as ``lock`` has it."""
        form = serialization.PrivateFormat.PKCS8
        return self.key.private_bytes(serialization.Encoding.PEM, form, lock).decode()

    def write(self, folder: Path, *chain: Issued, name: str = "operator") -> tuple[Path, Path]:
        """Write certificate, ``chain`` and key below ``folder`` as an operator keeps them; return their paths."""
        certificate, key = folder / f"{name}.pem", folder / f"{name}.key"
        key.touch(0o600)
        key.write_text(self.key_pem)
        certificate.write_text("".join(each.pem for each in (self, *chain)))
        return certificate, key


def issue(
    subject: str,
    issuer: Issued | None = None,
    *,
    hosts: Sequence[str] = (),
    is_authority: bool = False,
    key: PrivateKey | None = None,
    begin: datetime.datetime | None = None,
    life: datetime.timedelta = 90 * DAY,
    usages: Sequence[x509.ObjectIdentifier] = (ExtendedKeyUsageOID.SERVER_AUTH,),
) -> Issued:
    """Issue a certificate; without ``issuer`` it signs itself.

    Args:
        subject: its common name.
        issuer: that signs.
        hosts: names and addresses; none leaves the subject alternative names out.
        is_authority: whether it may sign others.
        key: None makes one.
        begin: None is a day ago.
        life: how long it is good.
        usages: what it may be used for; none leaves the extension out.
    """
    key = key or ec.generate_private_key(ec.SECP256R1())
    begin = begin or datetime.datetime.now(datetime.UTC) - DAY
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer.certificate.subject if issuer else name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + life)
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
    )
    if hosts:
        builder = builder.add_extension(x509.SubjectAlternativeName(list(map(_name, hosts))), critical=False)
    if usages and not is_authority:
        builder = builder.add_extension(x509.ExtendedKeyUsage(list(usages)), critical=False)
    return Issued(builder.sign(issuer.key if issuer else key, hashes.SHA256()), key)


def _name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def for_two_threads(context: ssl.SSLContext) -> ssl.SSLContext:
    """Make a client's context good for a library that reads in one thread and writes in another (`websockets.sync`).

    Python takes no lock around an SSL object. In TLS 1.3 a server sends session tickets after the handshake, and where
    the one thread reads those while the other one writes its first request, that may never leave.
    """
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    return context
