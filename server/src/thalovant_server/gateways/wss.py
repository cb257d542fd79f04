# SPDX-License-Identifier: Apache-2.0
"""The WebSocket road (contract section 10.1): one protocol object per socket over a sans-I/O WebSocket.

Clear frames travel as text, sealed ones as binary. The upgrade always succeeds; a refusal is a close frame after it.
What one turn of the loop has to say leaves in one write, unless there is much of it. A client that does not read
costs a bounded queue, then its connection; what waits for it, and what it began to say, counts against the process.

It will not read a HiveMessage or know an agent; the HTTP head was read by `api_protocol`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import OPEN
from websockets.server import ServerProtocol

from thalovant_server.gateways.authorization import AuthorizationError, read_authorization
from thalovant_server.gateways.intake import Intake
from thalovant_server.gateways.lane import Lanes
from thalovant_server.gateways.paths import split_path
from thalovant_server.gateways.share import Share, strangers_of
from thalovant_server.gateways.silent_log import SILENT
from thalovant_server.hub import refusal
from thalovant_server.hub.presence import CONNECTION_LOST, DISCONNECTED, word_for
from thalovant_server.hub.refusal import Refusal, Refused

if TYPE_CHECKING:
    from collections.abc import Callable

    from thalovant_server.directory import CredentialEntry
    from thalovant_server.hub.clock import Timer
    from thalovant_server.hub.connection import Connection
    from thalovant_server.hub.hub import Hub

CARRIER = "wss"

# Codes of a close frame that ends a session as it should end (RFC 6455, 7.4.1); 1005 is none at all.
GOODBYES = frozenset({1000, 1001, 1005})
# The transport asks us to hold on above this; what waits then is ours to count.
HIGH_WATER = 64 * 1024
# As much in one write as keeps the kernel busy. The transport takes whatever it is given, so it is given no more.
WRITE_BYTES = 64 * 1024
# The library parses all it is given at once: so much is a hundred and seventy of the smallest frames.
STEP_BYTES = 1024
# What a waiting chunk counts beyond its bytes: the answer to a ping is two bytes and costs twenty times that.
CHUNK_COST = 64


class WssGateway:
    """Makes the protocol objects, and ends them all when the server goes down."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self.lanes = Lanes()
        self.strangers = strangers_of(hub.budget)
        self._open: set[WssProtocol] = set()

    def protocol(self, on_end: Callable[[], None] | None = None) -> WssProtocol:
        """A protocol for one socket that asked for an upgrade."""
        return WssProtocol(self, on_end)

    @property
    def open(self) -> int:
        """Sockets that are open now."""
        return len(self._open)

    def close_all(self, why: Refusal) -> None:
        """End every socket with this reason."""
        for protocol in list(self._open):
            protocol.end(why)

    def abort_all(self) -> None:
        """Drop every socket without a word."""
        for protocol in list(self._open):
            protocol.abort()

    def opened(self, protocol: WssProtocol) -> None:
        """Keep count."""
        self._open.add(protocol)

    def lost(self, protocol: WssProtocol) -> None:
        """Keep count."""
        self._open.discard(protocol)


class WssProtocol(asyncio.Protocol):
    """One socket. Also the `Link` of the hub's connection."""

    __slots__ = (
        "_closing",
        "_connection",
        "_flush_due",
        "_gateway",
        "_heard",
        "_hub",
        "_intake",
        "_inward",
        "_kind",
        "_loop",
        "_on_end",
        "_outward",
        "_parts",
        "_parts_bytes",
        "_paused",
        "_pending",
        "_pending_bytes",
        "_reading",
        "_timer",
        "_transport",
        "_ws",
        "carrier",
        "remote",
    )

    def __init__(self, gateway: WssGateway, on_end: Callable[[], None] | None) -> None:
        self.carrier = CARRIER
        self.remote = ""
        self._gateway = gateway
        self._hub = gateway.hub
        self._on_end = on_end
        self._loop = asyncio.get_running_loop()
        self._ws = ServerProtocol(max_size=self._hub.limits.frame_bytes, logger=SILENT)
        self._transport: asyncio.Transport | None = None
        self._connection: Connection | None = None
        self._timer: Timer | None = None
        self._heard = 0.0
        self._parts: list[bytes] = []  # of a message that comes in fragments
        self._parts_bytes = 0
        self._kind = Opcode.BINARY
        self._pending: deque[bytes] = deque()
        self._pending_bytes = 0
        self._outward = Share(gateway.strangers)  # what the client has not taken yet
        self._inward = Share(gateway.strangers)  # a message that is not whole yet
        self._intake: Intake
        self._reading = True
        self._paused = False
        self._flush_due = False
        self._closing = False

    # -- asyncio.Protocol -------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take over the socket."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is not a subclass of it
        self._transport.set_write_buffer_limits(high=HIGH_WATER)
        peer = transport.get_extra_info("peername")
        self.remote = peer[0] if peer else ""
        self._intake = Intake(self._gateway.lanes.of(self.remote), self._step, self._settle, chunk=STEP_BYTES)
        self._gateway.opened(self)
        self._call_later(self._hub.limits.ping_seconds, self._ping)

    def data_received(self, data: bytes) -> None:
        """Bytes of the client: worked through in slices, so that a flood of them costs nobody else much."""
        self._heard = self._hub.clock.now()
        self._intake.receive(data)

    def eof_received(self) -> None:
        """The client closed its half; TLS has no half-open. What came before is worked through first."""
        if not self._intake.pending:
            self._ws.receive_eof()

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is gone. What came before that is worked through first."""
        self._transport = None
        self._stop_timer()
        if self._closing:
            self._intake.close()
        self._settle()

    def pause_writing(self) -> None:
        """The client reads slower than we write."""
        self._paused = True

    def resume_writing(self) -> None:
        """The client has caught up."""
        self._paused = False
        self._flush()

    # -- Link -------------------------------------------------------------------------------------------------

    def send_clear(self, data: bytes) -> None:
        """One text frame."""
        if self._ws.state is OPEN:
            self._ws.send_text(data)
            self._flush_soon()

    def send_sealed(self, frames: list[bytes]) -> None:
        """Binary frames, in this order."""
        if self._ws.state is OPEN:
            for frame in frames:
                self._ws.send_binary(frame)
            self._flush_soon()

    def close(self, why: Refusal) -> None:
        """A close frame after all that was said, then the socket once the client has answered, or soon."""
        if self._ws.state is OPEN:
            self._ws.send_close(why.ws_code, why.reason)
        self._begin_closing()
        self._flush_soon()

    @property
    def patience(self) -> float:
        """A client answers each ping."""
        limits = self._hub.limits
        return limits.ping_seconds + min(limits.late_seconds, limits.pong_seconds / 2)

    def silence(self) -> float:
        """Since anything came."""
        return self._hub.clock.now() - self._heard

    # -- for the gateway --------------------------------------------------------------------------------------

    def end(self, why: Refusal) -> None:
        """End the session, or the socket where there is none."""
        if self._connection is not None and not self._connection.closed:
            self._connection.end(why)
        else:
            self.close(why)

    def abort(self) -> None:
        """Drop the socket, and what of it is left to do."""
        self._intake.close()
        if self._transport is not None:
            self._transport.abort()
        else:
            self._settle()

    # -- inside -----------------------------------------------------------------------------------------------

    def _step(self, data: bytes) -> tuple[int, bool]:
        """Parse these bytes and act on them: frames, once the head of the request is through."""
        self._ws.receive_data(data)
        events = self._ws.events_received()
        for event in events:
            if isinstance(event, Frame):
                self._frame(event)
            elif isinstance(event, Request):
                self._upgrade(event)
        return len(events), False

    def _settle(self) -> None:
        """After a slice: what is left counts, and is not added to. It may be the last one of a lost socket."""
        if not self._inward.hold_partial(self._partial_bytes):
            self._too_much()
        self._flush()
        reading = not self._intake.pending
        if self._transport is None:
            if not reading:
                return
            self._forget()
        elif reading is not self._reading and not self._transport.is_closing():
            self._reading = reading
            (self._transport.resume_reading if reading else self._transport.pause_reading)()

    def _too_much(self) -> None:
        """It may hold no more. The client is told so; one that was told to go already is dropped."""
        if not self._closing:
            self.end(refusal.BUSY)
            return
        self._intake.close()
        if self._transport is not None:
            self._transport.abort()  # not `self.abort()`: this is called by `_settle`, and that would call it again

    def _forget(self) -> None:
        """Nobody knows this socket any more. Once."""
        on_end, self._on_end = self._on_end, None
        self._intake.close()
        self._closing = True
        self._stop_timer()
        self._outward.release()
        self._inward.release()
        self._gateway.lost(self)
        if self._connection is not None:
            self._connection.lost(self._why_lost())
        if on_end is not None:
            on_end()

    def _why_lost(self) -> str:
        """A client that says goodbye says why; one whose socket just closes does not."""
        said = self._ws.close_rcvd
        return DISCONNECTED if said is not None and said.code in GOODBYES else CONNECTION_LOST

    def _upgrade(self, request: Request) -> None:
        path, _, query = request.path.partition("?")
        hub_id, rest = split_path(path)
        if rest:
            self._ws.send_response(self._ws.reject(404, "There is no WebSocket here.\n"))
            self._begin_closing()
            return
        self._ws.send_response(self._ws.accept(request))
        if self._ws.state is not OPEN:
            self._begin_closing()
            return
        self._begin(hub_id, query.encode("ascii", "replace"))

    def _begin(self, hub_id: str | None, query: bytes) -> None:
        """Begin the hub's session, or close with the reason why there is none."""
        access_key = ""
        try:
            user_agent, access_key = read_authorization(query)
            credential = self._hub.admit(access_key, hub_id, CARRIER, self.remote)
            self._belongs_to(credential)
            self._connection = self._hub.connect(self, credential, user_agent)
        except AuthorizationError:
            self._refuse(refusal.INVALID_AUTHORIZATION, access_key)
        except Refused as refused:
            self._refuse(refused.refusal, access_key, refused.hold_back)

    def _belongs_to(self, credential: CredentialEntry) -> None:
        """The client is known: it takes its turns in its lane, and its account pays for it."""
        self._intake.lane = self._gateway.lanes.of(credential.id)
        self._outward.release()
        self._inward.release()
        account = self._hub.budget_of(credential)
        self._outward, self._inward = Share(account), Share(account)

    def _refuse(self, why: Refusal, access_key: str, hold_back: float = 0.0) -> None:
        self._hub.denials.refused(why, CARRIER, self.remote, access_key)
        if hold_back:
            self._stop_timer()
            self._call_later(hold_back, partial(self.close, why))
        else:
            self.close(why)

    def _frame(self, frame: Frame) -> None:
        if self._closing:
            return
        if frame.opcode in (Opcode.TEXT, Opcode.BINARY):
            if frame.fin:
                self._message(frame.opcode, bytes(frame.data))
                return
            self._kind = frame.opcode
            self._parts = [bytes(frame.data)]
            self._parts_bytes = len(frame.data)
        elif frame.opcode is Opcode.CONT:
            if frame.data:  # empty ones would cost a place each and count nothing
                self._parts.append(bytes(frame.data))
                self._parts_bytes += len(frame.data)
            if frame.fin:
                parts, self._parts, self._parts_bytes = self._parts, [], 0
                self._message(self._kind, b"".join(parts))

    def _message(self, kind: Opcode, data: bytes) -> None:
        connection = self._connection
        if connection is None:
            return
        if kind is Opcode.TEXT:
            connection.receive_clear(data)
        else:
            connection.receive_sealed(data)

    @property
    def _partial_bytes(self) -> int:
        """Bytes held of a message that is not whole: its fragments, and what is not parsed yet."""
        return self._parts_bytes + len(self._ws.reader.buffer) + self._intake.size

    def _flush_soon(self) -> None:
        """One write for all that this turn of the loop says."""
        if not self._flush_due:
            self._flush_due = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_due = False
        transport = self._transport
        chunks = self._ws.data_to_send()
        if transport is None:
            return
        # One message may be as long as a hub allows; who left that much unread gets nothing on top of it.
        slow = bool(chunks) and self._pending_bytes > self._hub.limits.out_bytes
        self._pending.extend(chunks)
        self._pending_bytes += sum(map(len, chunks)) + len(chunks) * CHUNK_COST
        while self._pending and not self._paused:
            self._write(transport)
        if slow or not self._outward.hold(self._pending_bytes):
            if self._connection is not None:
                self._connection.lost(word_for(refusal.SLOW_READER if slow else refusal.BUSY))
            self.abort()
            return
        if self._ws.close_expected() and not self._closing:
            self._begin_closing()

    def _write(self, transport: asyncio.Transport) -> None:
        """Hand one batch to the transport, which may then ask us to hold on."""
        batch, size = [], 0
        while self._pending and size < WRITE_BYTES:
            batch.append(self._pending.popleft())
            size += len(batch[-1])
        self._pending_bytes -= size + len(batch) * CHUNK_COST
        if size:
            transport.write(b"".join(batch))
        if batch[-1] == b"":  # the library's way to say: end the connection now
            # Closing while the client still writes would reset the socket and lose the close frame on its way.
            self._closing = True
            self._stop_timer()
            answered = self._ws.close_rcvd is not None
            self._call_later(0.0 if answered else self._hub.limits.linger_seconds, transport.close)

    def _begin_closing(self) -> None:
        """Give the client a moment to answer the close frame."""
        if self._closing:
            return
        self._closing = True
        self._stop_timer()
        self._call_later(self._hub.limits.close_seconds, self.abort)

    def _ping(self) -> None:
        """Is it still there? Whatever it sends counts as a sign of life."""
        if self._ws.state is not OPEN:
            self.abort()
            return
        asked = self._hub.clock.now()
        self._ws.send_ping(b"")
        self._flush()
        self._call_later(self._hub.limits.pong_seconds, lambda: self._check_pong(asked))

    def _check_pong(self, asked: float) -> None:
        limits = self._hub.limits
        if self._heard >= asked:
            self._call_later(max(limits.ping_seconds - limits.pong_seconds, 0.0), self._ping)
        else:
            self.end(refusal.UNRESPONSIVE)

    def _call_later(self, delay: float, callback: Callable[[], Any]) -> None:
        self._timer = self._hub.clock.call_later(delay, callback)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
