# SPDX-License-Identifier: Apache-2.0
"""Who is online: the board by itself, then over real sockets."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
import uvloop
from hypothesis import given
from hypothesis import strategies as st

from thalovant.protocol.mqtt import packets as mqtt
from thalovant.protocol.topics import OFFLINE, ONLINE
from thalovant_server.gateways.mqtt.bounds import Bounds
from thalovant_server.gateways.mqtt.presence import PresenceBoard
from thalovant_server.hub.limits import Limits


def run(main: Any) -> None:
    uvloop.run(asyncio.wait_for(main, 20))


def test_nothing_is_known_before_anybody_spoke() -> None:
    board = PresenceBoard()
    assert board.status(1) is None
    assert not board.leave(1, "x")
    assert board.status(1) is None


def test_online_while_any_connection_says_so() -> None:
    board = PresenceBoard()
    told = []
    for who, status in (("x", ONLINE), ("y", ONLINE), ("x", OFFLINE), ("y", OFFLINE), ("y", OFFLINE)):
        changed = board.declare(1, who, status)
        told.append((changed, board.status(1)))
    assert told == [(True, ONLINE), (False, ONLINE), (False, ONLINE), (True, OFFLINE), (False, OFFLINE)]
    assert board.status(2) is None


def test_a_connection_that_goes_takes_its_word_with_it() -> None:
    board = PresenceBoard()
    board.declare(1, "x", ONLINE)
    board.declare(1, "y", ONLINE)
    assert not board.leave(1, "x")
    assert board.leave(1, "y")
    assert not board.leave(1, "y")
    assert board.status(1) == OFFLINE


def test_a_forgotten_credential_is_unknown() -> None:
    board = PresenceBoard()
    board.declare(1, "x", ONLINE)
    board.forget(1)
    board.forget(2)
    assert board.status(1) is None


steps = st.lists(st.tuples(st.sampled_from(["online", "offline", "leave"]), st.integers(1, 2), st.integers(1, 3)))


@given(steps)
def test_the_board_says_what_the_connections_say(steps: list[tuple[str, int, int]]) -> None:
    board = PresenceBoard()
    spoken: dict[int, set[int]] = {}
    for what, credential, who in steps:
        if what == "leave":
            board.leave(credential, who)
            spoken.get(credential, set()).discard(who)
        else:
            board.declare(credential, who, what.encode())
            (set.add if what == "online" else set.discard)(spoken.setdefault(credential, set()), who)
    for credential in (1, 2):
        expected = None if credential not in spoken else ONLINE if spoken[credential] else OFFLINE
        assert board.status(credential) == expected


# -- over sockets


def test_the_status_is_retained_for_whoever_subscribes_and_told_live(rig: SimpleNamespace) -> None:
    async def main() -> None:
        status = rig.topic("a", "status")
        async with rig.Endpoint() as endpoint:
            one, two = await endpoint.login("a", "1"), await endpoint.login("a", "2")
            await endpoint.subscribe(one, "a", "status", qos=0)
            assert await one.silent()
            assert await one.ask(rig.publish("a", "status", ONLINE, retain=True)) == mqtt.Publish(status, ONLINE)
            assert await two.ask(mqtt.Subscribe(3, ((status, 1),))) == mqtt.Suback(3, (1,))
            assert await two.receive() == mqtt.Publish(status, ONLINE, 1, 1, retain=True)
            await one.send(rig.publish("a", "status", OFFLINE))
            assert await one.receive() == mqtt.Publish(status, OFFLINE)
            assert await two.receive() == mqtt.Publish(status, OFFLINE, 1, 2)
            assert endpoint.gateway.presence(1) == "offline"

    run(main())


def test_subscribing_again_brings_the_retained_status_again(rig: SimpleNamespace) -> None:
    async def main() -> None:
        async with rig.Endpoint() as endpoint:
            client = await endpoint.login("a")
            await client.send(rig.publish("a", "status", ONLINE))
            for _ in range(2):
                await endpoint.subscribe(client, "a", "status", qos=0)
                assert await client.receive() == mqtt.Publish(rig.topic("a", "status"), ONLINE, retain=True)

    run(main())


@pytest.mark.parametrize("how", ["abort", "disconnect", "takeover"])
def test_however_a_connection_goes_it_is_no_longer_online(rig: SimpleNamespace, how: str) -> None:
    async def main() -> None:
        async with rig.Endpoint() as endpoint:
            watcher = await endpoint.login("a", "watcher")
            await endpoint.subscribe(watcher, "a", "status", qos=0)
            client = await endpoint.login("a", "device")
            await client.send(rig.publish("a", "status", ONLINE))
            assert await watcher.receive() == mqtt.Publish(rig.topic("a", "status"), ONLINE)
            if how == "abort":
                client.abort()
            elif how == "disconnect":
                await client.send(mqtt.Disconnect())
            else:
                await endpoint.login("a", "device")
            assert await watcher.receive() == mqtt.Publish(rig.topic("a", "status"), OFFLINE)
            assert endpoint.gateway.presence(1) == "offline"

    run(main())


def will(rig: SimpleNamespace, name: str = "a", segment: str = "status", payload: bytes = OFFLINE) -> mqtt.Will:
    return mqtt.Will(rig.topic(name, segment), payload, 1, True)


def test_a_will_is_published_when_the_connection_breaks_and_not_after_disconnect(rig: SimpleNamespace) -> None:
    async def main() -> None:
        async with rig.Endpoint() as endpoint:
            watcher = await endpoint.login("a", "watcher")
            await endpoint.subscribe(watcher, "a", "status", qos=0)
            polite = await endpoint.login("a", "1", will=will(rig))
            await polite.send(mqtt.Disconnect())
            assert await polite.gone()
            assert await watcher.silent()
            assert endpoint.gateway.presence(1) is None
            (await endpoint.login("a", "2", will=will(rig))).abort()
            assert await watcher.receive() == mqtt.Publish(rig.topic("a", "status"), OFFLINE)
            assert endpoint.gateway.presence(1) == "offline"

    run(main())


@pytest.mark.parametrize(
    ("name", "segment", "payload"),
    [
        ("b", "status", OFFLINE),
        ("a", "out", OFFLINE),
        ("a", "in", OFFLINE),
        ("a", "status", b"gone"),
        ("a", "status", ONLINE),  # of a client that is gone
        ("a", "x", b""),
    ],
)
def test_a_will_that_does_not_fit_is_not_authorized(
    rig: SimpleNamespace, name: str, segment: str, payload: bytes
) -> None:
    async def main() -> None:
        async with rig.Endpoint() as endpoint:
            standing = await endpoint.login("a", "device")
            client = await endpoint.dial()
            connect = rig.connect("a", "device", will=will(rig, name, segment, payload))
            assert await client.ask(connect) == mqtt.Connack(False, 5)
            assert await client.gone()
            assert await standing.silent()

    run(main())


def test_only_a_change_of_the_credential_is_told(rig: SimpleNamespace) -> None:
    async def main() -> None:
        async with rig.Endpoint() as endpoint:
            watcher, one, two = [await endpoint.login("a", name) for name in ("watcher", "1", "2")]
            await endpoint.subscribe(watcher, "a", "status", qos=0)
            for client, status in ((one, ONLINE), (two, ONLINE), (one, ONLINE), (one, OFFLINE)):
                await client.send(rig.publish("a", "status", status))
                assert await client.silent()
            assert await watcher.receive() == mqtt.Publish(rig.topic("a", "status"), ONLINE)
            assert await watcher.silent()

    run(main())


async def toggle(rig: SimpleNamespace, client: Any, times: int) -> None:
    """Online and offline so many times, `online` at the end."""
    for _ in range(times):
        await client.send(rig.publish("a", "status", ONLINE), rig.publish("a", "status", OFFLINE))
        assert await client.silent()
    await client.send(rig.publish("a", "status", ONLINE))
    assert await client.silent()


async def statuses(client: Any, final: bytes) -> list[bytes]:
    """What a client was told, once it has caught up."""
    told: list[bytes] = []
    while not told or told[-1] != final:
        await client.send(mqtt.Pingreq())
        while isinstance(packet := await client.receive(), mqtt.Publish):
            told.append(packet.payload)
        assert packet == mqtt.Pingresp()
    return told


def test_a_watcher_that_does_not_read_costs_one_status(rig: SimpleNamespace) -> None:
    async def main() -> None:
        async with rig.Endpoint() as endpoint:
            watcher, device = await endpoint.ready("a", client_id="watcher"), await endpoint.login("a", "device")
            await endpoint.subscribe(watcher, "a", "status", qos=0)
            watcher.writer.transport.pause_reading()
            (session,) = endpoint.hub.sessions
            session.link.send_sealed([bytes(60_000)] * 20)  # more than the kernel and the transport take
            used = endpoint.hub.budget.used
            await toggle(rig, device, 1_000)
            assert endpoint.hub.budget.used <= used
            watcher.writer.transport.resume_reading()
            assert [len(told) for told in await statuses(watcher, ONLINE)] == [60_000] * 20 + [len(ONLINE)]

    run(main())


def test_a_watcher_that_acknowledges_nothing_is_told_the_newest_once_it_does(rig: SimpleNamespace) -> None:
    async def main() -> None:
        async with rig.Endpoint(bounds=Bounds(in_flight=1)) as endpoint:
            watcher, device = await endpoint.login("a", "watcher"), await endpoint.login("a", "device")
            await endpoint.subscribe(watcher, "a", "status", qos=1)
            await toggle(rig, device, 100)
            for status in (ONLINE, OFFLINE, ONLINE):
                packet = await watcher.receive()
                assert isinstance(packet, mqtt.Publish) and packet.payload == status
                await watcher.send(mqtt.Puback(packet.packet_id or 0))
            assert await watcher.silent()

    run(main())


def test_subscribing_again_and_again_without_acknowledging_is_bounded(rig: SimpleNamespace) -> None:
    async def main() -> None:
        limits, bounds = Limits(out_frames=10), Bounds(in_flight=5)
        async with rig.Endpoint(limits=limits, bounds=bounds) as endpoint:
            client = await endpoint.login("a")
            await client.send(rig.publish("a", "status", ONLINE))
            for number in range(1, 100):
                await client.send(mqtt.Subscribe(number, ((rig.topic("a", "status"), 1),)))
            while await client.receive() is not None:
                pass

    run(main())


@pytest.mark.parametrize("payload", [b"", b"Online", b"online ", b"x" * 65])
def test_any_other_status_is_denied(rig: SimpleNamespace, payload: bytes) -> None:
    async def main() -> None:
        async with rig.Endpoint() as endpoint:
            client = await endpoint.login("a")
            assert await client.ask(rig.publish("a", "status", payload, qos=1, packet_id=1)) is None

    run(main())


def test_offline_ends_the_session_whose_online_was_seen_and_no_later_one(rig: SimpleNamespace) -> None:
    async def main() -> None:
        async with rig.Endpoint() as endpoint:
            client = await endpoint.ready("a")
            (first,) = endpoint.hub.sessions
            await client.send(rig.publish("a", "status", OFFLINE))
            assert await client.silent() and not first.is_lost
            await client.send(rig.publish("a", "status", ONLINE))
            await client.send(rig.publish("a", "in", rig.HELLO))
            assert isinstance(await client.receive(), mqtt.Publish)
            _, second = endpoint.hub.sessions
            assert first.is_lost
            await client.receive()
            await client.send(rig.publish("a", "status", OFFLINE))
            assert await client.silent() and not second.is_lost
            await client.send(rig.publish("a", "status", ONLINE), rig.publish("a", "status", OFFLINE))
            assert await client.silent() and second.is_lost

    run(main())


def test_offline_of_one_connection_does_not_end_the_session_of_another(rig: SimpleNamespace) -> None:
    async def main() -> None:
        async with rig.Endpoint() as endpoint:
            one, two = await endpoint.ready("a", client_id="1"), await endpoint.ready("a", client_id="2")
            for client in (one, two):
                await client.send(rig.publish("a", "status", ONLINE))
                assert await client.silent()
            await one.send(rig.publish("a", "status", OFFLINE))
            assert await one.silent()
            first, second = endpoint.hub.sessions
            assert (first.is_lost, second.is_lost) == (True, False)
            assert endpoint.gateway.presence(1) == "online"

    run(main())
