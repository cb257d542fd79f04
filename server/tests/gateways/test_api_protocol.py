# SPDX-License-Identifier: Apache-2.0
"""One socket of the API port: the bounds on a request, what waits its turn, who reads too slowly."""

from __future__ import annotations

import asyncio
import socket
import ssl

import httpx2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from thalovant_server.gateways import api_protocol
from thalovant_server.gateways.asgi import answer
from thalovant_server.hub.limits import Limits


def client_of(port):
    return httpx2.AsyncClient(base_url=f"https://localhost:{port.api.port}", verify=port.client_tls, trust_env=False)


async def read_all(reader):
    try:
        return await asyncio.wait_for(reader.read(), 5)
    except (ConnectionError, ssl.SSLError):
        return b""


def test_several_requests_use_one_connection_with_nodelay(run_port):
    async def main(port):
        async with client_of(port) as http:
            for _ in range(3):
                await http.get("/healthz")
            assert port.api.sockets == 1
            [protocol] = port.api.state.connections
            raw = protocol.transport.get_extra_info("socket")
            assert raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)

    run_port(main)


@pytest.mark.parametrize(
    "head",
    [
        b"GET /healthz HTTP/1.1\r\nx: " + b"y" * 20_000 + b"\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nx: " + b"y" * 20_000,
        b"GET /healthz?" + b"y" * 20_000 + b" HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\n" + b"a: b\r\n" * 5000 + b"\r\n",
    ],
)
def test_a_head_over_the_bound_is_431(run_port, head):
    async def main(port):
        reader, writer = await port.raw()
        writer.write(head)
        assert (await read_all(reader)).startswith(b"HTTP/1.1 431")
        writer.close()

    run_port(main)


def test_the_bound_holds_for_later_requests_of_a_connection_too(run_port):
    async def main(port):
        reader, writer = await port.raw()
        writer.write(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 204")
        writer.write(b"GET /healthz HTTP/1.1\r\n" + b"a: b\r\n" * 5000)
        assert (await read_all(reader)).startswith(b"HTTP/1.1 431")
        writer.close()

    run_port(main)


@pytest.mark.parametrize("start", [b"", b"GET /healthz HTT", b"GET /healthz HTTP/1.1\r\nhost: x\r\n"])
def test_a_head_that_does_not_come_is_not_waited_for(run_port, start):
    async def main(port):
        reader, writer = await port.raw()
        writer.write(start)
        assert await read_all(reader) == b""
        writer.close()

    run_port(main, limits=Limits(head_seconds=0.05))


@pytest.mark.parametrize(
    "rubbish",
    [b"\x00\x01\x02\r\n\r\n", b"HELLO\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"CONNECT x:1 HTTP/1.1\r\nhost: x\r\n\r\n"],
)
def test_rubbish_is_refused(run_port, rubbish):
    async def main(port):
        reader, writer = await port.raw()
        writer.write(rubbish)
        assert (await read_all(reader)).startswith(b"HTTP/1.1 4")
        writer.close()

    run_port(main)


@pytest.mark.parametrize(("path", "status"), [(b"/healthz", b"204"), (b"/get_messages", b"400")])
def test_an_upgrade_to_something_else_is_an_ordinary_request(run_port, path, status):
    async def main(port):
        reader, writer = await port.raw()
        writer.write(b"GET " + path + b" HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n")
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 " + status)
        writer.close()

    run_port(main)


@pytest.mark.parametrize("missing", [b"sec-websocket-key: x\r\n", b"sec-websocket-version: 12\r\n", b""])
def test_a_websocket_upgrade_of_the_wrong_form_is_refused(run_port, missing):
    async def main(port):
        reader, writer = await port.raw()
        writer.write(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n" + missing + b"\r\n")
        assert (await read_all(reader)).startswith(b"HTTP/1.1 4")
        writer.close()

    run_port(main)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(1, 80), max_size=6))
def test_any_split_of_a_request_gives_the_same_answer(run_port, cuts):
    request = b"POST /v1/x HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello"

    async def main(port):
        reader, writer = await port.raw()
        rest = request
        for cut in cuts:
            writer.write(rest[:cut])
            await writer.drain()
            rest = rest[cut:]
        writer.write(rest)
        got = await read_all(reader)
        assert got.startswith(b"HTTP/1.1 200")
        assert got.endswith(b'{"path":"/v1/x","body":5}')
        writer.close()

    run_port(main)


@pytest.mark.parametrize("method", [b"POST", b"PUT", b"OPTIONS"])
def test_a_websocket_that_does_not_begin_with_get_is_405(run_port, method):
    async def main(port):
        reader, writer = await port.raw()
        writer.write(method + b" / HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n")
        got = await read_all(reader)
        assert got.startswith(b"HTTP/1.1 405 Method Not Allowed\r\n")
        assert b"\r\nallow: GET\r\n" in got and b'"code":"method_not_allowed"' in got
        writer.close()

    run_port(main)


def test_who_never_reads_its_answers_is_dropped(run_port):
    async def main(port):
        port.api.stall_seconds = 0.1
        _, writer = await port.raw()
        writer.transport.pause_reading()
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        request = b"GET /" + b"x" * 200 + b" HTTP/1.1\r\nhost: x\r\n\r\n"
        writer.write(request * 100_000)
        async with asyncio.timeout(20):
            await port.api._empty.wait()
        assert port.api.sockets == 0
        writer.transport.abort()

    run_port(main)


def test_a_stream_arrives_piece_by_piece(run_port):
    async def main(port):
        port.control.pieces = [b"one", b"two", b"three"]
        async with client_of(port) as http, http.stream("GET", "/v1/stream") as answer:
            assert answer.status_code == 200 and "content-length" not in answer.headers
            arriving = answer.aiter_bytes()
            for piece in port.control.pieces:
                port.control.release.set()
                assert await anext(arriving) == piece
            assert [rest async for rest in arriving] == []
        assert port.control.ended.is_set()

    run_port(main)


def test_the_stream_of_a_reader_that_hangs_up_ends(run_port):
    async def main(port):
        port.control.pieces = [b"one", b"two"]
        port.control.release.set()
        async with client_of(port) as http, http.stream("GET", "/v1/stream") as answer:
            assert await anext(answer.aiter_bytes()) == b"one"
        async with asyncio.timeout(5):
            await port.control.ended.wait()
        assert not port.control.release.is_set()

    run_port(main)


def test_a_stream_waits_for_its_reader_and_not_for_ever(run_port):
    async def main(port):
        port.api.stall_seconds = 0.1
        port.control.endless = b"x" * 10_000
        _, writer = await port.raw()
        writer.transport.pause_reading()
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        writer.write(b"GET /v1/stream HTTP/1.1\r\nhost: x\r\n\r\n")
        async with asyncio.timeout(20):
            await port.control.ended.wait()
        assert port.control.sent < 2_000  # 20 MB: the system's buffers take some, and nothing grows beside them
        writer.transport.abort()

    run_port(main)


def test_who_reads_slowly_stays(run_port):
    async def long(scope, receive, send):
        await answer(send, 200, bytes(5_000_000))

    async def main(port):
        port.api.stall_seconds = 0.2
        port.api._control = long
        reader, writer = await port.raw()
        writer.write(b"GET /v1/x HTTP/1.1\r\nhost: x\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")
        for _ in range(50):
            assert len(await reader.readexactly(100_000)) == 100_000
            await asyncio.sleep(0.02)
        writer.close()

    run_port(main)


@pytest.mark.parametrize(
    ("path", "status"), [(b"/nothing", b"404"), (b"/connect", b"400"), (b"/v1/x", b"408")], ids=["none", "https", "v1"]
)
def test_a_body_that_does_not_end_is_not_waited_for(run_port, monkeypatch, path, status):
    monkeypatch.setattr("thalovant_server.gateways.api_protocol.BODY_GRACE_SECONDS", 0.05)

    async def main(port):
        reader, writer = await port.raw()
        writer.write(b"POST " + path + b" HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\n\r\n")

        async def trickle():
            while True:
                writer.write(b"x")
                await asyncio.sleep(0.01)

        drops = asyncio.create_task(trickle())
        got = await read_all(reader)
        assert got.startswith(b"HTTP/1.1 " + status) or not got
        drops.cancel()
        async with asyncio.timeout(10):
            await port.api._empty.wait()
        writer.transport.abort()

    run_port(main, limits=Limits(http_body_seconds=0.05))


def test_a_whole_body_is_not_too_slow_however_long_its_answer_takes(run_port, monkeypatch):
    monkeypatch.setattr("thalovant_server.gateways.api_protocol.BODY_GRACE_SECONDS", 0.01)

    async def main(port):
        async with client_of(port) as http:
            held = asyncio.create_task(http.post("/v1/hold", content=b"x" * 1000))
            await port.control.held.wait()
            await asyncio.sleep(0.1)
            port.control.release.set()
            assert (await held).status_code == 200

    run_port(main, limits=Limits(http_body_seconds=0.01))


# -- calls, which are answered without a task


def request(port, name, *, method="GET", number=1, body=b"", head=b"", version=b"1.1"):
    """The bytes of a request of the HTTPS road."""
    line = f"{method} /{name}?{port.authorization(number)} HTTP/".encode() + version
    length = b"content-length: %d\r\n" % len(body) if body else b""
    return b"%s\r\nhost: x\r\n%s%s\r\n%s" % (line, length, head, body)


async def answers(reader, count):
    """Status, headers and body of so many answers."""
    got = []
    for _ in range(count):
        head = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)).decode().split("\r\n")
        headers = dict(line.split(": ", 1) for line in head[1:-2])
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        got.append((int(head[0].split()[1]), headers, body))
    return got


def with_raw(run_port, scene, **options):
    """Run `scene(port, reader, writer)` with a bare connection and one credential."""

    async def main(port):
        port.credential()
        reader, writer = await port.raw()
        await scene(port, reader, writer)
        writer.transport.abort()

    run_port(main, **options)


def test_requests_in_one_write_are_answered_in_their_order(run_port):
    async def scene(port, reader, writer):
        polls = request(port, "get_messages") + request(port, "get_binary_messages")
        others = b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n" + request(port, "send_message", method="POST", body=b"x=y")
        writer.write((polls + others) * 20)
        got = await answers(reader, 80)
        assert [status for status, _, _ in got] == [200, 200, 204, 409] * 20

    with_raw(run_port, scene)


def test_of_requests_in_one_write_one_is_served_a_turn(run_port):
    async def scene(port, reader, writer):
        served, turns, serve = [], 0, port.https.serve

        def count_turns():
            nonlocal turns
            turns += 1
            if len(served) < 50:
                asyncio.get_running_loop().call_soon(count_turns)

        port.https.serve = lambda call: (served.append(turns), serve(call))
        count_turns()
        writer.write(request(port, "get_messages") * 50)
        await answers(reader, 50)
        assert len(set(served)) == 50

    with_raw(run_port, scene)


def test_what_follows_a_held_request_waits_for_it(run_port):
    async def scene(port, reader, writer):
        writer.write(request(port, "connect", method="POST"))
        [(_, headers, _)] = await answers(reader, 1)
        cookie = b"cookie: a=b; %s; c=d\r\n" % headers["set-cookie"].split(";")[0].encode()
        for wait, count in ((0, 2), (60_000, 0)):
            body = (0).to_bytes(16, "big") + wait.to_bytes(4, "big") + b"\x00"
            writer.write(request(port, "exchange", method="POST", body=body, head=cookie))
            if count:
                await answers(reader, 1)
        writer.write(
            b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n" + request(port, "disconnect", method="POST", head=cookie)
        )
        [session] = port.https._sessions["key-1"].values()
        async with asyncio.timeout(5):
            while not session.held:
                await asyncio.sleep(0.001)
        port.hub.connections_of("client-1")[0]._link.send_clear(b"late")
        got = await answers(reader, 3)
        assert [status for status, _, _ in got] == [200, 204, 200]
        assert got[0][2].endswith(b"late") and b"Disconnected" in got[2][2]

    with_raw(run_port, scene)


def test_a_connection_is_kept_as_the_client_asks(run_port):
    async def scene(port, reader, writer):
        writer.write(request(port, "get_messages", head=b"connection: close\r\n"))
        [(status, headers, _)] = await answers(reader, 1)
        assert (status, headers["connection"]) == (200, "close")
        assert await read_all(reader) == b""
        reader, writer = await port.raw()
        writer.write(request(port, "get_messages", version=b"1.0"))
        assert (await read_all(reader)).startswith(b"HTTP/1.1 200 OK\r\n")
        writer.close()

    with_raw(run_port, scene)


def test_an_idle_connection_is_closed_and_a_held_request_is_not_idle(run_port):
    async def scene(port, reader, writer):
        port.api._config.timeout_keep_alive = 0.1
        reader, writer = await port.raw()
        writer.write(request(port, "connect", method="POST"))
        [(_, headers, _)] = await answers(reader, 1)
        cookie = b"cookie: %s\r\n" % headers["set-cookie"].split(";")[0].encode()
        for wait in (0, 400):
            body = (0).to_bytes(16, "big") + wait.to_bytes(4, "big") + b"\x00"
            writer.write(request(port, "exchange", method="POST", body=body, head=cookie))
            assert [status for status, _, _ in await answers(reader, 1)] == [200]
        assert await read_all(reader) == b""
        writer.transport.abort()

    with_raw(run_port, scene)


def test_another_method_is_405_with_no_body_for_head(run_port):
    async def scene(port, reader, writer):
        writer.write(request(port, "get_messages", method="HEAD") + request(port, "get_messages", method="PUT"))
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
        assert head.startswith(b"HTTP/1.1 405") and b"\r\nallow: GET\r\n" in head
        [(status, headers, body)] = await answers(reader, 1)
        assert (status, headers["content-type"]) == (405, "application/problem+json") and b"method" in body

    with_raw(run_port, scene)


def test_a_body_is_asked_for_when_the_client_waits_to_be_asked(run_port):
    async def scene(port, reader, writer):
        expects = request(port, "send_message", method="POST", body=b"message=x", head=b"expect: 100-continue\r\n")
        writer.write(expects[: -len(b"message=x")])
        assert await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5) == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"message=x")
        assert [status for status, _, _ in await answers(reader, 1)] == [409]

    with_raw(run_port, scene)


def test_whoever_is_refused_is_answered_before_its_body_comes(run_port):
    async def scene(port, reader, writer):
        whole = request(port, "exchange", method="POST", number=9, body=b"x" * 1000)
        writer.write(whole[:-500])
        assert [status for status, _, _ in await answers(reader, 1)] == [403]
        writer.write(whole[-500:] + request(port, "get_messages"))
        assert [status for status, _, _ in await answers(reader, 1)] == [200]

    with_raw(run_port, scene)


@pytest.mark.parametrize("behind", [False, True])
def test_a_body_over_the_bound_is_not_kept(run_port, behind):
    async def scene(port, reader, writer):
        port.api._control = slow = Slow()
        if behind:
            writer.write(b"GET /v1/x HTTP/1.1\r\nhost: x\r\n\r\n")
        writer.write(request(port, "send_message", method="POST", body=b"x" * 3_000))
        slow.go.set()
        got = await answers(reader, 1 + behind)
        assert [status for status, _, _ in got] == [200] * behind + [400]
        assert got[-1][1]["connection"] == "close"
        assert await read_all(reader) == b""

    with_raw(run_port, scene, limits=Limits(http_body_bytes=2_000))


class Slow:
    """An application that answers when it is told to."""

    def __init__(self):
        self.go = asyncio.Event()

    async def __call__(self, scope, receive, send):
        await self.go.wait()
        await answer(send, 200, b"x")


def test_a_body_that_is_cut_short_by_the_next_read_comes_whole_behind_another_request(run_port):
    async def scene(port, reader, writer):
        port.api._control = slow = Slow()
        whole = request(port, "send_message", method="POST", body=b"message=" + b"x" * 100_000)
        writer.write(b"GET /v1/x HTTP/1.1\r\nhost: x\r\n\r\n" + whole[:-90_000])
        await asyncio.sleep(0.05)
        slow.go.set()
        writer.write(whole[-90_000:])
        assert [status for status, _, _ in await answers(reader, 2)] == [200, 409]

    with_raw(run_port, scene)


def test_a_call_that_fails_is_500_and_no_more(run_port):
    async def scene(port, reader, writer):
        serve = port.https.serve

        def fail(call):
            raise ValueError("our fault")

        port.https.serve = fail
        writer.write(request(port, "get_messages"))
        assert [(status, body) for status, _, body in await answers(reader, 1)] == [
            (500, b'{"error":"The server failed"}')
        ]
        port.https.serve = serve
        writer.write(request(port, "get_messages"))
        assert [status for status, _, _ in await answers(reader, 1)] == [200]

    with_raw(run_port, scene)


@pytest.mark.parametrize(
    ("url", "status"),
    [
        (b"/get_messages?", 400),
        (b"/get%5Fmessages?", 400),
        (b"/hubs/h1/get_messages/?", 400),
        (b"https://x/get_messages?", 400),
        (b"/get_messages#x", 400),
        (b"/get_messages%2F?", 400),
        (b"/x/get_messages?", 404),
        (b"/v1/get_messages?", 200),
        (b"//get_messages?", 400),
        (b"/get_messagesx?", 404),
    ],
)
def test_which_addresses_are_of_the_road(run_port, url, status):
    async def scene(port, reader, writer):
        writer.write(b"GET " + url + b" HTTP/1.1\r\nhost: x\r\n\r\n")
        assert [status for status, _, _ in await answers(reader, 1)] == [status]

    with_raw(run_port, scene)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(1, 200), max_size=8))
def test_any_split_of_calls_gives_the_same_answers(run_port, cuts):
    async def scene(port, reader, writer):
        rest = request(port, "get_messages") + request(port, "send_message", method="POST", body=b"message=hi")
        rest += b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n" + request(port, "disconnect", method="POST")
        for cut in cuts:
            writer.write(rest[:cut])
            await writer.drain()
            rest = rest[cut:]
        writer.write(rest)
        assert [status for status, _, _ in await answers(reader, 4)] == [200, 409, 204, 200]

    with_raw(run_port, scene)


def test_who_never_reads_what_calls_answer_is_dropped(run_port):
    async def scene(port, reader, writer):
        port.api.stall_seconds = 0.1
        writer.transport.pause_reading()
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        writer.write(request(port, "get_messages") * 30_000)
        async with asyncio.timeout(20):
            await port.api._empty.wait()
        assert port.api.sockets == 0

    with_raw(run_port, scene)


def test_rubbish_and_unknown_upgrades_do_not_fill_the_log(run_port, caplog):
    upgrade = b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: foo\r\n\r\n"

    async def main(port):
        for _ in range(5):
            reader, writer = await port.raw()
            writer.write(b"\x16\x03 rubbish\r\n\r\n")
            assert b" 400 " in await read_all(reader)
            writer.close()
        reader, writer = await port.raw()
        for _ in range(5):
            writer.write(upgrade)
            assert (await reader.readuntil(b"\r\n\r\n")).split()[1] == b"204"
        writer.close()

    with capture_logs() as lines:
        run_port(main)
    assert [line["code"] for line in lines if line["event"] == "refused"] == ["invalid_http"]
    assert [record for record in caplog.records if record.name.startswith("uvicorn")] == []


@pytest.mark.parametrize("path", [b"/v1/hold", b"/nothing"])
def test_requests_behind_one_that_is_served_are_not_even_parsed(run_port, path):
    request = b"GET " + path + b" HTTP/1.1\r\nhost: x\r\n\r\n"
    most = api_protocol.PIECE_BYTES // len(request) + 1

    async def main(port):
        reader, writer = await port.raw()
        writer.write(request * 3_000)
        lengths, answered = [], 0
        async with client_of(port) as neighbour:
            while not lengths or max(lengths) == 0 or len(lengths) < 20:
                assert (await neighbour.get("/healthz")).status_code == 204
                lengths += [len(each.pipeline) for each in port.api.state.connections]
        port.control.release.set()
        while answered < 3_000:
            answered += (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 ")
            await reader.readuntil(b"}")
        assert max(lengths) <= most
        writer.close()

    run_port(main)


def test_a_connection_whose_last_body_nobody_wanted_is_not_kept_for_ever(run_port):
    async def main(port):
        reader, writer = await port.raw()
        writer.write(b"POST /connect HTTP/1.1\r\nhost: x\r\ncontent-length: 50000\r\n\r\n" + bytes(50_000))
        assert (await reader.readline()).split()[1] == b"400"
        async with asyncio.timeout(10):
            await reader.read()
        writer.close()

    run_port(main, limits=Limits(keep_alive_seconds=1.0))


@pytest.mark.parametrize("size", [10, 2 * api_protocol.PIECE_BYTES])  # one TLS record, and so one read
def test_what_comes_behind_an_unknown_upgrade_in_one_read_is_not_taken_for_a_request(run_port, size):
    head = b"POST /v1/x HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: h2c\r\ncontent-length: %d\r\n\r\n" % size

    async def main(port):
        reader, writer = await port.raw()
        writer.write(head + bytes(size))
        assert b" 200 " in await reader.readline()
        writer.close()

    run_port(main)
