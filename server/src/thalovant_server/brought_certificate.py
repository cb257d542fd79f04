# SPDX-License-Identifier: Apache-2.0
"""The certificate that an operator brings: read, and held against all that would make clients refuse it later.

Each fault is a sentence that names the file and what to do. Serves nothing and watches nothing.
"""

from __future__ import annotations

import datetime
import ipaddress
import itertools
import shlex
import ssl
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID

from thalovant_server.certificates import LOOPBACK_HOSTS
from thalovant_server.errors import CertificateError
from thalovant_server.server_tls import Leaf, canonical
from thalovant_server.tls_rehearsal import refusal

LARGEST_FILE = 1024 * 1024
_NOT_FOR_OTHERS = 0o037  # the owner's group may read it, as /etc/ssl/private has it; nobody may write it
_PEM = serialization.Encoding.PEM


@dataclass(frozen=True, slots=True)
class Brought:
    """A certificate of the operator's that can be used.

    Args:
        leaf: its files, and which of the public and loopback hosts it names.
        chain: PEM text of it and of what follows it in the file.
        authority: PEM text of the authority to hand to clients; "" when they trust it anyway.
        ends: when it, or what follows it, is no longer valid.
        refused: why a client that trusts what this machine trusts refuses it; "" when it does not.
    """

    leaf: Leaf
    chain: str
    authority: str
    ends: datetime.datetime
    refused: str = ""


def read_brought(
    certificate: Path,
    key: Path,
    authority: Path | None,
    public_hosts: Sequence[str],
    at: datetime.datetime,
) -> Brought:
    """Read the files and check them (blocking).

    Args:
        certificate: PEM, the server's own certificate first, then those that lead to its authority.
        key: PEM, of that certificate.
        authority: PEM of the authority that clients are to trust; None when it is one that they trust anyway.
        public_hosts: the first is the one that clients are given: the certificate must name it.
        at: the time to hold the dates against.

    Raises:
        CertificateError: one of them cannot be used; says why and what to do.
    """
    chain = _read_chain(certificate)
    _check_key(key, certificate, chain)
    for number, each in enumerate(chain, 1):
        _check_dates(certificate, number, each, at)
    _check_order(certificate, chain)
    _check_purpose(certificate, chain[0])
    leaf = Leaf(_named_hosts(certificate, chain[0], public_hosts), certificate, key)
    authorities = read_authorities(authority, "--certificate-authority") if authority else ""
    refused = _rehearse(leaf, public_hosts[0], authorities)
    if authority and refused:
        raise CertificateError(
            authority,
            f"does not lead to {certificate}: a client that trusts it says: {refused}. Name the authority that signed "
            "it, and put the certificates in between into --certificate",
        )
    return Brought(leaf, _text(chain), authorities, min(each.not_valid_after_utc for each in chain), refused)


def _read_chain(path: Path) -> list[x509.Certificate]:
    found = _certificates_in(path)
    if not found:
        raise CertificateError(path, _what_it_is(path, _bytes(path), "certificate", "--certificate"))
    return found


def _certificates_in(path: Path) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(_bytes(path))
    except ValueError:
        return []


def _check_key(path: Path, certificate: Path, chain: list[x509.Certificate]) -> None:
    public = _read_key(path).public_key()
    if public == chain[0].public_key():
        return
    if any(public == each.public_key() for each in chain[1:]):
        raise CertificateError(certificate, "begins with another certificate than the server's own: put that one first")
    raise CertificateError(
        path, f"is not the key of the certificate in {certificate}: name the key that it was requested with"
    )


def _read_key(path: Path) -> PrivateKeyTypes:
    content = _bytes(path)
    _check_private(path)
    try:
        return serialization.load_pem_private_key(content, password=None)
    except TypeError:
        out = path.with_name(f"{path.stem}-open.pem")
        line = shlex.join(["openssl", "pkey", "-in", str(path), "-out", str(out)])
        raise CertificateError(
            path, f"is encrypted, and nobody is there to type its password. Type `{line}` and name the new file"
        ) from None
    except (ValueError, UnsupportedAlgorithm):
        raise CertificateError(path, _what_it_is(path, content, "private key", "--certificate-key")) from None


def _check_private(path: Path) -> None:
    """Others on this machine could pass for the server."""
    if stat.S_IMODE(path.stat().st_mode) & _NOT_FOR_OTHERS:
        raise CertificateError(
            path, f"can be read or changed by others than its owner. Type `{shlex.join(['chmod', '600', str(path)])}`"
        )


def _check_dates(path: Path, number: int, certificate: x509.Certificate, at: datetime.datetime) -> None:
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    which = "the server's own" if number == 1 else f"number {number}"
    if at >= end:
        raise CertificateError(path, f"ended: its certificate ({which}) was good until {end:%Y-%m-%d}. Renew it")
    if at < begin:
        raise CertificateError(
            path,
            f"does not hold yet: its certificate ({which}) is good from {begin:%Y-%m-%d %H:%M} UTC on. Wait, or set "
            "this machine's clock",
        )


def _check_order(path: Path, chain: list[x509.Certificate]) -> None:
    for number, (one, issuer) in enumerate(itertools.pairwise(chain), 1):
        if not _issued(issuer, one):
            raise CertificateError(
                path,
                f"is out of order: certificate {number + 1} did not sign certificate {number}. Put the server's own "
                "first, and after each the one that signed it",
            )


def _check_purpose(path: Path, certificate: x509.Certificate) -> None:
    try:
        usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return
    if ExtendedKeyUsageOID.SERVER_AUTH not in usage:  # "any" is not enough for OpenSSL
        raise CertificateError(path, "is not a server's certificate: ask its authority for one with the use serverAuth")


def _named_hosts(path: Path, certificate: x509.Certificate, public_hosts: Sequence[str]) -> tuple[str, ...]:
    names = _names(certificate)
    hosts = tuple(host for host in dict.fromkeys([*public_hosts, *LOOPBACK_HOSTS]) if _matches(host, names))
    if not names:
        raise CertificateError(path, "names no host (it has no subject alternative names): ask for one that does")
    if not public_hosts:
        raise CertificateError(path, f"is there, and no --public-host: add --public-host {names[0]}")
    if public_hosts[0] not in hosts:
        raise CertificateError(
            path,
            f"is good for {', '.join(names)}, not for {public_hosts[0]}, the first --public-host: put a name first "
            "that it is good for, or ask for another certificate",
        )
    return hosts


def _names(certificate: x509.Certificate) -> list[str]:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    kinds = (x509.DNSName, x509.IPAddress)
    return [canonical(str(name.value)) for name in found if isinstance(name, kinds)]


def _matches(host: str, names: list[str]) -> bool:
    """RFC 6125 6.4.3 as OpenSSL holds it: a wildcard stands for one whole label, the first of three or more."""
    host = canonical(host)
    if host in names:
        return True
    _, _, rest = host.partition(".")
    return "." in rest and not _is_address(host) and f"*.{rest}" in names


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _rehearse(leaf: Leaf, host: str, authorities: str) -> str:
    """Let a client in memory shake hands; what OpenSSL finds wrong with the files besides is told, too."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(leaf.certificate, leaf.key, password="")
    except OSError as error:
        why = (getattr(error, "reason", "") or str(error)).lower().replace("_", " ")
        raise CertificateError(leaf.certificate, f"is refused by OpenSSL: {why}. Ask for another one") from error
    return refusal(context, host, authorities or None)


def read_authorities(path: Path, option: str) -> str:
    """Return the certificates of a file that ``option`` named, to hand out to clients (blocks).

    Raises:
        CertificateError: there is none in it, or a private key.
    """
    if b"PRIVATE KEY" in _bytes(path):
        raise CertificateError(path, "holds a private key, and is handed to every client: leave certificates only")
    found = _certificates_in(path)
    if not found:
        raise CertificateError(path, _what_it_is(path, _bytes(path), "certificate", option))
    return _text(found)


def _issued(issuer: x509.Certificate, certificate: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (InvalidSignature, ValueError, TypeError):
        return False
    return True


def _bytes(path: Path) -> bytes:
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise CertificateError(path, "is no regular file: name a PEM file")
        if found.st_size > LARGEST_FILE:
            raise CertificateError(path, f"is larger than {LARGEST_FILE} bytes: it is no certificate")
        return path.read_bytes()
    except OSError as error:
        raise CertificateError(path, f"cannot be read ({error.strerror}) by the user who runs the server") from error


def _what_it_is(path: Path, content: bytes, wanted: str, option: str) -> str:
    """Say what is in a file in place of what is wanted."""
    if content[:1] == b"\x30":
        kind = "x509" if wanted == "certificate" else "pkey"
        line = shlex.join(["openssl", kind, "-inform", "DER", "-in", str(path), "-out", f"{path}.pem"])
        return f"is DER, not PEM: type `{line}` and name the new file with {option}"
    other = {"certificate": b"PRIVATE KEY", "private key": b"BEGIN CERTIFICATE"}[wanted]
    if other in content:
        return f"holds no {wanted}, it looks as if --certificate and --certificate-key were swapped"
    return f"holds no {wanted} that can be read as PEM: name another file with {option}"


def _text(chain: list[x509.Certificate]) -> str:
    return "".join(each.public_bytes(_PEM).decode() for each in chain)
