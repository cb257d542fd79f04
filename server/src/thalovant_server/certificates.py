# SPDX-License-Identifier: Apache-2.0
"""The local certificate authority and the server's certificate (architecture decision 14).

The authority may vouch for loopback and for the public hosts named when it was made, for nothing else: its
name constraints are critical. It opens no socket and knows no path: PEM text in, PEM text out.
"""

from __future__ import annotations

import datetime
import ipaddress
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

AUTHORITY_LIFE = datetime.timedelta(days=3650)
SERVER_LIFE = datetime.timedelta(days=397)  # the longest that browsers and Apple's clients accept
CLOCK_SKEW = datetime.timedelta(hours=1)  # a device whose clock is a little behind still trusts a new certificate

LOOPBACK_HOSTS = ("localhost", "127.0.0.1", "::1")
_LOOPBACK_NAMES: tuple[x509.GeneralName, ...] = (
    x509.DNSName("localhost"),
    x509.IPAddress(ipaddress.ip_network("127.0.0.0/8")),
    x509.IPAddress(ipaddress.ip_network("::1/128")),
)


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A certificate with its private key, both as PEM text."""

    certificate: str
    private_key: str = field(repr=False)


def make_authority(public_hosts: tuple[str, ...] = ()) -> KeyPair:
    """Make a certificate authority that can vouch for loopback and ``public_hosts`` only (RFC 5280 4.2.1.10)."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Thalovant local authority")])
    usage = x509.KeyUsage(
        digital_signature=False, content_commitment=False, key_encipherment=False, data_encipherment=False,
        key_agreement=False, key_cert_sign=True, crl_sign=True, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    permitted = [
        *_LOOPBACK_NAMES,
        *(_constraint(host) for host in public_hosts if host not in LOOPBACK_HOSTS),
    ]
    builder = (
        _builder(name, name, key, AUTHORITY_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.NameConstraints(permitted, excluded_subtrees=None), critical=True)
    )
    return KeyPair(_pem(builder.sign(key, hashes.SHA256())), _key_pem(key))


def make_server_certificate(authority: KeyPair, public_hosts: tuple[str, ...] = ()) -> KeyPair:
    """Make the certificate of one server for loopback and ``public_hosts``, signed by ``authority``.

    Raises:
        ValueError: ``authority`` cannot be read, or its name constraints do not cover a host.
    """
    issuer = x509.load_pem_x509_certificate(authority.certificate.encode())
    issuer_key = serialization.load_pem_private_key(authority.private_key.encode(), password=None)
    if not isinstance(issuer_key, ec.EllipticCurvePrivateKey) or issuer_key.public_key() != issuer.public_key():
        raise ValueError("the authority's key does not belong to its certificate")
    hosts = tuple(dict.fromkeys([*LOOPBACK_HOSTS, *public_hosts]))
    missing = [host for host in hosts if not _covers(issuer, host)]
    if missing:
        raise ValueError(f"the authority may not vouch for {', '.join(missing)}")
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "thalovant-server")])
    builder = (
        _builder(subject, issuer.subject, key, SERVER_LIFE)
        .add_extension(x509.SubjectAlternativeName([_general_name(host) for host in hosts]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
    )
    return KeyPair(_pem(builder.sign(issuer_key, hashes.SHA256())), _key_pem(key))


def serves(certificate: str, authority: str, hosts: tuple[str, ...], at: datetime.datetime) -> bool:
    """Tell whether ``certificate`` was signed by ``authority``, names every host and is valid at ``at``.

    Raises:
        ValueError: either text is not a PEM certificate.
    """
    leaf = x509.load_pem_x509_certificate(certificate.encode())
    try:
        leaf.verify_directly_issued_by(x509.load_pem_x509_certificate(authority.encode()))
    except (InvalidSignature, ValueError, TypeError):
        return False
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    named = {str(name.value) for name in names}
    return set(hosts) <= named and leaf.not_valid_before_utc <= at < leaf.not_valid_after_utc


def fingerprint(certificate: str) -> str:
    """Return the SHA-256 of a certificate as 64 lower-case hex digits, as `openssl x509 -fingerprint` counts it."""
    return x509.load_pem_x509_certificate(certificate.encode()).fingerprint(hashes.SHA256()).hex()


def public_key_of(private_key: str) -> bytes:
    """Return the DER public key of a PEM private key.

    Raises:
        ValueError: the text is not a PEM private key.
    """
    try:
        key = serialization.load_pem_private_key(private_key.encode(), password=None)
    except TypeError as error:
        raise ValueError("the private key is encrypted") from error
    return key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, life: datetime.timedelta
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(now + life)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _constraint(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_network(host))
    except ValueError:
        return x509.DNSName(host)


def _covers(issuer: x509.Certificate, host: str) -> bool:
    constraints = issuer.extensions.get_extension_for_class(x509.NameConstraints).value
    permitted = constraints.permitted_subtrees or []
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        names = [tree.value for tree in permitted if isinstance(tree, x509.DNSName)]
        return any(host == name or host.endswith("." + name) for name in names)
    networks = [ipaddress.ip_network(str(tree.value)) for tree in permitted if isinstance(tree, x509.IPAddress)]
    return any(address in network for network in networks)


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _key_pem(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
