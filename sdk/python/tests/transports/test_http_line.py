# SPDX-License-Identifier: Apache-2.0
"""One connection, one request at a time: what its owner hears of it, on either event loop."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from thalovant.errors import ThalovantConnectionError
from thalovant.transports import http_line
from thalovant.transports.http11 import Answer
from thalovant.transports.http_line import HttpLine, HttpServer

REQUEST = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"
EMPTY = b"HTTP/1.1 204 X\r\n\r\n"

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@pytest.fixture
def with_line(certificates: Any, lonely: Any, run: Any) -> Any:
    """`with_line(serve, scene)`: run `scene(line)` towards a TLS server whose connections run `serve`."""

    def with_line(serve: Serve, scene: Callable[[HttpLine], Awaitable[None]]) -> None:
        async def main() -> None:
            tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            tls.load_cert_chain(certificates.chain_file)
            ended = asyncio.Semaphore(0)

            async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                try:
                    await serve(reader, writer)
                    await reader.read()
                except OSError:
                    pass
                finally:
                    writer.transport.abort()
                    ended.release()

            server = await asyncio.start_server(connection, "127.0.0.1", 0, ssl=tls)
            port = server.sockets[0].getsockname()[1]
            context = ssl.create_default_context(cadata=certificates.ca_pem)
            line = HttpLine(HttpServer("localhost", port, context, b"agent/1", max_body=1000))
            try:
                await asyncio.wait_for(scene(line), 10)
            finally:
                line.hang_up()
                await asyncio.wait_for(line.gone(), 5)
                server.close()
            assert not line.connected

        run(main())

    return with_line


def answering(*answers: bytes) -> Serve:
    """A server that gives these answers, one a request."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for answer in answers:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)

    return serve


def test_requests_follow_each_other_on_one_connection(with_line: Any) -> None:
    async def scene(line: HttpLine) -> None:
        assert not line.connected
        await line.dial()
        connection = line._connection
        assert connection is not None and connection._transport is not None
        raw = connection._transport.get_extra_info("socket")
        assert raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        for body in (b"one", b"two"):
            assert (await line.ask(REQUEST, 5.0)).body == body
        assert line.connected and line._connection is connection and line.reads >= 2

    bodies = [b"HTTP/1.1 200 X\r\ncontent-length: 3\r\n\r\n" + body for body in (b"one", b"two")]
    with_line(answering(*bodies), scene)


def test_the_next_request_may_leave_within_the_answer_to_the_last(with_line: Any) -> None:
    async def scene(line: HttpLine) -> None:
        await line.dial()
        heard: list[Any] = []
        over = asyncio.Event()

        def done(outcome: Any) -> None:
            heard.append(outcome)
            if len(heard) < 3:
                line.request(REQUEST, 5.0, done)
            else:
                over.set()

        line.request(REQUEST, 5.0, done)
        await over.wait()
        assert [answer.status for answer in heard] == [204] * 3

    with_line(answering(EMPTY, EMPTY, EMPTY), scene)


@pytest.mark.parametrize("extra", [b"connection: close\r\n", b"x: y\r\n\r\nmore"])
def test_after_an_answer_that_ends_the_connection_it_is_dialled_again(with_line: Any, extra: bytes) -> None:
    async def scene(line: HttpLine) -> None:
        for _ in range(2):
            await line.dial()
            assert (await line.ask(REQUEST, 5.0)).status == 204
            assert not line.connected
            with pytest.raises(ConnectionResetError):
                await line.ask(REQUEST, 5.0)

    with_line(answering(b"HTTP/1.1 204 X\r\n" + extra + b"\r\n"), scene)


def test_an_answer_that_ends_with_the_connection_is_whole(with_line: Any) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 X\r\n\r\nall of it")
        writer.close()
        await writer.wait_closed()

    async def scene(line: HttpLine) -> None:
        await line.dial()
        assert (await line.ask(REQUEST, 5.0)).body == b"all of it"
        assert not line.connected

    with_line(serve, scene)


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 200 X\r\ncontent-length: 9\r\n\r\nhalf"])
def test_a_connection_that_breaks_is_told(with_line: Any, said: bytes) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(said)
        await writer.drain()
        writer.transport.abort()

    async def scene(line: HttpLine) -> None:
        await line.dial()
        with pytest.raises(ConnectionResetError):
            await line.ask(REQUEST, 5.0)
        assert not line.connected

    with_line(serve, scene)


def test_what_is_no_answer_is_the_declared_error(with_line: Any) -> None:
    async def scene(line: HttpLine) -> None:
        await line.dial()
        with pytest.raises(ThalovantConnectionError, match="cannot be read"):
            await line.ask(REQUEST, 5.0)
        assert not line.connected

    with_line(answering(b"rubbish\r\n\r\n"), scene)


def test_a_server_that_is_silent_is_given_up(with_line: Any) -> None:
    async def scene(line: HttpLine) -> None:
        await line.dial()
        with pytest.raises(TimeoutError):
            await line.ask(REQUEST, 0.05)
        assert not line.connected

    with_line(answering(b""), scene)


def test_one_that_is_slow_is_not(with_line: Any) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        for byte in b"HTTP/1.1 204 X\r\nx: yyyyyyyyyyyyy\r\n\r\n":
            writer.write(bytes([byte]))
            await asyncio.sleep(0.02)

    async def scene(line: HttpLine) -> None:
        await line.dial()
        assert (await line.ask(REQUEST, 0.3)).status == 204

    with_line(serve, scene)


def test_much_to_send_has_more_time(with_line: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_line, "SLOWEST", 100)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await asyncio.sleep(0.2)
        writer.write(EMPTY)

    async def scene(line: HttpLine) -> None:
        await line.dial()
        assert (await line.ask(REQUEST, 0.01)).status == 204  # and 0.26 s for its 26 bytes

    with_line(serve, scene)


def test_what_a_server_says_of_an_idle_connection_ends_it(with_line: Any) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(EMPTY)
        await reader.readuntil(b"\r\n\r\n")
        writer.write(EMPTY)
        await asyncio.sleep(0.05)
        writer.write(b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\n\r\n")

    async def scene(line: HttpLine) -> None:
        await line.dial()
        for _ in range(2):
            assert (await line.ask(REQUEST, 5.0)).status == 204
        while line.connected:
            await asyncio.sleep(0.001)

    with_line(serve, scene)


def test_hanging_up_breaks_what_is_under_way(with_line: Any) -> None:
    async def scene(line: HttpLine) -> None:
        await line.dial()
        asking = asyncio.create_task(line.ask(REQUEST, 5.0))
        await asyncio.sleep(0)
        line.hang_up()
        with pytest.raises(ConnectionResetError):
            await asking
        await line.gone()
        line.hang_up()

    with_line(answering(b""), scene)


def test_whoever_stops_waiting_hears_nothing_more(with_line: Any) -> None:
    async def scene(line: HttpLine) -> None:
        await line.dial()
        asking = asyncio.create_task(line.ask(REQUEST, 5.0))
        await asyncio.sleep(0)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        line.hang_up()

    with_line(answering(b""), scene)


def test_whether_an_answer_has_begun(with_line: Any) -> None:
    go_on = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await go_on.wait()
        writer.write(EMPTY[:5])
        await asyncio.sleep(0.01)
        writer.write(EMPTY[5:])

    async def scene(line: HttpLine) -> None:
        await line.dial()
        heard: list[Answer | Exception] = []
        line.request(REQUEST, 5.0, heard.append)
        assert not line.answering
        go_on.set()
        while not line.answering:
            await asyncio.sleep(0.001)
        while not heard:
            await asyncio.sleep(0.001)
        assert not line.answering

    with_line(serve, scene)


def test_nobody_there(lonely: Any, run: Any) -> None:
    async def main() -> None:
        line = HttpLine(HttpServer("127.0.0.1", 1, None, b"agent/1", max_body=1000))
        with pytest.raises(ConnectionRefusedError):
            await line.dial()
        assert not line.connected
        await line.gone()

    run(main())


def test_dialling_that_is_cut_short_within_the_tls_handshake_leaves_no_socket(lonely: Any, run: Any) -> None:
    async def main() -> None:
        came, gone = asyncio.Event(), asyncio.Event()

        async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(1)
            came.set()
            await reader.read()
            gone.set()
            writer.close()

        server = await asyncio.start_server(silent, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        line = HttpLine(HttpServer("localhost", port, ssl.create_default_context(), b"agent/1", max_body=1000))
        dialling = asyncio.create_task(line.dial())
        await came.wait()
        dialling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await dialling
        async with asyncio.timeout(5):
            await gone.wait()
        server.close()

    run(main())
