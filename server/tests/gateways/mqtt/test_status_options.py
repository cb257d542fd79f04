# SPDX-License-Identifier: Apache-2.0
"""What a client of MQTT 5 asks for with its subscription to the status (MQTT 5, 3.8.3.1), over sockets."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
import uvloop

from thalovant.protocol.mqtt import packets as mqtt
from thalovant.protocol.mqtt.packets import NO_LOCAL, RETAIN_AS_PUBLISHED
from thalovant.protocol.mqtt.properties import Properties
from thalovant.protocol.topics import OFFLINE, ONLINE
from thalovant_server.gateways.mqtt.bounds import Bounds
from thalovant_server.gateways.mqtt.presence import PresenceBoard

ALWAYS, WHEN_NEW, NEVER = 0x00, 0x10, 0x20  # retain handling


def run(main: Any) -> None:
    uvloop.run(asyncio.wait_for(main, 20))


async def subscribe(rig: SimpleNamespace, client: Any, options: int) -> None:
    asked = mqtt.Subscribe(9, ((rig.topic("a", "status"), options),))
    assert await client.ask(asked) == mqtt.Suback(9, (options & 1,))


async def say(rig: SimpleNamespace, client: Any, status: bytes, retain: bool = False) -> None:
    await client.send(rig.publish("a", "status", status, retain=retain))


async def hears(rig: SimpleNamespace, client: Any, *statuses: bytes, retain: bool = False) -> None:
    """The client was told these, and nothing more."""
    for status in statuses:
        assert await client.receive() == mqtt.Publish(rig.topic("a", "status"), status, retain=retain)
    assert await client.silent()


@pytest.mark.parametrize(
    ("handling", "told"),
    [(ALWAYS, [True, True, True]), (WHEN_NEW, [True, False, True]), (NEVER, [False, False, False])],
)
def test_retain_handling_decides_whether_the_retained_status_comes(
    rig: SimpleNamespace, handling: int, told: list[bool]
) -> None:
    async def main() -> None:
        async with rig.Endpoint() as endpoint:
            device, watcher = await endpoint.login("a", "device"), await endpoint.login("a", "watcher", level=5)
            await say(rig, device, ONLINE)
            assert await device.silent()
            for number, expected in enumerate(told):
                if number == 2:
                    await watcher.ask(mqtt.Unsubscribe(8, (rig.topic("a", "status"),)))
                await subscribe(rig, watcher, handling)
                await hears(rig, watcher, *[ONLINE] * expected, retain=True)
            await say(rig, device, OFFLINE)
            await hears(rig, watcher, OFFLINE)

    run(main())


def test_retain_as_published_shows_the_flag(rig: SimpleNamespace) -> None:
    async def main() -> None:
        async with rig.Endpoint() as endpoint:
            device = await endpoint.login("a", "device")
            plain, exact = await endpoint.login("a", "1", level=5), await endpoint.login("a", "2", level=5)
            await subscribe(rig, plain, 0)
            await subscribe(rig, exact, RETAIN_AS_PUBLISHED)
            for status, retain in ((ONLINE, True), (OFFLINE, False), (ONLINE, False), (OFFLINE, True)):
                await say(rig, device, status, retain)
                await hears(rig, plain, status)
                await hears(rig, exact, status, retain=retain)

    run(main())


@pytest.mark.parametrize(("flag", "shown"), [(True, True), (False, False), (None, True)])
def test_a_will_shows_the_flag_that_it_was_left_with(rig: SimpleNamespace, flag: bool | None, shown: bool) -> None:
    async def main() -> None:
        async with rig.Endpoint() as endpoint:
            exact = await endpoint.login("a", "watcher", level=5)
            await subscribe(rig, exact, RETAIN_AS_PUBLISHED)
            will = None if flag is None else mqtt.Will(rig.topic("a", "status"), OFFLINE, 0, flag)
            device = await endpoint.login("a", "device", will=will)
            await say(rig, device, ONLINE)
            await hears(rig, exact, ONLINE)
            device.abort()
            await hears(rig, exact, OFFLINE, retain=shown)

    run(main())


def test_the_flag_waits_with_the_status(rig: SimpleNamespace) -> None:
    async def main() -> None:
        async with rig.Endpoint(bounds=Bounds(in_flight=1)) as endpoint:
            device, exact = await endpoint.login("a", "device"), await endpoint.login("a", "watcher", level=5)
            await subscribe(rig, exact, RETAIN_AS_PUBLISHED | 1)
            for status, retain in ((ONLINE, False), (OFFLINE, False), (ONLINE, False), (OFFLINE, True)):
                await say(rig, device, status, retain)
                assert await device.silent()
            for status, retain in ((ONLINE, False), (OFFLINE, False), (OFFLINE, True)):
                packet = await exact.receive()
                assert isinstance(packet, mqtt.Publish) and (packet.payload, packet.retain) == (status, retain)
                await exact.send(mqtt.Puback(packet.packet_id or 0))
            assert await exact.silent()

    run(main())


def test_no_local_keeps_the_own_word_from_the_client_that_said_it(rig: SimpleNamespace) -> None:
    async def main() -> None:
        async with rig.Endpoint() as endpoint:
            deaf, other = await endpoint.login("a", "deaf", level=5), await endpoint.login("a", "other", level=5)
            await subscribe(rig, deaf, NO_LOCAL)
            await subscribe(rig, other, 0)
            await say(rig, deaf, ONLINE)
            await hears(rig, other, ONLINE)
            await subscribe(rig, deaf, NO_LOCAL)
            assert await deaf.silent()  # nor is it retained for it
            await say(rig, deaf, OFFLINE)
            await say(rig, other, ONLINE)
            await hears(rig, other, OFFLINE, ONLINE)
            await hears(rig, deaf, ONLINE)
            await subscribe(rig, deaf, NO_LOCAL)
            await hears(rig, deaf, ONLINE, retain=True)

    run(main())


@pytest.mark.parametrize("left", [True, False])
def test_a_will_is_the_own_word_of_the_client_id_that_left_it(rig: SimpleNamespace, left: bool) -> None:
    async def main() -> None:
        async with rig.Endpoint() as endpoint:
            watcher = await endpoint.login("a", "watcher", level=5)
            await subscribe(rig, watcher, NO_LOCAL)
            will = mqtt.Will(rig.topic("a", "status"), OFFLINE) if left else None
            device = await endpoint.login("a", "device", will=will)
            await say(rig, device, ONLINE)
            await hears(rig, watcher, ONLINE)
            device.abort()
            await hears(rig, watcher, OFFLINE)
            back = await endpoint.login("a", "device", level=5)
            await subscribe(rig, back, NO_LOCAL)
            await hears(rig, back, *[OFFLINE] * (not left), retain=True)

    run(main())


def test_a_client_that_does_not_say_no_local_hears_itself(rig: SimpleNamespace) -> None:
    async def main() -> None:
        async with rig.Endpoint() as endpoint:
            client = await endpoint.login("a", level=5)
            await subscribe(rig, client, 0)
            await say(rig, client, ONLINE)
            await hears(rig, client, ONLINE)

    run(main())


def test_what_came_with_a_status_is_not_passed_on(rig: SimpleNamespace) -> None:
    async def main() -> None:
        async with rig.Endpoint() as endpoint:
            device, watcher = await endpoint.login("a", "1", level=5), await endpoint.login("a", "2", level=5)
            await subscribe(rig, watcher, 0)
            properties = Properties(
                content_type="x", message_expiry_interval=1, payload_format_indicator=1, user_properties=(("k", "v"),)
            )
            await device.send(rig.publish("a", "status", ONLINE, properties=properties))
            await hears(rig, watcher, ONLINE)

    run(main())


def test_the_board_remembers_who_changed_the_status() -> None:
    board = PresenceBoard()
    assert board.author(1) is None
    steps: list[tuple[Any, str | None]] = [
        (lambda: board.declare(1, "x", ONLINE, "X"), "X"),
        (lambda: board.declare(1, "y", ONLINE, "Y"), "X"),  # no change
        (lambda: board.leave(1, "x"), "X"),  # none either
        (lambda: board.declare(1, "y", OFFLINE, "Y"), "Y"),
        (lambda: board.declare(1, "z", ONLINE, "Z"), "Z"),
        (lambda: board.leave(1, "z", "Z"), "Z"),  # by its will
        (lambda: board.declare(1, "z", ONLINE, "Z"), "Z"),
        (lambda: board.leave(1, "z"), None),  # it just went
        (lambda: board.forget(1), None),
    ]
    for step, author in steps:
        step()
        assert board.author(1) == author
