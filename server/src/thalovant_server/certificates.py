# SPDX-License-Identifier: Apache-2.0
"""The local certificate authority and the certificates that it signs (architecture decision 14).

The authority may vouch for loopback and for the public hosts it was told of, for nothing else: its name
constraints are critical. A client that trusts it holds every name of a certificate against them (RFC 5280 4.2.1.10),
so when it is issued anew for more names, with the same key and name, what was signed before stays trusted, and
whoever holds its earlier certificate must be shown one without the new names. It opens no socket and knows no
path: PEM text in, PEM text out.
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


def make_authority(public_hosts: tuple[str, ...] = (), *, at: datetime.datetime | None = None) -> KeyPair:
    """Make a certificate authority that can vouch for loopback and ``public_hosts`` only (RFC 5280 4.2.1.10)."""
    key = ec.generate_private_key(ec.SECP256R1())
    permitted = [*_LOOPBACK_NAMES, *(_constraint(host) for host in public_hosts if host not in LOOPBACK_HOSTS)]
    return KeyPair(_sign_authority(key, permitted, at), _key_pem(key))


def reissue_authority(
    authority: KeyPair, public_hosts: tuple[str, ...] = (), *, at: datetime.datetime | None = None
) -> KeyPair:
    """Issue an authority's certificate anew, for ``public_hosts`` besides the names it has; its key stays.

    Raises:
        ValueError: ``authority`` cannot be read.
    """
    issuer, key = _opened(authority)
    permitted = list(_permitted(issuer))
    permitted += [_constraint(host) for host in public_hosts if not permits(authority.certificate, host)]
    return KeyPair(_sign_authority(key, permitted, at), authority.private_key)


def make_server_certificate(
    authority: KeyPair,
    public_hosts: tuple[str, ...] = (),
    *,
    private_key: str | None = None,
    at: datetime.datetime | None = None,
) -> KeyPair:
    """Make the certificate of one server for loopback and ``public_hosts``, signed by ``authority``.

    Args:
        authority: that signs.
        public_hosts: the names besides loopback's.
        private_key: the server's, PEM; None makes a new one.
        at: when it begins; None is now.

    Raises:
        ValueError: ``authority`` cannot be read, or its name constraints do not cover a host.
    """
    issuer, issuer_key = _opened(authority)
    hosts = tuple(dict.fromkeys([*LOOPBACK_HOSTS, *public_hosts]))
    missing = [host for host in hosts if not _covers(issuer, host)]
    if missing:
        raise ValueError(f"the authority may not vouch for {', '.join(missing)}")
    key = ec.generate_private_key(ec.SECP256R1()) if private_key is None else _loaded_key(private_key)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "thalovant-server")])
    builder = (
        _builder(subject, issuer.subject, key, SERVER_LIFE, at)
        .add_extension(x509.SubjectAlternativeName([_general_name(host) for host in hosts]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
    )
    return KeyPair(_pem(builder.sign(issuer_key, hashes.SHA256())), _key_pem(key))


def make_key() -> str:
    """Make a private key for a server certificate, PEM text."""
    return _key_pem(ec.generate_private_key(ec.SECP256R1()))


def check_authority(authority: KeyPair) -> None:
    """Let an authority pass that can be issued anew.

    Raises:
        ValueError: its certificate or key cannot be read, do not belong together, or are not of the kind made here.
    """
    _permitted(_opened(authority)[0])


def serves(certificate: str, authority: str, hosts: tuple[str, ...], at: datetime.datetime) -> bool:
    """Tell whether ``certificate`` was signed by ``authority``, names exactly these hosts and is valid at ``at``.

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
    return set(hosts) == named and leaf.not_valid_before_utc <= at < leaf.not_valid_after_utc


def permits(authority: str, host: str) -> bool:
    """Tell whether the name constraints of a certificate authority permit a host.

    Raises:
        ValueError: the text is not a PEM certificate.
    """
    return _covers(x509.load_pem_x509_certificate(authority.encode()), host)


def due(certificate: str) -> datetime.datetime:
    """Return when a certificate is to be replaced: when two thirds of its life are over.

    Raises:
        ValueError: the text is not a PEM certificate.
    """
    loaded = x509.load_pem_x509_certificate(certificate.encode())
    begin, end = loaded.not_valid_before_utc, loaded.not_valid_after_utc
    return begin + (end - begin) * 2 / 3


def ends(certificate: str) -> datetime.datetime:
    """Return when a certificate is no longer valid.

    Raises:
        ValueError: the text is not a PEM certificate.
    """
    return x509.load_pem_x509_certificate(certificate.encode()).not_valid_after_utc


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


def public_key_in(certificate: str) -> bytes:
    """Return the DER public key that a PEM certificate is about.

    Raises:
        ValueError: the text is not a PEM certificate.
    """
    key = x509.load_pem_x509_certificate(certificate.encode()).public_key()
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def _opened(authority: KeyPair) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    issuer = x509.load_pem_x509_certificate(authority.certificate.encode())
    key = _loaded_key(authority.private_key)
    if key.public_key() != issuer.public_key():
        raise ValueError("the authority's key does not belong to its certificate")
    return issuer, key


def _loaded_key(private_key: str) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key(private_key.encode(), password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError("the private key is of another kind than the server makes")  # noqa: TRY004 - a text is read
    return key


def _sign_authority(
    key: ec.EllipticCurvePrivateKey, permitted: list[x509.GeneralName], at: datetime.datetime | None
) -> str:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Thalovant local authority")])
    usage = x509.KeyUsage(
        digital_signature=False, content_commitment=False, key_encipherment=False, data_encipherment=False,
        key_agreement=False, key_cert_sign=True, crl_sign=True, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    builder = (
        _builder(name, name, key, AUTHORITY_LIFE, at)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.NameConstraints(permitted, excluded_subtrees=None), critical=True)
    )
    return _pem(builder.sign(key, hashes.SHA256()))


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    life: datetime.timedelta,
    at: datetime.datetime | None,
) -> x509.CertificateBuilder:
    begin = at or datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin - CLOCK_SKEW)
        .not_valid_after(begin + life)
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


def _permitted(issuer: x509.Certificate) -> list[x509.GeneralName]:
    try:
        constraints = issuer.extensions.get_extension_for_class(x509.NameConstraints).value
    except x509.ExtensionNotFound:
        raise ValueError("the authority has no name constraints") from None
    return list(constraints.permitted_subtrees or [])


def _covers(issuer: x509.Certificate, host: str) -> bool:
    permitted = _permitted(issuer)
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
