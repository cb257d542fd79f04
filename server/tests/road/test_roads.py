# SPDX-License-Identifier: Apache-2.0
"""One identity, three roads, each through a proxy that cuts, refuses and swallows: asks arrive, and run once."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import logging
import random
import time
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from thalovant import (
    AsyncThalovantClient,
    HubDataPlaneEndpoints,
    HubProtocol,
    ThalovantClient,
    ThalovantConnectionError,
    ThalovantControlPlane,
    ThalovantHubRefusedError,
    ThalovantIdentity,
    keeping,
    roads,
)
from thalovant_server.testing import ServerProcess
from thalovant_server.testing.proxy import Proxy

ROADS: tuple[HubProtocol, ...] = ("mqtt", "wss", "https")
AGENTS = Path(__file__).parent / "agents"


class Map:
    """Three roads to one hub, each with a proxy, and the identity that uses them."""

    def __init__(self, identity: ThalovantIdentity, count: Path, stack: contextlib.ExitStack) -> None:
        assert identity.mqtt is not None
        addresses = {"mqtt": identity.mqtt.endpoint, **identity.data_plane_endpoints.as_dict()}
        self._count = count
        self.proxies: dict[str, Proxy] = {}
        for road in ROADS:
            port = urlsplit(addresses[road]).port
            assert port is not None
            self.proxies[road] = stack.enter_context(Proxy("localhost", port))
            addresses[road] = addresses[road].replace(f":{port}", f":{self.proxies[road].port}")
        self.identity = replace(
            identity,
            mqtt=replace(identity.mqtt, endpoint=addresses["mqtt"]),
            data_plane_endpoints=HubDataPlaneEndpoints(**addresses),
        )

    def __getitem__(self, road: str) -> Proxy:
        return self.proxies[road]

    def runs(self) -> Counter[str]:
        """How often the agent ran, by request id."""
        return Counter(self._count.read_text().split() if self._count.exists() else ())

    async def running(self, request_id: str) -> None:
        """Wait until the agent has begun with a request."""
        async with asyncio.timeout(20):
            while request_id not in self.runs():
                await asyncio.sleep(0.005)

    @property
    def open(self) -> int:
        return sum(proxy.connections for proxy in self.proxies.values())


@pytest.fixture(scope="module")
def count(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("count") / "runs"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, count: Path) -> Iterator[ServerProcess]:
    """A server of this file's own: it is restarted, and its agent counts."""
    environment = {"PYTHONPATH": str(AGENTS), "ROAD_COUNT": str(count)}
    data = tmp_path_factory.mktemp("roads") / "data"
    agents = ("counted=python:road_agents:counted",)
    with ServerProcess(data, agents=agents, environment=environment, strict=True) as running:
        yield running


@pytest.fixture
def way(api: ThalovantControlPlane, make_hub: Callable[..., str], count: Path, request: Any) -> Iterator[Map]:
    """A fresh identity and its three roads."""
    hub = make_hub(f"roads-{request.node.name}"[:60].replace("[", "-").replace("]", ""), agent="counted")
    made = api.create_client_identity(hub, name="traveller")
    with contextlib.ExitStack() as stack:
        way = Map(made.identity, count, stack)
        way.hub_id, way.client_id = hub, made.client_id  # type: ignore[attr-defined]
        yield way


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same decisions in a tenth of the time."""
    for name, seconds in (("FIRST_PROBE", 0.3), ("LONGEST_PROBE", 2.0), ("HEAD_START", 0.5), ("FAITHFUL", 0.4)):
        monkeypatch.setattr(roads, name, seconds)
    for name, seconds in (("LOOK_EVERY", 0.2), ("SIGN_OF_LIFE", 0.5), ("RETIREMENT", 0.2)):
        monkeypatch.setattr(keeping, name, seconds)


def make(way: Map, tmp_path: Path, *order: HubProtocol, **options: Any) -> AsyncThalovantClient:
    state = str(tmp_path / "noise")
    return AsyncThalovantClient(way.identity, protocols=order or ROADS, noise_state_dir=state, **options)


def play(scene: Any) -> None:
    """Run a scene; nothing may be left on the loop, nor complained about when the garbage is collected."""

    async def main() -> None:
        await scene()
        for _ in range(3):
            await asyncio.sleep(0)  # what the libraries have cancelled ends
        assert [task.get_name() for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []

    asyncio.run(main(), debug=True)
    gc.collect()


def passes(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.01)


def others(first: HubProtocol) -> tuple[HubProtocol, ...]:
    return first, *(road for road in ROADS if road != first)


# Reaching the hub


@pytest.mark.parametrize("first", ROADS)
@pytest.mark.parametrize("trouble", ["refuse", "freeze"])
def test_a_road_that_is_closed_or_swallows_everything_gives_way(
    first: HubProtocol, trouble: str, way: Map, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    getattr(way[first], trouble)()

    async def scene() -> None:
        began = time.monotonic()
        async with make(way, tmp_path, *others(first), connect_timeout=60.0) as client:
            assert time.monotonic() - began < 30.0  # a fraction of what the dead road may take
            second = others(first)[1]
            info = await client.connection_info()
            assert (info.phase, info.protocol) == ("ready", second)
            assert [road for road, _ in info.attempts] == [first]
            assert info.moved_because and info.moved_because.startswith(f"{first}: ")
            assert f"({second} of {'/'.join(others(first))}, ready)" in repr(client)
            assert (await client.healthcheck()).ok
            assert (await client.ask("0 hello")).utterances == ("one", "0 hello")

    play(scene)
    assert [record.levelname for record in caplog.records if record.name == "thalovant.roads"] == ["WARNING"]


def test_a_road_that_is_off_on_the_hub_gives_way(way: Map, tmp_path: Path, api: ThalovantControlPlane) -> None:
    hub = way.hub_id  # type: ignore[attr-defined]
    api.update_hub(hub, {"spec": {"protocols": {"mqtt": {"enabled": False}}}}, etag=api.get_hub(hub)["etag"])

    async def scene() -> None:
        async with make(way, tmp_path) as client:
            info = await client.connection_info()
            assert info.protocol == "wss" and "does not accept" in dict(info.attempts)["mqtt"]
            assert (await client.ask("0 hello")).ok

    play(scene)


def test_a_removed_client_is_refused_on_every_road_with_one_error(
    way: Map, tmp_path: Path, api: ThalovantControlPlane
) -> None:
    async def scene() -> None:
        client = make(way, tmp_path)
        assert (await client.ask("0 hello")).ok
        await asyncio.to_thread(api.delete_client, way.client_id)  # type: ignore[attr-defined]
        with pytest.raises(ThalovantHubRefusedError) as caught:
            await client.ask("0 hello again")
            await client.ask("0 hello again")  # when the first one was quicker than the removal
        assert [road for road, _ in caught.value.attempts] == list(ROADS)
        for road in ROADS:
            assert f"{road}: " in str(caught.value)
        assert way.identity.password not in str(caught.value)
        await client.close()

    play(scene)


def test_a_hub_that_is_away_is_one_error_on_all_roads(way: Map, tmp_path: Path) -> None:
    for proxy in way.proxies.values():
        proxy.refuse()

    async def scene() -> None:
        client = make(way, tmp_path)
        with pytest.raises(ThalovantConnectionError) as caught:
            await client.connect()
        assert type(caught.value) is ThalovantConnectionError
        assert [road for road, _ in caught.value.attempts] == list(ROADS)
        assert str(caught.value).count("Nothing listens") == 3
        for proxy in way.proxies.values():
            proxy.accept()
        assert (await client.ask("0 hello")).ok
        assert (await client.connection_info()).protocol == "mqtt"  # no road is blamed for a hub that was away
        await client.close()

    play(scene)


def test_the_synchronous_client_does_the_same(way: Map, tmp_path: Path) -> None:
    way["mqtt"].refuse()
    with ThalovantClient(way.identity, protocols=ROADS, noise_state_dir=str(tmp_path / "noise")) as client:
        assert client.ask("0 hello").ok
        assert client.connection_info().protocol == "wss"
        assert client.healthcheck().as_dict()["connection"]["attempts"][0][0] == "mqtt"
        assert repr(client) == "ThalovantClient(wss of mqtt/wss/https, ready)"


# What is remembered


def test_the_next_run_does_not_pay_for_a_dead_road_but_looks_at_it_soon(way: Map, tmp_path: Path) -> None:
    way["mqtt"].freeze()

    async def run(dead: bool, expected: str) -> None:
        before = way["mqtt"].accepted
        async with make(way, tmp_path) as client:
            assert (await client.connection_info()).protocol == expected
        assert (way["mqtt"].accepted > before) is dead

    play(lambda: run(True, "wss"))
    kept = next((tmp_path / "noise").glob("*.roads.json"))
    assert kept.stat().st_mode & 0o777 == 0o600
    for _ in range(2):
        play(lambda: run(False, "wss"))
    way["mqtt"].thaw()
    kept.write_text(kept.read_text().replace('"at": 1', '"at": -1'))  # a long time ago
    play(lambda: run(True, "mqtt"))


# An ask under way


@pytest.mark.parametrize("first", ROADS)
@pytest.mark.parametrize("trouble", ["cut", "refuse", "freeze"])
def test_an_ask_under_way_is_answered_and_runs_once_when_its_road_dies(
    first: HubProtocol, trouble: str, way: Map, tmp_path: Path, quick: None
) -> None:
    async def scene() -> None:
        async with make(way, tmp_path, *others(first), send_timeout=1.0) as client:
            await client.ask("0 warm")
            asked = asyncio.create_task(client.ask("1.5 moved", request_id=f"r-{first}-{trouble}", timeout=30.0))
            await way.running(f"r-{first}-{trouble}")
            getattr(way[first], trouble)()
            reply = await asked
            assert (reply.utterances, reply.handled) == (("one", "1.5 moved"), True)
            on = (await client.connection_info()).protocol
            assert on == first if trouble == "cut" else on != first
            assert (await client.ask("0 after")).ok
            way[first].thaw()

    play(scene)
    assert way.runs()[f"r-{first}-{trouble}"] == 1


@pytest.mark.parametrize("first", ROADS)
def test_an_ask_is_answered_wherever_its_road_is_cut(first: HubProtocol, way: Map, tmp_path: Path, quick: None) -> None:
    """After each number of bytes in turn: in the request, in the acknowledgements, in the answer."""

    async def scene() -> None:
        async with make(way, tmp_path, *others(first)) as client:
            await client.ask("0 warm")
            for number in range(25):
                way[first].cut_after(1 + 61 * number)
                reply = await client.ask(f"0.01 cut {number}", request_id=f"c-{first}-{number}", timeout=30.0)
                assert reply.utterances == ("one", f"0.01 cut {number}")
            way[first].cut_after(None)

    play(scene)
    runs = way.runs()
    assert {runs[f"c-{first}-{number}"] for number in range(25)} == {1}


def test_no_ask_is_lost_or_run_twice_while_every_road_fails_now_and_then(way: Map, tmp_path: Path, quick: None) -> None:
    chance = random.Random(7)

    async def trouble() -> None:
        """One road at a time is in trouble, so that there always is a way."""
        while True:
            proxy = way[chance.choice(ROADS)]
            kind = chance.choice(["cut", "cut", "refuse", "freeze"])
            getattr(proxy, kind)()
            await asyncio.sleep(chance.uniform(0.05, 1.0))
            proxy.accept()
            proxy.thaw()
            await asyncio.sleep(chance.uniform(0.05, 0.3))

    async def scene() -> None:
        async with make(way, tmp_path, send_timeout=1.0) as client:
            await client.ask("0 warm")
            worries = asyncio.create_task(trouble())

            async def asker(who: int) -> None:
                for number in range(20):
                    text = f"{chance.choice([0, 0.05, 0.3])} {who} {number}"
                    reply = await client.ask(text, request_id=f"w-{who}-{number}", timeout=60.0)
                    assert (reply.utterances, reply.handled) == (("one", text), True)

            await asyncio.gather(*(asker(who) for who in range(6)))
            worries.cancel()
            await asyncio.wait([worries])

    play(scene)
    runs = way.runs()
    assert [runs[f"w-{who}-{number}"] for who in range(6) for number in range(20)] == [1] * 120


# Returning


def test_the_client_returns_to_the_preferred_road_and_an_ask_ends_where_it_began(
    way: Map, tmp_path: Path, quick: None, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "thalovant.roads")
    way["mqtt"].refuse()

    async def scene() -> None:
        async with make(way, tmp_path) as client:
            asked = asyncio.create_task(client.ask("3 slowly", request_id="r-return", timeout=30.0))
            await way.running("r-return")
            assert (await client.connection_info()).protocol == "wss"
            way["mqtt"].accept()
            await is_on(client, "mqtt")
            assert not asked.done() and way["wss"].connections == 1
            assert (await client.ask("0 on the new one")).ok
            assert not asked.done()
            assert (await asked).utterances == ("one", "3 slowly")
            async with asyncio.timeout(5):
                while way["wss"].connections:
                    await asyncio.sleep(0.01)
            assert (await client.ask("0 still there")).ok

    play(scene)
    assert way.runs()["r-return"] == 1
    said = [(record.levelname, record.getMessage()) for record in caplog.records if record.name == "thalovant.roads"]
    assert [level for level, _ in said] == ["WARNING", "INFO"] and "is open again" in said[1][1]


async def is_on(client: AsyncThalovantClient, road: str) -> None:
    """Wait until the client is on that road."""
    async with asyncio.timeout(10):
        while (await client.connection_info()).protocol != road:
            await asyncio.sleep(0.01)


def test_a_hub_that_restarts_is_met_again_on_the_preferred_road_and_the_ask_with_it(
    way: Map, tmp_path: Path, server: ServerProcess, quick: None
) -> None:
    """Its ports open one after the other: whoever dials just then may come by another road first."""

    async def scene() -> None:
        async with make(way, tmp_path) as client:
            await client.ask("0 before")
            asked = asyncio.create_task(client.ask("0.5 after", request_id="r-restart", timeout=60.0))
            await way.running("r-restart")
            await asyncio.to_thread(server.kill)
            await asyncio.to_thread(server.start)
            assert (await asked).utterances == ("one", "0.5 after")
            await is_on(client, "mqtt")

    play(scene)


# Nothing is left


LIFE = contextvars.ContextVar[weakref.WeakSet[asyncio.Task[Any]]]("the tasks of one life")


def note_whose(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
    """Make a task of the life that makes it."""
    task = asyncio.Task(coroutine, loop=loop, **options)
    if (tasks := LIFE.get(None)) is not None:
        tasks.add(task)
    return task


@pytest.fixture(scope="module")
def five_ways(api: ThalovantControlPlane, server: ServerProcess, count: Path) -> Iterator[list[Map]]:
    """Five clients, each with roads of its own."""
    spec = {
        "version": "1",
        "agent": "counted",
        "protocols": {name: {"enabled": True} for name in ("wss", "http", "mqtt")},
    }
    hub = api.create_hub({"name": "five lives", "spec": spec})
    with contextlib.ExitStack() as stack:
        made = [api.create_client_identity(hub["id"], name=f"life-{number}") for number in range(5)]
        yield [Map(each.identity, count, stack) for each in made]


@pytest.mark.parametrize("last", ["close", "disconnect", "cancel"])
def test_ending_it_in_any_state_leaves_nothing(last: str, five_ways: list[Map], tmp_path: Path, quick: None) -> None:
    """While it walks, asks, is cut, looks for its preferred road, changes over: at a moment of chance.

    Five at a time, each on roads of its own.
    """

    async def life(client: AsyncThalovantClient) -> None:
        async with asyncio.TaskGroup() as group:
            for number in range(5):
                group.create_task(client.ask(f"0.2 {last} {number}", timeout=30.0))

    async def one(way: Map, home: Path, chance: random.Random) -> None:
        LIFE.set(tasks := weakref.WeakSet())
        troubled = way[chance.choice(ROADS)]
        getattr(troubled, chance.choice(["refuse", "freeze", "cut"]))()
        client = make(way, home, *chance.sample(ROADS, 3), send_timeout=1.0)
        living = asyncio.create_task(life(client))
        await asyncio.sleep(chance.uniform(0.0, 1.2))
        troubled.accept()
        troubled.thaw()
        await asyncio.sleep(chance.uniform(0.0, 0.6))
        if chance.random() < 0.5:
            way[chance.choice(ROADS)].cut()
        if last == "cancel":
            living.cancel()
        elif last == "disconnect":
            await client.disconnect()
        await client.close()
        await asyncio.wait([living])
        if not living.cancelled():
            living.exception()
        for _ in range(3):
            await asyncio.sleep(0)  # what the libraries have cancelled ends
        assert [task.get_name() for task in tasks if not task.done()] == []

    async def five(turn: int) -> None:
        asyncio.get_running_loop().set_task_factory(note_whose)
        chances = (random.Random(f"{last} {turn} {number}") for number in range(5))
        homes = (tmp_path / str(number) for number in range(5))
        await asyncio.gather(*map(one, five_ways, homes, chances))

    for turn in range(3):
        play(partial(five, turn))
    passes(lambda: sum(way.open for way in five_ways) == 0)
