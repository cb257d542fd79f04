# SPDX-License-Identifier: Apache-2.0
"""A client of several roads against a scripted hub: what moves it on, what does not, and nothing heard twice."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from thalovant import keeping, link, roads
from thalovant.client import AsyncThalovantClient
from thalovant.errors import (
    ThalovantClientKeyRejectedError,
    ThalovantConnectionError,
    ThalovantHubKeyChangedError,
    ThalovantHubRefusedError,
    ThalovantIdentityError,
)
from thalovant.protocol import noise
from thalovant.protocol.messages import bus

ALL: Any = ("mqtt", "wss", "https")


@pytest.fixture
def make(hub: Any, tmp_path: Path) -> Callable[..., AsyncThalovantClient]:
    def make(*order: Any, folder: str = "noise", identity: Any = None, **options: Any) -> AsyncThalovantClient:
        state = str(tmp_path / folder)
        return AsyncThalovantClient(identity or hub.identity(), protocols=order, noise_state_dir=state, **options)

    return make


async def on(client: AsyncThalovantClient) -> str | None:
    return (await client.connection_info()).protocol


# What moves it on


@pytest.mark.parametrize(
    ("first", "script", "said"),
    [
        ("mqtt", {"broker_password": "rotated"}, "does not accept these credentials"),
        ("mqtt", {"mqtt_levels": ()}, "MQTT"),  # it refuses every version
        ("mqtt", {"puback": 0x10}, "the hub is not connected to it"),
        ("wss", {"upgrade_status": 403}, "HTTP 403"),
        ("wss", {"upgrade_status": 502}, "HTTP 502"),
        ("wss", {"upgrade_status": 503}, "busy"),
    ],
)
def test_what_is_wrong_with_one_road_moves_it_to_the_next(
    hub: Any, make: Any, play_scene: Any, first: Any, script: dict[str, Any], said: str
) -> None:
    for name, value in script.items():
        assert hasattr(hub.script, name)
        setattr(hub.script, name, value)

    async def scene() -> None:
        async with make(first, "https") as client:
            assert (await client.ask("hello")).text == "hello"
            info = await client.connection_info()
            assert info.protocol == "https" and said in dict(info.attempts)[first]

    play_scene(scene)


def test_a_certificate_that_is_not_trusted_moves_it_on(
    hub: Any, make: Any, play_scene: Any, monkeypatch: Any, tmp_path: Path, make_certificates: Any
) -> None:
    other = make_certificates(tmp_path)  # the identity trusts this one; nothing here is signed by it
    monkeypatch.setenv("SSL_CERT_FILE", str(other.ca_file))

    async def scene() -> None:
        client = make("wss", "https", identity=hub.identity(ca_pem=other.ca_pem))
        with pytest.raises(ThalovantConnectionError, match=r"wss: .*not trusted.* https: .*not trusted"):
            await client.connect()
        await client.close()

    play_scene(scene)


def test_a_refusal_on_every_road_is_one_refusal(hub: Any, make: Any, play_scene: Any) -> None:
    hub.script.knows_key = False
    hub.script.broker_password = "rotated"

    async def scene() -> None:
        client = make(*ALL)
        with pytest.raises(ThalovantHubRefusedError) as caught:
            await client.ask("hello")
        assert [road for road, _ in caught.value.attempts] == list(ALL)
        for secret in (hub.identity().password, hub.identity().access_key, hub.identity().mqtt.password):
            assert secret not in str(caught.value) + repr(caught.value.attempts)
        await client.close()

    play_scene(scene)


# What does not


@pytest.mark.parametrize("met_on", ["same", "another"])
def test_a_hub_with_another_key_is_hidden_by_no_road(
    hub: Any, make: Any, play_scene: Any, met_on: str, monkeypatch: Any
) -> None:
    """Not even by one that this client has never used: the key that was met on one road is the key on all."""
    monkeypatch.setattr(link, "KK_PATIENCE", 0.1)

    async def scene() -> None:
        async with make("mqtt", "wss") as client:
            assert await on(client) == "mqtt"
        hub.script.static_private = noise.generate_private_key()
        if met_on == "another":
            hub.script.mqtt_levels = ()
        client = make("mqtt", "wss")
        with pytest.raises(ThalovantHubKeyChangedError, match="shows another key"):
            await client.connect()
        assert (await client.connection_info()).phase == "error"
        await client.close()

    play_scene(scene)


def test_a_road_used_for_the_first_time_is_met_with_kk_and_its_pin_is_kept(
    hub: Any, make: Any, play_scene: Any, tmp_path: Path
) -> None:
    async def scene() -> None:
        async with make("mqtt", "wss"):
            pass
        hub.script.mqtt_levels = ()
        async with make("mqtt", "wss") as client:
            assert await on(client) == "wss"

    play_scene(scene)
    assert hub.patterns == ["XXpsk2", "KKpsk0"]
    pins = next((tmp_path / "noise").glob("*.pins.json")).read_text()
    assert "https://" in pins and "wss://" in pins


def test_a_client_with_another_key_is_told_so_at_once(hub: Any, make: Any, play_scene: Any) -> None:
    async def scene() -> None:
        async with make("wss"):
            pass
        hub.connections.clear()
        client = make("wss", "https", folder="other")
        with pytest.raises(ThalovantClientKeyRejectedError):
            await client.connect()
            await client.ask("hello")
        await client.close()
        assert "https" not in hub.connections

    play_scene(scene)


def test_damaged_noise_state_is_told_at_once(hub: Any, make: Any, play_scene: Any, tmp_path: Path) -> None:
    (tmp_path / "noise").mkdir(mode=0o755)

    async def scene() -> None:
        client = make(*ALL)
        with pytest.raises(ThalovantIdentityError, match="chmod 700"):
            await client.connect()
        await client.close()

    play_scene(scene)
    assert hub.connections == []


# Two links at once


def test_while_there_are_two_links_nothing_is_heard_twice_and_nothing_is_missed(
    hub: Any, make: Any, play_scene: Any, monkeypatch: Any
) -> None:
    monkeypatch.setattr(roads, "FIRST_PROBE", 0.1)
    monkeypatch.setattr(keeping, "RETIREMENT", 0.2)
    hub.script.mqtt_levels, hub.script.answer = (), None
    heard: list[Any] = []

    async def scene() -> None:
        async with make("mqtt", "wss") as client:
            client.on("news", lambda event: heard.append(event.data["n"]))
            asked = asyncio.create_task(client.ask("slowly", timeout=20.0))
            turn = await asyncio.to_thread(hub.turns.get, True, 5)
            hub.tell_all(bus("news", {"n": 1}))
            hub.script.mqtt_levels = (4, 5)
            async with asyncio.timeout(10):
                while await on(client) != "mqtt":
                    await asyncio.sleep(0.005)
            assert [session.carrier for session in hub.sessions] == ["wss", "mqtt"]
            hub.tell_all(bus("news", {"n": 2}))  # on both
            turn.say("news", {"n": 3}, request_id="of nobody")  # an answer to what was said on the old link
            turn.say("speak", {"utterance": "here"})
            async with asyncio.timeout(5):
                while heard.count(3) < 1 or heard.count(2) < 1:
                    await asyncio.sleep(0.005)
            assert not asked.done()
            turn.say("ovos.utterance.handled")
            assert (await asked).utterances == ("here",)
            async with asyncio.timeout(5):
                while len(hub.sessions) > 1:
                    await asyncio.sleep(0.005)
            hub.tell_all(bus("news", {"n": 4}))
            async with asyncio.timeout(5):
                while 4 not in heard:
                    await asyncio.sleep(0.005)

    play_scene(scene)
    assert sorted(heard) == [1, 2, 3, 4]
    assert len(hub.requests) == 1


def test_an_agent_that_takes_its_time_is_no_dead_road(hub: Any, make: Any, play_scene: Any, monkeypatch: Any) -> None:
    for name, seconds in (("LOOK_EVERY", 0.05), ("SIGN_OF_LIFE", 0.2)):
        monkeypatch.setattr(keeping, name, seconds)
    hub.script.answer = None

    async def scene(first: Any) -> None:
        async with make(first, "https") as client:
            asked = asyncio.create_task(client.ask("hello", timeout=20.0))
            turn = await asyncio.to_thread(hub.turns.get, True, 5)
            await asyncio.sleep(0.6)  # an agent that takes its time is no dead hub: the link stays
            assert client._keeper.link is not None and client._keeper.link.error is None
            turn.answer("in the end")
            assert (await asked).text == "in the end"

    for first in ("wss", "mqtt"):
        play_scene(lambda first=first: scene(first))
    assert len(hub.requests) == 2
