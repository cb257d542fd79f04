# SPDX-License-Identifier: Apache-2.0
"""The MQTT carrier with a broker of MQTT 5: limits kept on both sides, and reasons told and understood."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from thalovant.errors import (
    ThalovantConnectionError,
    ThalovantHubRefusedError,
    ThalovantPublishDeniedError,
    ThalovantPublishTooLargeError,
)
from thalovant.protocol.mqtt import packets
from thalovant.protocol.mqtt.packets import Auth, Connack, Disconnect, Publish, Suback
from thalovant.protocol.mqtt.properties import NOTHING, Properties
from thalovant.transports import mqtt

PREFIX = "hubs/h/clients/c"
IN, OUT = f"{PREFIX}/in".encode(), f"{PREFIX}/out".encode()


@pytest.fixture
def play(stage: Any) -> Any:
    """Play a scene with a broker of MQTT 5 that grants these terms in its CONNACK; the transport is open."""

    def play(scene: Any, terms: Properties = NOTHING, **changes: Any) -> None:
        async def opened(broker: Any, make: Any, watcher: Any) -> None:
            broker.connack = Connack(False, 0, terms)
            transport = make(**changes)
            await transport.open(watcher.on_frame, watcher.losses.put_nowait)
            await scene(broker, transport, watcher)
            await transport.close()
            assert watcher.losses.empty()

        stage(opened, (5,))

    return play


@pytest.fixture
def refused(stage: Any) -> Any:
    """What `open` raises when the broker answers so; beside it the broker's own log of what came after CONNECT."""

    def refused(connack: Any, suback: Any = None) -> tuple[ThalovantConnectionError, list[Any]]:
        caught: list[Any] = []

        async def scene(broker: Any, make: Any, watcher: Any) -> None:
            broker.connack, broker.suback = connack, suback
            transport = make()
            with pytest.raises(ThalovantConnectionError) as raised:
                await transport.open(watcher.on_frame, watcher.losses.put_nowait)
            await transport.close()
            await broker.end()
            seen = [broker.packets.get_nowait() for _ in range(broker.packets.qsize())]
            caught.extend((raised.value, seen[1:]))
            assert watcher.losses.empty()

        stage(scene, (5,))
        return caught[0], caught[1]

    return refused


def test_what_a_client_says_of_itself(play: Any) -> None:
    async def scene(broker: Any, transport: Any, watcher: Any) -> None:
        login = await broker.next(packets.Connect)
        assert login.properties == Properties(
            session_expiry_interval=0, receive_maximum=256, maximum_packet_size=1_048_576
        )
        assert login.will == packets.Will(f"{PREFIX}/status".encode(), b"offline", 1, True)

    play(scene)


# Logging in


@pytest.mark.parametrize("code", [0x86, 0x87, 0x8A])
def test_a_refused_credential(refused: Any, code: int) -> None:
    error, after = refused(Connack(False, code, Properties(reason_string="rotated on Monday")))
    assert type(error) is ThalovantHubRefusedError
    assert f"(CONNACK 0x{code:02x}, " in str(error) and 'It said: "rotated on Monday".' in str(error)
    assert error.diagnosis is not None and error.diagnosis.code == "broker_login_refused"
    assert "newest file" in error.diagnosis.advice and str(error) == str(error.diagnosis)
    assert after == []


@pytest.mark.parametrize("code", [0x88, 0x89, 0x97, 0x9F])
def test_a_broker_that_has_no_time_now(refused: Any, code: int) -> None:
    error, _ = refused(Connack(False, code))
    assert type(error) is ThalovantConnectionError
    assert "just now" in str(error) and str(error).endswith("Try again in a moment.")


@pytest.mark.parametrize("code", [0x9C, 0x9D])
def test_another_server_is_told_and_not_followed(refused: Any, code: int) -> None:
    error, _ = refused(Connack(False, code, Properties(server_reference="other.example:8883")))
    assert type(error) is ThalovantConnectionError
    assert "to other.example:8883; that is not followed" in str(error)


def test_an_extended_authentication_is_refused_cleanly(refused: Any) -> None:
    error, after = refused(Auth(0x18, Properties(authentication_method="SCRAM-SHA-256")))
    assert type(error) is ThalovantConnectionError
    assert "AUTH where none is expected" in str(error)
    assert after == [Disconnect(0x82)]


def test_a_session_that_cannot_be_ours_is_refused(refused: Any) -> None:
    error, after = refused(Connack(True, 0))
    assert "a client id that was just made up" in str(error)
    assert after == [Disconnect(0x82)]


def test_rubbish_instead_of_an_answer_is_told(refused: Any) -> None:
    error, after = refused(b"HTTP/1.1 400\r\n")
    assert "not MQTT 5" in str(error)
    assert after == [Disconnect(0x81)]


@pytest.mark.parametrize(
    ("suback", "kind", "text"),
    [
        (Suback(1, (0x87,), Properties(reason_string="no")), ThalovantHubRefusedError, 'It said: "no".'),
        (Suback(1, (0x80,)), ThalovantHubRefusedError, "SUBACK 0x80, unspecified error"),
        (Suback(1, (0x8F,)), ThalovantHubRefusedError, "create a fresh identity"),
        (Suback(1, (0x97,)), ThalovantConnectionError, "Try again in a moment"),
        (Suback(2, (0,)), ThalovantConnectionError, "another SUBSCRIBE"),
        (Suback(1, (0, 0)), ThalovantConnectionError, "another SUBSCRIBE"),
        (Disconnect(0x8B), ThalovantConnectionError, "server shutting down"),
    ],
)
def test_a_refused_subscription(refused: Any, suback: Any, kind: type, text: str) -> None:
    error, _ = refused(Connack(False, 0), suback)
    assert type(error) is kind
    assert text in str(error)


def test_a_broker_that_takes_not_even_a_subscription(refused: Any) -> None:
    error, after = refused(Connack(False, 0, Properties(maximum_packet_size=20)))
    assert type(error) is ThalovantPublishTooLargeError
    assert error.limit == 20
    assert after == [Disconnect(0x04)]


# The broker's limits


def test_no_more_is_under_way_than_the_broker_takes(play: Any) -> None:
    async def scene(broker: Any, transport: Any, watcher: Any) -> None:
        broker.acknowledges(False)
        transport.send_sealed([b"0", b"1", b"2", b"3"])
        transport.ready()
        first = [await broker.next(Publish) for _ in range(2)]
        broker.send(Publish(b"elsewhere", b"x", 1, 7))  # its answer comes behind everything that was written before
        assert isinstance(await broker.packets.get(), packets.Puback)
        assert broker.packets.empty() and transport.congested
        broker.acknowledges(True)
        broker.send(*(packets.Puback(packet.packet_id) for packet in first))
        rest = [await broker.next(Publish) for _ in range(3)]
        assert [packet.payload for packet in first + rest] == [b"0", b"1", b"2", b"3", b"online"]
        await transport.drain()

    play(scene, Properties(receive_maximum=2))


@pytest.mark.parametrize("qos", [0, 1])
def test_a_frame_of_just_the_size_that_is_taken_goes_and_one_byte_more_does_not(play: Any, qos: int) -> None:
    most = 300 - (3 + 2 + len(IN) + 2 * qos + 1)  # fixed header, length of the topic, topic, identifier, no properties

    async def scene(broker: Any, transport: Any, watcher: Any) -> None:
        transport.send_sealed([bytes(most)])
        assert len((await broker.next(Publish)).payload) == most
        transport.send_sealed([bytes(most + 1), b"behind it"])
        error = (await watcher.loss()).error
        assert type(error) is ThalovantPublishTooLargeError
        assert (error.size, error.limit, error.topic_kind) == (301, 300, "c2s")
        assert await broker.next(Disconnect) == Disconnect(0x04)  # with the will: nobody says `offline` any more
        assert broker.packets.empty()

    play(scene, Properties(maximum_packet_size=300), qos=qos)


def test_a_broker_without_qos_1_and_retained_messages(play: Any) -> None:
    async def scene(broker: Any, transport: Any, watcher: Any) -> None:
        transport.ready()
        transport.send_sealed([b"frame"])
        sent = [await broker.next(Publish) for _ in range(2)]
        assert [(packet.payload, packet.qos, packet.retain) for packet in sent] == [
            (b"online", 0, False),
            (b"frame", 0, False),
        ]

    play(scene, Properties(maximum_qos=0, retain_available=0))


def test_the_broker_names_the_keep_alive(play: Any, monkeypatch: Any) -> None:
    """With half a second between pings at most, and a watch that looks often enough."""
    monkeypatch.setattr(mqtt, "PING_PATIENCE", 5.0)

    async def scene(broker: Any, transport: Any, watcher: Any) -> None:
        async with asyncio.timeout(4):  # far below our own 30 s
            for _ in range(2):
                await broker.next(packets.Pingreq)

    play(scene, Properties(server_keep_alive=1))


# What the broker may not do


@pytest.mark.parametrize(
    ("sent", "told", "text"),
    [
        ([Publish(OUT, b"x", properties=Properties(topic_alias=1))], 0x94, "topic alias"),
        ([Publish(b"", b"x", properties=Properties(topic_alias=1))], 0x94, "topic alias"),
        ([Auth(0x19, Properties(authentication_method="m"))], 0x82, "AUTH"),
        ([b"\x30\xff\xff\x7f"], 0x95, "1048576"),
        ([b"\x30\x02\x00\x00"], 0x81, "not MQTT 5"),
        ([packets.Connect("id", level=5), packets.Connect("id", level=5)], 0x82, "CONNECT"),
        ([b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x3c\x00\x01a"], 0x82, "level 4"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_forbidden_is_told(play: Any, sent: list[Any], told: int, text: str) -> None:
    async def scene(broker: Any, transport: Any, watcher: Any) -> None:
        broker.send(*sent)
        assert text in (await watcher.loss()).text
        assert await broker.next(Disconnect) == Disconnect(told)

    play(scene)


def test_the_last_words_come_behind_all_that_was_written_before(stage: Any) -> None:
    """Also when the broker was slow to read that: nothing is cut off by the end."""

    async def scene(broker: Any, make: Any, watcher: Any) -> None:
        transport = make(qos=0)
        await transport.open(watcher.on_frame, watcher.losses.put_nowait)
        broker.writer.transport.pause_reading()
        transport.send_sealed([bytes(60_000)] * 300)
        broker.send(Auth(0x19, Properties(authentication_method="m")))
        await watcher.loss()
        broker.writer.transport.resume_reading()
        for _ in range(300):
            await broker.next(Publish)
        assert await broker.next(Disconnect) == Disconnect(0x82)
        await transport.close()

    stage(scene, (5,))


def test_as_many_messages_at_once_as_were_allowed_are_taken(play: Any) -> None:
    async def scene(broker: Any, transport: Any, watcher: Any) -> None:
        broker.send(*(Publish(OUT, b"%d" % number, 1, 1 + number) for number in range(256)))
        assert [(await broker.next(packets.Puback)).packet_id for _ in range(256)] == list(range(1, 257))
        assert [watcher.frames.get_nowait()[0] for _ in range(256)] == [b"%d" % number for number in range(256)]

    play(scene)


# Reasons


def test_a_denied_publish(play: Any) -> None:
    async def scene(broker: Any, transport: Any, watcher: Any) -> None:
        said = Properties(reason_string=f"not {PREFIX}/in\nfor broker-user, broker-password")
        broker.puback = lambda packet: packets.Puback(packet.packet_id, 0x87, said)
        transport.send_sealed([b"frame"])
        waiting = asyncio.create_task(transport.acknowledged())
        error = (await watcher.loss()).error
        assert type(error) is ThalovantPublishDeniedError
        assert (error.topic_kind, error.reason, error.reason_code) == ("c2s", "not ... for ..., ...", 0x87)
        assert PREFIX not in f"{error} {vars(error)}" and "broker-" not in str(error)
        assert await broker.next(Disconnect) == Disconnect(0x04)
        await waiting

    play(scene)


def test_a_denied_presence(play: Any) -> None:
    async def scene(broker: Any, transport: Any, watcher: Any) -> None:
        broker.puback = lambda packet: packets.Puback(packet.packet_id, 0x87)
        transport.ready()
        error = (await watcher.loss()).error
        assert isinstance(error, ThalovantPublishDeniedError)
        assert error.topic_kind == "status" and "status_topic" in str(error)

    play(scene)


def test_a_presence_that_is_denied_at_the_goodbye_does_not_hold_it_up(play: Any) -> None:
    async def scene(broker: Any, transport: Any, watcher: Any) -> None:
        transport.ready()
        await transport.acknowledged()
        broker.puback = lambda packet: packets.Puback(packet.packet_id, 0x87)
        async with asyncio.timeout(5):
            await transport.close()

    play(scene)


def test_a_frame_that_nobody_hears_says_that_the_hub_is_away(play: Any) -> None:
    async def scene(broker: Any, transport: Any, watcher: Any) -> None:
        transport.ready()
        broker.puback = lambda packet: packets.Puback(packet.packet_id, 0x10)
        await transport.acknowledged()  # presence is retained, whoever listens
        transport.send_clear(b"hello")
        loss = await watcher.loss()
        assert type(loss.error) is ThalovantConnectionError
        assert loss.error.diagnosis is not None and loss.error.diagnosis.code == "hub_away"
        assert (await broker.next(Disconnect)).code == 0x04

    play(scene)


@pytest.mark.parametrize("code", [0x97, 0x91])
def test_a_publish_that_cannot_be_taken_now(play: Any, code: int) -> None:
    async def scene(broker: Any, transport: Any, watcher: Any) -> None:
        broker.puback = lambda packet: packets.Puback(packet.packet_id, code)
        transport.send_sealed([b"one"])
        loss = await watcher.loss()
        assert loss.error is None and "Try again in a moment" in loss.text

    play(scene)


def test_acknowledged_waits_for_what_was_sent_before_it_and_no_longer(play: Any) -> None:
    async def scene(broker: Any, transport: Any, watcher: Any) -> None:
        broker.acknowledges(False)
        transport.send_sealed([b"one"])
        waiting = asyncio.create_task(transport.acknowledged())
        first = await broker.next(Publish)
        transport.send_sealed([b"two"])
        second = await broker.next(Publish)
        assert not waiting.done()
        broker.send(packets.Puback(first.packet_id))
        async with asyncio.timeout(5):
            await waiting
        broker.send(packets.Puback(second.packet_id))

    play(scene)


@pytest.mark.parametrize(
    ("sent", "text", "fields"),
    [
        (Disconnect(0x00), "normal disconnection", {"hung_up": True}),
        (Disconnect(0x87, Properties(reason_string="rotated")), 'It said: "rotated".', {"refused": True}),
        (Disconnect(0x8B), "Try again in a moment.", {}),
        (Disconnect(0x8E), "same client id", {}),
        (Disconnect(0x82), "0x82, protocol error", {}),
        (Disconnect(0x9D, Properties(server_reference="b.example")), "to b.example; that is not followed", {}),
        (Disconnect(0x9C), "without saying where to", {}),
    ],
)
def test_a_broker_that_leaves_says_why(play: Any, sent: Disconnect, text: str, fields: dict[str, bool]) -> None:
    async def scene(broker: Any, transport: Any, watcher: Any) -> None:
        broker.send(sent)
        loss = await watcher.loss()
        assert text in loss.text
        assert (loss.refused, loss.hung_up) == (fields.get("refused", False), fields.get("hung_up", False))
        assert loss.error is None

    play(scene)


def test_a_broker_that_leaves_because_of_a_long_packet(play: Any) -> None:
    async def scene(broker: Any, transport: Any, watcher: Any) -> None:
        broker.send(Disconnect(0x95))
        error = (await watcher.loss()).error
        assert type(error) is ThalovantPublishTooLargeError
        assert (error.size, error.limit) == (None, None)

    play(scene)


@pytest.mark.parametrize(("wildcards", "says"), [(None, False), (1, False), (0, True)])
def test_a_hub_s_own_endpoint_would_say_who_took_the_connection_s_place(
    play: Any, wildcards: int | None, says: bool
) -> None:
    """It offers no wildcards, which brokers do."""

    async def scene(broker: Any, transport: Any, watcher: Any) -> None:
        broker.writer.close()
        loss = await watcher.loss()
        assert (loss.hung_up, loss.says_takeover) == (True, says)

    play(scene, Properties(wildcard_subscription_available=wildcards))
