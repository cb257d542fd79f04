# SPDX-License-Identifier: Apache-2.0
"""The MQTT carrier against a scripted broker: what holds in both versions alike."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from thalovant.errors import ThalovantConnectionError, ThalovantHubRefusedError
from thalovant.protocol.mqtt import packets
from thalovant.protocol.mqtt.client_connection import MAX_UNDER_WAY
from thalovant.protocol.mqtt.packets import Connack, Publish, Suback
from thalovant.transports import mqtt

PREFIX = "hubs/h/clients/c"


def test_logging_in_is_what_the_contract_says(play: Any, level: int) -> None:
    async def scene(broker: Any, make: Any, watcher: Any) -> None:
        transport = make()
        await transport.open(watcher.on_frame, watcher.losses.put_nowait)
        login = await broker.next(packets.Connect)
        assert (login.level, transport.level) == (level, level)
        assert (login.clean_session, login.keepalive) == (True, 60)
        assert (login.username, login.password) == ("broker-user", b"broker-password")
        assert login.client_id.startswith("thalovant-") and len(login.client_id) == len("thalovant-") + 32
        assert login.will == packets.Will(f"{PREFIX}/status".encode(), b"offline", 1, True)
        nothing_retained = 0x20 if level == 5 else 0
        assert (await broker.next(packets.Subscribe)).filters == ((f"{PREFIX}/out".encode(), 1 | nothing_retained),)
        transport.send_clear(b"hello")
        transport.ready()
        sent = [await broker.next(Publish) for _ in range(2)]
        assert [(packet.topic, packet.payload, packet.qos, packet.retain) for packet in sent] == [
            (f"{PREFIX}/in".encode(), b"hello", 1, False),
            (f"{PREFIX}/status".encode(), b"online", 1, True),
        ]
        await transport.close()
        offline = await broker.next(Publish)
        assert (offline.topic, offline.payload, offline.retain) == (f"{PREFIX}/status".encode(), b"offline", True)
        assert await broker.next(packets.Disconnect) == packets.Disconnect()
        await broker.end()
        assert watcher.losses.empty()

    play(scene)


def test_explicit_topics_win(play: Any) -> None:
    async def scene(broker: Any, make: Any, watcher: Any) -> None:
        transport = make(c2s_topic="a/up", s2c_topic="a/down", status_topic="a/here", qos=0)
        broker.suback = Suback(1, (0,))
        await transport.open(watcher.on_frame, watcher.losses.put_nowait)
        assert (await broker.next(packets.Connect)).will.topic == b"a/here"
        ((topic, options),) = (await broker.next(packets.Subscribe)).filters
        assert (topic, options & 3) == (b"a/down", 0)
        transport.send_sealed([b"one", b"two"])
        sent = [await broker.next(Publish) for _ in range(2)]
        assert [(packet.topic, packet.payload, packet.qos) for packet in sent] == [
            (b"a/up", b"one", 0),
            (b"a/up", b"two", 0),
        ]
        await transport.close()

    play(scene)


@pytest.mark.parametrize("changes", [{"topic_prefix": None}, {"s2c_topic": "x" * 70_000}])
def test_topics_that_cannot_be_used_are_refused_at_once(mqtt_identity: Any, changes: Any) -> None:
    with pytest.raises(ThalovantConnectionError, match="topic"):
        mqtt.Transport(mqtt_identity(1, None, **changes), useragent="x", connect_timeout=1, send_timeout=1)


def test_a_refused_subscription_is_a_refusal(play: Any) -> None:
    async def scene(broker: Any, make: Any, watcher: Any) -> None:
        broker.suback = Suback(1, (0x80,))
        transport = make()
        with pytest.raises(ThalovantHubRefusedError, match="subscription"):
            await transport.open(watcher.on_frame, watcher.losses.put_nowait)
        await transport.close()

    play(scene)


@pytest.mark.parametrize("answer", [None, b"", b"\x20\x03\x00", b"\x90\x03\x00\x01\x01", b"\xd0\x00"])
def test_a_broker_that_does_not_answer_properly(play: Any, answer: bytes | None) -> None:
    async def scene(broker: Any, make: Any, watcher: Any) -> None:
        broker.connack = answer
        transport = make(connect_timeout=0.05)
        with pytest.raises(ThalovantConnectionError):
            await transport.open(watcher.on_frame, watcher.losses.put_nowait)
        await transport.close()
        assert watcher.losses.empty()

    play(scene)


@pytest.mark.parametrize("rubbish", [b"HTTP/1.1 400\r\n", b"\x00\x00", b"\xff" * 6])
def test_rubbish_instead_of_an_answer(play: Any, rubbish: bytes) -> None:
    async def scene(broker: Any, make: Any, watcher: Any) -> None:
        broker.connack = rubbish
        transport = make()
        with pytest.raises(ThalovantConnectionError, match="not MQTT"):
            await transport.open(watcher.on_frame, watcher.losses.put_nowait)
        await transport.close()

    play(scene)


def test_a_broker_that_hangs_up_while_logging_in(play: Any) -> None:
    async def scene(broker: Any, make: Any, watcher: Any) -> None:
        broker.suback = None
        transport = make()
        opening = asyncio.create_task(transport.open(watcher.on_frame, watcher.losses.put_nowait))
        await broker.next(packets.Subscribe)
        assert broker.writer is not None
        broker.writer.transport.abort()
        with pytest.raises(ThalovantConnectionError, match="logging in"):
            await opening
        await transport.close()

    play(scene)


def test_frames_come_up_as_they_came_and_are_acknowledged(play: Any) -> None:
    async def scene(broker: Any, make: Any, watcher: Any) -> None:
        transport = make()
        await transport.open(watcher.on_frame, watcher.losses.put_nowait)
        out = f"{PREFIX}/out".encode()
        broker.send(
            Publish(out, b"one", 1, 7),
            Publish(out, b"zero", 0),
            Publish(b"elsewhere", b"not ours", 1, 8),
            Publish(out, b"old", 1, 9, retain=True),
            Publish(out, b"two", 1, 10),
        )
        acknowledged = [(await broker.next(packets.Puback)).packet_id for _ in range(4)]
        assert acknowledged == [7, 8, 9, 10]
        assert [watcher.frames.get_nowait() for _ in range(watcher.frames.qsize())] == [
            (b"one", None),
            (b"zero", None),
            (b"two", None),
        ]
        await transport.close()

    play(scene)


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        (Publish(f"{PREFIX}/out".encode(), b"x", 2, 3), 0x82),
        (packets.Pubrel(1), 0x82),
        (Suback(1, (1,)), 0x82),
        (Connack(False, 0), 0x82),
        (b"\x00\x00", 0x81),
        (b"\x30\xff\xff\xff\x7f", 0x95),
    ],
)
def test_what_no_broker_may_send_loses_the_link(play: Any, level: int, sent: Any, told: int) -> None:
    """MQTT 5 tells the broker why; in 3.1.1 a DISCONNECT would say that all is well, and the will be forgotten."""

    async def scene(broker: Any, make: Any, watcher: Any) -> None:
        transport = make()
        await transport.open(watcher.on_frame, watcher.losses.put_nowait)
        broker.send(sent)
        assert not (await watcher.loss()).refused
        transport.send_sealed([b"into the void"])
        transport.ready()
        await transport.drain()
        await transport.acknowledged()
        await transport.close()
        await broker.end()
        last = [broker.packets.get_nowait() for _ in range(broker.packets.qsize())][2:]
        assert last == ([packets.Disconnect(told)] if level == 5 else [])
        assert watcher.losses.empty()

    play(scene)


def test_at_most_64_publishes_are_under_way_and_the_order_holds(play: Any) -> None:
    async def scene(broker: Any, make: Any, watcher: Any) -> None:
        broker.acknowledges(False)
        transport = make()
        await transport.open(watcher.on_frame, watcher.losses.put_nowait)
        transport.send_sealed([str(number).encode() for number in range(200)])
        assert transport.congested
        drained = asyncio.create_task(transport.drain())
        first = [await broker.next(Publish) for _ in range(MAX_UNDER_WAY)]
        broker.send(Publish(b"elsewhere", b"x", 1, 7))  # its answer comes behind everything that was written before
        assert isinstance(await broker.packets.get(), packets.Puback)
        assert broker.packets.empty() and not drained.done()
        broker.acknowledges(True)
        broker.send(*(packets.Puback(packet.packet_id) for packet in first))
        rest = [await broker.next(Publish) for _ in range(200 - len(first))]
        assert [int(packet.payload) for packet in first + rest] == list(range(200))
        await drained
        await transport.close()

    play(scene)


def test_a_broker_that_acknowledges_nothing_is_lost(play: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(mqtt, "WATCH_EVERY", 0.01)

    async def scene(broker: Any, make: Any, watcher: Any) -> None:
        broker.acknowledges(False)
        transport = make(send_timeout=0.02)
        await transport.open(watcher.on_frame, watcher.losses.put_nowait)
        transport.send_sealed([b"x"])
        assert "acknowledge" in (await watcher.loss()).text
        await transport.close()

    play(scene)


def test_a_dead_link_is_noticed_by_pings(play: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(mqtt, "WATCH_EVERY", 0.01)
    monkeypatch.setattr(mqtt, "PING_AFTER", 0.02)
    monkeypatch.setattr(mqtt, "PING_PATIENCE", 0.05)

    async def scene(broker: Any, make: Any, watcher: Any) -> None:
        transport = make()
        await transport.open(watcher.on_frame, watcher.losses.put_nowait)
        for _ in range(3):
            await broker.next(packets.Pingreq)
        assert watcher.losses.empty()
        broker.pongs = False
        assert "ping" in (await watcher.loss()).text
        await transport.close()

    play(scene)


def test_closing_says_goodbye_to_a_frozen_broker_for_its_patience_only(play: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(mqtt, "CLOSE_PATIENCE", 0.05)

    async def scene(broker: Any, make: Any, watcher: Any) -> None:
        broker.acknowledges(False)
        transport = make(send_timeout=3600)
        await transport.open(watcher.on_frame, watcher.losses.put_nowait)
        transport.ready()
        transport.send_sealed([b"x"] * (MAX_UNDER_WAY + 1))
        async with asyncio.timeout(5):
            await transport.close()
        assert watcher.losses.empty()

    play(scene)


def test_closing_ends_the_wait_when_the_link_is_lost_meanwhile(play: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(mqtt, "CLOSE_PATIENCE", 3600)

    async def scene(broker: Any, make: Any, watcher: Any) -> None:
        broker.acknowledges(False)
        transport = make()
        await transport.open(watcher.on_frame, watcher.losses.put_nowait)
        transport.send_sealed([b"x"])
        closing = asyncio.create_task(transport.close())
        await broker.next(Publish)
        assert broker.writer is not None
        broker.writer.transport.abort()
        async with asyncio.timeout(5):
            await closing

    play(scene)


def test_a_lost_link_is_closed_without_waiting(play: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(mqtt, "CLOSE_PATIENCE", 3600)

    async def scene(broker: Any, make: Any, watcher: Any) -> None:
        broker.acknowledges(False)
        transport = make()
        await transport.open(watcher.on_frame, watcher.losses.put_nowait)
        transport.ready()
        transport.send_sealed([b"x"])
        broker.send(b"\x00\x00")
        await watcher.loss()
        async with asyncio.timeout(5):
            await transport.close()

    play(scene)


@pytest.mark.parametrize("qos", [0, 1])
def test_what_is_sent_just_before_closing_arrives_ahead_of_the_goodbye(play: Any, qos: int) -> None:
    frames = [str(number).encode() * 1000 for number in range(500)]

    async def scene(broker: Any, make: Any, watcher: Any) -> None:
        broker.suback = Suback(1, (qos,))
        transport = make(qos=qos)
        await transport.open(watcher.on_frame, watcher.losses.put_nowait)
        transport.ready()
        transport.send_sealed(frames)
        await transport.close()
        sent = [await broker.next(Publish) for _ in range(len(frames) + 2)]
        assert [packet.payload for packet in sent] == [b"online", *frames, b"offline"]
        assert [packet.retain for packet in sent] == [True, *(False for _ in frames), True]
        await broker.next(packets.Disconnect)

    play(scene)


def test_a_lost_carrier_can_be_opened_again_with_the_same_session_id(play: Any) -> None:
    async def scene(broker: Any, make: Any, watcher: Any) -> None:
        transport = make()
        session_id = transport.session_id()
        for _ in range(2):
            await transport.open(watcher.on_frame, watcher.losses.put_nowait)
            assert broker.writer is not None
            broker.writer.transport.abort()
            await watcher.loss()
            await transport.close()
        assert transport.session_id() == session_id and session_id.startswith("thalovant-python-mqtt-")

    play(scene)


def test_the_certificate_is_checked_even_when_told_not_to(play: Any, mqtt_identity: Any) -> None:
    async def scene(broker: Any, make: Any, watcher: Any) -> None:
        identity = mqtt_identity(broker.port, None)
        transport = mqtt.Transport(identity, useragent="x", connect_timeout=4, send_timeout=4, self_signed=True)
        with pytest.raises(ThalovantConnectionError, match="not trusted"):
            await transport.open(watcher.on_frame, watcher.losses.put_nowait)
        await transport.close()
        assert broker.packets.empty()

    play(scene)


def test_everything_of_one_turn_of_the_loop_is_one_write(play: Any) -> None:
    async def scene(broker: Any, make: Any, watcher: Any) -> None:
        transport = make()
        await transport.open(watcher.on_frame, watcher.losses.put_nowait)
        connection = transport._connection
        writes: list[int] = []
        real = connection._transport.write
        connection._transport.write = lambda data: (writes.append(len(data)), real(data))
        transport.send_clear(b"a")
        transport.send_sealed([b"b", b"c"])
        for _ in range(3):
            await broker.next(Publish)
        assert len(writes) == 1
        await transport.close()

    play(scene)
