# SPDX-License-Identifier: Apache-2.0
"""An MQTT broker that answers as a script says, over real TLS, in either version."""

from __future__ import annotations

import asyncio
import importlib.util
import ssl
import sys
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from thalovant.identity import ThalovantIdentity
from thalovant.protocol.mqtt import packets
from thalovant.protocol.mqtt.framing import PacketReader
from thalovant.protocol.mqtt.packets import Codec, Connack, Publish, Suback
from thalovant.protocol.mqtt.v5 import V5
from thalovant.protocol.mqtt.v311 import V311
from thalovant.protocol.mqtt.versions import CODECS, OPENING
from thalovant.transports import mqtt
from thalovant.transports.base import Loss

PREFIX = "hubs/h/clients/c"


class Broker:
    """One client's broker: answers CONNECT and SUBSCRIBE as told, keeps every packet, acknowledges if told."""

    def __init__(self, certificates: Any) -> None:
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._tls.load_cert_chain(certificates.chain_file)
        self.packets: asyncio.Queue[packets.Packet] = asyncio.Queue()
        self.levels: tuple[int, ...] = (4, 5)
        self.older: bytes | None = V311.encode(Connack(False, packets.UNACCEPTABLE_VERSION))
        """What it says to another version, and then hangs up. None: it resets the connection."""
        self.connack: packets.Packet | bytes | None = Connack(False, 0)
        self.suback: packets.Packet | bytes | None = Suback(1, (1,))
        self.puback: Callable[[Publish], packets.Packet | None] = lambda packet: packets.Puback(packet.packet_id or 0)
        self.pongs = True
        self.codec: Codec = V5
        self.connections = 0
        self.ended = asyncio.Event()
        """Set when a connection is at its end."""
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

    def acknowledges(self, does: bool) -> None:
        self.puback = lambda packet: packets.Puback(packet.packet_id or 0) if does else None

    def send(self, *sent: packets.Packet | bytes) -> None:
        assert self.writer is not None
        self.writer.write(b"".join(one if isinstance(one, bytes) else self.codec.encode(one) for one in sent))

    async def next(self, kind: type) -> Any:
        async with asyncio.timeout(5):
            while not isinstance(packet := await self.packets.get(), kind):
                pass
        return packet

    async def end(self) -> None:
        async with asyncio.timeout(5):
            await self.ended.wait()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writer = writer
        self.connections += 1
        self.ended.clear()
        incoming = PacketReader(1 << 20, OPENING)
        try:
            while data := await reader.read(65_536):
                while received := incoming.feed(data, at_most=1):
                    if not self._answer(received[0]):
                        return
                    incoming.version, data = self.codec, b""
        except OSError:
            pass
        finally:
            writer.close()
            self.ended.set()

    def _answer(self, packet: packets.Packet) -> bool:
        """Whether to go on."""
        if isinstance(packet, packets.Connect):
            return self._log_in(packet)
        self.packets.put_nowait(packet)
        answer = self._answer_to(packet)
        if answer is not None:
            self.send(answer)
        return True

    def _log_in(self, packet: packets.Connect) -> bool:
        assert self.writer is not None
        if packet.level not in self.levels:
            if self.older is None:
                self.writer.transport.abort()
            else:
                self.writer.write(self.older)
            return False
        self.codec = CODECS[packet.level]
        if self.connack is not None:
            self.send(self.connack)
        self.packets.put_nowait(packet)
        return True

    def _answer_to(self, packet: packets.Packet) -> packets.Packet | bytes | None:
        if isinstance(packet, packets.Subscribe):
            return self.suback
        if isinstance(packet, Publish) and packet.packet_id is not None:
            return self.puback(packet)
        return packets.Pingresp() if isinstance(packet, packets.Pingreq) and self.pongs else None


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


Scene: TypeAlias = Callable[[Broker, Callable[..., mqtt.Transport], Watcher], Awaitable[None]]


def identity_for(port: int, ca_pem: str | None, **changes: Any) -> ThalovantIdentity:
    block = {
        "endpoint": f"mqtts://localhost:{port}",
        "username": "broker-user",
        "password": "broker-password",
        "topic_prefix": PREFIX,
    } | changes
    values = {"access_key": "access-key", "password": "p", "site_id": "s", "default_master": "https://hub.example"}
    return replace(ThalovantIdentity.from_mapping(values | {"mqtt": block}), ca_pem=ca_pem)


@pytest.fixture
def mqtt_identity() -> Callable[..., ThalovantIdentity]:
    """Make the identity of an MQTT client: of a port, a CA, and changes to its MQTT block."""
    return identity_for


@pytest.fixture
def stage(certificates: Any, lonely: Any) -> Callable[..., None]:
    """Play a scene with a broker that speaks both versions, a way to make transports, and a watcher."""

    def play(scene: Scene, levels: tuple[int, ...] = (4, 5)) -> None:
        async def main() -> None:
            async with Broker(certificates) as broker:
                broker.levels = levels

                def make(connect_timeout: float = 20.0, send_timeout: float = 8.0, **changes: Any) -> mqtt.Transport:
                    identity = identity_for(broker.port, certificates.ca_pem, **changes)
                    return mqtt.Transport(
                        identity, useragent="x/1", connect_timeout=connect_timeout, send_timeout=send_timeout
                    )

                await scene(broker, make, Watcher())

        asyncio.run(main(), debug=True)

    return play


@pytest.fixture(params=[5, 4], ids=["mqtt5", "mqtt311"])
def level(request: pytest.FixtureRequest) -> int:
    """The protocol level of a broker that speaks one version."""
    return int(request.param)


@pytest.fixture
def play(stage: Any, level: int) -> Callable[[Scene], None]:
    """Play a scene with a broker of one version, each in turn."""
    return lambda scene: stage(scene, (level,))


def _load_https_hub() -> Any:
    """Tests are no package, so the module is loaded by its path; it defines the fixtures `play_https` and `run`."""
    path = Path(__file__).with_name("https_hub.py")
    spec = importlib.util.spec_from_file_location("https_hub", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["https_hub"] = module
    spec.loader.exec_module(module)
    return module


_https_hub = _load_https_hub()
play_https, run = _https_hub.play_https, _https_hub.run
