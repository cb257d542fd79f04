# SPDX-License-Identifier: Apache-2.0
"""One TLS port: accepts, chooses the certificate by the address that was dialled, and hands over what got through.

`loop.create_server` knows one TLS context a port. A client that dials an address and not a name says in its hello
to nobody whom it means; only the socket that was accepted tells. So accepting is ours, TLS stays the loop's.

TLS costs memory from its first byte on, so it begins only when that byte is there, and begins a hello: a socket on
which nothing comes, or something else, costs next to nothing.

It will not know what a protocol is, nor where certificates come from.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import socket
import ssl
from collections.abc import Callable

import structlog

log = structlog.get_logger("thalovant.listener")

ContextFor = Callable[[str], ssl.SSLContext]
"""Answers the TLS context for a client that came to this address of ours (IPv4 or IPv6, as text)."""

ANY_ADDRESS = "::"  # of IPv6, and of IPv4 with it
BACKLOG = 1024
BATCH = 64  # accepted at a turn of the loop: others have a turn, too
# Honest handshakes take milliseconds. When so many are unfinished, the one that was begun first is ended for a new one.
MOST_HANDSHAKES = 4096
# Type, version and length of a TLS record; type and length of the hello in it (RFC 8446, sections 4 and 5.1).
HELLO_HEAD = 9
RECORD_HANDSHAKE, CLIENT_HELLO = 0x16, 0x01
# Some hundred bytes up to 2 KiB with a key exchange of tomorrow; OpenSSL alone would collect 128 KiB.
LONGEST_HELLO = 16 * 1024
NO_DESCRIPTORS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
PAUSE_SECONDS = 1.0
LEAST_SECONDS = 1.0  # for TLS itself, of a client whose hello came late


class Listener:
    """A bound port. `start` lets clients in, `close` and `wait_closed` end it; connections that are open live on.

    Args:
        sockets: bound and listening; `bind` makes them.
        protocol: makes the protocol of one connection; its `connection_made` comes after the handshake.
        context_for: the TLS context by the address dialled.
        handshake_seconds: how long a client may take for TLS.
        linger_seconds: how long to wait for a client's answer to the end of TLS; None waits as long as the loop does.
        most_handshakes: how many may be unfinished.
    """

    def __init__(
        self,
        sockets: list[socket.socket],
        protocol: Callable[[], asyncio.BaseProtocol],
        context_for: ContextFor,
        *,
        handshake_seconds: float,
        linger_seconds: float | None = None,
        most_handshakes: int = MOST_HANDSHAKES,
    ) -> None:
        self._sockets = sockets
        self._protocol = protocol
        self._context_for = context_for
        self._seconds = handshake_seconds
        self._linger = linger_seconds
        self._most = most_handshakes
        self._handshakes: dict[asyncio.Task[None], None] = {}  # in the order in which they were begun
        self._pauses: set[asyncio.TimerHandle] = set()

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self._sockets[0].getsockname()[1])

    @property
    def handshakes(self) -> int:
        """How many clients are in their TLS handshake."""
        return len(self._handshakes)

    def start(self) -> None:
        """Let clients in."""
        for listening in self._sockets:
            self._watch(listening)

    def close(self) -> None:
        """Let nobody in any more; who is not through TLS yet is dropped."""
        loop = asyncio.get_running_loop()
        for pause in self._pauses:
            pause.cancel()
        for listening in self._sockets:
            if listening.fileno() != -1:
                loop.remove_reader(listening)
                listening.close()
        for task in list(self._handshakes):
            task.cancel()

    async def wait_closed(self) -> None:
        """Wait until the handshakes that `close` ended are gone."""
        if self._handshakes:
            await asyncio.wait(list(self._handshakes))

    def _watch(self, listening: socket.socket) -> None:
        asyncio.get_running_loop().add_reader(listening, self._accept, listening)

    def _accept(self, listening: socket.socket) -> None:
        for _ in range(BATCH):
            try:
                accepted, _peer = listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                self._pause(listening, error)
                return
            self._begin(accepted)

    def _pause(self, listening: socket.socket, error: OSError) -> None:
        """Without a free descriptor the socket would be ready again and again: look again in a while."""
        if error.errno not in NO_DESCRIPTORS:
            log.warning("accept_failed", error=error.strerror or str(error))
            return
        loop = asyncio.get_running_loop()
        loop.remove_reader(listening)
        self._pauses = {pause for pause in self._pauses if pause.when() > loop.time()}
        self._pauses.add(loop.call_later(PAUSE_SECONDS, self._watch, listening))
        log.error("no_descriptor_for_a_client", mend="raise the limit of open files (ulimit -n, or LimitNOFILE=)")

    def _begin(self, accepted: socket.socket) -> None:
        if len(self._handshakes) >= self._most:
            next(iter(self._handshakes)).cancel()
        task = asyncio.get_running_loop().create_task(self._shake_hands(accepted), name="tls-handshake")
        self._handshakes[task] = None
        task.add_done_callback(lambda done: self._handshakes.pop(done, None))

    async def _shake_hands(self, accepted: socket.socket) -> None:
        """Bring one client through TLS. From the call on, the socket is the loop's to close."""
        loop = asyncio.get_running_loop()
        begun = loop.time()
        try:
            if not await self._says_hello(accepted):
                return
            left = max(begun + self._seconds - loop.time(), LEAST_SECONDS)
            context = self._context_for(_address(accepted))
            await loop.connect_accepted_socket(
                self._protocol, accepted, ssl=context, ssl_handshake_timeout=left, ssl_shutdown_timeout=self._linger
            )
        except (OSError, asyncio.CancelledError):  # whatever it sent was no TLS, too late, or cut off
            return

    async def _says_hello(self, accepted: socket.socket) -> bool:
        """Wait for the beginning of a TLS hello, and leave it there to be read; a socket without one is closed."""
        accepted.setblocking(False)
        try:
            accepted.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, HELLO_HEAD)  # drips wake nobody
            async with asyncio.timeout(self._seconds):
                await _readable(accepted)
            accepted.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)
            begins = begins_hello(accepted.recv(HELLO_HEAD, socket.MSG_PEEK))
        except BaseException:
            accepted.close()
            raise
        if not begins:
            accepted.close()
        return begins


async def _readable(accepted: socket.socket) -> None:
    """Wait until something is to be read, or the other side has closed."""
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(accepted, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(accepted)


def begins_hello(head: bytes) -> bool:
    """Tell whether these are the first bytes of a TLS hello of a length that one has."""
    if len(head) < HELLO_HEAD:
        return False
    is_hello = head[0] == RECORD_HANDSHAKE and head[1] == 3 and head[5] == CLIENT_HELLO
    return is_hello and int.from_bytes(head[6:9]) <= LONGEST_HELLO


async def bind(host: str, port: int) -> list[socket.socket]:
    """Bind and listen; `::` takes IPv4 as well. Port 0 takes a free one, the same for each address of a name.

    Raises:
        OSError: there is no such address here, or the port is taken.
    """
    if host == ANY_ADDRESS:
        return [_listening(socket.AF_INET6, (host, port), both=True)]
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    sockets: list[socket.socket] = []
    try:
        for family, _, _, _, address in dict.fromkeys(found):
            taken = sockets[0].getsockname()[1] if sockets else port
            sockets.append(_listening(family, (str(address[0]), int(taken))))
    except BaseException:
        for listening in sockets:
            listening.close()
        raise
    return sockets


def _listening(family: int, address: tuple[str, int], *, both: bool = False) -> socket.socket:
    made = socket.create_server(address, family=family, backlog=BACKLOG, dualstack_ipv6=both)
    made.setblocking(False)
    return made


def _address(accepted: socket.socket) -> str:
    """The address of ours that was dialled; IPv4 as such, also on a socket that takes both."""
    try:
        address = ipaddress.ip_address(accepted.getsockname()[0].partition("%")[0])
    except OSError:  # it is gone already
        return ""
    return str(getattr(address, "ipv4_mapped", None) or address)
