# SPDX-License-Identifier: Apache-2.0
"""One connection to an HTTP server, kept alive and dialled again when it is needed: one request at a time.

An answer is handed over within the read callback that completed it, without a task between. It repeats no request,
follows no redirect and does not know what is asked.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias, cast

from thalovant.errors import ThalovantConnectionError
from thalovant.transports.base import SLOWEST, set_nodelay
from thalovant.transports.http11 import Answer, AnswerReader
from thalovant.transports.http_proxy import find_proxy, open_tunnel

__all__ = ["HttpLine", "HttpServer", "OnAnswer"]

OnAnswer: TypeAlias = Callable[[Answer | Exception], None]
"""Called once for each request, with the answer, or with why there is none: `ConnectionResetError` when the
connection broke, `TimeoutError` when nothing came in time, `ThalovantConnectionError` for what is no answer."""


@dataclass(frozen=True, slots=True)
class HttpServer:
    """Where a line leads. `context` None: without TLS, which is for this machine only, and goes through no proxy."""

    host: str
    port: int
    context: ssl.SSLContext | None
    useragent: bytes
    max_body: int


class HttpLine:
    """A line to one server. `reads` counts what was heard on it."""

    def __init__(self, server: HttpServer) -> None:
        self._server = server
        self._connection: _Connection | None = None
        self.reads = 0

    @property
    def connected(self) -> bool:
        """Whether a request can be sent without dialling."""
        return self._connection is not None and not self._connection.over

    @property
    def answering(self) -> bool:
        """Whether a part of an answer has come."""
        return self._connection is not None and self._connection.answering

    async def dial(self) -> None:
        """Connect, through a proxy where the environment names one.

        Raises OSError (`ssl.SSLError` is one) and, for what is wrong with a proxy, ThalovantConnectionError.
        """
        self.hang_up()
        server, loop = self._server, asyncio.get_running_loop()
        connection = _Connection(self, server.max_body)
        proxy = None if server.context is None else find_proxy(server.host, server.port)
        if proxy is None or server.context is None:
            name = server.host if server.context else None
            await loop.create_connection(
                lambda: connection, server.host, server.port, ssl=server.context, server_hostname=name
            )
        else:
            await open_tunnel(proxy, server.host, server.port, connection, server.context, useragent=server.useragent)
        self._connection = connection

    def request(self, data: bytes, patience: float, done: OnAnswer) -> None:
        """Send a request on a connected line; `done` hears what became of it.

        `patience`: seconds without a sign of the server until it is given up; more while much is being sent.
        """
        assert self._connection is not None  # noqa: S101 - the caller has looked at `connected`
        self._connection.request(data, patience, done)

    async def ask(self, data: bytes, patience: float) -> Answer:
        """Send a request on a connected line and wait for its answer. Raises what `OnAnswer` says."""
        if not self.connected:
            raise ConnectionResetError("the connection has ended")
        answered: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()

        def done(outcome: Answer | Exception) -> None:
            if answered.done():
                return
            if isinstance(outcome, Answer):
                answered.set_result(outcome)
            else:
                answered.set_exception(outcome)

        self.request(data, patience, done)
        return await answered

    def hang_up(self) -> None:
        """End the connection at once; a request under way has broken off."""
        if self._connection is not None:
            self._connection.abort()

    async def gone(self) -> None:
        """Wait until the socket of a line that was hung up is closed."""
        if self._connection is not None:
            await self._connection.gone.wait()


class _Connection(asyncio.Protocol):
    """One connection of a line."""

    def __init__(self, line: HttpLine, max_body: int) -> None:
        self._line = line
        self._loop = asyncio.get_running_loop()
        self._reader = AnswerReader(max_body)
        self._transport: asyncio.Transport | None = None
        self._done: OnAnswer | None = None
        self._patience = 0.0
        self._alarm: asyncio.TimerHandle | None = None
        self._heard_at = 0.0
        self.over = False
        self.gone = asyncio.Event()

    @property
    def answering(self) -> bool:
        return self._reader.begun

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is not a subclass of it
        set_nodelay(transport)

    def data_received(self, data: bytes) -> None:
        self._line.reads += 1
        self._heard_at = self._loop.time()
        if self._done is None:  # a server that ends an idle connection may say so first (408); it has ended anyway
            self.abort()
            return
        try:
            answer = self._reader.feed(data)
        except ThalovantConnectionError as error:
            self.abort(error)
            return
        if answer is not None:
            if not answer.keep_alive:
                self._end()
            self._tell(answer)

    def connection_lost(self, exc: Exception | None) -> None:
        self.over = True
        self.gone.set()
        if self._done is not None:
            self._tell(self._reader.feed_end() or ConnectionResetError("the connection broke"))

    def request(self, data: bytes, patience: float, done: OnAnswer) -> None:
        assert self._transport is not None and self._done is None  # noqa: S101 - one at a time, on a made connection
        self._done = done
        self._reader.expect()
        self._patience = patience + len(data) / SLOWEST
        self._heard_at = self._loop.time()
        self._alarm = self._loop.call_later(self._patience, self._look)
        self._transport.write(data)

    def abort(self, error: Exception | None = None) -> None:
        self._end()
        if self._done is not None:
            self._tell(error or ConnectionResetError("the connection was given up"))

    def _end(self) -> None:
        self.over = True
        if self._transport is not None:
            self._transport.abort()  # closing would wait for the server to take part

    def _look(self) -> None:
        """Has anything come meanwhile? A long answer on a slow line takes its time."""
        silent = self._loop.time() - self._heard_at
        if silent < self._patience - 0.001:
            self._alarm = self._loop.call_later(self._patience - silent, self._look)
        else:
            self.abort(TimeoutError())

    def _tell(self, outcome: Answer | Exception) -> None:
        done, self._done = self._done, None
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        if done is not None:
            done(outcome)
