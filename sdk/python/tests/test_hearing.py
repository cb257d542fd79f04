# SPDX-License-Identifier: Apache-2.0
"""What comes in over real carriers: iterating over events, frames for others, binary payloads."""

from __future__ import annotations

import asyncio
import gc
import logging
from typing import Any

import pytest

from thalovant import keeping
from thalovant.errors import ThalovantConnectionError, ThalovantRuntimeError, ThalovantTimeoutError
from thalovant.event_names import HIVE_KINDS
from thalovant.protocol.binary import KIND_NAMES, BinaryFrame
from thalovant.protocol.messages import HiveMessage, bus

every_carrier = pytest.mark.parametrize("carrier", ["wss", "https", "mqtt"])


async def connected(hub: Any) -> None:
    """Once the hub can speak on the next session."""
    await asyncio.to_thread(hub.hello.get, True, 5)


def say(hub: Any, *numbers: int, name: str = "count", **context: Any) -> None:
    for number in numbers:
        hub.tell_all(bus(name, {"n": number}, context))


def number_of(event: Any) -> int:
    number: int = event.data["n"]
    return number


async def taken(events: Any, most: int | None = None) -> list[int]:
    found = []
    async for event in events:
        found.append(number_of(event))
        if len(found) == most:
            break
    return found


async def passes(condition: Any) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.002)


def subscribers(client: Any, name: str = "count") -> int:
    return len(client._hearing._events._by_name.get(name, ()))


# Listening


@every_carrier
def test_listening_hands_out_each_event_once_and_in_order(
    hub: Any, make_client: Any, play_scene: Any, carrier: str
) -> None:
    async def scene() -> None:
        async with make_client(carrier) as client:
            await connected(hub)
            listening = asyncio.create_task(taken(client.listen("count", max_events=50)))
            await passes(lambda: subscribers(client))
            say(hub, *range(50))
            assert await listening == list(range(50))
            assert subscribers(client) == 0

    play_scene(scene)


def test_listening_connects_first(hub: Any, make_client: Any, play_scene: Any) -> None:
    async def scene() -> None:
        client = make_client()
        listening = asyncio.create_task(taken(client.listen("count", max_events=1)))
        await connected(hub)
        say(hub, 1)
        assert await listening == [1]
        await client.close()

    play_scene(scene)


def test_listening_hears_only_what_fits(hub: Any, make_client: Any, play_scene: Any) -> None:
    filters: list[dict[str, Any]] = [
        {"session_id": "s"},
        {"request_id": "r"},
        {"context": {"session": {"session_id": "s"}}},
        {"predicate": lambda event: event.data["n"] == 2},
    ]

    async def scene() -> None:
        async with make_client() as client:
            await connected(hub)
            tasks = [asyncio.create_task(taken(client.listen("count", max_events=1, **each))) for each in filters]
            await passes(lambda: subscribers(client) == len(filters))
            say(hub, 1, session={"session_id": "other", "request_id": "other"})
            say(hub, 2, session={"session_id": "s"}, request_id="r")
            assert await asyncio.gather(*tasks) == [[2]] * len(filters)

    play_scene(scene)


def test_after_its_time_listening_ends_and_what_came_by_then_is_handed_out(
    hub: Any, make_client: Any, play_scene: Any
) -> None:
    async def scene() -> None:
        async with make_client() as client:
            await connected(hub)
            assert await taken(client.listen("count", timeout=0.05)) == []
            events = client.listen("count", timeout=0.3)
            first = asyncio.ensure_future(anext(events))
            await passes(lambda: subscribers(client))
            say(hub, 1, 2, 3)
            assert number_of(await first) == 1
            await asyncio.sleep(0.35)
            say(hub, 4)
            await client.ask("behind it")  # so it has arrived
            assert [number_of(event) async for event in events] == [2, 3]
            assert subscribers(client) == 0

    play_scene(scene)


@pytest.mark.parametrize("most", [0, -1])
def test_no_events_are_no_steps(make_client: Any, play_scene: Any, most: int) -> None:
    async def scene() -> None:
        async with make_client() as client:
            assert await taken(client.listen("count", max_events=most)) == []

    play_scene(scene)


def test_a_hub_that_is_not_reached_in_time_is_an_error(hub: Any, make_client: Any, play_scene: Any) -> None:
    hub.script.greets = False

    async def scene() -> None:
        client = make_client()
        with pytest.raises(ThalovantTimeoutError):
            await taken(client.listen("count", timeout=0.05))
        assert subscribers(client) == 0
        await client.close()
        with pytest.raises(ThalovantConnectionError, match="closed"):
            await taken(client.listen("count"))

    play_scene(scene)


def test_a_listener_that_is_too_slow_hears_all_it_has_room_for_and_then_an_error(
    hub: Any, make_client: Any, play_scene: Any
) -> None:
    async def scene() -> None:
        async with make_client() as client:
            await connected(hub)
            events = client.listen("count", max_buffered_events=3)
            first = asyncio.ensure_future(anext(events))
            await passes(lambda: subscribers(client))
            say(hub, 0)
            assert number_of(await first) == 0
            say(hub, *range(1, 20))
            await client.ask("behind them")  # so they have arrived
            found = []
            with pytest.raises(ThalovantRuntimeError, match="max_buffered_events") as caught:
                async for event in events:
                    found.append(number_of(event))
            assert (found, caught.value.code) == ([1, 2, 3], "listener_overflow")
            assert subscribers(client) == 0

    play_scene(scene)


@pytest.mark.parametrize("most", [0, -1])
def test_a_buffer_without_room_is_refused(make_client: Any, play_scene: Any, most: int) -> None:
    async def scene() -> None:
        client = make_client()
        with pytest.raises(ValueError, match="max_buffered_events"):
            await taken(client.listen("count", max_buffered_events=most))
        await client.close()

    play_scene(scene)


def test_what_the_predicate_raises_is_for_the_listener(hub: Any, make_client: Any, play_scene: Any) -> None:
    def broken(_: Any) -> bool:
        raise KeyError("of the user")

    async def scene() -> None:
        async with make_client() as client:
            await connected(hub)
            listening = asyncio.create_task(taken(client.listen("count", predicate=broken)))
            await passes(lambda: subscribers(client))
            say(hub, 1)
            with pytest.raises(KeyError, match="of the user"):
                await listening
            assert (await client.ask("still here")).text == "still here"

    play_scene(scene)


def test_leaving_the_loop_ends_the_subscription(hub: Any, make_client: Any, play_scene: Any) -> None:
    async def scene() -> None:
        async with make_client() as client:
            await connected(hub)
            listening = asyncio.create_task(taken(client.listen("count"), 1))
            await passes(lambda: subscribers(client))
            say(hub, 1)
            assert await listening == [1]
            gc.collect()
            await passes(lambda: subscribers(client) == 0)
            cancelled = asyncio.create_task(taken(client.listen("count")))
            await passes(lambda: subscribers(client))
            cancelled.cancel()
            with pytest.raises(asyncio.CancelledError):
                await cancelled
            assert subscribers(client) == 0
            assert client._asking._awaited == 0

    play_scene(scene)


def test_closing_the_client_ends_who_listens_and_disconnecting_does_not(
    hub: Any, make_client: Any, play_scene: Any
) -> None:
    async def scene() -> None:
        client = make_client()
        await client.connect()
        await connected(hub)
        listening = asyncio.create_task(taken(client.listen("count")))
        await passes(lambda: client._asking._awaited)
        await client.disconnect()
        assert not listening.done()
        await client.connect()
        await connected(hub)
        say(hub, 2)
        await client.ask("behind it")
        await client.close()
        assert (await listening)[-1] == 2

    play_scene(scene)


def test_closing_the_client_ends_who_waits_for_an_event_and_disconnecting_does_not(
    hub: Any, make_client: Any, play_scene: Any
) -> None:
    async def scene() -> None:
        client = make_client()
        await client.connect()
        waiting = asyncio.create_task(client.wait_for_event("count", timeout=3600.0))
        await passes(lambda: client._asking._awaited)
        await client.disconnect()
        assert not waiting.done()
        await client.close()
        with pytest.raises(ThalovantConnectionError, match="closed"):
            async with asyncio.timeout(5):
                await waiting
        assert not subscribers(client) and not client._asking._awaited

    play_scene(scene)


def test_a_link_that_is_lost_for_good_ends_who_waits_for_an_event(hub: Any, make_client: Any, play_scene: Any) -> None:
    async def scene() -> None:
        async with make_client(auto_reconnect=False) as client:
            await connected(hub)
            waiting = asyncio.create_task(client.wait_for_event("count", timeout=3600.0))
            await passes(lambda: client._asking._awaited)
            hub.cut()
            with pytest.raises(ThalovantConnectionError, match="no connection any more"):
                async with asyncio.timeout(5):
                    await waiting

    play_scene(scene)


@every_carrier
def test_listening_goes_on_over_a_lost_link(
    hub: Any, make_client: Any, play_scene: Any, carrier: str, monkeypatch: Any
) -> None:
    monkeypatch.setattr(keeping, "FIRST_REDIAL", 0.01)

    async def scene() -> None:
        async with make_client(carrier) as client:
            await connected(hub)
            listening = asyncio.create_task(taken(client.listen("count", max_events=2)))
            await passes(lambda: subscribers(client))
            say(hub, 1)
            await client.ask("behind it")
            hub.cut()
            await connected(hub)
            say(hub, 2)
            assert await listening == [1, 2]

    play_scene(scene)


def test_when_there_will_be_no_link_any_more_the_listener_hears_why(
    hub: Any, make_client: Any, play_scene: Any
) -> None:
    async def scene() -> None:
        async with make_client(auto_reconnect=False) as client:
            await connected(hub)
            listening = asyncio.create_task(taken(client.listen("count")))
            await passes(lambda: subscribers(client))
            hub.cut()
            with pytest.raises(ThalovantConnectionError, match="no connection any more"):
                await listening

    play_scene(scene)


# Frames for others


@every_carrier
def test_frames_for_others_are_heard_by_kind(hub: Any, make_client: Any, play_scene: Any, carrier: str) -> None:
    heard: list[Any] = []

    async def scene() -> None:
        async with make_client(carrier) as client:
            await connected(hub)
            ends = [await client.on_hive(kind, heard.append) for kind in HIVE_KINDS]
            for kind in HIVE_KINDS:
                inner = bus("dinner", {"kind": kind}).as_dict()
                hub.tell_all(HiveMessage(kind, inner if kind in ("broadcast", "propagate", "escalate") else {"x": 1}))
            await client.ask("behind them")
            assert [message.msg_type for message in heard] == list(HIVE_KINDS)
            assert heard[0].nested().payload["data"] == {"kind": "broadcast"}
            for end in ends:
                end()
                end()
            hub.tell_all(HiveMessage("broadcast", bus("dinner").as_dict()))
            await client.ask("behind it")
            assert len(heard) == len(HIVE_KINDS)

    play_scene(scene)


def test_a_broadcast_to_this_site_is_heard_as_a_frame_and_as_an_event(
    hub: Any, make_client: Any, play_scene: Any
) -> None:
    heard: list[Any] = []

    async def scene() -> None:
        async with make_client() as client:
            await connected(hub)
            await client.on_hive("broadcast", lambda message: heard.append(message.msg_type))
            client.on("dinner", lambda event: heard.append(event.name))
            hub.tell_all(HiveMessage("broadcast", bus("dinner").as_dict(), target_site_id="kitchen"))
            hub.tell_all(HiveMessage("broadcast", {"not": "a message"}, target_site_id="kitchen"))
            await client.ask("behind them")

    play_scene(scene)
    assert heard == ["broadcast", "dinner", "broadcast"]


@pytest.mark.parametrize("kind", ["query", "cascade", "bus", "bin", "", "nonsense"])
def test_other_kinds_are_not_heard_so(make_client: Any, play_scene: Any, kind: str) -> None:
    async def scene() -> None:
        client = make_client()
        with pytest.raises(ValueError, match="expected one of broadcast, propagate, escalate, intercom, rendezvous"):
            await client.on_hive(kind, print)
        await client.close()

    play_scene(scene)


# Binary


@every_carrier
def test_binary_payloads_are_heard_whole(hub: Any, make_client: Any, play_scene: Any, carrier: str) -> None:
    heard: list[Any] = []
    large = bytes(range(256)) * 800

    async def scene() -> None:
        async with make_client(carrier) as client:
            await connected(hub)
            end = await client.on_binary(heard.append)
            session = hub.sessions[-1]
            for kind in range(len(KIND_NAMES) + 1):
                hub.soon(session.send_binary, BinaryFrame("bin", kind, {"file_name": "a/b.wav"}, bytes([kind])))
            hub.soon(session.send_binary, BinaryFrame("bin", 6, {"utterance": "hi", "lang": "en"}, large))
            await client.ask("behind them")
            assert [each.kind for each in heard] == [*KIND_NAMES, "binary:7", "tts_audio"]
            assert [each.data for each in heard[:-1]] == [bytes([kind]) for kind in range(len(KIND_NAMES) + 1)]
            assert (heard[-1].data, heard[-1].utterance, heard[-1].lang) == (large, "hi", "en")
            end()
            hub.soon(session.send_binary, BinaryFrame("bin", 3, {}, b"late"))
            await client.ask("behind it")
            assert len(heard) == len(KIND_NAMES) + 2

    play_scene(scene)


def test_handlers_of_frames_may_be_coroutines_and_may_fail(
    hub: Any, make_client: Any, play_scene: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR, "thalovant.handlers")
    heard = asyncio.Event()

    async def hear(_: Any) -> None:
        heard.set()
        raise RuntimeError("of the user")

    async def scene() -> None:
        async with make_client() as client:
            await connected(hub)
            await client.on_binary(hear)
            hub.soon(hub.sessions[-1].send_binary, BinaryFrame("bin", 3, {}, b"x"))
            await heard.wait()
            assert (await client.ask("still here")).text == "still here"

    play_scene(scene)
    assert "of the user" in caplog.text
