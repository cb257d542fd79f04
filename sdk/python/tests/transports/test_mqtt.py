# SPDX-License-Identifier: Apache-2.0
"""The MQTT carrier against a scripted broker that speaks bytes."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from thalovant.errors import ThalovantConnectionError, ThalovantHubRefusedError
from thalovant.identity import ThalovantIdentity
from thalovant.protocol.mqtt import packets
from thalovant.protocol.mqtt.framing import PacketReader
from thalovant.protocol.mqtt.packets import Connack, Publish, Suback
from thalovant.protocol.mqtt.v311 import encode
from thalovant.transports import mqtt
from thalovant.transports.base import Loss

PREFIX = "hubs/h/clients/c"


class Broker:
    """One client's broker: answers CONNECT and SUBSCRIBE as told, keeps every packet, acknowledges if told."""

    def __init__(self, certificates: Any) -> None:
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._tls.load_cert_chain(certificates.chain_file)
        self.packets: asyncio.Queue[packets.Packet] = asyncio.Queue()
        self.connack: bytes | None = encode(Connack(False, 0))
        self.suback: bytes | None = encode(Suback(1, (1,)))
        self.acknowledges = True
        self.pongs = True
        self.writer: asyncio.StreamWriter | None = None

    async def __aenter__(self) -> Broker:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        if self.writer is not None:
            self.writer.transport.abort()
        await asyncio.sleep(0)

    def send(self, *sent: packets.Packet | bytes) -> None:
        assert self.writer is not None
        self.writer.write(b"".join(one if isinstance(one, bytes) else encode(one) for one in sent))

    async def next(self, kind: type) -> Any:
        async with asyncio.timeout(5):
            while not isinstance(packet := await self.packets.get(), kind):
                pass
        return packet

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writer = writer
        incoming = PacketReader(1 << 20)
        try:
            while data := await reader.read(65_536):
                for packet in incoming.feed(data):
                    self._answer(packet)
                    self.packets.put_nowait(packet)
        except OSError:
            pass
        finally:
            writer.close()

    def _answer(self, packet: packets.Packet) -> None:
        if isinstance(packet, packets.Connect) and self.connack is not None:
            self.send(self.connack)
        elif isinstance(packet, packets.Subscribe) and self.suback is not None:
            self.send(self.suback)
        elif isinstance(packet, Publish) and packet.packet_id is not None and self.acknowledges:
            self.send(packets.Puback(packet.packet_id))
        elif isinstance(packet, packets.Pingreq) and self.pongs:
            self.send(packets.Pingresp())


class Watcher:
    """What the carrier handed up."""

    def __init__(self) -> None:
        self.frames: asyncio.Queue[Any] = asyncio.Queue()
        self.losses: asyncio.Queue[Loss] = asyncio.Queue()

    def on_frame(self, data: bytes | str, sealed: bool | None) -> None:
        self.frames.put_nowait((data, sealed))

    async def loss(self) -> Loss:
        async with asyncio.timeout(5):
            return await self.losses.get()


Scene = Callable[[Broker, Callable[..., mqtt.Transport], Watcher], Awaitable[None]]


@pytest.fixture
def play(certificates: Any, lonely: Any) -> Callable[[Scene], None]:
    def play(scene: Scene) -> None:
        async def main() -> None:
            async with Broker(certificates) as broker:

                def make(connect_timeout: float = 4.0, send_timeout: float = 8.0, **changes: Any) -> mqtt.Transport:
                    identity = identity_for(broker.port, certificates.ca_pem, **changes)
                    return mqtt.Transport(
                        identity, useragent="x/1", connect_timeout=connect_timeout, send_timeout=send_timeout
                    )

                await scene(broker, make, Watcher())

        asyncio.run(main(), debug=True)

    return play


def identity_for(port: int, ca_pem: str | None, **changes: Any) -> ThalovantIdentity:
    block = {
        "endpoint": f"mqtts://localhost:{port}",
        "username": "u",
        "password": "p",
        "topic_prefix": PREFIX,
    } | changes
    values = {"access_key": "k", "password": "p", "site_id": "s", "default_master": "https://hub.example"}
    return replace(ThalovantIdentity.from_mapping(values | {"mqtt": block}), ca_pem=ca_pem)


def test_logging_in_is_what_the_contract_says(play: Any) -> None:
    async def scene(broker: Broker, make: Any, watcher: Watcher) -> None:
        transport = make()
        await transport.open(watcher.on_frame, watcher.losses.put_nowait)
        login = await broker.next(packets.Connect)
        assert (login.clean_session, login.keepalive, login.username, login.password) == (True, 60, "u", b"p")
        assert login.client_id.startswith("thalovant-") and len(login.client_id) == len("thalovant-") + 32
        assert login.will == packets.Will(f"{PREFIX}/status".encode(), b"offline", 1, True)
        assert (await broker.next(packets.Subscribe)).filters == ((f"{PREFIX}/out".encode(), 1),)
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
        await broker.next(packets.Disconnect)
        assert watcher.losses.empty()

    play(scene)


def test_explicit_topics_win(play: Any) -> None:
    async def scene(broker: Broker, make: Any, watcher: Watcher) -> None:
        transport = make(c2s_topic="a/up", s2c_topic="a/down", status_topic="a/here", qos=0)
        broker.suback = encode(Suback(1, (0,)))
        await transport.open(watcher.on_frame, watcher.losses.put_nowait)
        assert (await broker.next(packets.Connect)).will.topic == b"a/here"
        assert (await broker.next(packets.Subscribe)).filters == ((b"a/down", 0),)
        transport.send_sealed([b"one", b"two"])
        sent = [await broker.next(Publish) for _ in range(2)]
        assert [(packet.topic, packet.payload, packet.qos) for packet in sent] == [
            (b"a/up", b"one", 0),
            (b"a/up", b"two", 0),
        ]
        await transport.close()

    play(scene)


@pytest.mark.parametrize("changes", [{"topic_prefix": None}, {"s2c_topic": "x" * 70_000}])
def test_topics_that_cannot_be_used_are_refused_at_once(changes: Any) -> None:
    with pytest.raises(ThalovantConnectionError, match="topic"):
        mqtt.Transport(identity_for(1, None, **changes), useragent="x", connect_timeout=1, send_timeout=1)


@pytest.mark.parametrize(
    ("code", "kind", "text"),
    [
        (5, ThalovantHubRefusedError, r"off on the hub.* `thalovant hubs`, create a fresh .* newest file\."),
        (4, ThalovantHubRefusedError, "CONNACK 4"),
        (3, ThalovantConnectionError, "Try again"),
        (2, ThalovantConnectionError, "CONNACK 2"),
        (1, ThalovantConnectionError, "CONNACK 1"),
    ],
)
def test_refusals_of_the_broker(play: Any, code: int, kind: type, text: str) -> None:
    async def scene(broker: Broker, make: Any, watcher: Watcher) -> None:
        broker.connack = encode(Connack(False, code))
        transport = make()
        with pytest.raises(ThalovantConnectionError, match=text) as caught:
            await transport.open(watcher.on_frame, watcher.losses.put_nowait)
        assert type(caught.value) is kind
        await transport.close()
        assert watcher.losses.empty()

    play(scene)


def test_a_refused_subscription_is_a_refusal(play: Any) -> None:
    async def scene(broker: Broker, make: Any, watcher: Watcher) -> None:
        broker.suback = encode(Suback(1, (0x80,)))
        transport = make()
        with pytest.raises(ThalovantHubRefusedError, match="subscription"):
            await transport.open(watcher.on_frame, watcher.losses.put_nowait)
        await transport.close()

    play(scene)


@pytest.mark.parametrize("answer", [None, b"", b"\x20\x02\x00", b"\x90\x03\x00\x01\x01"])
def test_a_broker_that_does_not_answer_properly(play: Any, answer: bytes | None) -> None:
    async def scene(broker: Broker, make: Any, watcher: Watcher) -> None:
        broker.connack = answer
        transport = make(connect_timeout=0.05)
        with pytest.raises(ThalovantConnectionError):
            await transport.open(watcher.on_frame, watcher.losses.put_nowait)
        await transport.close()
        assert watcher.losses.empty()

    play(scene)


@pytest.mark.parametrize("rubbish", [b"HTTP/1.1 400\r\n", b"\x00\x00", b"\xff" * 6])
def test_rubbish_instead_of_an_answer(play: Any, rubbish: bytes) -> None:
    async def scene(broker: Broker, make: Any, watcher: Watcher) -> None:
        broker.connack = rubbish
        transport = make()
        with pytest.raises(ThalovantConnectionError, match="not MQTT"):
            await transport.open(watcher.on_frame, watcher.losses.put_nowait)
        await transport.close()

    play(scene)


def test_a_broker_that_hangs_up_while_logging_in(play: Any) -> None:
    async def scene(broker: Broker, make: Any, watcher: Watcher) -> None:
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
    async def scene(broker: Broker, make: Any, watcher: Watcher) -> None:
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
    "sent", [Publish(f"{PREFIX}/out".encode(), b"x", 2, 3), packets.Pubrel(1), b"\x00\x00", b"\x30\xff\xff\xff\x7f"]
)
def test_what_no_broker_may_send_loses_the_link(play: Any, sent: Any) -> None:
    async def scene(broker: Broker, make: Any, watcher: Watcher) -> None:
        transport = make()
        await transport.open(watcher.on_frame, watcher.losses.put_nowait)
        broker.send(sent)
        assert not (await watcher.loss()).refused
        transport.send_sealed([b"into the void"])
        transport.ready()
        await transport.drain()
        await transport.close()
        assert watcher.losses.empty()

    play(scene)


def test_at_most_64_publishes_are_under_way_and_the_order_holds(play: Any) -> None:
    async def scene(broker: Broker, make: Any, watcher: Watcher) -> None:
        broker.acknowledges = False
        transport = make()
        await transport.open(watcher.on_frame, watcher.losses.put_nowait)
        transport.send_sealed([str(number).encode() for number in range(200)])
        assert transport.congested
        drained = asyncio.create_task(transport.drain())
        first = [await broker.next(Publish) for _ in range(mqtt.MAX_UNDER_WAY)]
        broker.send(Publish(b"elsewhere", b"x", 1, 7))  # its answer comes behind everything that was written before
        assert isinstance(await broker.packets.get(), packets.Puback)
        assert broker.packets.empty() and not drained.done()
        broker.acknowledges = True
        broker.send(*(packets.Puback(packet.packet_id) for packet in first))
        rest = [await broker.next(Publish) for _ in range(200 - len(first))]
        assert [int(packet.payload) for packet in first + rest] == list(range(200))
        await drained
        await transport.close()

    play(scene)


def test_a_broker_that_acknowledges_nothing_is_lost(play: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(mqtt, "WATCH_EVERY", 0.01)

    async def scene(broker: Broker, make: Any, watcher: Watcher) -> None:
        broker.acknowledges = False
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

    async def scene(broker: Broker, make: Any, watcher: Watcher) -> None:
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

    async def scene(broker: Broker, make: Any, watcher: Watcher) -> None:
        broker.acknowledges = False
        transport = make(send_timeout=3600)
        await transport.open(watcher.on_frame, watcher.losses.put_nowait)
        transport.ready()
        transport.send_sealed([b"x"] * (mqtt.MAX_UNDER_WAY + 1))
        async with asyncio.timeout(5):
            await transport.close()
        assert watcher.losses.empty()

    play(scene)


def test_closing_ends_the_wait_when_the_link_is_lost_meanwhile(play: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(mqtt, "CLOSE_PATIENCE", 3600)

    async def scene(broker: Broker, make: Any, watcher: Watcher) -> None:
        broker.acknowledges = False
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

    async def scene(broker: Broker, make: Any, watcher: Watcher) -> None:
        broker.acknowledges = False
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

    async def scene(broker: Broker, make: Any, watcher: Watcher) -> None:
        broker.suback = encode(Suback(1, (qos,)))
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
    async def scene(broker: Broker, make: Any, watcher: Watcher) -> None:
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


def test_the_certificate_is_checked_even_when_told_not_to(play: Any) -> None:
    async def scene(broker: Broker, make: Any, watcher: Watcher) -> None:
        identity = identity_for(broker.port, None)
        transport = mqtt.Transport(identity, useragent="x", connect_timeout=4, send_timeout=4, self_signed=True)
        with pytest.raises(ThalovantConnectionError, match="not trusted"):
            await transport.open(watcher.on_frame, watcher.losses.put_nowait)
        await transport.close()
        assert broker.packets.empty()

    play(scene)


def test_everything_of_one_turn_of_the_loop_is_one_write(play: Any) -> None:
    async def scene(broker: Broker, make: Any, watcher: Watcher) -> None:
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
