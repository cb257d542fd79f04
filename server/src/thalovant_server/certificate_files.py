# SPDX-License-Identifier: Apache-2.0
"""The local authority and the server's certificates, as files of the data directory.

A start, and a look while the server runs, find them in order or bring them there: made when they are missing, issued
anew when a name is lacking or two thirds of their life are over. What is damaged is named, never replaced.
It knows no client and swaps nothing.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from thalovant_server import certificates, trust_bundle
from thalovant_server.certificates import LOOPBACK_HOSTS, KeyPair
from thalovant_server.data_files import check_kind, read_text, remove, write_private_text, write_text
from thalovant_server.errors import DataDamagedError
from thalovant_server.generations import Generation, generations
from thalovant_server.server_tls import Leaf

AUTHORITY_CERTIFICATE = "ca.pem"
AUTHORITY_KEY = "ca.key"
BUNDLE = "ca-bundle.pem"
EARLIER_AUTHORITIES = "ca-earlier.pem"
SERVER_CERTIFICATE = "tls.crt"
SERVER_KEY = "tls.key"
LATER_SERVER_CERTIFICATES = "tls-*.crt"  # one for each time the authority was issued for more names

_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----\n?", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Authority:
    """The local certificate authority.

    Args:
        pair: its newest certificate, and its key.
        earlier: its certificates before it was issued for more names, the first one first.
        added: names that it was issued for just now.
        renewed: whether it was issued just now because two thirds of its life were over.
        before: its certificate before it was issued just now.
    """

    pair: KeyPair
    earlier: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    renewed: bool = False
    before: str = ""

    @property
    def fingerprint(self) -> str:
        """SHA-256 of its newest certificate, 64 lower-case hex digits."""
        return certificates.fingerprint(self.pair.certificate)

    @property
    def all_certificates(self) -> tuple[str, ...]:
        """The earliest first."""
        return (*self.earlier, self.pair.certificate)


class CertificateFiles:
    """The files below one folder, which the caller owns.

    Args:
        folder: the data directory.
        is_new: whether the first start is under way: half a pair is then no damage.
    """

    def __init__(self, folder: Path, *, is_new: bool = False) -> None:
        self.folder = folder
        self._is_new = is_new
        self._was_read = False  # from then on a missing authority is damage: a running server makes no other one

    def paths(self) -> list[Path]:
        """Return the files to look at for a change."""
        names = (AUTHORITY_CERTIFICATE, AUTHORITY_KEY, EARLIER_AUTHORITIES, SERVER_KEY)
        return [*(self.folder / name for name in names), *self._server_certificates()]

    def authority(self, public_hosts: tuple[str, ...], at: datetime.datetime) -> Authority:
        """Return the local authority, good for ``public_hosts``: made at the first start, issued anew when needed.

        Raises:
            DataDamagedError, DataDirectoryError: a file is damaged, missing or cannot be written.
        """
        pair = self._authority_pair(public_hosts, at)
        self._was_read = True
        earlier = self._earlier(pair)
        added = tuple(host for host in public_hosts if not certificates.permits(pair.certificate, host))
        renewed = at >= certificates.due(pair.certificate)
        if not (added or renewed):
            return Authority(pair, earlier)
        if added:
            # Before the new one takes its place: what is cut off in between is found and done again.
            earlier = (*earlier, pair.certificate)
            write_text(self.folder / EARLIER_AUTHORITIES, "".join(earlier))
        reissued = certificates.reissue_authority(pair, added, at=at)
        write_text(self.folder / AUTHORITY_CERTIFICATE, reissued.certificate)
        return Authority(reissued, earlier, added, renewed, pair.certificate)

    def leaves(self, authority: Authority, public_hosts: tuple[str, ...], at: datetime.datetime) -> list[Leaf]:
        """Return the server's certificates, one a generation; each is made anew when it does not fit any more.

        Raises:
            DataDamagedError, DataDirectoryError: a file is damaged or cannot be written.
        """
        key = self._server_key()
        wanted = generations(authority.all_certificates, public_hosts)
        leaves = [self._leaf(generation, authority, key, at) for generation in wanted]
        for path in set(self._server_certificates()) - {leaf.certificate for leaf in leaves}:
            remove(path)
        return leaves

    def write_bundle(self, authorities: str) -> None:
        """Write the system's certificates and ours into one file, for programs that take a single bundle."""
        trust_bundle.write(self.folder / BUNDLE, authorities)

    def _authority_pair(self, public_hosts: tuple[str, ...], at: datetime.datetime) -> KeyPair:
        certificate, key = self.folder / AUTHORITY_CERTIFICATE, self.folder / AUTHORITY_KEY
        missing = [path for path in (certificate, key) if not path.exists()]
        # A first start may have been cut off between the two.
        if not self._was_read and (len(missing) == 2 or (missing and self._is_new)):
            made = certificates.make_authority(public_hosts, at=at)
            remove(self.folder / EARLIER_AUTHORITIES)
            write_private_text(key, made.private_key)
            write_text(certificate, made.certificate)
        elif missing:
            raise DataDamagedError(missing[0], "it is missing, while its other half is there")
        pair = KeyPair(read_text(certificate), read_text(key))
        _read(certificate, certificates.public_key_in, pair.certificate)
        _read(key, certificates.public_key_of, pair.private_key)
        try:
            certificates.check_authority(pair)
        except ValueError as error:
            raise DataDamagedError(key, f"with {AUTHORITY_CERTIFICATE} it is no authority of ours: {error}") from error
        return pair

    def _earlier(self, pair: KeyPair) -> tuple[str, ...]:
        path = self.folder / EARLIER_AUTHORITIES
        check_kind(path, remade=False)
        if not path.exists():
            return ()
        found = tuple(_CERTIFICATE.findall(read_text(path)))
        key = certificates.public_key_in(pair.certificate)
        if not found or any(_read(path, certificates.public_key_in, text) != key for text in found):
            raise DataDamagedError(path, f"it does not hold certificates of the authority in {AUTHORITY_CERTIFICATE}")
        return tuple(text for text in found if text != pair.certificate)

    def _server_key(self) -> str:
        path = self.folder / SERVER_KEY
        check_kind(path, remade=True)
        if not path.exists():
            for certificate in self._server_certificates():  # of a key that is gone
                remove(certificate)
            write_private_text(path, certificates.make_key())
        key = read_text(path)
        _read(path, certificates.public_key_of, key)
        return key

    def _leaf(self, generation: Generation, authority: Authority, key: str, at: datetime.datetime) -> Leaf:
        name = (
            SERVER_CERTIFICATE
            if generation.number == 1
            else LATER_SERVER_CERTIFICATES.replace("*", str(generation.number))
        )
        path = self.folder / name
        check_kind(path, remade=True)
        if not (path.exists() and self._fits(path, generation, authority, key, at)):
            made = certificates.make_server_certificate(authority.pair, generation.names, private_key=key, at=at)
            write_text(path, made.certificate + authority.pair.certificate)
        return Leaf(generation.hosts, path, self.folder / SERVER_KEY)

    def _fits(self, path: Path, generation: Generation, authority: Authority, key: str, at: datetime.datetime) -> bool:
        text = read_text(path)
        public = _read(path, certificates.public_key_in, text)
        if public != certificates.public_key_of(key):
            raise DataDamagedError(self.folder / SERVER_KEY, f"it is not the key of {path.name}; without both, {_ANEW}")
        leads_to_authority = text.endswith(authority.pair.certificate)
        hosts = (*LOOPBACK_HOSTS, *generation.names)
        return (
            leads_to_authority
            and certificates.serves(text, authority.pair.certificate, hosts, at)
            and (at < certificates.due(text))
        )

    def _server_certificates(self) -> Iterator[Path]:
        yield self.folder / SERVER_CERTIFICATE
        yield from sorted(self.folder.glob(LATER_SERVER_CERTIFICATES))


_ANEW = "they are made anew"


def _read(path: Path, reading: Callable[[str], bytes], text: str) -> bytes:
    try:
        return reading(text)
    except ValueError as error:
        raise DataDamagedError(path, "it is not the PEM text that was written") from error
