# SPDX-License-Identifier: Apache-2.0
"""The WebSocket carrier against a real WebSocket server."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from websockets.asyncio.server import ServerConnection, serve

from thalovant.addresses import authorization_value
from thalovant.errors import ThalovantConnectionError, ThalovantHubRefusedError
from thalovant.identity import ThalovantIdentity
from thalovant.transports import wss
from thalovant.transports.base import Loss

QUIET = logging.getLogger("scripted-hub")


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


Handler = Callable[[ServerConnection], Awaitable[None]]


def identity_for(port: int, ca_pem: str | None, scheme: str = "wss") -> ThalovantIdentity:
    values = {
        "access_key": "key",
        "password": "p",
        "site_id": "s",
        "default_master": f"{scheme}://localhost:{port}/hub?a=1",
    }
    return ThalovantIdentity.from_mapping(values | {"ca_pem": ca_pem})


@pytest.fixture
def play(certificates: Any, lonely: Any) -> Callable[..., None]:
    def play(handler: Handler, scene: Any, *, trusted: bool = True, tls: bool = True, **options: Any) -> None:
        async def main() -> None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificates.chain_file)
            QUIET.setLevel("CRITICAL")
            refuse = options.pop("process_request", None)
            server = await serve(
                handler,
                "127.0.0.1",
                0,
                ssl=context if tls else None,
                process_request=refuse,
                logger=QUIET,
                close_timeout=0.1,
            )
            port = next(iter(server.sockets)).getsockname()[1]
            identity = identity_for(port, certificates.ca_pem if trusted else None, "wss" if tls else "ws")
            transport = wss.Transport(
                identity,
                useragent="agent/1",
                connect_timeout=options.get("connect_timeout", 4.0),
                send_timeout=options.get("send_timeout", 8.0),
                self_signed=options.get("self_signed", False),
            )
            try:
                await scene(transport, Watcher())
            finally:
                await transport.close()
                server.close()
                await server.wait_closed()

        asyncio.run(main(), debug=True)

    return play


async def silent(connection: ServerConnection) -> None:
    await connection.wait_closed()


def test_the_request_is_what_the_contract_says(play: Any) -> None:
    seen: list[Any] = []

    async def handler(connection: ServerConnection) -> None:
        seen.append(connection.request)
        await connection.wait_closed()

    async def scene(transport: wss.Transport, watcher: Watcher) -> None:
        await transport.open(watcher.on_frame, watcher.losses.put_nowait)

    play(handler, scene)
    target, headers = urlsplit(seen[0].path), seen[0].headers
    assert target.path == "/hub"
    assert parse_qs(target.query) == {"a": ["1"], "authorization": [authorization_value("agent/1", "key")]}
    assert headers["User-Agent"] == "agent/1"
    assert "Sec-WebSocket-Extensions" not in headers and "Sec-WebSocket-Protocol" not in headers


def test_clear_frames_are_text_and_sealed_ones_binary(play: Any) -> None:
    async def handler(connection: ServerConnection) -> None:
        async for message in connection:
            await connection.send(message)

    async def scene(transport: wss.Transport, watcher: Watcher) -> None:
        await transport.open(watcher.on_frame, watcher.losses.put_nowait)
        transport.send_clear("é".encode())
        transport.send_sealed([b"\xff", b"x" * 65_535])
        assert await watcher.frame() == ("é".encode(), False)
        assert await watcher.frame() == (b"\xff", True)
        assert await watcher.frame() == (b"x" * 65_535, True)
        transport.ready()
        await transport.drain()

    play(handler, scene)


def test_fragments_are_put_together(play: Any) -> None:
    async def handler(connection: ServerConnection) -> None:
        await connection.send([b"one ", b"two ", b"three"])
        await connection.send(["text ", "too"])
        await connection.send(b"whole")
        await connection.wait_closed()

    async def scene(transport: wss.Transport, watcher: Watcher) -> None:
        await transport.open(watcher.on_frame, watcher.losses.put_nowait)
        assert [await watcher.frame() for _ in range(3)] == [
            (b"one two three", True),
            (b"text too", False),
            (b"whole", True),
        ]

    play(handler, scene)


@pytest.mark.parametrize("code", [1000, 1008, 1011, 1012, 1013, 4003])
def test_the_close_code_is_handed_up(play: Any, code: int) -> None:
    async def handler(connection: ServerConnection) -> None:
        await connection.close(code, "because")

    async def scene(transport: wss.Transport, watcher: Watcher) -> None:
        await transport.open(watcher.on_frame, watcher.losses.put_nowait)
        loss = await watcher.loss()
        assert loss.close_code == code and "because" in loss.text
        transport.send_sealed([b"into the void"])
        await transport.drain()

    play(handler, scene)


def test_a_hub_that_vanishes_gives_no_code(play: Any) -> None:
    async def handler(connection: ServerConnection) -> None:
        connection.transport.abort()

    async def scene(transport: wss.Transport, watcher: Watcher) -> None:
        await transport.open(watcher.on_frame, watcher.losses.put_nowait)
        assert (await watcher.loss()).close_code is None

    play(handler, scene)


def test_a_message_over_a_mebibyte_loses_the_link(play: Any) -> None:
    async def handler(connection: ServerConnection) -> None:
        await connection.send(b"x" * (wss.MAX_FRAME + 1))
        await connection.wait_closed()

    async def scene(transport: wss.Transport, watcher: Watcher) -> None:
        await transport.open(watcher.on_frame, watcher.losses.put_nowait)
        await watcher.loss()
        assert watcher.frames.empty()

    play(handler, scene)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, ThalovantHubRefusedError),
        (403, ThalovantHubRefusedError),
        (404, ThalovantConnectionError),
        (503, ThalovantConnectionError),
    ],
)
def test_what_a_refused_upgrade_means(play: Any, status: int, kind: type) -> None:
    async def scene(transport: wss.Transport, watcher: Watcher) -> None:
        with pytest.raises(ThalovantConnectionError, match=str(status)) as caught:
            await transport.open(watcher.on_frame, watcher.losses.put_nowait)
        assert type(caught.value) is kind
        assert watcher.losses.empty()

    play(silent, scene, process_request=lambda connection, _: connection.respond(status, "no\n"))


def test_redirects_are_not_followed(play: Any) -> None:
    targets: list[str] = []

    def refuse(connection: ServerConnection, request: Any) -> Any:
        targets.append(request.path)
        response = connection.respond(302, "over there\n")
        response.headers["Location"] = "/elsewhere"
        return response

    async def scene(transport: wss.Transport, watcher: Watcher) -> None:
        with pytest.raises(ThalovantConnectionError, match="302"):
            await transport.open(watcher.on_frame, watcher.losses.put_nowait)

    play(silent, scene, process_request=refuse)
    assert len(targets) == 1


def test_an_unknown_authority_is_refused_unless_told(play: Any) -> None:
    async def refused(transport: wss.Transport, watcher: Watcher) -> None:
        with pytest.raises(ThalovantConnectionError, match="ca_pem"):
            await transport.open(watcher.on_frame, watcher.losses.put_nowait)

    async def taken(transport: wss.Transport, watcher: Watcher) -> None:
        await transport.open(watcher.on_frame, watcher.losses.put_nowait)

    play(silent, refused, trusted=False)
    play(silent, taken, trusted=False, self_signed=True)


def test_without_tls_on_this_machine(play: Any) -> None:
    async def scene(transport: wss.Transport, watcher: Watcher) -> None:
        await transport.open(watcher.on_frame, watcher.losses.put_nowait)
        assert transport.socket_opened_at is not None

    play(silent, scene, tls=False)


def test_a_hub_that_takes_nothing_is_lost(play: Any) -> None:
    async def scene(transport: wss.Transport, watcher: Watcher) -> None:
        await transport.open(watcher.on_frame, watcher.losses.put_nowait)
        while watcher.losses.empty():  # the server reads no further once 16 messages wait for its handler
            transport.send_sealed([b"x" * 65_000] * 100)
            await transport.drain()
        assert "took nothing" in (await watcher.loss()).text

    play(silent, scene, send_timeout=0.05)


def test_a_hub_that_falls_silent_while_an_answer_is_due_is_lost(play: Any) -> None:
    async def deaf(connection: ServerConnection) -> None:
        connection.transport.pause_reading()  # as if the network between were gone: not even a ping is answered
        await connection.wait_closed()

    async def scene(transport: wss.Transport, watcher: Watcher) -> None:
        await transport.open(watcher.on_frame, watcher.losses.put_nowait)
        transport.expecting = True
        transport.send_sealed([b"a question"])
        assert "silent for 0.1 s" in (await watcher.loss()).text

    play(deaf, scene, send_timeout=0.1)


def test_a_hub_that_only_takes_its_time_is_waited_for(play: Any) -> None:
    async def slow(connection: ServerConnection) -> None:
        await connection.recv()
        await asyncio.sleep(0.5)  # an agent at work, for several times the client's patience with a dead link
        await connection.send(b"the answer")
        await connection.wait_closed()

    async def scene(transport: wss.Transport, watcher: Watcher) -> None:
        await transport.open(watcher.on_frame, watcher.losses.put_nowait)
        transport.expecting = True
        transport.send_sealed([b"a question"])
        assert await watcher.frame() == (b"the answer", True)
        assert watcher.losses.empty()

    play(slow, scene, send_timeout=0.1)


def test_nobody_there() -> None:
    async def main() -> None:
        server = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        server.close()
        await server.wait_closed()
        transport = wss.Transport(identity_for(port, None), useragent="a", connect_timeout=4, send_timeout=4)
        with pytest.raises(ThalovantConnectionError, match="Nothing listens"):
            await transport.open(lambda *_: None, lambda _: None)
        await transport.close()

    asyncio.run(main())


def test_each_connection_declares_its_own_session() -> None:
    transport = wss.Transport(identity_for(1, None), useragent="a", connect_timeout=4, send_timeout=4)
    assert transport.session_id() != transport.session_id()
    assert transport.session_id().startswith("thalovant-python-")
    assert transport.address == "wss://localhost:1"
