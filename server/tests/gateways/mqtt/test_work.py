# SPDX-License-Identifier: Apache-2.0
"""What packets cost in their client's lane."""

import asyncio
from types import SimpleNamespace

import pytest
import uvloop

from thalovant.protocol.mqtt import packets as mqtt
from thalovant.protocol.mqtt.properties import Properties
from thalovant_server.gateways.lane import Lanes
from thalovant_server.gateways.mqtt.work import work_of

MANY = 1_000
LOADED = Properties(user_properties=(("", ""),) * MANY)
FILTERS = ((b"a", 0),) * MANY
NAMES = (b"a",) * MANY


@pytest.mark.parametrize(
    "packet",
    [
        mqtt.Publish(b"t", b"x" * 60_000),
        mqtt.Publish(b"t", b"x", 1, 1, properties=Properties(user_properties=(("a", "b"),))),
        mqtt.Subscribe(1, ((b"a", 0),)),
        mqtt.Unsubscribe(1, (b"a",)),
        mqtt.Connect("a", will=mqtt.Will(b"t", b"x", 0, False)),
        mqtt.Puback(1),
        mqtt.Pingreq(),
        mqtt.Disconnect(),
    ],
    ids=lambda packet: type(packet).__name__,
)
def test_what_everybody_sends_counts_as_one(packet: mqtt.Packet) -> None:
    assert work_of(packet) == 1


@pytest.mark.parametrize(
    "packet",
    [
        mqtt.Publish(b"t", b"x", properties=LOADED),
        mqtt.Puback(1, 0, LOADED),
        mqtt.Subscribe(1, FILTERS),
        mqtt.Subscribe(1, ((b"a", 0),), LOADED),
        mqtt.Unsubscribe(1, NAMES),
        mqtt.Connect("a", properties=LOADED),
        mqtt.Connect("a", will=mqtt.Will(b"t", b"x", 0, False, LOADED)),
        mqtt.Disconnect(0, LOADED),
    ],
    ids=lambda packet: type(packet).__name__,
)
def test_a_long_list_counts_as_many(packet: mqtt.Packet) -> None:
    assert work_of(packet) > MANY // 3


@pytest.mark.parametrize(
    "packet",
    [
        mqtt.Publish(b"hubs/h1/clients/a/status", b"online", 1, 1, properties=LOADED),
        mqtt.Subscribe(1, FILTERS),
        mqtt.Unsubscribe(1, NAMES),
    ],
    ids=lambda packet: type(packet).__name__,
)
def test_who_sends_long_lists_is_read_later(rig: SimpleNamespace, packet: mqtt.Packet) -> None:
    async def main() -> None:
        async with rig.Endpoint() as endpoint:
            endpoint.gateway.lanes = lanes = Lanes(rate=1.0, burst=100)
            client = await endpoint.login("a", level=5)
            lane = lanes.of(1)
            assert lane.allowance() > 0
            assert await client.ask(packet) is not None
            assert lane.allowance() == 0

    uvloop.run(asyncio.wait_for(main(), 20))
