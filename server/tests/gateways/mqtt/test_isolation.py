# SPDX-License-Identifier: Apache-2.0
"""One attacker with a good identity of its own: what it tries is refused, and the neighbour notices nothing."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
import uvloop

from thalovant.protocol.mqtt import packets as mqtt
from thalovant.protocol.mqtt.v5 import V5
from thalovant.protocol.mqtt.v311 import V311, encode_publish

NEIGHBOUR = "hubs/h1/clients/b"
OWN = "hubs/h1/clients/a"

FILTERS = [
    "#", "+/#", "+/+/+/+/+", "hubs/#", "hubs/+/clients/+/s2c", "hubs/h1/clients/+/out",
    f"{NEIGHBOUR}/s2c", f"{NEIGHBOUR}/out", f"{NEIGHBOUR}/status", f"{NEIGHBOUR}/c2s", f"{NEIGHBOUR}/in",
    f"{NEIGHBOUR}/#", "$SYS/#", "$SYS/broker/clients", "$CONTROL/#", "$CONTROL/dynamic-security/v1",
    f"$share/g/{NEIGHBOUR}/s2c", f"$share/g/{OWN}/s2c", f"{OWN}/c2s", f"{OWN}/in", f"{OWN}/#", f"{OWN}/+",
    f"{OWN}/s2c/", f"/{OWN}/s2c", f"{OWN}//s2c", f"{OWN}/S2C", OWN, "a/#/b", "s2c", "\ufeff" + f"{OWN}/s2c",
    f"{OWN}/s2c\u0301",
]  # fmt: skip
TOPICS = [
    f"{NEIGHBOUR}/c2s", f"{NEIGHBOUR}/in", f"{NEIGHBOUR}/s2c", f"{NEIGHBOUR}/out", f"{NEIGHBOUR}/status",
    f"{OWN}/s2c", f"{OWN}/out", f"{OWN}/c2s/", f"/{OWN}/c2s", f"{OWN}/C2S", f"{OWN}/in\u0301", OWN,
    "$SYS/broker", "$CONTROL/dynamic-security/v1", "c2s", "in", "/",
]  # fmt: skip
NOT_TOPICS = [b"", b"#", OWN.encode() + b"/+", OWN.encode() + b"/c2s\0", OWN.encode() + b"/c\xc0\xb2s", b"\xff"]


def run(main: Any) -> None:
    uvloop.run(asyncio.wait_for(main, 20))


def test_no_foreign_filter_is_granted_and_nothing_arrives(rig: SimpleNamespace) -> None:
    async def main() -> None:
        async with rig.Endpoint() as endpoint:
            attacker = await endpoint.login("a")
            asked = tuple((text.encode(), 1) for text in FILTERS)
            assert await attacker.ask(mqtt.Subscribe(1, asked)) == mqtt.Suback(1, (0x80,) * len(asked))
            neighbour = await endpoint.ready("b")
            await neighbour.send(rig.publish("b", "status", b"online", retain=True), rig.publish("b", "in", b"\x01"))
            assert await neighbour.silent()
            endpoint.hub.sessions[-1].link.send_sealed([b"for the neighbour"])
            assert await attacker.silent()

    run(main())


def expected_code(text: str) -> int:
    """Why a filter of `FILTERS` is not granted, in MQTT 5."""
    if text in (f"{OWN}/c2s", f"{OWN}/in"):
        return 0x8F
    if text.startswith("$share/"):
        return 0x9E
    return 0xA2 if "#" in text or "+" in text else 0x87


def test_in_mqtt_5_each_foreign_filter_has_its_reason_and_nothing_arrives(rig: SimpleNamespace) -> None:
    async def main() -> None:
        async with rig.Endpoint() as endpoint:
            attacker = await endpoint.login("a", level=5)
            asked = tuple((text.encode(), 1) for text in FILTERS)
            answer = await attacker.ask(mqtt.Subscribe(1, asked))
            assert isinstance(answer, mqtt.Suback) and answer.codes == tuple(map(expected_code, FILTERS))
            assert "hubs/" not in (answer.properties.reason_string or "hubs/")
            neighbour = await endpoint.ready("b", level=5)
            await neighbour.send(rig.publish("b", "status", b"online", retain=True), rig.publish("b", "in", b"\x01"))
            assert await neighbour.silent()
            endpoint.hub.sessions[-1].link.send_sealed([b"for the neighbour"])
            assert await attacker.silent()

    run(main())


def test_each_filter_is_judged_by_itself(rig: SimpleNamespace) -> None:
    async def main() -> None:
        async with rig.Endpoint() as endpoint:
            client = await endpoint.login("a")
            asked = [(rig.topic("a", "s2c"), 2), (b"#", 0), (rig.topic("a", "out"), 0), (rig.topic("b", "out"), 1)]
            assert await client.ask(mqtt.Subscribe(1, tuple(asked))) == mqtt.Suback(1, (1, 0x80, 0, 0x80))

    run(main())


def test_a_filter_with_a_nul_or_overlong_utf_8_ends_the_connection(rig: SimpleNamespace) -> None:
    async def main() -> None:
        async with rig.Endpoint() as endpoint:
            for bad in (b"a\0", b"\xc0\xaf"):
                client = await endpoint.login("a")
                await client.write(b"\x82\x07\x00\x01\x00\x02" + bad + b"\x00")
                assert await client.gone()

    run(main())


@pytest.mark.parametrize("qos", [0, 1, 2])
@pytest.mark.parametrize("topic", TOPICS)
def test_a_foreign_topic_ends_the_connection_of_whoever_publishes(rig: SimpleNamespace, topic: str, qos: int) -> None:
    async def main() -> None:
        async with rig.Endpoint() as endpoint:
            neighbour = await endpoint.ready("b")
            await endpoint.subscribe(neighbour, "b", "s2c", "status")
            attacker = await endpoint.login("a")
            packet = mqtt.Publish(topic.encode(), rig.HELLO, qos, 1 if qos else None, retain=True)
            assert await attacker.ask(packet) is None
            assert await neighbour.silent()
            assert len(endpoint.hub.sessions) == 1 and not endpoint.hub.sessions[0].clear

    run(main())


@pytest.mark.parametrize("qos", [0, 1, 2])
@pytest.mark.parametrize("topic", TOPICS)
def test_in_mqtt_5_whoever_publishes_to_a_foreign_topic_is_told(rig: SimpleNamespace, topic: str, qos: int) -> None:
    async def main() -> None:
        async with rig.Endpoint() as endpoint:
            neighbour = await endpoint.ready("b", level=5)
            await endpoint.subscribe(neighbour, "b", "s2c", "status")
            attacker = await endpoint.login("a", level=5)
            packet = mqtt.Publish(topic.encode(), rig.HELLO, qos, 1 if qos else None, retain=True)
            answer = await attacker.ask(packet)
            assert type(answer) is (mqtt.Disconnect, mqtt.Puback, mqtt.Pubrec)[qos] and answer.code == 0x87
            assert topic not in (answer.properties.reason_string or topic) or topic in ("c2s", "in", "/")
            assert await (attacker.silent() if qos else attacker.gone())
            assert await neighbour.silent()
            assert len(endpoint.hub.sessions) == 1 and not endpoint.hub.sessions[0].clear

    run(main())


@pytest.mark.parametrize("segment", ["c2s", "in"])
def test_in_mqtt_5_nothing_is_retained_towards_the_hub_either(rig: SimpleNamespace, segment: str) -> None:
    async def main() -> None:
        async with rig.Endpoint() as endpoint:
            client = await endpoint.ready("a", level=5)
            packet = rig.publish("a", segment, rig.HELLO, qos=1, packet_id=3, retain=True)
            answer = await client.ask(packet)
            assert isinstance(answer, mqtt.Puback) and answer.code == 0x87
            assert len(endpoint.hub.sessions) == 1 and await client.silent()

    run(main())


@pytest.mark.parametrize("segment", ["c2s", "in"])
def test_nothing_is_retained_towards_the_hub(rig: SimpleNamespace, segment: str) -> None:
    async def main() -> None:
        async with rig.Endpoint() as endpoint:
            client = await endpoint.login("a")
            assert await client.ask(rig.publish("a", segment, rig.HELLO, retain=True)) is None

    run(main())


@pytest.mark.parametrize("topic", NOT_TOPICS)
def test_what_is_no_topic_ends_the_connection(rig: SimpleNamespace, topic: bytes) -> None:
    async def main() -> None:
        async with rig.Endpoint() as endpoint:
            client = await endpoint.login("a")
            await client.write(encode_publish(topic, b"x", qos=0))
            assert await client.gone()
            neighbour, client = await endpoint.ready("b", level=5), await endpoint.login("a", level=5)
            await client.write(V5.encode_publish(topic, b"x", qos=0))
            assert await client.told() == (0x81 if topic else 0x82)
            assert await neighbour.silent()

    run(main())


@pytest.mark.parametrize("password", [b"wrong", b"broker-password"])
def test_in_mqtt_5_a_neighbours_client_id_takes_nothing_over(rig: SimpleNamespace, password: bytes) -> None:
    async def main() -> None:
        async with rig.Endpoint() as endpoint:
            neighbour = await endpoint.ready("b", client_id="device", level=5)
            watcher = await endpoint.login("a", "watcher", level=5)
            await endpoint.subscribe(watcher, "a", "status")
            client = await endpoint.dial(V5)
            will = mqtt.Will(rig.topic("a", "status"), b"offline", 1, True)
            connect = rig.connect("a", "device", level=5, password=password, clean_session=True, will=will)
            answer = await client.ask(connect)
            assert isinstance(answer, mqtt.Connack) and answer.code == (0x86 if password == b"wrong" else 0)
            if answer.code:
                assert await client.gone() and await watcher.silent()
            endpoint.hub.sessions[0].link.send_sealed([b"still here"])
            got = await neighbour.receive()
            assert isinstance(got, mqtt.Publish) and got.payload == b"still here"

    run(main())


def test_a_connect_with_fields_of_64_kib_is_refused_from_its_header(rig: SimpleNamespace) -> None:
    async def main() -> None:
        async with rig.Endpoint() as endpoint:
            for level, version in ((4, V311), (5, V5)):
                client = await endpoint.dial(version)
                await client.send(rig.connect(username="x" * 65_535, level=level))
                assert await client.gone()

    run(main())


def test_unsubscribing_from_anything_is_answered(rig: SimpleNamespace) -> None:
    async def main() -> None:
        async with rig.Endpoint() as endpoint:
            neighbour = await endpoint.ready("b")
            client = await endpoint.ready("a")
            everything = (b"#", rig.topic("b", "out"), rig.topic("a", "status"))
            assert await client.ask(mqtt.Unsubscribe(3, everything)) == mqtt.Unsuback(3)
            endpoint.hub.sessions[0].link.send_sealed([b"still here"])
            got = await neighbour.receive()
            assert isinstance(got, mqtt.Publish) and got.payload == b"still here"

    run(main())
