# SPDX-License-Identifier: Apache-2.0
"""The HTTPS carrier against a scripted HTTP server."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import ssl
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest

from thalovant.addresses import authorization_value
from thalovant.errors import ThalovantConnectionError, ThalovantHubRefusedError
from thalovant.identity import ThalovantIdentity
from thalovant.transports import https
from thalovant.transports.base import Loss

EMPTY = {"get_messages": {"messages": []}, "get_binary_messages": {"b64_messages": []}}


class Hub:
    """Answers each path with what lies in `answers`, else as a hub with nothing to say; keeps what came."""

    def __init__(self, certificates: Any) -> None:
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._tls.load_cert_chain(certificates.chain_file)
        self.answers: dict[str, list[Any]] = {}
        self.seen: list[tuple[str, str, dict[str, str], dict[str, list[str]]]] = []
        self.arrived: dict[str, asyncio.Event] = {}
        self.connections = 0
        self.writer: asyncio.StreamWriter | None = None

    async def __aenter__(self) -> Hub:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        if self.writer is not None:
            self.writer.transport.abort()
        await asyncio.sleep(0)

    async def asked(self, name: str) -> None:
        """Wait for the next request of that path."""
        event = self.arrived[name] = asyncio.Event()
        async with asyncio.timeout(5):
            await event.wait()

    def forms(self) -> list[dict[str, list[str]]]:
        return [form for _, path, _, form in self.seen if path == "/hub/send_message"]

    def names(self) -> list[str]:
        return [path.removeprefix("/hub/") for _, path, _, _ in self.seen]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writer = writer
        self.connections += 1
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
                method, target, _ = head[0].split(" ")
                headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:])}
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                url = urlsplit(target)
                assert parse_qs(url.query) == {"authorization": [authorization_value("agent/1", "key")]}
                self.seen.append((method, url.path, headers, parse_qs(body.decode())))
                name = url.path.removeprefix("/hub/")
                status, answer, extra = self._answer(name)
                content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
                writer.write(f"HTTP/1.1 {status} X\r\ncontent-length: {len(content)}\r\n{extra}\r\n".encode() + content)
                if name in self.arrived:
                    self.arrived.pop(name).set()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    def _answer(self, name: str) -> tuple[int, Any, str]:
        waiting = self.answers.get(name)
        if waiting:
            answer = waiting.pop(0)
            return answer if isinstance(answer, tuple) else (200, answer, "")
        if name == "connect":
            return 200, {"status": "Connected"}, "set-cookie: hivemind_http_replica=r1; HttpOnly; Path=/\r\n"
        return 200, {"status": "ok"} | EMPTY.get(name, {}), ""


class Watcher:
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


@pytest.fixture
def play(certificates: Any, lonely: Any) -> Callable[..., None]:
    def play(scene: Any, *, trusted: bool = True, **options: Any) -> None:
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

        asyncio.run(main(), debug=True)

    return play


def test_a_whole_life_over_one_connection(play: Any) -> None:
    async def scene(transport: https.Transport, hub: Hub, watcher: Watcher) -> None:
        hub.answers["get_messages"] = [{"messages": ["hello", "offer"]}]
        await transport.open(watcher.on_frame, watcher.losses.put_nowait)
        assert [await watcher.frame(), await watcher.frame()] == [("hello", False), ("offer", False)]
        transport.send_clear(b"shake")
        transport.send_sealed([b"\xff\xfe", b"two"])
        transport.ready()
        hub.answers["get_binary_messages"] = [{"b64_messages": [base64.b64encode(b"\x00sealed").decode()]}]
        assert await watcher.frame() == (b"\x00sealed", True)
        await transport.close()
        assert hub.forms() == [
            {"message": ["shake"]},
            {"message": ["//4="], "binary": ["1"]},
            {"message": ["dHdv"], "binary": ["1"]},
        ]
        assert (hub.names()[0], hub.names()[-1]) == ("connect", "disconnect")
        assert hub.connections == 1
        assert all(headers["user-agent"] == "agent/1" for _, _, headers, _ in hub.seen)
        assert all(headers["cookie"] == "hivemind_http_replica=r1" for _, _, headers, _ in hub.seen[1:])
        assert [method for method, path, _, _ in hub.seen if "get_" in path] == ["GET"] * (len(hub.seen) - 5)
        assert watcher.losses.empty()

    play(scene)


def test_it_asks_often_while_an_answer_is_awaited_and_seldom_otherwise(play: Any, monkeypatch: Any) -> None:
    async def polls(transport: https.Transport, hub: Hub, seconds: float) -> int:
        before = len(hub.seen)
        await asyncio.sleep(seconds)
        return len(hub.seen) - before

    async def scene(transport: https.Transport, hub: Hub, watcher: Watcher) -> None:
        monkeypatch.setattr(https, "IDLE_PAUSE", 0.2)
        await transport.open(watcher.on_frame, watcher.losses.put_nowait)
        transport.ready()
        await hub.asked("get_binary_messages")
        idle = await polls(transport, hub, 0.3)
        transport.expecting = True
        transport.send_sealed([b"x"])
        busy = await polls(transport, hub, 0.3)
        assert idle <= 3 and busy > 2 * idle

    play(scene)


def test_what_is_sent_does_not_wait_for_the_next_poll(play: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(https, "IDLE_PAUSE", 3600)

    async def scene(transport: https.Transport, hub: Hub, watcher: Watcher) -> None:
        await transport.open(watcher.on_frame, watcher.losses.put_nowait)
        transport.ready()
        await hub.asked("get_binary_messages")
        transport.send_sealed([b"x"])
        await hub.asked("send_message")

    play(scene)


def test_everything_queued_is_sent_before_the_goodbye(play: Any) -> None:
    async def scene(transport: https.Transport, hub: Hub, watcher: Watcher) -> None:
        await transport.open(watcher.on_frame, watcher.losses.put_nowait)
        transport.ready()
        frames = [str(number).encode() for number in range(https.MAX_WAITING + 10)]
        transport.send_sealed(frames)
        assert transport.congested
        await transport.drain()
        await transport.close()
        assert [base64.b64decode(form["message"][0]) for form in hub.forms()] == frames

    play(scene)


@pytest.mark.parametrize(
    ("answer", "kind", "text"),
    [
        ((401, {}, ""), ThalovantHubRefusedError, "401"),
        ((403, {"error": "Invalid authorization"}, ""), ThalovantHubRefusedError, "403"),
        ((503, {}, ""), ThalovantConnectionError, "busy"),
        ((429, {}, ""), ThalovantConnectionError, "busy"),
        ((404, b"not here", ""), ThalovantConnectionError, "404"),
        ((500, {"error": "Connection failed"}, ""), ThalovantConnectionError, "Connection failed"),
        ((302, {}, "location: /elsewhere\r\n"), ThalovantConnectionError, "302"),
        ((200, {"error": "no"}, ""), ThalovantConnectionError, "no"),
    ],
)
def test_refused_admissions(play: Any, answer: Any, kind: type, text: str) -> None:
    async def scene(transport: https.Transport, hub: Hub, watcher: Watcher) -> None:
        hub.answers["connect"] = [answer]
        with pytest.raises(ThalovantConnectionError, match=text) as caught:
            await transport.open(watcher.on_frame, watcher.losses.put_nowait)
        assert type(caught.value) is kind
        assert watcher.losses.empty() and len(hub.seen) == 1

    play(scene)


@pytest.mark.parametrize(
    ("path", "answer", "refused"),
    [
        ("get_messages", (403, {}, ""), True),
        ("get_messages", {"error": "Client is not connected"}, False),
        ("get_messages", {"messages": "none"}, False),
        ("get_messages", {"messages": [1]}, False),
        ("get_messages", b"rubbish", False),
        ("send_message", (409, {"error": "Client is not connected"}, ""), False),
        ("send_message", (500, {"error": "x"}, ""), False),
        ("send_message", (401, {}, ""), True),
    ],
)
def test_what_loses_the_link(play: Any, path: str, answer: Any, refused: bool) -> None:
    async def scene(transport: https.Transport, hub: Hub, watcher: Watcher) -> None:
        await transport.open(watcher.on_frame, watcher.losses.put_nowait)
        hub.answers[path] = [answer]
        transport.send_clear(b"x")
        loss = await watcher.loss()
        assert loss.refused is refused
        transport.send_clear(b"into the void")
        await transport.drain()
        await transport.close()
        assert hub.names().count("disconnect") == 0

    play(scene)


@pytest.mark.parametrize("answer", [{"b64_messages": ["no base64!"]}, {"b64_messages": None}, {}])
def test_sealed_frames_that_are_none_lose_the_link(play: Any, answer: Any) -> None:
    async def scene(transport: https.Transport, hub: Hub, watcher: Watcher) -> None:
        await transport.open(watcher.on_frame, watcher.losses.put_nowait)
        hub.answers["get_binary_messages"] = [answer if answer else (200, {"status": "x"}, "")]
        transport.ready()
        await watcher.loss()

    play(scene)


@pytest.mark.parametrize("error", [httpx2.InvalidURL("x"), httpx2.StreamError("x"), OSError("x"), ValueError("x")])
def test_whatever_ends_the_polling_loses_the_link(play: Any, monkeypatch: Any, error: Exception) -> None:
    async def scene(transport: https.Transport, hub: Hub, watcher: Watcher) -> None:
        await transport.open(watcher.on_frame, watcher.losses.put_nowait)

        async def fail(*_: Any) -> Any:
            raise error

        monkeypatch.setattr(https._Hub, "clear_frames", fail)
        loss = await watcher.loss()
        assert type(error).__name__ in loss.text and not loss.refused

    play(scene)


def test_an_owner_that_cannot_take_a_frame_loses_the_link(play: Any) -> None:
    async def scene(transport: https.Transport, hub: Hub, watcher: Watcher) -> None:
        def fail(data: bytes | str, sealed: bool | None) -> None:
            raise ValueError("our fault")

        hub.answers["get_messages"] = [{"messages": ["hello"]}]
        await transport.open(fail, watcher.losses.put_nowait)
        assert "ValueError" in (await watcher.loss()).text

    play(scene)


@pytest.mark.parametrize("error", [httpx2.InvalidURL("x"), httpx2.StreamError("x"), httpx2.DecodingError("x")])
def test_whatever_stops_the_admission_is_a_connection_error(play: Any, monkeypatch: Any, error: Exception) -> None:
    async def scene(transport: https.Transport, hub: Hub, watcher: Watcher) -> None:
        async def fail(_: Any) -> None:
            raise error

        monkeypatch.setattr(https._Hub, "connect", fail)
        with pytest.raises(ThalovantConnectionError, match="could not be"):
            await transport.open(watcher.on_frame, watcher.losses.put_nowait)

    play(scene)


@pytest.mark.parametrize("size", [1000, 1001])
def test_an_answer_is_read_up_to_its_limit(play: Any, monkeypatch: Any, size: int) -> None:
    monkeypatch.setattr(https, "MAX_ANSWER", 1000)
    text = "x" * (size - len(json.dumps({"messages": [""]})))

    async def scene(transport: https.Transport, hub: Hub, watcher: Watcher) -> None:
        await transport.open(watcher.on_frame, watcher.losses.put_nowait)
        hub.answers["get_messages"] = [{"messages": [text]}]
        if size <= 1000:
            assert await watcher.frame() == (text, False)
        else:
            assert "more than 1000 bytes" in (await watcher.loss()).text
            assert watcher.frames.empty()

    play(scene)


def test_nothing_compressed_is_asked_for_or_taken(play: Any) -> None:
    async def scene(transport: https.Transport, hub: Hub, watcher: Watcher) -> None:
        await transport.open(watcher.on_frame, watcher.losses.put_nowait)
        assert hub.seen[0][2]["accept-encoding"] == "identity"
        swollen = gzip.compress(json.dumps({"messages": ["x" * 100_000]}).encode())
        hub.answers["get_messages"] = [(200, swollen, "content-encoding: gzip\r\n")]
        await watcher.loss()
        assert watcher.frames.empty()

    play(scene)


def test_a_hub_that_vanishes(play: Any) -> None:
    async def scene(transport: https.Transport, hub: Hub, watcher: Watcher) -> None:
        await transport.open(watcher.on_frame, watcher.losses.put_nowait)
        await hub.__aexit__()
        assert not (await watcher.loss()).refused

    play(scene)


def test_an_unknown_authority_is_refused_unless_told(play: Any) -> None:
    async def refused(transport: https.Transport, hub: Hub, watcher: Watcher) -> None:
        with pytest.raises(ThalovantConnectionError, match="ca_pem"):
            await transport.open(watcher.on_frame, watcher.losses.put_nowait)

    async def taken(transport: https.Transport, hub: Hub, watcher: Watcher) -> None:
        await transport.open(watcher.on_frame, watcher.losses.put_nowait)

    play(refused, trusted=False)
    play(taken, trusted=False, self_signed=True)


def test_nobody_there(play: Any) -> None:
    async def scene(transport: https.Transport, hub: Hub, watcher: Watcher) -> None:
        await hub.__aexit__()
        with pytest.raises(ThalovantConnectionError, match="Nothing listens"):
            await transport.open(watcher.on_frame, watcher.losses.put_nowait)

    play(scene)


def test_a_lost_carrier_can_be_opened_again(play: Any) -> None:
    async def scene(transport: https.Transport, hub: Hub, watcher: Watcher) -> None:
        for _ in range(2):
            hub.answers["get_messages"] = [(500, {}, "")]
            await transport.open(watcher.on_frame, watcher.losses.put_nowait)
            await watcher.loss()
            await transport.close()

    play(scene)
