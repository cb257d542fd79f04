# SPDX-License-Identifier: Apache-2.0
"""The socket of one MQTT connection to an outside broker: TLS, bytes to events, one write a turn of the loop.

It speaks MQTT 5 first, and 3.1.1 to a broker that refuses it. What is said is `client_connection`'s to know; who dials,
what for and what to do when it ends is the owner's: it never connects again.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from thalovant.protocol.mqtt.client_connection import ClientConnection, Limits, Patience
from thalovant.protocol.mqtt.client_events import (
    Accepted,
    Arrived,
    BrokerLeft,
    Ending,
    Event,
    Frame,
    LoggedIn,
    LoginRefused,
    NotTaken,
    Subscribed,
    Unanswered,
    VersionRefused,
    Violated,
)
from thalovant.protocol.mqtt.client_window import ClientWindow
from thalovant.protocol.mqtt.packets import Codec, Connect
from thalovant.protocol.mqtt.v5 import V5
from thalovant.protocol.mqtt.v311 import V311
from thalovant_server.brokers.names import BrokerAddress
from thalovant_server.errors import BrokerAwayError, BrokerError, BrokerLoginError, BrokerRefusedError

CONNECT_SECONDS = 10.0
PATIENCE = Patience(publish=10.0, before_ping=5.0, ping=5.0)
LIMITS = Limits(packet_bytes=4 * 1024 * 1024, receive_maximum=65_535, under_way=4096)
WRITE_BYTES = 262_144  # waiting for the kernel, from which on `paused` says to put in no more
UNDER_WAY_BYTES = 1024 * 1024  # written and not acknowledged: enough for 20 MB/s to a broker 50 ms away
LOOK_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class BrokerTarget:
    """A broker to dial, and how to trust it.

    Args:
        address: host and port.
        context: made by `client_context`.
    """

    address: BrokerAddress
    context: ssl.SSLContext


def client_context(ca_file: Path | None, certificate: Path | None = None, key: Path | None = None) -> ssl.SSLContext:
    """Return how to trust a broker, and what to show to it (blocking).

    Raises:
        OSError, ssl.SSLError: a file cannot be read, or is not what it should be.
    """
    context = ssl.create_default_context(cafile=None if ca_file is None else str(ca_file))
    if certificate is not None:
        context.load_cert_chain(certificate, key)
    return context


@dataclass(frozen=True, slots=True)
class Resumption:
    """A session that goes on: what was under way in it, and the protocol level that it was in."""

    window: ClientWindow
    level: int


class BrokerSocket(asyncio.Protocol):
    """One connection. Made by `open_socket`, which returns once the broker has let it in."""

    def __init__(
        self,
        connection: ClientConnection,
        on_event: Callable[[Event], None],
        where: str,
        on_settled: Callable[[], None] | None = None,
    ) -> None:
        self.connection = connection
        self.session_present = False
        self.closed: asyncio.Future[Ending | None]
        """Done when it is over: with what ended it, None where nobody said anything."""
        self.paused = False
        """Whether the socket takes no more just now."""
        self._on_event = on_event
        self._on_settled = on_settled or _nothing
        self._where = where
        self._loop = asyncio.get_running_loop()
        self.closed = self._loop.create_future()
        self._accepted: asyncio.Future[None] = self._loop.create_future()
        self._transport: asyncio.Transport | None = None
        self._ending: Ending | None = None
        self._flush_is_due = False
        self._watch: asyncio.TimerHandle | None = None
        self._moved: asyncio.Future[None] | None = None

    @property
    def level(self) -> int:
        """The protocol level: 5, or 4 for MQTT 3.1.1."""
        return self.connection.codec.level

    @property
    def over(self) -> bool:
        """Whether nothing more is sent or delivered."""
        return self.connection.over

    @property
    def has_room(self) -> bool:
        """Whether one more publish goes out at once: not too much is under way, and the kernel takes more."""
        window = self.connection.window
        return not (self.paused or window.waiting or self.over) and window.under_way_bytes < UNDER_WAY_BYTES

    # What the owner calls

    def publish(self, topic: bytes, payload: bytes, *, qos: int = 1, retain: bool = False) -> None:
        """Publish, behind everything that was published before; dropped when the connection is over."""
        self._happened(self.connection.publish(topic, payload, self._loop.time(), qos=qos, retain=retain))

    def fits(self, topic: bytes, payload: bytes) -> bool:
        """Whether the broker takes a packet as large as that."""
        return self.connection.fits(topic, payload)

    def subscribe(self, filters: Sequence[tuple[bytes, int]]) -> None:
        """Ask for these filters; `Subscribed` answers."""
        self._happened(self.connection.subscribe(filters))

    def unsubscribe(self, filters: Sequence[bytes]) -> None:
        """Ask for these filters no longer."""
        self._happened(self.connection.unsubscribe(filters))

    async def settle(self, seconds: float) -> None:
        """Wait until the broker has taken all that was published so far, no longer than so many seconds."""
        mark = self.connection.queued
        while not self.connection.settled(mark) and seconds > 0:
            before, self._moved = self._loop.time(), self._loop.create_future()
            ends: list[asyncio.Future[Any]] = [self._moved, self.closed]
            await asyncio.wait(ends, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            seconds -= self._loop.time() - before

    async def close(self, seconds: float = 1.0) -> None:
        """Say DISCONNECT and close; a broker that takes longer finds the connection reset."""
        self.connection.leave()
        self._part()
        await asyncio.wait([self.closed], timeout=seconds)
        self.abort()

    def abort(self) -> None:
        """Close at once; what is not yet written is lost."""
        self.connection.stop()
        if self._transport is not None:
            self._transport.abort()

    async def logged_in(self) -> None:
        """Say CONNECT, wait for the answer.

        Raises:
            BrokerAwayError, BrokerRefusedError: it is no.
        """
        self.connection.start()
        self._flush()
        await self._accepted
        self._look_after()

    # What the event loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket and TLS are up."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=WRITE_BYTES)
        carrier = transport.get_extra_info("socket")
        if carrier is not None and carrier.family in (socket.AF_INET, socket.AF_INET6):
            carrier.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def data_received(self, data: bytes) -> None:
        """Bytes of the broker."""
        self._tell(self.connection.receive(data, self._loop.time()))
        self._on_settled()  # before our PUBACK is due: what an answer begins with leaves in the same write
        self._flush_soon()
        if self._moved is not None and not self._moved.done():
            self._moved.set_result(None)

    def eof_received(self) -> None:
        """A half-closed connection is of no use: the transport closes (None)."""

    def connection_lost(self, error: Exception | None) -> None:
        """The socket is closed, by whomever."""
        if not self.connection.heard and self.level == V5.level:
            self._ended(VersionRefused())  # hung up on the CONNECT without a word: it may know only 3.1.1
        self.connection.stop()
        if self._watch is not None:
            self._watch.cancel()
        if not self._accepted.done():
            self._fail(_hung_up(self._where, error))
        if not self.closed.done():
            self.closed.set_result(self._ending)

    def pause_writing(self) -> None:
        """The broker reads slower than we write."""
        self.paused = True

    def resume_writing(self) -> None:
        """It has caught up."""
        self.paused = False
        self._on_settled()

    # Inside

    def _happened(self, events: Sequence[Event]) -> None:
        self._tell(events)
        self._flush_soon()

    def _flush_soon(self) -> None:
        """Write at the end of this turn of the loop, all at once."""
        if self.connection.out and not self._flush_is_due:
            self._flush_is_due = True
            self._loop.call_soon(self._flush)

    def _tell(self, events: Sequence[Event]) -> None:
        for event in events:
            if type(event) is Arrived:  # nearly all there are
                self._on_event(event)
            elif isinstance(event, Accepted):
                self.session_present = event.session_present
                if not self._accepted.done():
                    self._accepted.set_result(None)
            elif isinstance(event, Subscribed | NotTaken | Arrived | Frame | LoggedIn):
                self._on_event(event)
            else:
                self._ended(event)

    def _ended(self, ending: Ending) -> None:
        self._ending = self._ending or ending
        if not self._accepted.done():
            self._fail(refusal(self._where, ending, self.level))
        self._part()

    def _fail(self, error: Exception) -> None:
        self._accepted.set_exception(error)
        self._accepted.exception()  # has been seen, should nobody come to wait for it

    def _part(self) -> None:
        """Close when the last words have been written."""
        self._flush()
        if self._transport is not None:
            self._transport.close()

    def _flush(self) -> None:
        self._flush_is_due = False
        if self.connection.out and self._transport is not None and not self._transport.is_closing():
            self._transport.write(self.connection.take(self._loop.time()))

    def _look_after(self) -> None:
        self._happened(self.connection.look(self._loop.time()))
        if not self.over:
            self._watch = self._loop.call_later(LOOK_SECONDS, self._look_after)
        elif self._transport is not None:
            self._transport.abort()  # silent: it would not take a goodbye either


async def open_socket(
    target: BrokerTarget,
    login: Connect,
    on_event: Callable[[Event], None],
    *,
    on_settled: Callable[[], None] | None = None,
    session_expiry: int = 0,
    resumption: Resumption | None = None,
    limits: Limits = LIMITS,
    patience: Patience = PATIENCE,
) -> BrokerSocket:
    """Dial a broker and log in, with MQTT 5, else with 3.1.1.

    Args:
        target: where it is, and how to trust it.
        login: the CONNECT; its level is set here.
        on_event: hears what arrives; not the end, which is in `BrokerSocket.closed`.
        on_settled: called after all that one read brought, and when the broker reads on: there may be room again.
        session_expiry: seconds for which the broker keeps the session (MQTT 5).
        resumption: a session to go on with; the login has no clean session then.
        limits: what is taken, and how much of ours may be under way.
        patience: how long to wait for what.

    Raises:
        BrokerAwayError: it cannot be reached, or does not answer.
        BrokerRefusedError: it does not let us in, or its certificate is not trusted.
    """
    codecs = (V5, V311) if resumption is None else tuple(each for each in (V5, V311) if each.level == resumption.level)
    for codec in codecs:
        window = None if resumption is None else resumption.window
        connection = ClientConnection(
            codec, login, patience, limits=limits, session_expiry=session_expiry, window=window
        )
        opened = await _opened(target, codec, BrokerSocket(connection, on_event, target.address.where, on_settled))
        if opened is not None:
            return opened
    if resumption is not None:  # it spoke that version before
        raise _hung_up(target.address.where, None)
    raise BrokerRefusedError(target.address.where, "speaks neither MQTT 5 nor MQTT 3.1.1. Is it a broker?")


def _nothing() -> None:
    pass


class _VersionRefused(BrokerError):
    """The broker does not speak this version of MQTT."""


async def _opened(target: BrokerTarget, codec: Codec, opening: BrokerSocket) -> BrokerSocket | None:
    """The socket, logged in; None where this version is not spoken."""
    host, port = target.address.host, target.address.port
    loop, where = asyncio.get_running_loop(), target.address.where
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            await loop.create_connection(lambda: opening, host, port, ssl=target.context, server_hostname=host)
            await opening.logged_in()
    except _VersionRefused:
        opening.abort()
        return None
    except ssl.SSLCertVerificationError as error:
        raise BrokerRefusedError(
            where,
            f"shows a certificate that is not trusted ({error.verify_message}): give the authority that signed it with "
            "--broker-ca, and dial a name that is in it",
        ) from error
    except ssl.SSLError as error:
        opening.abort()
        raise _no_tls(where, error) from error
    except TimeoutError as error:
        opening.abort()
        raise BrokerAwayError(where, f"did not answer within {CONNECT_SECONDS:g} s") from error
    except OSError as error:
        opening.abort()
        why = error.strerror or str(error) or type(error).__name__
        raise BrokerAwayError(where, f"cannot be reached: {why}") from error
    except BaseException:
        opening.abort()
        raise
    return opening


def in_words(ending: Ending) -> str:
    """What ended a connection that was in use, as the rest of a sentence about the broker."""
    match ending:
        case BrokerLeft(code=0x8E):
            return "says that somebody else has logged in as this server (reason 0x8e)"
        case BrokerLeft(code=code):
            return f"ended the connection (reason {code:#04x})"
        case Unanswered(what=what, seconds=seconds):
            return f"did not answer a {what} within {seconds:g} s"
        case Violated(reason=reason):
            return f"did what MQTT forbids: {reason}"
        case _:
            return f"ended the connection ({type(ending).__name__})"


def refusal(where: str, ending: Ending, level: int) -> BrokerError:
    """The error for a connection that ended before it was let in."""
    if isinstance(ending, VersionRefused):
        return _VersionRefused(where, "does not speak this version of MQTT")
    if isinstance(ending, LoginRefused):
        told = f"CONNACK {ending.code:#04x}" if level == V5.level else f"CONNACK {ending.code}"
        if ending.code in ((0x86, 0x87, 0x8C) if level == V5.level else (4, 5)):
            return BrokerLoginError(where, f"does not accept the user or its password ({told})")
        return BrokerAwayError(where, f"refused the connection ({told})")
    if isinstance(ending, BrokerLeft):
        return BrokerAwayError(where, f"ended the connection (reason {ending.code:#04x})")
    return BrokerAwayError(where, f"did not answer as a broker does ({type(ending).__name__})")


def _hung_up(where: str, error: Exception | None) -> BrokerError:
    """The error for a broker that closed the connection instead of answering CONNECT."""
    if isinstance(error, ssl.SSLError) and "CERTIFICATE" in (error.reason or ""):
        return _no_tls(where, error)
    return BrokerAwayError(where, "closed the connection before it answered the login")


def _no_tls(where: str, error: ssl.SSLError) -> BrokerError:
    """The error for a TLS handshake that failed: of one who hung up, or of one who will never do."""
    reason = (error.reason or "no reason").lower().replace("_", " ")
    if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError | ssl.SSLSyscallError):
        return BrokerAwayError(where, "hung up during the TLS handshake")
    if "certificate" in reason:
        return BrokerRefusedError(
            where,
            f"wants a certificate that it trusts ({reason}): give one with --broker-certificate and "
            "--broker-certificate-key",
        )
    return BrokerRefusedError(where, f"does not speak TLS there ({reason}): name the port on which it does")
