# SPDX-License-Identifier: Apache-2.0
"""MQTT over WebSocket (section 6 of both MQTT standards): an MQTT connection inside a socket of the API port.

A WebSocket is unwrapped to a stream of bytes, as if it were TLS, and an `MqttConnection` is given that stream: all
that holds on the MQTT port holds here. What the frames themselves may cost is bounded here, before anybody logged in.
The reason why a connection ends is also said in the close frame, where a browser's developer sees it.

It will not read an MQTT packet; the HTTP head was read by `api_protocol`.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

from websockets.exceptions import NegotiationError
from websockets.frames import Frame, Opcode
from websockets.http11 import Request, Response
from websockets.protocol import OPEN
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from thalovant_server.gateways.asgi import PROBLEM, problem_body
from thalovant_server.gateways.intake import Intake
from thalovant_server.gateways.mqtt.connection import MqttConnection
from thalovant_server.gateways.share import Share
from thalovant_server.gateways.silent_log import SILENT

if TYPE_CHECKING:
    from collections.abc import Callable

    from thalovant_server.gateways.lane import Lane
    from thalovant_server.gateways.mqtt.endpoint import MqttGateway
    from thalovant_server.hub.budget import Account

PATH = "/mqtt"
SUBPROTOCOL = Subprotocol("mqtt")
OFFER_MQTT = "This is MQTT over WebSocket: offer the subprotocol `mqtt` (Sec-WebSocket-Protocol: mqtt)."
NOT_BINARY = "MQTT travels in binary frames; this was a text frame."  # MQTT-6.0.0-1

# The transport asks us to hold on above this; what waits then waits in the MQTT connection, which counts it.
HIGH_WATER = 64 * 1024
# The library parses all it is given at once: so much is a hundred and seventy of the smallest frames.
STEP_BYTES = 1024

# Close codes (RFC 6455, 7.4.1) by the code of an ending; all others are 1008: against the rules of this server.
CLOSE_CODES = {"disconnect": 1000, "restart": 1012, "busy": 1013, "not_binary": 1003, "first_frame_too_large": 1009}
AGAINST_THE_RULES = 1008
REASON_BYTES = 123  # RFC 6455, 5.5


class MqttWebSocket(asyncio.Protocol):
    """One socket that asked for a WebSocket at `PATH`.

    Args:
        gateway: whose connection it becomes.
        on_end: called once, when the socket is gone.
    """

    __slots__ = (
        "_closing",
        "_flush_due",
        "_gateway",
        "_intake",
        "_inward",
        "_loop",
        "_mqtt",
        "_on_end",
        "_paused",
        "_reading",
        "_timer",
        "_transport",
        "_unsent",
        "_ws",
    )

    def __init__(self, gateway: MqttGateway, on_end: Callable[[], None]) -> None:
        self._gateway = gateway
        self._on_end: Callable[[], None] | None = on_end
        self._loop = asyncio.get_running_loop()
        frame_bytes = gateway.bounds.frame_bytes
        # A message may be as long as it likes: its fragments are passed on, not collected.
        self._ws = ServerProtocol(subprotocols=[SUBPROTOCOL], max_size=(None, frame_bytes), logger=SILENT)
        self._transport: asyncio.Transport | None = None
        self._mqtt: _Connection | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._inward = Share(gateway.strangers)  # a frame that is not whole yet
        self._intake: Intake
        self._unsent: list[bytes] = []  # at most one pong, for a client that reads nothing
        self._flush_due = False
        self._reading = True
        self._paused = False
        self._closing = False

    # -- what the event loop calls ----------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take over the socket."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is not a subclass of it
        self._transport.set_write_buffer_limits(high=HIGH_WATER)
        peer = transport.get_extra_info("peername")
        lane = self._gateway.lanes.of(peer[0] if peer else "")
        self._intake = Intake(lane, self._step, self._settle, chunk=STEP_BYTES)

    def data_received(self, data: bytes) -> None:
        """The head of the request, whole; then frames, worked through in slices."""
        if self._mqtt is not None:
            self._intake.receive(data)
        elif not self._closing:
            self._ws.receive_data(data)
            for event in self._ws.events_received():
                if isinstance(event, Request):
                    self._upgrade(event)

    def eof_received(self) -> None:
        """A half-closed connection is of no use: the transport closes (None)."""

    def connection_lost(self, error: Exception | None) -> None:
        """The socket is gone. What came before that is worked through first, and nothing is waited for any more."""
        self._transport = None
        self._stop_timer()
        if self._paused:
            self.resume_writing()
        if self._closing:
            self._intake.close()
        self._intake.resume()
        self._settle()

    def pause_writing(self) -> None:
        """The client reads slower than we write."""
        self._paused = True
        if self._mqtt is not None:
            self._mqtt.pause_writing()

    def resume_writing(self) -> None:
        """The client has caught up."""
        self._paused = False
        self._flush()
        if self._mqtt is not None:
            self._mqtt.resume_writing()

    # -- what the MQTT connection calls, most of it through its stream ----------------------------------------

    def belongs_to(self, lane: Lane, account: Account) -> None:
        """The client is known: its frames, too, take their turns in its lane and are paid for by its account."""
        self._intake.lane = lane
        self._inward.release()
        self._inward = Share(account)

    def write(self, data: bytes) -> None:
        """One binary frame, at once: the caller writes once a turn."""
        if self._ws.state is OPEN:
            self._ws.send_binary(data)
            self._flush()

    def hold(self) -> None:
        """Read nothing more for now."""
        self._intake.held = True
        self._listen()

    def go_on(self) -> None:
        """Read on."""
        self._intake.resume()
        self._listen()

    def close(self, code: str, reason: str) -> None:
        """A close frame after all that was written, then the socket once the client has answered, or soon."""
        if self._ws.state is OPEN:
            self._ws.send_close(CLOSE_CODES.get(code, AGAINST_THE_RULES), short(reason))
        self._begin_closing()
        self._flush()

    def abort(self) -> None:
        """Drop the socket."""
        self._closing = True
        if self._transport is not None:
            self._transport.abort()

    @property
    def closing(self) -> bool:
        """Whether it is on its way out."""
        return self._closing

    @property
    def unsent(self) -> int:
        """Bytes that the client has not taken."""
        waiting = sum(map(len, self._unsent))
        return waiting + (self._transport.get_write_buffer_size() if self._transport is not None else 0)

    def extra_info(self, name: str) -> Any:
        """What the real transport knows."""
        return self._transport.get_extra_info(name) if self._transport is not None else None

    # -- inside -----------------------------------------------------------------------------------------------

    def _upgrade(self, request: Request) -> None:
        response = self._ws.accept(request)
        if isinstance(self._ws.handshake_exc, NegotiationError):
            response = _problem(response)
        self._ws.send_response(response)
        self._flush()
        if self._ws.state is OPEN:
            self._mqtt = _Connection(self._gateway, self)
            self._mqtt.connection_made(_Stream(self, self._mqtt))

    def _step(self, data: bytes) -> tuple[int, bool]:
        """Unwrap these bytes: what was in the frames goes on as one piece."""
        self._ws.receive_data(data)
        events = self._ws.events_received()
        parts: list[bytes] = []
        text = False
        for event in events:
            if isinstance(event, Frame) and event.opcode in (Opcode.BINARY, Opcode.CONT):
                parts.append(bytes(event.data))
            elif isinstance(event, Frame) and event.opcode is Opcode.TEXT:
                text = True
                break
        if not self._closing:
            self._pass_on(b"".join(parts), text)
        return len(events), False

    def _pass_on(self, data: bytes, text: bool) -> None:
        assert self._mqtt is not None  # noqa: S101 - frames come after the upgrade
        if data:
            self._mqtt.data_received(data)
        if text:
            self._fail("not_binary", NOT_BINARY)

    def _settle(self) -> None:
        """After a slice: what is left counts, and a stranger may not begin a long frame."""
        partial = len(self._ws.reader.buffer)
        stranger = self._mqtt is None or self._mqtt.place is None
        if stranger and partial > self._gateway.bounds.first_packet_bytes + STEP_BYTES:
            self._fail("first_frame_too_large", "The frame before CONNACK is too long.")
        elif not self._inward.hold_partial(partial + self._intake.size):
            self._fail("busy", "The server holds too much for its clients.")
        if self._ws.writes and not self._flush_due:  # a turn's MQTT takes it along, if there is any
            self._flush_due = True
            self._loop.call_soon(self._flush)
        self._listen()
        if self._transport is None and not self._intake.pending:
            self._forget()

    def _listen(self) -> None:
        transport = self._transport
        reading = not self._intake.held and not self._intake.pending
        if transport is not None and reading is not self._reading and not transport.is_closing():
            self._reading = reading
            (transport.resume_reading if reading else transport.pause_reading)()

    def _fail(self, code: str, reason: str) -> None:
        """End it; whatever else comes is thrown away unseen."""
        if self._mqtt is not None:
            self._mqtt.end(code, reason)
        self._ws.fail(CLOSE_CODES[code], reason)
        self._flush()

    def _flush(self) -> None:
        self._flush_due = False
        chunks, self._unsent = self._unsent + self._ws.data_to_send(), []
        if self._transport is None:
            return
        if self._paused and self._ws.state is OPEN:
            self._unsent = chunks[-1:]  # only pongs come now, and the newest answers all pings (RFC 6455, 5.5.3)
            return
        if data := b"".join(chunks):
            self._transport.write(data)
        if b"" in chunks:  # the library's way to say: end the connection now
            self._end_socket()

    def _end_socket(self) -> None:
        """Everything was said. Closing while the client still writes would lose our last words on their way."""
        self._begin_closing()
        answered = self._ws.close_rcvd is not None
        self._stop_timer()
        self._timer = self._loop.call_later(0.0 if answered else self._gateway.limits.linger_seconds, self._hang_up)

    def _begin_closing(self) -> None:
        """The client may answer the close frame: nothing holds that up. If it does not, the MQTT connection aborts."""
        if not self._closing:
            self._closing = True
            self._intake.resume()
            self._listen()

    def _hang_up(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def _forget(self) -> None:
        """Nobody knows this socket any more. Once."""
        on_end, self._on_end = self._on_end, None
        if on_end is None:
            return
        self._closing = True
        self._intake.close()
        self._inward.release()
        if self._mqtt is not None:
            self._mqtt.connection_lost(None)
        on_end()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class _Connection(MqttConnection):
    """An MQTT connection that tells its WebSocket whose it is and why it ended."""

    __slots__ = ("_socket", "last_words")

    def __init__(self, gateway: MqttGateway, socket: MqttWebSocket) -> None:
        super().__init__(gateway)
        self._socket = socket
        self.last_words = ("", "")

    def end(self, code: str, reason: str) -> None:
        """As the other's, and keep the words for the close frame."""
        if not self._over:
            self.last_words = (code, reason)
        super().end(code, reason)

    def belongs_to(self, lane: Lane, account: Account) -> None:
        """As the other's, for the frames too."""
        super().belongs_to(lane, account)
        self._socket.belongs_to(lane, account)


class _Stream(asyncio.Transport):
    """The WebSocket as the stream of bytes that an MQTT connection reads and writes."""

    def __init__(self, socket: MqttWebSocket, connection: _Connection) -> None:
        super().__init__()
        self._socket = socket
        self._connection = connection

    def write(self, data: Any) -> None:
        self._socket.write(data)

    def close(self) -> None:
        self._socket.close(*self._connection.last_words)

    def abort(self) -> None:
        self._socket.abort()

    def is_closing(self) -> bool:
        return self._socket.closing

    def pause_reading(self) -> None:
        self._socket.hold()

    def resume_reading(self) -> None:
        self._socket.go_on()

    def get_write_buffer_size(self) -> int:
        return self._socket.unsent

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        found = self._socket.extra_info(name)
        return default if found is None else found


def short(reason: str) -> str:
    """As much of a reason as a close frame holds."""
    return reason.encode()[:REASON_BYTES].decode("utf-8", "ignore")


def _problem(response: Response) -> Response:
    """The refusal of a client that did not offer the subprotocol, as a problem that says what to do."""
    refused = Response(response.status_code, response.reason_phrase, response.headers)
    refused.body = problem_body(response.status_code, OFFER_MQTT, "subprotocol_missing")
    for name in ("Content-Length", "Content-Type"):
        del refused.headers[name]
    refused.headers["Content-Length"] = str(len(refused.body))
    refused.headers["Content-Type"] = PROBLEM.decode()
    return refused
