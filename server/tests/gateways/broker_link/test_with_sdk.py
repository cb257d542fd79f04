# SPDX-License-Identifier: Apache-2.0
"""Our SDK at a real Mosquitto, with a hub behind it: what a program sees, in either version of MQTT."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from thalovant import keeping, rivals
from thalovant.client import AsyncThalovantClient
from thalovant.errors import (
    ThalovantClientKeyRejectedError,
    ThalovantConnectionError,
    ThalovantHubRefusedError,
    ThalovantTimeoutError,
)
from thalovant.examining import examine
from thalovant.identity import ThalovantIdentity
from thalovant.protocol import noise
from thalovant.transports import mqtt
from thalovant_server.testing.mosquitto import MosquittoProcess

Make = Callable[..., AsyncThalovantClient]
OPTIONS: dict[str, Any] = {"connect_timeout": 10, "handshake_timeout": 15}
both = pytest.mark.parametrize("level", [5, 4], ids=["mqtt5", "mqtt311"])


@pytest.fixture
def make(
    broker: MosquittoProcess, rig: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., AbstractAsyncContextManager[Make]]:
    """Give the way to make programs that speak one version; all are closed at the end."""
    monkeypatch.setattr(noise, "stretch", lambda password, node_id: rig.psk_of(password))
    for name in ("THALOVANT_API_URL", "THALOVANT_API_TOKEN", "THALOVANT_CA_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("THALOVANT_CONFIG_DIR", str(tmp_path / "config"))

    @asynccontextmanager
    async def making(level: int = 5) -> AsyncIterator[Make]:
        if level == 4:
            monkeypatch.setattr(mqtt, "V5", mqtt.V311)  # as at a broker that knows no newer one
        async with AsyncExitStack() as closing:

            def one(name: str = "a", folder: str = "noise", **options: Any) -> AsyncThalovantClient:
                who = options.pop("identity", None) or identity(broker, rig, name)
                state = str(tmp_path / folder)
                client = AsyncThalovantClient(who, protocol="mqtt", noise_state_dir=state, **{**OPTIONS, **options})
                closing.push_async_callback(client.close)
                return client

            yield one

    return making


def identity(broker: MosquittoProcess, rig: SimpleNamespace, name: str = "a", **changes: Any) -> ThalovantIdentity:
    key = f"key-h1-{name}"
    block = {"endpoint": broker.url, "username": key, "password": rig.PASSWORD, "topic_prefix": rig.prefix(name)}
    values = {
        "access_key": key,
        "password": name,
        "site_id": "site",
        "default_master": "wss://hub.invalid",
        "mqtt": {**block, **changes},
    }
    return dataclasses.replace(ThalovantIdentity.from_mapping(values), ca_pem=broker.ca_file.read_text())


def pause(ours: Any, *, active: bool) -> None:
    """Pause the client `a`, or resume it."""
    entry = ours.directory.credentials_of("h1-a")[0]
    kept = {name: getattr(entry, name) for name in ("client_name", "site_id", "permissions")}
    ours.directory.change_client("h1-a", active=active, **kept)


async def spoken(client: AsyncThalovantClient) -> int | None:
    """The level of the version in use."""
    return client._keeper._dialer._dialers["mqtt"]._transport.level  # type: ignore[attr-defined, no-any-return]


@both
def test_asks_short_and_long(rig: SimpleNamespace, make: Any, level: int) -> None:
    async def main() -> None:
        async with rig.opened(), make(level) as one:
            client = one()
            for text in ("hello", "grüß dich 👋", "x" * 100_000):
                assert (await client.ask(text, timeout=15)).text == text
            assert await spoken(client) == level

    rig.run(main())


@both
def test_many_asks_at_once_come_back_in_their_own_answers(rig: SimpleNamespace, make: Any, level: int) -> None:
    async def main() -> None:
        async with rig.opened(), make(level) as one:
            clients = [one("a"), one("b", "other")]
            asked = [(client, f"{number}{'y' * number * 100}") for client in clients for number in range(30)]
            replies = await asyncio.gather(*(client.ask(text, timeout=20) for client, text in asked))
            assert [reply.text for reply in replies] == [text for _, text in asked]

    rig.run(main())


def test_a_hub_that_is_away_is_said_at_once_and_met_when_it_is_back(rig: SimpleNamespace, make: Any) -> None:
    async def main() -> None:
        async with make() as one:
            client = one(handshake_timeout=120)
            async with asyncio.timeout(10):
                with pytest.raises(ThalovantConnectionError) as caught:
                    await client.connect()
            assert caught.value.diagnosis is not None and caught.value.diagnosis.code == "hub_away"
            asking = asyncio.create_task(client.ask("are you back?", timeout=25))
            async with rig.opened():
                assert (await asking).text == "are you back?"
                await client.close()

    rig.run(main())


def test_with_3_1_1_the_deadline_names_the_possibility(rig: SimpleNamespace, make: Any) -> None:
    async def main() -> None:
        async with make(4) as one:
            with pytest.raises(ThalovantTimeoutError, match="the hub may not be connected to it"):
                await one(handshake_timeout=0.5).connect()

    rig.run(main())


@both
def test_the_hub_says_why_it_refuses(rig: SimpleNamespace, make: Any, level: int) -> None:
    """Nothing but its last word could: it has no connection to close, and silence would take five seconds or twenty."""

    async def main() -> None:
        async with rig.opened() as ours, make(level) as one:
            client = one()
            assert (await client.ask("hello")).text == "hello"
            losing = asyncio.create_task(client.ask("and now?"))
            pause(ours, active=False)
            refused: Any = (await asyncio.gather(losing, return_exceptions=True))[0]
            if isinstance(refused, ThalovantHubRefusedError):  # else it was answered before
                assert refused.diagnosis is not None and refused.diagnosis.code == "client_paused"
            async with asyncio.timeout(3):
                with pytest.raises(ThalovantHubRefusedError) as caught:
                    await client.ask("let me in")
            assert caught.value.diagnosis is not None and caught.value.diagnosis.code == "client_paused"
            pause(ours, active=True)
            assert (await client.ask("and again")).text == "and again"

    rig.run(main())


@both
def test_a_wrong_password_and_another_key_are_told_apart_at_once(rig: SimpleNamespace, make: Any, level: int) -> None:
    async def main() -> None:
        async with rig.opened(), make(level) as one:
            first = one()
            assert (await first.ask("hello")).text == "hello"
            await first.close()
            broken = dataclasses.replace(first.identity, password="another")
            async with asyncio.timeout(4):  # the hub knows its key, so it would be silent for five seconds
                with pytest.raises(ThalovantHubRefusedError) as caught:
                    await one(identity=broken).connect()
            assert caught.value.diagnosis is not None and caught.value.diagnosis.code == "wrong_password"
            with pytest.raises(ThalovantClientKeyRejectedError):
                await one(folder="another").ask("hello", timeout=10)

    rig.run(main())


@both
@pytest.mark.parametrize("wrong", [{"username": "key-of-nobody"}, {"password": "of-yesterday"}])
def test_who_the_broker_does_not_know_hears_what_it_may_be(
    rig: SimpleNamespace, make: Any, broker: MosquittoProcess, level: int, wrong: dict[str, str]
) -> None:
    async def main() -> None:
        async with rig.opened(), make(level) as one:
            with pytest.raises(ThalovantHubRefusedError) as caught:
                await one(identity=identity(broker, rig, **wrong)).connect()
            assert caught.value.diagnosis is not None and caught.value.diagnosis.code == "broker_login_refused"
            assert "the hub's broker has not been told of it yet" in str(caught.value)
            assert not any(value in str(caught.value) for value in wrong.values())

    rig.run(main())


@both
def test_two_programs_with_one_identity(
    rig: SimpleNamespace, make: Any, level: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The broker keeps the newest connection and says nothing: both say what is wrong, and still get their turns."""
    monkeypatch.setattr(keeping, "FIRST_REDIAL", 0.02)
    monkeypatch.setattr(rivals, "FIRST_PAUSE", 0.02)
    caplog.set_level(logging.WARNING, "thalovant.connection")

    async def main() -> None:
        async with rig.opened() as ours, make(level) as one:
            first, second = one(), one("a", "noise", useragent="another")
            for _ in range(3):
                for client in (first, second):
                    await client.connect()
            await ours.until(lambda: sum("another program uses" in record.message for record in caplog.records) > 1)
            assert (await first.ask("my turn", timeout=20)).text == "my turn"
            assert (await second.ask("and mine", timeout=20)).text == "and mine"

    rig.run(main())


@both
def test_an_ask_that_is_under_way_when_the_hub_loses_its_link_is_answered(
    rig: SimpleNamespace, make: Any, level: int
) -> None:
    async def main() -> None:
        async with make(level) as one:
            client = one()
            async with rig.opened() as ours:
                assert (await client.ask("before")).text == "before"
                assert ours.link.connections == 1
            asking = asyncio.create_task(client.ask("after", timeout=20))
            async with rig.opened():  # as a server that was started again: it knows no session
                assert (await asking).text == "after"
                await client.close()

    rig.run(main())


@both
def test_doctor_walks_the_road_through_the_broker(
    rig: SimpleNamespace, make: Any, broker: MosquittoProcess, level: int, tmp_path: Path
) -> None:
    async def main() -> None:
        options = {"noise_state_dir": str(tmp_path / "noise"), **OPTIONS}
        async with make(level), rig.opened():
            report = await examine(identity(broker, rig), ["mqtt"], **options)
            assert report.ok, report.format()
            assert [check.status for check in report.checks if check.protocol] == ["ok"] * 8
        report = await examine(identity(broker, rig), ["mqtt"], **{**options, "handshake_timeout": 0.5})
        assert report.finding is not None and report.finding.code == ("hub_away" if level == 5 else "hub_silent")
        steps = {check.name: check.status for check in report.checks}
        assert (steps["mqtt credential"], steps["mqtt topics"], steps["mqtt handshake"]) == ("ok", "ok", "failed")

    rig.run(main())
