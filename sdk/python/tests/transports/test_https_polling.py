# SPDX-License-Identifier: Apache-2.0
"""The HTTPS carrier towards a hub that knows only polling, against a scripted HTTP server."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
from typing import Any

import pytest

from thalovant.transports import http_line, https, https_polling


def test_a_whole_life_over_one_connection(play_https: Any) -> None:
    async def scene(transport: Any, hub: Any, watcher: Any) -> None:
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

    play_https(scene)


def test_it_asks_often_while_an_answer_is_awaited_and_seldom_otherwise(play_https: Any, monkeypatch: Any) -> None:
    async def polls(transport: Any, hub: Any, seconds: float) -> int:
        before = len(hub.seen)
        await asyncio.sleep(seconds)
        return len(hub.seen) - before

    async def scene(transport: Any, hub: Any, watcher: Any) -> None:
        monkeypatch.setattr(https_polling, "IDLE_PAUSE", 0.2)
        await transport.open(watcher.on_frame, watcher.losses.put_nowait)
        transport.ready()
        await hub.asked("get_binary_messages")
        idle = await polls(transport, hub, 0.3)
        transport.expecting = True
        transport.send_sealed([b"x"])
        busy = await polls(transport, hub, 0.3)
        assert idle <= 3 and busy > 2 * idle

    play_https(scene)


def test_what_is_sent_does_not_wait_for_the_next_poll(play_https: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(https_polling, "IDLE_PAUSE", 3600)

    async def scene(transport: Any, hub: Any, watcher: Any) -> None:
        await transport.open(watcher.on_frame, watcher.losses.put_nowait)
        transport.ready()
        await hub.asked("get_binary_messages")
        transport.send_sealed([b"x"])
        await hub.asked("send_message")

    play_https(scene)


def test_everything_queued_is_sent_before_the_goodbye(play_https: Any) -> None:
    async def scene(transport: Any, hub: Any, watcher: Any) -> None:
        await transport.open(watcher.on_frame, watcher.losses.put_nowait)
        transport.ready()
        frames = [str(number).encode() for number in range(https_polling.MAX_WAITING + 10)]
        transport.send_sealed(frames)
        assert transport.congested
        await transport.drain()
        await transport.close()
        assert [base64.b64decode(form["message"][0]) for form in hub.forms()] == frames

    play_https(scene)


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
def test_what_loses_the_link(play_https: Any, path: str, answer: Any, refused: bool) -> None:
    async def scene(transport: Any, hub: Any, watcher: Any) -> None:
        await transport.open(watcher.on_frame, watcher.losses.put_nowait)
        hub.answers[path] = [answer]
        transport.send_clear(b"x")
        loss = await watcher.loss()
        assert loss.refused is refused
        transport.send_clear(b"into the void")
        await transport.drain()
        await transport.close()
        assert hub.names().count("disconnect") == 0

    play_https(scene)


@pytest.mark.parametrize("answer", [{"b64_messages": ["no base64!"]}, {"b64_messages": None}, {}])
def test_sealed_frames_that_are_none_lose_the_link(play_https: Any, answer: Any) -> None:
    async def scene(transport: Any, hub: Any, watcher: Any) -> None:
        await transport.open(watcher.on_frame, watcher.losses.put_nowait)
        hub.answers["get_binary_messages"] = [answer if answer else (200, {"status": "x"}, "")]
        transport.ready()
        await watcher.loss()

    play_https(scene)


def test_an_owner_that_cannot_take_a_frame_loses_the_link(play_https: Any) -> None:
    async def scene(transport: Any, hub: Any, watcher: Any) -> None:
        def fail(data: bytes | str, sealed: bool | None) -> None:
            raise ValueError("our fault")

        hub.answers["get_messages"] = [{"messages": ["hello"]}]
        await transport.open(fail, watcher.losses.put_nowait)
        assert "ValueError" in (await watcher.loss()).text

    play_https(scene)


@pytest.mark.parametrize("size", [1000, 1001])
def test_an_answer_is_read_up_to_its_limit(play_https: Any, monkeypatch: Any, size: int) -> None:
    monkeypatch.setattr(https, "MAX_ANSWER", 1000)
    text = "x" * (size - len(json.dumps({"messages": [""]})))

    async def scene(transport: Any, hub: Any, watcher: Any) -> None:
        await transport.open(watcher.on_frame, watcher.losses.put_nowait)
        hub.answers["get_messages"] = [{"messages": [text]}]
        if size <= 1000:
            assert await watcher.frame() == (text, False)
        else:
            assert "more than 1000 bytes" in (await watcher.loss()).text
            assert watcher.frames.empty()

    play_https(scene)


def test_nothing_compressed_is_asked_for_or_taken(play_https: Any) -> None:
    async def scene(transport: Any, hub: Any, watcher: Any) -> None:
        await transport.open(watcher.on_frame, watcher.losses.put_nowait)
        assert hub.seen[0][2]["accept-encoding"] == "identity"
        swollen = gzip.compress(json.dumps({"messages": ["x" * 100_000]}).encode())
        hub.answers["get_messages"] = [(200, swollen, "content-encoding: gzip\r\n")]
        await watcher.loss()
        assert watcher.frames.empty()

    play_https(scene)


def test_a_hub_that_vanishes(play_https: Any) -> None:
    async def scene(transport: Any, hub: Any, watcher: Any) -> None:
        await transport.open(watcher.on_frame, watcher.losses.put_nowait)
        await hub.__aexit__()
        assert not (await watcher.loss()).refused

    play_https(scene)


def test_a_connection_that_ended_between_two_requests_is_dialled_again(play_https: Any, run: Any) -> None:
    async def scene(transport: Any, hub: Any, watcher: Any) -> None:
        hub.answers["get_messages"] = [(200, {"messages": ["hello"]}, "connection: close\r\n")]
        await transport.open(watcher.on_frame, watcher.losses.put_nowait)
        assert await watcher.frame() == ("hello", False)
        await hub.asked("get_messages")
        assert hub.connections == 2 and watcher.losses.empty()

    play_https(scene, run=run)


@pytest.mark.parametrize("name", ["get_messages", "send_message"])
def test_one_that_breaks_in_the_middle_of_a_request_loses_the_link(play_https: Any, run: Any, name: str) -> None:
    """Its answer may have held a frame, and what was sent may have arrived: nothing is asked twice."""

    async def scene(transport: Any, hub: Any, watcher: Any) -> None:
        await transport.open(watcher.on_frame, watcher.losses.put_nowait)
        hub.answers[name] = [hub.HANG_UP]
        transport.send_clear(b"x")
        await watcher.loss()
        assert hub.names().count("send_message") == 1

    play_https(scene, run=run)


def test_a_hub_that_does_not_answer_loses_the_link(play_https: Any, run: Any) -> None:
    async def scene(transport: Any, hub: Any, watcher: Any) -> None:
        await transport.open(watcher.on_frame, watcher.losses.put_nowait)
        hub.answers["get_messages"] = [hub.SILENCE]
        loss = await watcher.loss()
        assert "0.2 s" in loss.text and not loss.refused

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(http_line, "SLOWEST", 1e9)
        play_https(scene, run=run, send_timeout=0.2)


def test_cookies_of_whoever_stands_before_the_hub_come_back_too(play_https: Any) -> None:
    async def scene(transport: Any, hub: Any, watcher: Any) -> None:
        hub.answers["get_messages"] = [(200, {"messages": []}, "set-cookie: lb=7; Path=/\r\nset-cookie: bad=\x01\r\n")]
        await transport.open(watcher.on_frame, watcher.losses.put_nowait)
        await hub.asked("get_messages")
        await hub.asked("get_messages")
        assert hub.seen[-1][2]["cookie"] == "hivemind_http_replica=r1; lb=7"

    play_https(scene)


def test_closing_does_not_wait_for_a_hub_that_is_silent(play_https: Any, run: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(https_polling, "CLOSE_PATIENCE", 0.1)

    async def scene(transport: Any, hub: Any, watcher: Any) -> None:
        await transport.open(watcher.on_frame, watcher.losses.put_nowait)
        hub.answers["get_messages"] = [hub.SILENCE]
        await hub.asked("get_messages")
        async with asyncio.timeout(5):
            await transport.close()
        assert watcher.losses.empty()

    play_https(scene, run=run)
