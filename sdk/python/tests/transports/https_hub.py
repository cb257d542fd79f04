# SPDX-License-Identifier: Apache-2.0
"""A scripted HTTPS hub for the carrier's tests: it answers polls with what the test says, and exchanges as ours does.

It has no session and no keys: a frame here is whatever bytes the test sends.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Callable, Coroutine
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import uvloop

from thalovant.addresses import authorization_value
from thalovant.identity import ThalovantIdentity
from thalovant.protocol.exchange import Exchange, Frame, read_exchange, write_answer
from thalovant.transports import https
from thalovant.transports.base import Loss

SILENCE, HANG_UP = b"\x00silence", b"\x00hang up"
EMPTY = {"get_messages": {"messages": []}, "get_binary_messages": {"b64_messages": []}}


class Hub:
    """Answers each path with what lies in `answers`, else as a hub with nothing to say; keeps what came.

    `SILENCE` is no answer at all, `HANG_UP` the end of the connection. `faults`: what becomes of the next exchanges:
    "refuse" hangs up before the request is heeded, "lose" after that, "half" in the middle of the answer; a tuple of
    status and body, or raw bytes, is the answer. `choose` says it for those after them.
    """

    SILENCE = SILENCE
    HANG_UP = HANG_UP

    def __init__(self, certificates: Any) -> None:
        self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.tls.load_cert_chain(certificates.chain_file)
        self.answers: dict[str, list[Any]] = {}
        self.seen: list[tuple[str, str, dict[str, str], dict[str, list[str]]]] = []
        self.arrived: dict[str, asyncio.Event] = {}
        self.connections = 0
        self.open: set[asyncio.StreamWriter] = set()
        self.exchanges: list[Exchange] = []
        self.faults: list[Any] = []
        self.choose: Callable[[Exchange], Any] = lambda _: None
        self.taken: list[Frame] = []
        self.said: list[Frame] = []
        self.given = 0
        self.cut = False
        self.held: list[asyncio.Future[None]] = []
        self.news = asyncio.Condition()

    async def __aenter__(self) -> Hub:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self.tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for writer in list(self.open):
            writer.transport.abort()
        while self.open:
            await asyncio.sleep(0.001)

    async def asked(self, name: str) -> None:
        """Wait for the next request of that path."""
        event = self.arrived[name] = asyncio.Event()
        async with asyncio.timeout(5):
            await event.wait()

    async def until(self, condition: Callable[[Hub], Any]) -> None:
        """Wait until something that comes makes this true."""
        async with asyncio.timeout(10), self.news:
            await self.news.wait_for(lambda: condition(self))

    def say(self, *frames: Frame) -> None:
        """Give frames to the newest held request, or to the next that comes."""
        self.said += frames
        if self.held:
            self.held.pop().set_result(None)

    def forms(self) -> list[dict[str, list[str]]]:
        return [form for _, path, _, form in self.seen if path == "/hub/send_message"]

    def names(self) -> list[str]:
        return [path.removeprefix("/hub/") for _, path, _, _ in self.seen]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open.add(writer)
        self.connections += 1
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
                method, target, _ = head[0].split(" ")
                headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:])}
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                url = urlsplit(target)
                assert parse_qs(url.query) == {"authorization": [authorization_value("agent/1", "key")]}
                name = url.path.removeprefix("/hub/")
                form = {} if name == "exchange" else parse_qs(body.decode())
                self.seen.append((method, url.path, headers, form))
                if name in self.arrived:
                    self.arrived.pop(name).set()
                content = await self._exchange(body, reader) if name == "exchange" else self._answer(name)
                if content == SILENCE:
                    await reader.read()
                if content in (SILENCE, HANG_UP):
                    return
                writer.write(content)
                if self.cut:
                    self.cut = False
                    return
                async with self.news:
                    self.news.notify_all()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            self.open.discard(writer)
            writer.transport.abort()

    def _answer(self, name: str) -> bytes:
        waiting = self.answers.get(name)
        if waiting:
            answer = waiting.pop(0)
            if answer in (SILENCE, HANG_UP):
                return bytes(answer)
            return http(*answer) if isinstance(answer, tuple) else http(200, answer)
        if name == "connect":
            cookie = "set-cookie: hivemind_http_replica=r1; HttpOnly; Path=/\r\n"
            return http(200, {"status": "Connected"}, cookie)
        return http(200, {"status": "ok"} | EMPTY.get(name, {}))

    async def _exchange(self, body: bytes, reader: asyncio.StreamReader) -> bytes:
        exchange = read_exchange(body)
        self.exchanges.append(exchange)
        async with self.news:
            self.news.notify_all()
        fault = self.faults.pop(0) if self.faults else self.choose(exchange)
        if fault == "refuse":
            return HANG_UP
        if exchange.frames:
            assert exchange.first <= len(self.taken)
            self.taken += exchange.frames[len(self.taken) - exchange.first :]
        assert exchange.next <= self.given
        if exchange.again:
            self.given = exchange.next
        if isinstance(fault, bytes):
            return fault
        if isinstance(fault, tuple):
            return http(*fault)
        if exchange.wait and self.given == len(self.said):
            await self._hold(exchange.wait / 1000, reader)
        first, self.given = self.given, len(self.said)
        answer = http(200, write_answer(first, self.said[first:]))
        self.cut = fault == "half"
        return {None: answer, "lose": HANG_UP, "half": answer[: len(answer) // 2]}[fault]

    async def _hold(self, seconds: float, reader: asyncio.StreamReader) -> None:
        ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        gone = asyncio.create_task(reader.read(1))
        self.held.append(ended)
        async with self.news:
            self.news.notify_all()
        try:
            await asyncio.wait([ended, gone], timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            if gone.done():
                raise ConnectionResetError
        finally:
            gone.cancel()
            await asyncio.gather(gone, return_exceptions=True)
            if ended in self.held:
                self.held.remove(ended)


def http(status: int, answer: Any, extra: str = "") -> bytes:
    """One answer as bytes; what is no bytes becomes JSON."""
    content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
    return f"HTTP/1.1 {status} X\r\ncontent-length: {len(content)}\r\n{extra}\r\n".encode() + content


class Watcher:
    """Keeps what the carrier hands up."""

    def __init__(self) -> None:
        self.frames: asyncio.Queue[Any] = asyncio.Queue()
        self.losses: asyncio.Queue[Loss] = asyncio.Queue()

    def on_frame(self, data: bytes | str, sealed: bool | None) -> None:
        self.frames.put_nowait((data, sealed))

    async def frame(self) -> Any:
        async with asyncio.timeout(5):
            return await self.frames.get()

    async def loss(self) -> Loss:
        async with asyncio.timeout(5):
            return await self.losses.get()


Scene = Callable[[https.Transport, Hub, Watcher], Coroutine[Any, Any, None]]


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: Any) -> Callable[[Coroutine[Any, Any, Any]], Any]:
    """Run a coroutine on either event loop."""
    return uvloop.run if request.param == "uvloop" else asyncio.run


@pytest.fixture
def play_https(certificates: Any, lonely: Any) -> Callable[..., None]:
    """`play_https(scene)`: run `scene(transport, hub, watcher)`; nothing of the carrier may be left afterwards."""

    def play(scene: Scene, *, trusted: bool = True, run: Any = asyncio.run, **options: Any) -> None:
        async def main() -> None:
            async with Hub(certificates) as hub:
                values = {"access_key": "key", "password": "p", "site_id": "s", "default_port": hub.port}
                values |= {"default_master": "https://localhost", "default_path": "/hub"}
                identity = ThalovantIdentity.from_mapping(values | {"ca_pem": certificates.ca_pem if trusted else None})
                transport = https.Transport(
                    identity,
                    useragent="agent/1",
                    connect_timeout=options.get("connect_timeout", 4.0),
                    send_timeout=options.get("send_timeout", 8.0),
                    self_signed=options.get("self_signed", False),
                )
                watcher = Watcher()
                await scene(transport, hub, watcher)
                await transport.close()
                left = [task.get_name() for task in asyncio.all_tasks() if task.get_name().startswith("thalovant")]
                assert left == []
                async with asyncio.timeout(5):
                    while hub.open:
                        await asyncio.sleep(0.001)

        run(main())

    return play
