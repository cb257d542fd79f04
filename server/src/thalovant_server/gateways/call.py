# SPDX-License-Identifier: Apache-2.0
"""One request of the polling road, answered in one write and without a task: at once, or when there is something.

`api_protocol` makes it as soon as the head is read, and has it served in its turn. A published client polls 18 times a
second, and one of ours holds a request open for most of its life: both must cost next to nothing.

It will not read sockets nor know what is asked.
"""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from typing import TYPE_CHECKING, Protocol

import orjson

from thalovant_server.gateways.asgi import JSON, PROBLEM, problem_body
from thalovant_server.gateways.share import Share

if TYPE_CHECKING:
    from thalovant_server.hub.budget import Account

Headers = tuple[tuple[bytes, bytes], ...]
BINARY = b"application/octet-stream"

_STATUS = {status.value: b"HTTP/1.1 %d %s\r\n" % (status, status.phrase.encode()) for status in HTTPStatus}


class Carrier(Protocol):
    """The connection that a call came on."""

    caller: Caller | None

    def write(self, data: bytes) -> None:
        """Write, unless the connection is gone."""

    def answered(self, call: Call) -> None:
        """Go on with what comes after this call, or close the connection."""


class Caller:
    """Who a connection's latest call came from: what need not be read again when the next one says the same."""

    __slots__ = ("access_key", "query", "user_agent")

    def __init__(self, query: bytes, user_agent: str, access_key: str) -> None:
        self.query = query
        self.user_agent = user_agent
        self.access_key = access_key


class _Nobody:
    """Takes the place of the event that an ASGI application would wait on."""

    def set(self) -> None:
        """Nobody waits."""


class Call:
    """One request.

    It takes the place of uvicorn's request-response cycle, and so has the attributes that its protocol looks at.
    """

    __slots__ = (
        "_carrier",
        "_most_body",
        "_on_body",
        "_share",
        "_too_large",
        "body",
        "disconnected",
        "expects_continue",
        "headers",
        "hub_id",
        "keep_alive",
        "message_event",
        "method",
        "more_body",
        "name",
        "on_lost",
        "query",
        "remote",
        "response_complete",
        "response_started",
    )

    def __init__(
        self,
        carrier: Carrier,
        method: bytes,
        target: tuple[str | None, str, bytes],
        headers: list[tuple[bytes, bytes]],
        remote: str,
        *,
        most_body: int,
        keep_alive: bool,
        expects_continue: bool = False,
    ) -> None:
        """`target`: hub id (None: the default hub), name of the address, query. `headers`: names in lower case.

        A body of more than `most_body` bytes is not kept.
        """
        self._carrier = carrier
        self.method = method
        self.hub_id, self.name, self.query = target
        self.headers = headers
        self.remote = remote
        self.keep_alive = keep_alive
        self.expects_continue = expects_continue
        self.on_lost: Callable[[], object] | None = None
        """Called once when the connection is gone before there was an answer."""
        self.body = bytearray()
        self.more_body = True
        self.disconnected = False
        self.response_started = False
        self.response_complete = False
        self.message_event = _NOBODY
        self._most_body = most_body
        self._too_large = False
        self._on_body: Callable[[bytes], None] | None = None
        self._share: Share | None = None

    @property
    def over(self) -> bool:
        """Whether it was answered, or nobody is there any more."""
        return self.response_complete or self.disconnected

    @property
    def caller(self) -> Caller | None:
        """Who the connection's calls came from so far."""
        return self._carrier.caller

    @caller.setter
    def caller(self, caller: Caller) -> None:
        self._carrier.caller = caller

    def cookie(self, name: bytes) -> bytes:
        """The value of the first cookie of that name; empty when there is none."""
        for header, value in self.headers:
            if header == b"cookie":
                for pair in value.split(b";"):
                    key, _, found = pair.strip().partition(b"=")
                    if key == name:
                        return found
        return b""

    # -- the body ---------------------------------------------------------------------------------------------

    def read_body(self, then: Callable[[bytes], None]) -> None:
        """Call `then` with the whole body; one that is too long is answered with 400 (contract 10.2)."""
        self._on_body = then
        if self.expects_continue and self.more_body:
            self._carrier.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self._look_at_body()

    def paid_by(self, account: Account) -> None:
        """From now on what is kept of the body counts as held for that client; without room it is answered with 503."""
        self._share = Share(account)
        self._count_body()

    def take_body(self, part: bytes) -> None:
        """A part of the body arrived."""
        if self.response_complete:
            return
        if len(self.body) + len(part) > self._most_body:
            self._too_large = True
            self.body.clear()
        if not self._too_large:
            self.body += part
        self._count_body()
        self._look_at_body()

    def end_body(self) -> None:
        """The body is whole."""
        self.more_body = False
        self._look_at_body()

    def _count_body(self) -> None:
        if self._share is not None and not self._share.hold_partial(len(self.body)):
            self.answer(503, headers=((b"connection", b"close"), (b"retry-after", b"5")))

    def _forget_body(self) -> None:
        self.body = bytearray()
        if self._share is not None:
            self._share.release()

    def _look_at_body(self) -> None:
        then = self._on_body
        if then is None or self.over:
            return
        if self._too_large:
            self.answer(400, headers=((b"connection", b"close"),))
        elif not self.more_body:
            self._on_body = None
            body = bytes(self.body)
            self._forget_body()
            then(body)

    # -- the answer -------------------------------------------------------------------------------------------

    def answer(self, status: int, body: bytes = b"", content_type: bytes = JSON, headers: Headers = ()) -> None:
        """Answer; nothing happens when it was answered before, or the client is gone."""
        if any(name == b"connection" for name, _ in headers):
            self.keep_alive = False
        elif not self.keep_alive:
            headers = (*headers, (b"connection", b"close"))
        head = [_STATUS[status], b"content-length: %d\r\ncache-control: no-store\r\n" % len(body)]
        if body:
            head.append(b"content-type: %s\r\n" % content_type)
        head += [b"%s: %s\r\n" % header for header in headers]
        self._write(b"".join((*head, b"\r\n", b"" if self.method == b"HEAD" else body)))

    def answer_prepared(self, prepared: bytes, body: bytes) -> None:
        """The same as `answer(200, body)`, where `prepared` was made by `prepare` of that body."""
        if self.keep_alive:
            self._write(prepared)
        else:
            self.answer(200, body)

    def answer_json(self, status: int, value: object, headers: Headers = ()) -> None:
        """Answer with JSON."""
        self.answer(status, orjson.dumps(value), headers=headers)

    def answer_problem(self, status: int, detail: str, code: str, headers: Headers = ()) -> None:
        """Answer with a problem (RFC 9457; contract control plane 1.5)."""
        self.answer(status, problem_body(status, detail, code), PROBLEM, headers)

    def lost(self) -> None:
        """The connection is gone."""
        self._forget_body()
        if not self.over:
            self.disconnected = True
            self._on_body = None
            on_lost, self.on_lost = self.on_lost, None
            if on_lost is not None:
                on_lost()

    def _write(self, data: bytes) -> None:
        if self.over:
            return
        self.response_started = self.response_complete = True
        self.on_lost = None
        self._forget_body()
        self._carrier.write(data)
        self._carrier.answered(self)


def prepare(body: bytes) -> bytes:
    """A whole answer of status 200 with this JSON, for a connection that is kept alive."""
    head = b"content-length: %d\r\ncache-control: no-store\r\ncontent-type: %s\r\n\r\n" % (len(body), JSON)
    return _STATUS[200] + head + body


_NOBODY = _Nobody()
