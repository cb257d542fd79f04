# SPDX-License-Identifier: Apache-2.0
"""What only MQTT tells a client: a publish that was denied or is too long is the error of the call that suffered, and a
hub behind an outside broker says in the clear that it refuses.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from thalovant.client import AsyncThalovantClient
from thalovant.errors import (
    ThalovantClientKeyRejectedError,
    ThalovantConnectionError,
    ThalovantHubRefusedError,
    ThalovantPublishDeniedError,
    ThalovantPublishTooLargeError,
)
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


class TestHubAway:
    """The broker is there, and the hub is not connected to it."""

    def test_it_is_said_at_once(self, hub: Any, make: Any) -> None:
        hub.script.puback = 0x10

        async def scene() -> None:
            client = make(auto_reconnect=False, handshake_timeout=60)
            async with asyncio.timeout(20):
                with pytest.raises(ThalovantConnectionError) as caught:
                    await client.connect()
            assert type(caught.value) is ThalovantConnectionError and caught.value.diagnosis.code == "hub_away"
            hub.script.puback = 0
            assert (await client.ask("back?")).text == "back?"
            await client.close()

        play(scene)

    def test_an_ask_waits_for_its_hub_to_come_back(self, hub: Any, make: Any) -> None:
        hub.script.puback = 0x10

        async def scene() -> None:
            client = make()
            asking = asyncio.create_task(client.ask("back?", timeout=30))
            while not hub.logins:
                await asyncio.sleep(0.01)
            hub.script.puback = 0
            assert (await asking).text == "back?"
            await client.close()

        play(scene)

    def test_a_broker_of_3_1_1_cannot_say_it(self, hub: Any, make: Any) -> None:
        hub.script.mqtt_levels, hub.script.greets = (4,), False

        async def scene() -> None:
            client = make(auto_reconnect=False, handshake_timeout=0.3)
            with pytest.raises(ThalovantConnectionError, match="may not be connected to it") as caught:
                await client.connect()
            assert caught.value.diagnosis.code == "hub_silent"
            await client.close()

        play(scene)


class TestLastWords:
    """A hub behind an outside broker says in the clear why it refuses."""

    @pytest.mark.parametrize(
        ("code", "kind", "diagnosis"),
        [
            ("paused", ThalovantHubRefusedError, "client_paused"),
            ("unknown_key", ThalovantHubRefusedError, "credential_refused"),
            ("busy", ThalovantConnectionError, "server_busy"),
        ],
    )
    def test_at_the_greeting(self, hub: Any, make: Any, code: str, kind: type, diagnosis: str) -> None:
        hub.script.last_words, hub.script.refuses = True, code

        async def scene() -> None:
            client = make(auto_reconnect=False)
            with pytest.raises(kind) as caught:
                await client.connect()
            assert type(caught.value) is kind and caught.value.diagnosis.code == diagnosis
            assert str(caught.value) == str(caught.value.diagnosis)
            hub.script.refuses = ""
            assert (await client.ask("and again")).text == "and again"
            await client.close()

        play(scene)

    @pytest.mark.parametrize("knows_us", [False, True])
    def test_a_wrong_password_is_heard_of_at_once(self, hub: Any, make: Any, knows_us: bool) -> None:
        """Where the hub knows this client's key (KK) it could only be silent, and the client wait for five seconds."""
        hub.script.last_words = True

        async def scene() -> None:
            client = make(auto_reconnect=False)
            if knows_us:
                await client.connect()
                await client.disconnect()
            hub.script.password = "another"
            began = asyncio.get_running_loop().time()
            with pytest.raises(ThalovantHubRefusedError) as caught:
                await client.connect()
            assert caught.value.diagnosis.code == "wrong_password"
            assert asyncio.get_running_loop().time() - began < 4
            assert hub.patterns[-2:] == (["KKpsk0", "XXpsk2"] if knows_us else ["XXpsk2"])
            await client.close()

        play(scene)

    def test_another_client_key(self, hub: Any, make: Any, tmp_path: Any) -> None:
        hub.script.last_words, hub.pin = True, bytes(32)

        async def scene() -> None:
            client = make()
            with pytest.raises(ThalovantClientKeyRejectedError):
                await client.ask("hello", timeout=10)
            with pytest.raises(ThalovantClientKeyRejectedError):
                await client.ask("hello", timeout=10)
            await client.close()

        play(scene)

    def test_in_a_session(self, hub: Any, make: Any) -> None:
        """What is in flight fails at once, as over the other carriers; the pin stays, and so does the client."""
        hub.script.last_words = True

        async def scene() -> None:
            client = make(auto_reconnect=False)
            assert (await client.ask("hello")).text == "hello"
            hub.script.answer = lambda turn: turn.hub.soon(turn.session.refuse, "revoked")
            with pytest.raises(ThalovantHubRefusedError) as caught:
                await client.ask("and now?")
            assert caught.value.diagnosis.code == "credential_withdrawn"
            hub.script.answer = lambda turn: turn.answer(turn.text)
            assert (await client.ask("and again")).text == "and again"
            assert hub.patterns == ["XXpsk2", "KKpsk0"], "the hub's key is still pinned"
            await client.close()

        play(scene)

    def test_garbage_in_it_ends_the_session_and_nothing_more(self, hub: Any, make: Any) -> None:
        async def scene() -> None:
            client = make(auto_reconnect=False)
            await client.connect()
            frame = b'{"msg_type": "shake", "payload": {"thalovant": {"refused": {"code": ["paused"]}}}}'
            hub.script.answer = lambda turn: turn.hub.soon(turn.session.send_raw, "clear", frame)
            with pytest.raises(ThalovantConnectionError, match=r"does not say why") as caught:
                await client.ask("and now?")
            assert type(caught.value) is ThalovantConnectionError
            hub.script.answer = lambda turn: turn.answer(turn.text)
            assert (await client.ask("and again")).text == "and again"
            await client.close()

        play(scene)
