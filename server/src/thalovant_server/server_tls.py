# SPDX-License-Identifier: Apache-2.0
"""Which certificate a client is shown: by the name it says in its TLS hello, else by the address that it dialled.

The table is swapped whole while clients are connected: who is connected notices nothing, the next handshake sees
the new certificates. Reads the files of a table once, when it is made.
"""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Leaf:
    """One server certificate on the disk.

    Args:
        hosts: the names and addresses for which it is shown.
        certificate: PEM file, the server's own first, then those that lead to its authority.
        key: PEM file.
    """

    hosts: tuple[str, ...]
    certificate: Path
    key: Path


class Table:
    """TLS contexts by host (blocking: reads every file).

    Args:
        leaves: at least one; a host stands in one of them only.
        fallback: the host whose certificate is shown to a client that says no name and dialled an address which is
            none of the hosts, as behind a NAT or in a container.

    Raises:
        OSError: a file cannot be read; ssl.SSLError, which is one: it holds no certificate, or the key of another.
    """

    def __init__(self, leaves: Sequence[Leaf], fallback: str) -> None:
        self._contexts: dict[str, ssl.SSLContext] = {}
        for leaf in leaves:
            context = self._make_context(leaf)
            self._contexts |= dict.fromkeys(map(canonical, leaf.hosts), context)
        self._fallback = self._contexts[canonical(fallback)]

    def context_for(self, address: str) -> ssl.SSLContext:
        """Return the context for a client that came to this address; a name in its hello decides afterwards."""
        return self._contexts.get(canonical(address), self._fallback)

    def _make_context(self, leaf: Leaf) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        # With a password given, a key that needs one fails; else OpenSSL would ask at the terminal.
        context.load_cert_chain(leaf.certificate, leaf.key, password="")
        context.sni_callback = self._named
        return context

    def _named(self, connection: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
        found = self._contexts.get(canonical(name)) if name else None
        if found is not None:
            connection.context = found


class ServerTls:
    """The table in use; `context_for` is what a listener asks."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def replace(self, table: Table) -> None:
        """Show these certificates from the next handshake on."""
        self._table = table

    def context_for(self, address: str) -> ssl.SSLContext:
        """Return the context for a client that came to this address of ours."""
        return self._table.context_for(address)


def canonical(host: str) -> str:
    """Return a host as it is compared: an address in its short form, a name in lower case without a dot at its end."""
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return host.lower().removesuffix(".")
