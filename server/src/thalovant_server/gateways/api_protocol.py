# SPDX-License-Identifier: Apache-2.0
"""One socket of the API port: uvicorn's HTTP protocol with our bounds (head size, head and body time, a reader that
stalls), with the calls of the HTTPS road beside its cycles, and handed over where a WebSocket begins.

It will not know which application answers (`api_port` does), nor log a request line.
"""

from __future__ import annotations

import asyncio
import socket
import weakref
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, cast

from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from thalovant_server.gateways.asgi import PROBLEM, problem_body
from thalovant_server.gateways.call import Call, Caller
from thalovant_server.gateways.https import find_target
from thalovant_server.hub import refusal
from thalovant_server.hub.refusal import PROTOCOL, Refusal

if TYPE_CHECKING:
    import uvicorn
    from uvicorn.server import ServerState

    from thalovant_server.gateways.api_port import ApiPort

HEAD_TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
NO_UPGRADE = "A WebSocket begins with GET."
NO_HTTP = Refusal("invalid_http", "what came is no HTTP request", PROTOCOL, 400)
# Requests may come back to back, some thousands in one read: so much is parsed in a turn.
PIECE_BYTES = 4 * 1024
# The applications wait for a body so much less: theirs is the answer, and this ends what none of them reads.
BODY_GRACE_SECONDS = 5.0


class ApiProtocol(HttpToolsProtocol):
    """uvicorn's protocol with bounds on what comes before an application is called, and with calls beside cycles.

    One request is served at a time, and of those that came in one read one a turn of the loop: who sends many at once
    delays nobody else. Timers are set only for what a read has left unfinished.
    """

    def __init__(self, owner: ApiPort, config: uvicorn.Config, state: ServerState) -> None:
        super().__init__(config, state, {})
        self._owner = owner
        self._head = 0
        self._fields = 0
        self.url = b""
        self.caller: Caller | None = None
        self._active: RequestResponseCycle | Call | None = None
        self._served = False
        self._going_on = False
        self._in_head = False
        self._in_body = False
        self._head_timer: asyncio.TimerHandle | None = None
        self._body_timer: asyncio.TimerHandle | None = None
        self._stall_timer: asyncio.TimerHandle | None = None
        self._idle_since: float | None = None
        self._upgraded = False
        self._unread = b""

    @property
    def waiting(self) -> bool:
        """Whether something came that is not served yet: nothing more is read before that."""
        return bool(self.pipeline or self._unread)

    @property
    def _busy(self) -> bool:
        """Whether a request is being served."""
        return self._active is not None and not self._active.response_complete

    # -- asyncio.Protocol -------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A socket is through its TLS handshake."""
        super().connection_made(transport)
        self.flow = _Flow(self, transport)
        raw = transport.get_extra_info("socket")
        if raw is not None:
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if not self._owner.opened():
            peer = transport.get_extra_info("peername")
            self._owner.refused(refusal.TOO_MANY_CONNECTIONS, peer[0] if peer else "")
            transport.abort()
            return
        self._begin_head()
        self._watch_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is gone, unless a WebSocket took it over."""
        if isinstance(self._active, Call):
            self._active.lost()
        super().connection_lost(exc)
        self._unread = b""
        self._end_keep_alive()
        self._end_head()
        self._end_body()
        self._end_stall()
        if not self._upgraded:
            self._owner.lost()
        self._let_go()

    def _let_go(self) -> None:
        """Hold nobody any more who holds this: what TLS has buffered would wait for the garbage collector."""
        self._active = None
        self.cycle = self.parser = None  # type: ignore[assignment]
        self.pipeline.clear()

    def pause_writing(self) -> None:
        """The client reads slower than the applications write: they wait, and not for ever."""
        super().pause_writing()
        self._watch_stall()

    def resume_writing(self) -> None:
        """The client has caught up."""
        self._end_stall()
        super().resume_writing()
        self._go_on_soon()

    def data_received(self, data: bytes) -> None:
        """Bytes of the client."""
        self._served = False
        self._unread = self._unread + data if self._unread else data
        self._work()

    def _work(self) -> None:
        """Parse what came, in pieces, until a request waits: those behind it wait unparsed, and are not read."""
        while self._unread and not self.pipeline and not self._upgraded and not self.transport.is_closing():
            piece, self._unread = self._unread[:PIECE_BYTES], self._unread[PIECE_BYTES:]
            self._parse(piece)
        if self._upgraded or self.transport.is_closing():
            self._unread = b""
        elif self.pipeline:
            self._go_on_soon()

    def _parse(self, data: bytes) -> None:
        """A head that is not over counts against its bound; what has come and waits here is not late."""
        super().data_received(data)
        if self._in_head:
            self._head += len(data)
            if self._head > self._owner.limits.head_bytes:
                self._refuse_head()
            elif not self._unread and not self.transport.is_closing():
                self._watch_head()
        elif self._in_body and self._body_timer is None and not self._unread:
            self._watch_body()

    # -- the parser -------------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        super().on_message_begin()
        self._fields = 0
        self._begin_head()

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header of it."""
        super().on_header(name, value)
        self._fields += len(name) + len(value) + len(b": \r\n")
        if self._fields + len(self.url) > self._owner.limits.head_bytes:
            raise _HeadTooLargeError

    def on_headers_complete(self) -> None:
        """The head is over; the body is due in time."""
        self._end_head()
        self._in_body = True
        upgrades = self.parser.should_upgrade() and self._should_upgrade()
        target = None if upgrades else find_target(self.url)
        if target is None:
            super().on_headers_complete()
            return
        previous: RequestResponseCycle | Call | None = self.cycle
        call = Call(
            self,
            self.parser.get_method(),
            target,
            self.headers,
            self.client[0] if self.client else "",
            most_body=self._owner.limits.http_body_bytes,
            keep_alive=self.parser.get_http_version() != "1.0" and self.parser.should_keep_alive(),
            expects_continue=self.expect_100_continue,
        )
        self.cycle = cast("RequestResponseCycle", call)
        if self._served or self.flow.write_paused or (previous is not None and not previous.response_complete):
            self.flow.pause_reading()
            self.pipeline.appendleft((self.cycle, self.app))
        else:
            self._begin_call(call)

    def on_body(self, body: bytes) -> None:
        """A part of the body."""
        cycle: RequestResponseCycle | Call = self.cycle
        if isinstance(cycle, Call):
            cycle.take_body(body)
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """The body is over."""
        self._end_body()
        cycle: RequestResponseCycle | Call = self.cycle
        if isinstance(cycle, Call):
            cycle.end_body()
        else:
            super().on_message_complete()

    # -- what is served, and what waits -----------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """Write what a call answers."""
        if not self.transport.is_closing():
            self.transport.write(data)

    def answered(self, call: Call) -> None:
        """A call is over."""
        if not call.keep_alive:
            self.transport.close()
        self.on_response_complete()

    def on_response_complete(self) -> None:
        """One more is answered. What waits is served in a later turn, and nothing more is read before that."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        if self.waiting:
            self._go_on_soon()
        else:
            self._read_on()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._active = cycle
        super()._start_asgi_task(cycle, app)

    def _begin_call(self, call: Call) -> None:
        self._active = call
        self._served = True
        self._owner.serve(call)

    def _go_on_soon(self) -> None:
        if not self._going_on:
            self._going_on = True
            self.loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        """Serve the next request that waits, if it may be served now."""
        self._going_on = False
        if self._busy or self.flow.write_paused or self._upgraded or self.transport.is_closing():
            return
        if self.pipeline:
            waiting, app = self.pipeline.pop()
            cycle = cast("RequestResponseCycle | Call", waiting)
            if isinstance(cycle, Call):
                self._begin_call(cycle)
            else:
                self._start_asgi_task(cycle, app)
        self._work()  # the rest of its body may be due
        self._read_on()

    def _read_on(self) -> None:
        """When nothing waits, read; when nothing is under way either, not for ever."""
        if self.waiting or self._upgraded or self.transport.is_closing():
            return
        self.flow.resume_reading()
        if not self._busy and not self._in_head:
            self._begin_keep_alive()

    def _begin_keep_alive(self) -> None:
        """Close the connection when nothing comes for so long; one timer, however many requests come before."""
        self._idle_since = self.loop.time()
        if self.timeout_keep_alive_task is None:
            self._watch_keep_alive(self.timeout_keep_alive)

    def _watch_keep_alive(self, seconds: float) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(seconds, self.timeout_keep_alive_handler)

    def timeout_keep_alive_handler(self) -> None:
        """Has it been idle for all that time?"""
        self.timeout_keep_alive_task = None
        if self._idle_since is None or self.transport.is_closing():
            return
        left = self._idle_since + self.timeout_keep_alive - self.loop.time()
        if left > 0:
            self._watch_keep_alive(left)
        else:
            self.transport.close()

    def _unset_keepalive_if_required(self) -> None:
        """Something came: it is not idle. The timer finds out by itself."""
        self._idle_since = None

    def _end_keep_alive(self) -> None:
        self._idle_since = None
        if self.timeout_keep_alive_task is not None:
            self.timeout_keep_alive_task.cancel()
            self.timeout_keep_alive_task = None

    def _unsupported_upgrade_warning(self) -> None:
        """The parser has ended the request there: what came with it belongs to a protocol that nobody speaks here."""
        self._unread = b""

    def handle_websocket_upgrade(self) -> None:
        """Hand the socket over, and the head with it. Only a GET can begin a WebSocket (RFC 6455, 4.1)."""
        self._end_keep_alive()
        self._end_head()
        self._end_body()
        if self.scope["method"] != "GET":
            self._refuse(405, NO_UPGRADE, "method_not_allowed", b"allow: GET\r\n")
            return
        self._end_stall()
        self._upgraded = True
        self.connections.discard(self)
        protocol = self._owner.upgrade(self.url.partition(b"?")[0].decode("ascii", "replace"))
        protocol.connection_made(self.transport)
        head = [self.scope["method"].encode(), b" ", self.url, b" HTTP/1.1\r\n"]
        for name, value in self.headers:
            head += [name, b": ", value, b"\r\n"]
        protocol.data_received(b"".join([*head, b"\r\n"]))
        self.transport.set_protocol(protocol)
        self._let_go()

    def send_400_response(self, msg: str) -> None:
        """Whatever the parser did not like; the text says nothing of what was sent."""
        self._end_head()
        self._owner.refused(NO_HTTP, self.client[0] if self.client else "")
        if self._fields + len(self.url or b"") > self._owner.limits.head_bytes:
            self._refuse_head()
        else:
            super().send_400_response(msg)

    def _begin_head(self) -> None:
        if self._in_head:
            return
        self._in_head = True
        self._head = 0

    def _watch_head(self) -> None:
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(self._owner.limits.head_seconds, self._too_slow)

    def _end_head(self) -> None:
        self._in_head = False
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _watch_body(self) -> None:
        seconds = self._owner.limits.http_body_seconds + BODY_GRACE_SECONDS
        self._body_timer = self.loop.call_later(seconds, self._body_too_slow)

    def _end_body(self) -> None:
        self._in_body = False
        if self._body_timer is not None:
            self._body_timer.cancel()
            self._body_timer = None

    def _body_too_slow(self) -> None:
        """The body is not whole. One of a request that waits for those before it is not read meanwhile."""
        if self.waiting:
            self._watch_body()
        elif self.cycle.response_started:
            self.transport.abort()
        else:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
            self._refuse(408, "The body did not arrive in time.", "body_timeout")

    def _watch_stall(self) -> None:
        self._end_stall()
        left = self.transport.get_write_buffer_size()
        self._stall_timer = self.loop.call_later(self._owner.stall_seconds, self._check_stall, left)

    def _check_stall(self, before: int) -> None:
        """Has the client taken anything? A long answer on a slow road is none of our business."""
        if self.transport.get_write_buffer_size() == before:
            self.transport.abort()
        else:
            self._watch_stall()

    def _end_stall(self) -> None:
        if self._stall_timer is not None:
            self._stall_timer.cancel()
            self._stall_timer = None

    def _refuse(self, status: int, detail: str, code: str, header: bytes = b"") -> None:
        """A problem said without an application, and the end of the connection."""
        if self.transport.is_closing():
            return
        body = problem_body(status, detail, code)
        head = b"HTTP/1.1 %d %s\r\n" % (status, HTTPStatus(status).phrase.encode())
        head += b"content-type: %s\r\ncontent-length: %d\r\nconnection: close\r\n" % (PROBLEM, len(body))
        self.transport.write(b"%s%s\r\n%s" % (head, header, body))
        self.transport.close()

    def _too_slow(self) -> None:
        self.transport.close()

    def _refuse_head(self) -> None:
        self._end_head()
        if not self.transport.is_closing():
            self.transport.write(HEAD_TOO_LARGE)
            self.transport.close()


class _Flow(FlowControl):
    """uvicorn's, but that an application which asks for a body does not have the requests behind it read."""

    def __init__(self, owner: ApiProtocol, transport: asyncio.Transport) -> None:
        super().__init__(transport)
        self._owner = weakref.ref(owner)

    def resume_reading(self) -> None:
        """Read on, unless something that came waits."""
        owner = self._owner()
        if owner is not None and not owner.waiting:
            super().resume_reading()


class _HeadTooLargeError(Exception):
    """Raised through the parser, which turns it into its own error."""
