# SPDX-License-Identifier: Apache-2.0
"""What only MQTT 5 tells a client: a publish that was denied or is too long is the error of the call that suffered."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from thalovant.client import AsyncThalovantClient
from thalovant.errors import ThalovantPublishDeniedError, ThalovantPublishTooLargeError
from thalovant.protocol.mqtt.properties import Properties

PREFIX_SEGMENTS = ("/c2s", "/s2c", "/status", "hubs/")


@pytest.fixture
def make(hub: Any, tmp_path: Any) -> Callable[..., AsyncThalovantClient]:
    """Make an MQTT client of the scripted hub."""
    return lambda **options: AsyncThalovantClient(
        hub.identity(), protocol="mqtt", connect_timeout=20, noise_state_dir=str(tmp_path / "noise"), **options
    )


def play(scene: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        await scene()
        await asyncio.sleep(0)
        assert [task.get_name() for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []

    asyncio.run(main(), debug=True)


def check(error: ThalovantPublishDeniedError) -> None:
    assert (error.code, error.topic_kind, error.reason_code) == ("publish_denied", "c2s", 0x87)
    assert "fresh identity" in str(error)
    assert not any(segment in f"{error} {vars(error)}" for segment in PREFIX_SEGMENTS)


@pytest.mark.parametrize("call", ["ask", "emit", "send_utterance"])
@pytest.mark.parametrize("auto_reconnect", [True, False])
def test_a_denied_publish_is_the_error_of_its_call(hub: Any, make: Any, call: str, auto_reconnect: bool) -> None:
    async def scene() -> None:
        client = make(auto_reconnect=auto_reconnect)
        await client.connect()
        hub.script.puback = 0x87
        with pytest.raises(ThalovantPublishDeniedError) as caught:
            await getattr(client, call)("my.event")
        check(caught.value)
        hub.script.puback = 0
        assert (await client.ask("and again")).text == "and again"
        await client.close()

    play(scene)


def test_a_client_that_may_publish_nothing_is_told_so_when_it_connects(hub: Any, make: Any) -> None:
    hub.script.puback = 0x87

    async def scene() -> None:
        client = make()
        for call in (client.connect(), client.ask("hello"), client.emit("my.event")):
            with pytest.raises(ThalovantPublishDeniedError) as caught:
                await call
            check(caught.value)
        assert len(hub.logins) == 3  # each call dials once: asking again does not help
        await client.close()

    play(scene)


def test_every_ask_under_way_is_told(hub: Any, make: Any) -> None:
    hub.script.answer = None

    async def scene() -> None:
        client = make()
        await client.connect()
        asks = [asyncio.create_task(client.ask(f"{number}")) for number in range(3)]
        for _ in asks:
            await asyncio.to_thread(hub.turns.get, True, 5)
        hub.script.puback = 0x87
        asks.append(asyncio.create_task(client.ask("denied")))
        for outcome in await asyncio.gather(*asks, return_exceptions=True):
            assert isinstance(outcome, ThalovantPublishDeniedError)
        await client.close()

    play(scene)


@pytest.mark.parametrize("call", ["ask", "emit"])
def test_a_message_that_the_broker_does_not_take_is_the_error_of_its_call(hub: Any, make: Any, call: str) -> None:
    hub.script.mqtt_terms = Properties(maximum_packet_size=3_000)

    async def scene() -> None:
        client = make()
        assert (await client.ask("short")).text == "short"
        with pytest.raises(ThalovantPublishTooLargeError, match="more than the 3000") as caught:
            await getattr(client, call)("x" * 4_000)
        assert caught.value.size is not None and caught.value.size > 4_000
        assert (caught.value.limit, caught.value.code) == (3_000, "publish_too_large")
        assert (await client.ask("short again")).text == "short again"
        await client.close()

    play(scene)


def test_a_message_that_is_too_long_harms_no_other_ask(hub: Any, make: Any) -> None:
    hub.script.mqtt_terms = Properties(maximum_packet_size=3_000)
    hub.script.answer = None

    async def scene() -> None:
        client = make()
        asking = asyncio.create_task(client.ask("short", timeout=20))
        await asyncio.to_thread(hub.turns.get, True, 5)
        hub.script.answer = lambda turn: turn.answer(turn.text)
        with pytest.raises(ThalovantPublishTooLargeError):
            await client.emit("my.event", {"text": "x" * 4_000})
        assert (await asking).text == "short"
        await client.close()

    play(scene)


@pytest.mark.parametrize("levels", [(4, 5), (5,), (4,)])
def test_a_broker_of_either_version_will_do(hub: Any, make: Any, levels: tuple[int, ...]) -> None:
    hub.script.mqtt_levels = levels

    async def scene() -> None:
        async with make() as client:
            assert (await client.ask("hello")).text == "hello"
            await client.emit("my.event")
        assert [login.level for login in hub.logins] == [max(levels)]

    play(scene)
    assert hub.messages.get(timeout=5).bus_parts()[0] == "my.event"
