# SPDX-License-Identifier: Apache-2.0
"""One MQTT connection's socket: bytes to packets, packets to its session, answers out in one write a loop
turn.

It owns the clockwork (CONNECT in time, keep alive) and the bound on what a slow reader may cost. It will not
decide who may log in (`endpoint`), what a packet means (`session`) or which hub session a payload is for
(`dialogue`).
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from typing import TYPE_CHECKING, cast

import structlog

from thalovant.protocol.errors import MqttError
from thalovant.protocol.mqtt.framing import PacketReader
from thalovant.protocol.mqtt.packets import NO_LOCAL, RETAIN_AS_PUBLISHED
from thalovant.protocol.mqtt.versions import OPENING
from thalovant.protocol.topics import STATUS
from thalovant_server.gateways.intake import Intake
from thalovant_server.gateways.mqtt.session import (
    Denied,
    Granted,
    Inbound,
    Left,
    Login,
    MqttSession,
    Output,
    Over,
    Send,
    StatusSaid,
)
from thalovant_server.gateways.mqtt.work import work_of
from thalovant_server.gateways.share import Share

if TYPE_CHECKING:
    from collections.abc import Callable

    from thalovant_server.gateways.lane import Lane
    from thalovant_server.gateways.mqtt.endpoint import MqttGateway, Place
    from thalovant_server.hub.budget import Account
    from thalovant_server.hub.refusal import Refusal

log = structlog.get_logger("thalovant.mqtt")

# As much in one write as keeps the kernel busy; more waits here, where it is counted.
WRITE_BYTES = 65_536
# Cut so small, what a read brought is parsed in linear time also by a few packets a step.
STEP_BYTES = 16 * 1024
STEP_PACKETS = 8
# Silent for so much of the time after which it is cut, a client is late: midway between one keep alive and one and a
# half, which is when it is cut.
LATE = 5 / 6
# What a waiting packet counts beyond its bytes: a PUBACK of four bytes costs ten times that.
PACKET_COST = 64


class MqttConnection(asyncio.Protocol):
    """Made by `MqttGateway.protocol` for every accepted socket. `place` is set while it is logged in."""

    __slots__ = (
        "_acting",
        "_gateway",
        "_heard",
        "_intake",
        "_inward",
        "_keepalive",
        "_loop",
        "_lost",
        "_out",
        "_out_bytes",
        "_outward",
        "_over",
        "_paused",
        "_reader",
        "_reading",
        "_scheduled",
        "_session",
        "_stalled",
        "_status_due",
        "_timer",
        "_transport",
        "gone",
        "host",
        "place",
        "remote",
    )

    def __init__(self, gateway: MqttGateway) -> None:
        self.place: Place | None = None
        self.remote = ""  # address and port
        self.host = ""  # the address alone
        self._gateway = gateway
        self._loop = asyncio.get_running_loop()
        self.gone: asyncio.Future[None] = self._loop.create_future()
        self._transport: asyncio.Transport
        self._reader = PacketReader(gateway.bounds.first_packet_bytes, OPENING)
        self._session = MqttSession(gateway.bounds)
        self._timer: asyncio.TimerHandle | None = None
        self._keepalive = 0.0
        self._heard = 0.0
        self._intake: Intake
        self._out: deque[bytes] = deque()
        self._out_bytes = 0
        self._outward = Share(gateway.strangers)  # what the client has not taken yet
        self._inward = Share(gateway.strangers)  # a packet that is not whole yet
        # Told once the client has taken what is before it, with the flag that it was published with.
        self._status_due: tuple[bytes, bool] | None = None
        self._acting = False  # on packets that came together
        self._scheduled = False
        self._paused = False
        self._reading = True
        self._lost = False  # the transport is closed; what it brought is still being worked through
        self._stalled: asyncio.TimerHandle | None = None
        self._over = False

    def __repr__(self) -> str:
        return f"<MqttConnection {self.remote} {self._session.phase.name.lower()}>"

    # -- what the event loop calls ----------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A socket was accepted: CONNECT is due in time. One socket too many is closed."""
        self._transport = cast(asyncio.Transport, transport)
        carrier = transport.get_extra_info("socket")
        if carrier is not None and carrier.family in (socket.AF_INET, socket.AF_INET6):
            carrier.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        peer = transport.get_extra_info("peername")
        if isinstance(peer, tuple):
            self.host, self.remote = peer[0], f"{peer[0]}:{peer[1]}"
        lane = self._gateway.lanes.of(self.host)
        self._intake = Intake(lane, self._step, self._settle, chunk=STEP_BYTES)
        self._timer = self._loop.call_later(self._gateway.bounds.connect_seconds, self._too_late)
        if not self._gateway.opened(self):
            self.abort()

    def data_received(self, data: bytes) -> None:
        """Bytes of the client: worked through in slices, so that a flood of them costs nobody else much."""
        self._heard = self._loop.time()
        self._intake.receive(data)

    def eof_received(self) -> None:
        """A half-closed connection is of no use: the transport closes (None)."""

    def connection_lost(self, error: Exception | None) -> None:
        """The transport is closed, by whomever. What came before that is worked through first."""
        self._lost = True
        self._stop_stall()
        self._stop_timer()
        self._intake.resume()
        self._settle()

    def pause_writing(self) -> None:
        """The client reads slower than we write: what comes now waits here, counted, and not for ever."""
        self._paused = True
        self._watch_stall()

    def resume_writing(self) -> None:
        """The client has caught up; the next batch leaves."""
        self._paused = False
        self._stop_stall()
        self._heard = self._loop.time()  # it reads: a sign of life, while its own packets may go unread
        self._flush()

    # -- what the dialogue and the endpoint call --------------------------------------------------------------

    def hears(self, segment: str) -> bool:
        """Whether the client is subscribed to `<prefix>/<segment>`."""
        return self._session.hears(segment)

    @property
    def no_local(self) -> bool:
        """Whether the client wants no status that it published itself (MQTT 5, 3.8.3.1)."""
        return self._session.wants(STATUS, NO_LOCAL)

    @property
    def patience(self) -> float | None:
        """A client sends something in every keep alive period; None: it wants none."""
        return self._keepalive * LATE or None

    def silence(self) -> float:
        """Seconds since anything came, or was taken."""
        return self._loop.time() - self._heard

    def deliver(self, segment: str, frames: list[bytes]) -> None:
        """Publish frames of one message, in order. A reader that is too slow for that is dropped."""
        if self._over or self._overflows():
            return
        for frame in frames:
            self._act(self._session.publish(segment, frame))
        if not self._over:
            self._account()

    def tell_status(self, status: bytes, flag: bool = False) -> None:
        """Publish the credential's status to a client that hears it, under the bound of `deliver`.

        To a client that still has something to take only the newest one is told, after that. `flag` is the retain
        flag that it was published with, for a client that asked to see it (MQTT-3.3.1-13).
        """
        if self._over or self._overflows():
            return
        if self._out or self._paused or self._session.waiting:
            self._status_due = status, flag
            return
        self._publish_status(status, flag and self._session.wants(STATUS, RETAIN_AS_PUBLISHED))

    def tell_retained(self, status: bytes) -> None:
        """As `tell_status`, to a client that has just subscribed: each SUBSCRIBE is due one (MQTT-3.8.4-3)."""
        if not self._over and not self._overflows():
            self._publish_status(status, True)

    def _publish_status(self, status: bytes, flag: bool) -> None:
        self._status_due = None
        self._act(self._session.publish(STATUS, status, flag))
        self._account()

    def refused(self, segment: str, refusal: Refusal) -> None:
        """The hub ended the session, and with it the connection; MQTT 5 can say why, 3.1.1 only closes."""
        self.end(refusal.code, refusal.reason)

    def end(self, code: str, reason: str) -> None:
        """End the connection from our side: its will is published, what was written leaves, then it closes.

        A client of MQTT 5 is told why, unless it knows.
        """
        if self._over:
            return
        self._act(self._session.goodbye(code, reason))
        self._finish(code, reason)
        if self._lost:
            self._forget()
            return
        self._flush()
        if not self._out:
            self._transport.close()
        self._stop_timer()
        # A peer that reads nothing would hold the socket for ever.
        self._timer = self._loop.call_later(self._gateway.limits.close_seconds, self.abort)

    def abort(self) -> None:
        """Close at once; what is not yet written is lost."""
        self._transport.abort()

    # -- packets in -------------------------------------------------------------------------------------------

    def _step(self, data: bytes) -> tuple[int, bool]:
        """Parse these bytes and act on a few packets. Before the login it is one, under its own limit."""
        reader = self._reader
        most = STEP_PACKETS if self._session.open else 1
        try:
            packets = reader.feed(data, at_most=most)
        except MqttError as error:
            self._act(self._session.fail(error))
            return 1, False
        done, self._acting = 0, True
        for packet in packets:
            done += work_of(packet)
            if not self._over:
                self._act(self._session.receive(packet))
        self._acting = False
        self._flush_soon()  # now and not at our PUBACK: what an answer begins with leaves in the same write
        return done, reader.error is not None or (len(packets) == most and reader.buffered > 0)

    def _settle(self) -> None:
        """After a slice: what is left counts, and is not added to. It may be the last one of a lost connection."""
        self._account_partial()
        self._listen()
        if self._lost and not self._intake.pending:
            self._forget()

    def _act(self, outputs: list[Output]) -> None:
        for output in outputs:
            match output:
                case Send(data=data):
                    self._write(data)
                case Inbound(segment=segment, payload=payload) if self.place is not None:
                    self.place.dialogue.receive(segment, payload)
                case Login(connect=connect):
                    self._act(self._gateway.login(self, self._session, connect))
                    self._reader.version = self._session.terms.codec
                    self._reader.max_packet_size = self._gateway.bounds.packet_bytes
                case StatusSaid(payload=payload, retain=retain) if self.place is not None:
                    self.place.dialogue.said(payload)
                    self._gateway.said(self, payload, retain)
                case Granted(segment=segment):
                    self._gateway.granted(self, segment)
                case Left(segment=segment) if self.place is not None:
                    self.place.dialogue.left(segment)
                case Denied(code=code, topic=topic):
                    self._gateway.denied(self, code, topic)
                case Over(code=code, reason=reason):
                    self.end(code, reason)

    # -- bytes out --------------------------------------------------------------------------------------------

    def _write(self, data: bytes) -> None:
        if self._lost:
            return
        self._out.append(data)
        self._out_bytes += len(data) + PACKET_COST
        if not self._acting:
            self._flush_soon()

    def _flush_soon(self) -> None:
        """Write at the end of this turn of the loop, all at once."""
        if self._out and not self._scheduled and not self._paused:
            self._scheduled = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        """Hand what waits to the transport: in one write, unless there is much of it."""
        self._scheduled = False
        while self._out and not self._paused and not self._lost:
            batch, size = [], 0
            while self._out and size < WRITE_BYTES:
                batch.append(self._out.popleft())
                size += len(batch[-1])
            self._out_bytes -= size + len(batch) * PACKET_COST
            self._transport.write(b"".join(batch))
        if not self._over:
            self._account()
            self._tell_due()
        if self._intake.held:
            self._listen()
        if self._over and not self._out:
            self._transport.close()

    def _tell_due(self) -> None:
        """The status that had to wait, unless the client is still behind."""
        if self._status_due is not None:
            self.tell_status(*self._status_due)

    def _listen(self) -> None:
        """Read on unless there is enough to do. A client that does not read is not read either: its packets shall
        not fill our memory with answers.
        """
        if self._over or self._lost:
            return
        intake, bound = self._intake, self._gateway.bounds.unread_bytes
        if self._out_bytes > (bound // 2 if intake.held else bound):
            intake.held = True
        elif intake.held:
            intake.resume()
        reading = not intake.held and not intake.pending
        if reading is not self._reading and not self._transport.is_closing():
            self._reading = reading
            (self._transport.resume_reading if reading else self._transport.pause_reading)()

    def _overflows(self) -> bool:
        """Whether the client has left too much unread; it then costs nobody else, and is dropped."""
        limits = self._gateway.limits
        if self._unread <= limits.out_bytes and self._session.waiting <= limits.out_frames:
            return False
        self._drop("slow_reader", "The client does not read its answers.")
        return True

    @property
    def _unread(self) -> int:
        """What waits for the client, in bytes."""
        waiting = self._session.waiting
        return self._out_bytes + self._session.waiting_bytes + waiting * PACKET_COST

    def _account(self) -> None:
        """Count what waits here against what may be held; over it this connection ends."""
        if not self._outward.hold(self._unread):
            self._drop_busy()

    def _account_partial(self) -> None:
        """As `_account`, for what the client sent and is not acted on yet, and for our answers to it."""
        if self._over:
            return
        if not self._inward.hold_partial(self._reader.buffered + self._intake.size):
            self._drop_busy()
        elif self._paused:
            self._account()

    def _drop_busy(self) -> None:
        self._drop("busy", "The server holds too much for its clients.")

    def _drop(self, code: str, reason: str) -> None:
        """End it and hold nothing more for it. In MQTT 5 the client has some seconds to hear why."""
        if not self._session.terms.five:
            self.end(code, reason)
            self.abort()
            return
        self._out.clear()
        self._out_bytes = 0
        self.end(code, reason)

    # -- time and end -----------------------------------------------------------------------------------------

    def belongs_to(self, lane: Lane, account: Account) -> None:
        """The client is known: from now on it takes its turns in this lane, and this account pays for it."""
        self._intake.lane = lane
        self._outward.release()
        self._inward.release()
        self._outward, self._inward = Share(account), Share(account)

    def answer_later(self, seconds: float, answer: Callable[[], list[Output]]) -> None:
        """Hold an answer to CONNECT back; until then nothing else is due."""
        self._stop_timer()
        self._timer = self._loop.call_later(seconds, lambda: self._act(answer()))

    def watch_keepalive(self, seconds: float) -> None:
        """From now on a client that is silent for that long is gone; 0 is no limit (MQTT 3.1.2.10)."""
        self._stop_timer()
        self._keepalive = seconds
        if seconds:
            self._timer = self._loop.call_later(seconds, self._check_silence)

    def _check_silence(self) -> None:
        left = self._heard + self._keepalive - self._loop.time()
        if left <= 0:
            self.end("silent", "The client was silent for one and a half keep alive periods.")
        else:
            self._timer = self._loop.call_later(left, self._check_silence)

    def _too_late(self) -> None:
        self.end("connect_timeout", "No CONNECT came in time.")

    def _watch_stall(self) -> None:
        """A client that takes nothing at all for so long is gone, also one that wants no keep alive."""
        left = self._transport.get_write_buffer_size()
        self._stalled = self._loop.call_later(self._gateway.bounds.stall_seconds, self._check_stall, left)

    def _check_stall(self, before: int) -> None:
        if self._transport.get_write_buffer_size() != before:
            self._watch_stall()
            return
        self.end("stalled", "The client has taken nothing for too long.")
        self.abort()

    def _stop_stall(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None

    def _forget(self) -> None:
        """The transport is closed and all it brought is dealt with: nobody knows this connection any more."""
        if self.gone.done():
            return
        self._finish("lost", "The connection was lost.")
        self._stop_timer()
        self._out.clear()
        self._gateway.closed(self)
        self._intake.forget()
        if self._reader.error is not None:
            self._reader.error.__traceback__ = None  # its frames hold this connection, and what TLS has buffered
        self.gone.set_result(None)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _finish(self, code: str, reason: str) -> None:
        """Leave everything that knows this connection, once, whoever ended it."""
        if self._over:
            return
        self._over = True
        self._intake.close()
        will = self._session.end()
        self._outward.release()
        self._inward.release()
        self._gateway.left(self, will, code, reason)
