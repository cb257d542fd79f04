# SPDX-License-Identifier: Apache-2.0
"""The link at a real Mosquitto, with a real hub: sessions, changes, and what becomes of them when a link is lost."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import AsyncGenerator, AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest

from thalovant.protocol.clear import clear_kind
from thalovant.protocol.mqtt.client_connection import NOTHING_RETAINED, Patience
from thalovant.protocol.mqtt.packets import Connect, Publish
from thalovant.protocol.mqtt.v311 import V311
from thalovant_server import broker_socket
from thalovant_server.broker_socket import open_socket
from thalovant_server.gateways.broker_link import keeper
from thalovant_server.testing.mosquitto import MosquittoProcess
from thalovant_server.testing.proxy import Proxy


@pytest.mark.parametrize("level", [5, 4], ids=["mqtt5", "mqtt311"])
@pytest.mark.parametrize("spelling", ["in", "c2s"])
def test_an_ask_gets_its_answer(rig: SimpleNamespace, spelling: str, level: int) -> None:
    async def main() -> None:
        async with rig.opened() as ours:
            device = await ours.device(spelling=spelling, level=level)
            await device.ready()
            assert await device.ask("hello") == "hello"
            assert ours.link.connections == ours.keeper.state.sessions == 1
            assert ours.keeper.state.standing == "connected"
            await device.close()

    rig.run(main())


def test_clients_of_two_hubs_are_apart(rig: SimpleNamespace) -> None:
    async def main() -> None:
        async with rig.opened() as ours:
            one, other = await ours.device("a", "h1"), await ours.device("a", "h2")
            await one.ready()
            await other.ready()
            assert await other.ask("for the other") == "for the other"
            assert await one.ask("for the one") == "for the one"
            assert one.heard.empty() and other.heard.empty()
            await one.close()
            await other.close()

    rig.run(main())


def test_a_frame_of_a_lost_session_brings_hello_and_offer(rig: SimpleNamespace) -> None:
    async def main() -> None:
        async with rig.opened() as ours:
            device = await ours.device()
            device.say(b"\x01a frame of a session that nobody has")
            assert [clear_kind(await device.heard.get()) for _ in range(2)] == ["hello", "shake"]
            await device.ready()
            assert await device.ask("again") == "again"
            await device.close()

    rig.run(main())


def test_offline_ends_the_session_whose_online_was_seen(rig: SimpleNamespace) -> None:
    async def main() -> None:
        async with rig.opened() as ours:
            device = await (await ours.device()).ready()
            device.say(b"online", device.status)
            device.say(b"offline", device.status)
            await ours.until(lambda: ours.hub.connections == 0)
            assert ours.hub.presence.of("h1-a").why == "disconnected"
            await device.close()

    rig.run(main())


def test_what_is_retained_is_no_frame(rig: SimpleNamespace) -> None:
    async def main() -> None:
        device = await rig.Device("a").connect(rig.target())
        device.say(rig.HELLO, retain=True)
        device.say(rig.HELLO, device.into.replace(b"/in", b"/c2s"), retain=True)
        await device.socket.settle(5)
        async with rig.opened() as ours:
            await device.ready()
            assert await device.ask("live") == "live"
            assert ours.hub.connections == 1
        device.say(b"", retain=True)
        device.say(b"", device.into.replace(b"/in", b"/c2s"), retain=True)
        await device.close()

    rig.run(main())


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda ours: ours.directory.remove_credential(1), "revoked"),
        (lambda ours: ours.directory.remove_client("h1-a"), "revoked"),
        (lambda ours: ours.directory.put_hub(ours.hub_entry(active=False)), "hub_off"),
        (lambda ours: ours.directory.put_hub(ours.hub_entry(mqtt_via="embedded")), "mqtt_elsewhere"),
        (lambda ours: ours.directory.put_hub(ours.hub_entry(protocols=frozenset({"wss"}))), "protocol_off"),
        (lambda ours: ours.directory.remove_hub("h1"), "revoked"),
    ],
    ids=["credential", "client", "hub off", "embedded", "mqtt off", "hub gone"],
)
def test_who_may_no_longer_be_here_is_told_at_once(rig: SimpleNamespace, change: Any, code: str) -> None:
    async def main() -> None:
        async with rig.opened() as ours:
            device, neighbour = await ours.device("a"), await ours.device("a", "h2")
            await device.ready()
            await neighbour.ready()
            change(ours)
            assert await device.last_word() == code
            assert len(ours.hub.connections_of("h1-a")) == 0
            device.say(rig.HELLO)  # nobody hears it
            assert await neighbour.ask("still") == "still"
            assert device.heard.empty() and ours.hub.connections == 1
            await device.close()
            await neighbour.close()

    rig.run(main())


def test_a_paused_client_is_told_and_not_let_in_again(rig: SimpleNamespace) -> None:
    async def main() -> None:
        async with rig.opened() as ours:
            device = await (await ours.device()).ready()
            paused = rig.credential("a", active=False)
            ours.directory.put_credential(paused)
            assert await device.last_word() == "paused"
            device.say(rig.HELLO)
            assert await device.last_word() == "paused"
            ours.directory.put_credential(rig.credential("a"))
            await device.ready()
            await device.close()

    rig.run(main())


def test_hubs_come_while_the_link_is_up(rig: SimpleNamespace) -> None:
    async def main() -> None:
        async with rig.opened() as ours:
            ours.directory.put_hub(ours.hub_entry("h2", mqtt_via="embedded"))
            device = await ours.device("b", "h2")
            device.say(rig.HELLO)
            await device.socket.settle(5)
            assert [each.code for each in device.lost] == [0x10]  # the broker has nobody who hears it
            ours.directory.put_hub(ours.hub_entry("h2"))
            await ours.until(lambda: ours.link._subscriptions.complete)
            await device.ready()
            await device.close()

    rig.run(main())


def test_a_client_that_is_gone_has_no_session(rig: SimpleNamespace) -> None:
    """The broker says that nobody hears the answer."""

    async def main() -> None:
        gate = Gated()
        async with rig.opened(agent=gate) as ours:
            device = await (await ours.device()).ready()
            gate.asked.clear()
            gate.open.clear()
            for frame in device.request("x"):
                device.say(frame)
            await gate.asked.wait()
            await device.close()
            gate.open.set()
            await ours.until(lambda: ours.hub.connections == 0)
            assert ours.link._clients == {}

    rig.run(main())


def test_the_server_says_that_it_is_there_and_that_it_goes(rig: SimpleNamespace) -> None:
    async def main() -> None:
        async with watching(rig) as said:
            async with rig.opened() as ours:
                assert (await said.get()).payload == b"online this"
                device = await (await ours.device()).ready()
            assert (await said.get()).payload == b"offline this"
            assert await device.last_word() == "restart"
            await device.close()

    rig.run(main())


def test_a_server_that_dies_has_a_last_will(rig: SimpleNamespace) -> None:
    async def main() -> None:
        async with watching(rig) as said, rig.opened() as ours:
            await until_said(said, b"online this")
            ours.keeper._socket.abort()
            await until_said(said, b"offline this")
            await until_said(said, b"online this")
            assert ours.keeper.state.reconnects == 1

    rig.run(main())


def test_a_session_of_an_earlier_server_is_over_and_its_client_told(rig: SimpleNamespace) -> None:
    """The client said `online` before this server was there, and is connected to the broker all the time."""

    async def main() -> None:
        device = await rig.Device("b", spelling="c2s").connect(rig.target())
        device.say(b"online", device.status, retain=True)
        await device.socket.settle(5)
        async with rig.opened() as ours:
            assert await device.last_word() == "session_lost"
            await device.ready()
            assert ours.link.connections == 1
        device.say(b"", device.status, retain=True)
        await device.close()

    rig.run(main())


def test_a_fault_of_ours_while_a_link_ends_is_not_the_end_of_all_links(
    rig: SimpleNamespace, broker: MosquittoProcess
) -> None:
    async def main() -> None:
        with Proxy("localhost", broker.port) as proxy:
            async with rig.opened(port=proxy.port) as ours:
                disconnected = ours.link.disconnected

                def fail() -> None:
                    ours.link.disconnected = disconnected
                    raise RuntimeError("a mistake")

                ours.link.disconnected = fail
                await asyncio.to_thread(proxy.cut)
                await ours.until(lambda: ours.keeper.state.reconnects == 1)

    rig.run(main())


def test_a_link_that_is_cut_goes_on_where_it_was(rig: SimpleNamespace, broker: MosquittoProcess) -> None:
    """Asks are under way in both directions; each is answered once, in the session that it was asked in."""

    async def main() -> None:
        with Proxy("localhost", broker.port) as proxy:
            async with rig.opened(port=proxy.port) as ours:
                devices = [await rig.Device(name).connect(rig.target()) for name in "abc"]
                for device in devices:
                    await device.ready()
                connections = {each for device in devices for each in ours.hub.connections_of(f"h1-{device.name}")}
                for round_ in range(6):
                    for device in devices:
                        for number in range(5):
                            for frame in device.request(f"{round_}.{number}"):
                                device.say(frame)
                    await asyncio.to_thread(proxy.cut_after, 700 * (round_ + 1))
                    for device in devices:
                        answers = [await device.answer() for _ in range(5)]
                        assert sorted(answers) == [f"{round_}.{number}" for number in range(5)]
                await asyncio.to_thread(proxy.cut_after, None)
                left = {each for device in devices for each in ours.hub.connections_of(f"h1-{device.name}")}
                assert left == connections and ours.keeper.state.reconnects > 0
                for device in devices:
                    assert device.heard.empty()
                    await device.close()

    rig.run(main())


def test_a_broker_that_forgets_ends_every_session(rig: SimpleNamespace, broker: MosquittoProcess) -> None:
    async def main() -> None:
        async with rig.opened() as ours:
            device = await (await ours.device()).ready()
            await asyncio.to_thread(broker.kill)
            shutil.rmtree(broker.folder / "data")
            (broker.folder / "data").mkdir()
            await ours.until(lambda: ours.keeper.state.standing == "away")
            assert ours.hub.connections == 1  # it may go on yet
            await asyncio.to_thread(broker.start)
            await ours.until(lambda: ours.hub.connections == 0)
            await ours.until(lambda: ours.keeper.state.standing == "connected")
            assert ours.hub.presence.of("h1-a").why == "connection_lost"
            await device.socket.closed
            await device.connect(rig.target())
            await device.ready()
            await device.close()

    rig.run(main())


def test_a_session_that_nobody_comes_back_to_in_time_is_over(
    rig: SimpleNamespace, broker: MosquittoProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper, "SESSION_SECONDS", 1)

    async def main() -> None:
        with Proxy("localhost", broker.port) as proxy:
            async with rig.opened(port=proxy.port) as ours:
                device = await (await rig.Device("a").connect(rig.target())).ready()
                await asyncio.to_thread(proxy.refuse)
                await ours.until(lambda: ours.hub.connections == 0)
                assert ours.keeper.state.standing == "away" and "cannot be reached" in ours.keeper.state.fault
                await asyncio.to_thread(proxy.accept)
                assert await device.last_word() == "session_lost"
                await device.ready()
                await device.close()

    rig.run(main())


def test_a_broker_that_hangs_is_dropped_costs_a_bounded_memory_and_is_met_again(
    rig: SimpleNamespace, broker: MosquittoProcess
) -> None:
    async def main() -> None:
        gate = Gated(b"x" * 1_000_000)
        patience = Patience(publish=1.0, before_ping=0.5, ping=0.5)
        async with rig.opened(agent=gate, patience=patience) as ours:
            device = await (await ours.device()).ready(ask=False)
            gate.open.clear()
            for number in range(8):
                for frame in device.request(f"{number}"):
                    device.say(frame)
                await gate.asked.wait()
                gate.asked.clear()
            broker.freeze()
            try:
                gate.open.set()
                await ours.until(lambda: ours.keeper.state.standing == "away")
                assert ours.keeper.state.fault.startswith("did not answer")
                assert ours.hub.budget.held("h1-a") < 20_000_000  # what waits, and what is remembered
                assert ours.hub.connections == 1
            finally:
                broker.thaw()
            await ours.until(lambda: ours.keeper.state.standing == "connected")
            for _ in range(8):
                assert len(await device.answer()) == 1_000_000
            assert ours.keeper.state.reconnects == 1
            await device.close()

    rig.run(main())


def test_a_flood_of_one_client_costs_its_neighbour_next_to_nothing(rig: SimpleNamespace) -> None:
    async def main() -> None:
        async with rig.opened() as ours:
            loud, modest = await ours.device("a"), await ours.device("b")
            await modest.ready()
            flooding = True

            async def flood() -> None:
                while flooding:
                    for _ in range(200):
                        loud.say(b"rubbish" * 20, qos=0)
                    await asyncio.sleep(0)

            flood_task = asyncio.create_task(flood())
            for number in range(20):
                async with asyncio.timeout(5):
                    assert await modest.ask(f"{number}") == f"{number}"
            flooding = False
            await flood_task
            assert len(ours.hub.connections_of("h1-b")) == 1
            await modest.close()

    rig.run(main())


async def until_said(said: Any, payload: bytes) -> None:
    """Wait until the server says that; a last word of an earlier one may come late."""
    while (await said.get()).payload != payload:
        pass


class Gated:
    """Answers once it is let."""

    name = "gated"

    def __init__(self, said: bytes = b"") -> None:
        self.said = said.decode()
        self.asked, self.open = asyncio.Event(), asyncio.Event()
        self.open.set()

    async def answer(self, request: Any) -> AsyncGenerator[str, None]:
        self.asked.set()
        await self.open.wait()
        yield self.said or request.text

    async def close(self) -> None:
        """Nothing to free."""


@contextlib.asynccontextmanager
async def watching(rig: SimpleNamespace) -> AsyncIterator[Any]:
    """What the server says of itself, as the broker's administrator hears it."""
    said: asyncio.Queue[Any] = asyncio.Queue()
    user, password = rig.admin
    login = Connect("watcher", username=user, password=password.encode())
    socket = await open_socket(rig.target(), login, said.put_nowait)
    socket.subscribe([(b"server/status", 1 | NOTHING_RETAINED)])
    await said.get()
    try:
        yield said
    finally:
        await socket.close()


def test_who_floods_neither_cuts_the_link_nor_has_a_neighbours_frame_dropped(rig: SimpleNamespace) -> None:
    """One queue at the broker is for all clients, and Mosquitto 2.0 sends more of a full one than we said we take."""

    async def main() -> None:
        async with rig.opened() as ours:
            neighbour = await ours.device("a")
            await neighbour.ready()
            link = ours.keeper._socket._transport
            link.pause_reading()  # the hub is busy
            await flood(rig, 20_000)
            asking = asyncio.create_task(neighbour.ask("still there?"))
            await asyncio.sleep(0)
            link.resume_reading()
            assert await asking == "still there?"
            assert ours.keeper.state.standing == "connected" and ours.keeper.state.reconnects == 0
            await neighbour.close()

    rig.run(main())


async def flood(rig: SimpleNamespace, messages: int) -> None:
    """Publish so many as another client, and return when the broker has them all."""
    address, context = rig.target().address, rig.target().context
    reader, writer = await asyncio.open_connection(address.host, address.port, ssl=context)
    topic = f"{rig.prefix('b')}/in".encode()
    packets = [Connect("b", username="key-h1-b", password=rig.PASSWORD.encode())]
    packets += [Publish(topic, b"", 1, 1 + number) for number in range(messages)]
    writer.write(b"".join(map(V311.encode, packets)))
    await reader.readexactly(4 + 4 * messages)  # CONNACK, PUBACKs
    writer.close()
    await writer.wait_closed()


def test_a_link_over_3_1_1_ignores_what_is_retained_and_begins_anew_after_a_cut(
    rig: SimpleNamespace, broker: MosquittoProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        device = await rig.Device("a").connect(rig.target())
        device.say(b"retained rubbish", retain=True)
        await device.socket.settle(5)
        monkeypatch.setattr(broker_socket, "V5", broker_socket.V311)  # as at a broker that knows no newer one
        with Proxy("localhost", broker.port) as proxy:
            async with rig.opened(port=proxy.port) as ours:
                assert ours.keeper._socket.level == 4
                await device.ready()
                await asyncio.to_thread(proxy.cut)
                assert await device.last_word() == "session_lost"
                await device.ready()
                assert await device.ask("again") == "again"
        device.say(b"", retain=True)
        await device.close()

    rig.run(main())
