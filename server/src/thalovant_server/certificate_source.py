# SPDX-License-Identifier: Apache-2.0
"""All certificates of the server at one moment: the local authority's, and the one that the operator brought.

It reads and makes files when it is asked to, from a thread; it keeps no time and swaps nothing.
"""

from __future__ import annotations

import datetime
import hashlib
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from thalovant_server import certificates
from thalovant_server.brought_certificate import Brought, read_authorities, read_brought
from thalovant_server.certificate_files import Authority, CertificateFiles
from thalovant_server.data_files import read_text
from thalovant_server.errors import DataDirectoryError
from thalovant_server.server_tls import Leaf, Table

Stamp = tuple[tuple[int, int, int] | None, ...]
"""When each file was changed, which inode it is and how long; None for one that is missing."""


@dataclass(frozen=True, slots=True)
class BroughtFiles:
    """Where the operator's certificate, its key and the authority to hand out with it are."""

    certificate: Path
    key: Path
    authority: Path | None = None


@dataclass(frozen=True, slots=True)
class Served:
    """What the server shows and hands out.

    Args:
        table: for the listeners.
        authority: the local one.
        handed_out: PEM text of what clients are to trust for the addresses that they are given; "" when they do anyway.
        due: when something of ours is to be issued anew.
        ends: when what the operator brought is no longer valid; None without.
        digest: of all certificates: another one means that clients see others.
        notes: sentences that the operator should read.
        broker_authority: PEM text of what clients are to trust for the outside broker; "" when they do anyway.
    """

    table: Table
    authority: Authority
    handed_out: str
    due: datetime.datetime
    ends: datetime.datetime | None
    digest: str
    notes: tuple[str, ...]
    broker_authority: str = ""


class CertificateSource:
    """Finds, makes and reads certificates (every method blocks).

    Args:
        files: of the local authority.
        public_hosts: the first is the one that clients are given.
        brought: None without a certificate of the operator's.
        broker_authority: file of the authority that signed the outside broker's certificate, if clients need it.
    """

    def __init__(
        self,
        files: CertificateFiles,
        public_hosts: Sequence[str] = (),
        brought: BroughtFiles | None = None,
        broker_authority: Path | None = None,
    ) -> None:
        self._files = files
        self._hosts = tuple(public_hosts)
        self._brought = brought
        self._broker_authority = broker_authority

    def load(self, at: datetime.datetime) -> Served:
        """Return what is to be served at a moment; makes what is missing or due.

        Raises:
            ThalovantServerError: something cannot be used; nothing that is in use has changed by that.
        """
        brought = self._read_brought(at)
        # The local authority is not made good for a name that another one vouches for.
        own_hosts = tuple(host for host in self._hosts if brought is None or host not in brought.leaf.hosts)
        authority = self._files.authority(own_hosts, at)
        own = self._files.leaves(authority, own_hosts, at)
        others = self._read_broker_authority()
        self._files.write_bundle(authority.pair.certificate + (brought.authority if brought else "") + others)
        return Served(
            self._table(own, brought),
            authority,
            authority.pair.certificate if brought is None else brought.authority,
            min(certificates.due(text) for text in (authority.pair.certificate, *map(_text, own))),
            brought.ends if brought else None,
            _digest(
                [
                    authority.pair.certificate,
                    *map(_text, own),
                    brought.chain + brought.authority if brought else "",
                    others,
                ]
            ),
            tuple(self._notes(authority, brought, own_hosts)),
            others,
        )

    def stamp(self) -> Stamp:
        """Return by what a change of the files is known."""
        brought = self._brought
        paths = self._files.paths()
        if brought is not None:
            paths += [path for path in (brought.certificate, brought.key, brought.authority) if path]
        if self._broker_authority is not None:
            paths.append(self._broker_authority)
        return tuple(map(_stamp, paths))

    def _read_broker_authority(self) -> str:
        path = self._broker_authority
        return "" if path is None else read_authorities(path, "--broker-ca")

    def _read_brought(self, at: datetime.datetime) -> Brought | None:
        files = self._brought
        if files is None:
            return None
        return read_brought(files.certificate, files.key, files.authority, self._hosts, at)

    def _table(self, own: list[Leaf], brought: Brought | None) -> Table:
        leaves = own if brought is None else [*own, brought.leaf]
        try:
            return Table(leaves, _fallback(self._hosts))
        except OSError as error:
            raise DataDirectoryError(
                self._files.folder,
                f"the server's certificates cannot be loaded ({error.strerror or error}). Remove tls.crt and tls.key: "
                "they are made anew",
            ) from error

    def _notes(self, authority: Authority, brought: Brought | None, own_hosts: Sequence[str]) -> list[str]:
        notes = []
        if authority.added:
            names = ", ".join(authority.added)
            notes.append(
                f"The local authority now vouches for {names}, too, by a new ca.pem: clients made before go on by the "
                f"names they know; to reach {names}, give them a new identity, and log in again"
            )
        if authority.renewed:
            notes.append(
                "The local authority was issued anew, since two thirds of its life were over: clients made before go "
                f"on until {certificates.ends(authority.before):%Y-%m-%d}; give each a new identity before that day"
            )
        if brought is not None:
            notes += self._notes_on(brought, own_hosts)
        return notes

    def _notes_on(self, brought: Brought, own_hosts: Sequence[str]) -> list[str]:
        notes = []
        if brought.refused and not brought.authority:
            notes.append(
                f"A client that trusts what this machine trusts refuses {brought.leaf.certificate}: {brought.refused}. "
                "If that is no public authority's, name its certificate with --certificate-authority"
            )
        if own_hosts:
            notes.append(
                f"{brought.leaf.certificate} does not name {', '.join(own_hosts)}: who dials that is shown a "
                "certificate of the local authority"
            )
        return notes


def _fallback(public_hosts: Sequence[str]) -> str:
    """The host that a client means which says no name: an address, if there is one among the public hosts."""
    for host in public_hosts:
        try:
            ipaddress.ip_address(host)
        except ValueError:
            continue
        return host
    return public_hosts[0] if public_hosts else "localhost"


def _text(leaf: Leaf) -> str:
    return read_text(leaf.certificate)


def _digest(texts: list[str]) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size
