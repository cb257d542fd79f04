# SPDX-License-Identifier: Apache-2.0
"""Opening the HTTPS carrier, against a scripted HTTP server."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from thalovant.errors import ThalovantConnectionError, ThalovantHubRefusedError
from thalovant.identity import ThalovantIdentity
from thalovant.transports import https


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
def test_refused_admissions(play_https: Any, answer: Any, kind: type, text: str) -> None:
    async def scene(transport: Any, hub: Any, watcher: Any) -> None:
        hub.answers["connect"] = [answer]
        with pytest.raises(ThalovantConnectionError, match=text) as caught:
            await transport.open(watcher.on_frame, watcher.losses.put_nowait)
        assert type(caught.value) is kind
        assert watcher.losses.empty() and len(hub.seen) == 1

    play_https(scene)


def test_an_unknown_authority_is_refused_unless_told(play_https: Any) -> None:
    async def refused(transport: Any, hub: Any, watcher: Any) -> None:
        with pytest.raises(ThalovantConnectionError, match="ca_pem"):
            await transport.open(watcher.on_frame, watcher.losses.put_nowait)

    async def taken(transport: Any, hub: Any, watcher: Any) -> None:
        await transport.open(watcher.on_frame, watcher.losses.put_nowait)

    play_https(refused, trusted=False)
    play_https(taken, trusted=False, self_signed=True)


def test_nobody_there(play_https: Any) -> None:
    async def scene(transport: Any, hub: Any, watcher: Any) -> None:
        await hub.__aexit__()
        with pytest.raises(ThalovantConnectionError, match="Nothing listens"):
            await transport.open(watcher.on_frame, watcher.losses.put_nowait)

    play_https(scene)


def test_a_lost_carrier_can_be_opened_again(play_https: Any) -> None:
    async def scene(transport: Any, hub: Any, watcher: Any) -> None:
        for _ in range(2):
            hub.answers["get_messages"] = [(500, {}, "")]
            await transport.open(watcher.on_frame, watcher.losses.put_nowait)
            await watcher.loss()
            await transport.close()

    play_https(scene)


@pytest.mark.parametrize("useragent", ["x\r\ny: z", "ü", "\x00"])
def test_a_user_agent_that_no_header_holds_is_refused(certificates: Any, lonely: Any, useragent: str) -> None:
    values = {"access_key": "key", "password": "p", "site_id": "s", "default_master": "https://localhost:1"}
    transport = https.Transport(
        ThalovantIdentity.from_mapping(values), useragent=useragent, connect_timeout=1.0, send_timeout=1.0
    )
    with pytest.raises(ThalovantConnectionError, match="user agent"):
        asyncio.run(transport.open(print, print))


def test_a_hub_that_accepts_and_says_nothing(play_https: Any, run: Any) -> None:
    async def scene(transport: Any, hub: Any, watcher: Any) -> None:
        hub.answers["connect"] = [hub.SILENCE]
        with pytest.raises(ThalovantConnectionError, match=r"did not answer within 0\.2 s"):
            await transport.open(watcher.on_frame, watcher.losses.put_nowait)

    play_https(scene, run=run, connect_timeout=0.2)


def test_an_opening_that_is_cancelled_leaves_nothing(play_https: Any, run: Any) -> None:
    async def scene(transport: Any, hub: Any, watcher: Any) -> None:
        hub.answers["connect"] = [hub.SILENCE]
        opening = asyncio.create_task(transport.open(watcher.on_frame, watcher.losses.put_nowait))
        await hub.asked("connect")
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening

    play_https(scene, run=run)


@pytest.mark.parametrize("answer", [b"rubbish\r\n\r\n", b"HTTP/1.1 200 OK\r\nx y\r\n\r\n", b"\x00" * 70_000])
def test_whatever_is_no_http_is_a_connection_error(play_https: Any, run: Any, answer: bytes) -> None:
    async def scene(transport: Any, hub: Any, watcher: Any) -> None:
        hub._answer = lambda name: answer
        with pytest.raises(ThalovantConnectionError, match="cannot be read") as caught:
            await transport.open(watcher.on_frame, watcher.losses.put_nowait)
        assert type(caught.value) is ThalovantConnectionError

    play_https(scene, run=run)


def test_it_speaks_plain_http_to_this_machine(lonely: Any, plain_server: Any) -> None:
    values = {"access_key": "key", "password": "p", "site_id": "s", "default_master": plain_server.url}
    plain_server.will(403, {"error": "Invalid authorization"})
    transport = https.Transport(
        ThalovantIdentity.from_mapping(values), useragent="agent/1", connect_timeout=4.0, send_timeout=1.0
    )
    with pytest.raises(ThalovantHubRefusedError):
        asyncio.run(transport.open(print, print))
    assert plain_server.seen[0].path == "/connect"
