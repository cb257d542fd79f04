# SPDX-License-Identifier: Apache-2.0
"""A real endpoint on a free port with a real directory, a fake hub behind it, and a bare MQTT client before
it.
"""

from __future__ import annotations

import asyncio
import functools
import socket
import ssl
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any, Self

import pytest

from thalovant.protocol.mqtt import packets as mqtt
from thalovant.protocol.mqtt.framing import PacketReader
from thalovant.protocol.mqtt.packets import Codec
from thalovant.protocol.mqtt.v311 import V311
from thalovant.protocol.mqtt.versions import CODECS
from thalovant_server.denials import Denials
from thalovant_server.directory import CredentialEntry, HubEntry
from thalovant_server.gateways.mqtt.bounds import Bounds
from thalovant_server.gateways.mqtt.endpoint import MqttGateway
from thalovant_server.hub import refusal
from thalovant_server.hub.budget import Account, ByteBudget
from thalovant_server.hub.clock import LoopClock
from thalovant_server.hub.denied import HubDenials
from thalovant_server.hub.limits import Limits
from thalovant_server.hub.refusal import Refusal, Refused
from thalovant_server.hub.throttle import ConnectThrottle
from thalovant_server.testing.directory import directory_of, mqtt_password_hash

PASSWORD = b"broker-password"
HELLO = b'{"msg_type": "hello", "payload": {"pubkey": "", "session": {"session_id": "s"}, "site_id": "x"}}'
SHAKE = b'{"msg_type": "shake", "payload": {"noise": {"msg": "00"}}}'
HUB_HELLO = b'{"msg_type": "hello", "payload": {"node_id": "fake"}}'
HUB_OFFER = b'{"msg_type": "shake", "payload": {"noise": {"patterns": [], "suites": []}}}'


class FakeConnection:
    """Stands in for `hub.connection.Connection`: keeps what it is given."""

    def __init__(self, link: Any, credential: CredentialEntry) -> None:
        self.link = link
        self.credential = credential
        self.clear: list[bytes] = []
        self.sealed: list[bytes] = []
        self.is_lost = False
        self.arrived = asyncio.Event()

    def receive_clear(self, data: bytes) -> None:
        self.clear.append(data)
        self.arrived.set()

    def receive_sealed(self, frame: bytes) -> None:
        self.sealed.append(frame)
        self.arrived.set()

    def lost(self, why: str) -> None:
        self.is_lost, self.why = True, why
        self.arrived.set()

    async def until(self, what: Any) -> None:
        while not what():
            self.arrived.clear()
            await self.arrived.wait()


class FakeHub:
    """Stands in for `hub.hub.Hub`: admits by the directory, sends a HELLO and an offer, keeps its
    connections.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.budget = ByteBudget(limits.process_bytes, share=limits.client_bytes)
        self.clock = LoopClock()
        self.sessions: list[FakeConnection] = []
        self.refusal: Refusal | None = None
        self.directory: Any = None
        self.throttle = ConnectThrottle()

    def check_rate(self, access_key: str, remote: str) -> None:
        if self.throttle.wait(remote, access_key, 0.0):
            raise Refused(refusal.THROTTLED)

    def failed(self, access_key: str, remote: str) -> float:
        return self.throttle.failed(remote, access_key, 0.0)

    def proven(self, access_key: str, remote: str) -> None:
        self.throttle.succeeded(remote, access_key)

    @functools.cached_property
    def denials(self) -> HubDenials:
        return HubDenials(self.directory, Denials(self.clock))

    def admit(self, access_key: str, hub_id: str | None, carrier: str, remote: str = "") -> CredentialEntry:
        hub = self.directory.hub(hub_id)
        assert hub_id is not None and carrier == "mqtt"
        if self.refusal is not None:
            raise Refused(self.refusal)
        if not hub.active or "mqtt" not in hub.protocols:
            raise Refused(Refusal("protocol_off", "", 1008, 403, 5))
        found: CredentialEntry = self.directory.credential(access_key)
        if not found.active:
            raise Refused(refusal.PAUSED)
        return found

    def budget_of(self, credential: CredentialEntry) -> Account:
        return self.budget.share(credential.client_id)

    def connect(self, link: Any, credential: CredentialEntry, user_agent: str | None) -> FakeConnection:
        assert user_agent is None
        if self.refusal is not None:
            raise Refused(self.refusal)
        connection = FakeConnection(link, credential)
        self.sessions.append(connection)
        link.send_clear(HUB_HELLO)
        link.send_clear(HUB_OFFER)
        return connection


@dataclass
class Client:
    """A bare MQTT client: our codec on an asyncio stream. It acknowledges nothing by itself."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    version: Codec = V311
    packets: list[mqtt.Packet] = field(default_factory=list)
    parser: PacketReader = field(init=False)
    connack: mqtt.Connack = field(init=False)

    def __post_init__(self) -> None:
        self.parser = PacketReader(300_000, self.version)

    async def send(self, *packets: mqtt.Packet) -> None:
        await self.write(b"".join(map(self.version.encode, packets)))

    async def write(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def receive(self) -> mqtt.Packet | None:
        """The next packet, None when the server closed."""
        while not self.packets:
            try:
                data = await self.reader.read(65_536)
            except ConnectionError:
                data = b""
            if not data:
                return None
            self.packets += self.parser.feed(data)
        return self.packets.pop(0)

    async def ask(self, *packets: mqtt.Packet) -> mqtt.Packet | None:
        await self.send(*packets)
        return await self.receive()

    async def silent(self) -> bool:
        """Whether nothing came before the answer to a ping: all that was sent so far is dealt with."""
        return await self.ask(mqtt.Pingreq()) == mqtt.Pingresp()

    async def gone(self) -> bool:
        """Whether the server closes without another word."""
        return await self.receive() is None

    async def told(self) -> int:
        """The reason code of the DISCONNECT that comes next, with which the server closes."""
        last = await self.receive()
        assert isinstance(last, mqtt.Disconnect), last
        assert await self.gone()
        return last.code

    def abort(self) -> None:
        self.writer.transport.abort()

    async def close(self) -> None:
        self.writer.close()


class Endpoint:
    """The rig: two clients `a` and `b` on hub `h1`, one `c` on hub `h2`."""

    def __init__(
        self,
        *,
        limits: Limits | None = None,
        bounds: Bounds | None = None,
        tls: tuple[ssl.SSLContext, ssl.SSLContext] | None = None,
    ) -> None:
        self.limits = limits or Limits()
        self.bounds = bounds
        self.tls = tls
        self.hub = FakeHub(self.limits)
        hubs = [HubEntry(h, h, h, "echo", frozenset({"mqtt", "wss"}), True) for h in ("h1", "h2")]
        self.directory = directory_of(hubs, [credential(1, "a"), credential(2, "b"), credential(3, "c", "h2")])
        self.hub.directory = self.directory
        self.clients: list[Client] = []

    async def __aenter__(self) -> Self:
        self.gateway = MqttGateway(self.hub, self.directory, bounds=self.bounds)  # type: ignore[arg-type]
        loop = asyncio.get_running_loop()
        server_tls = self.tls[0] if self.tls else None
        self.server = await loop.create_server(self.gateway.protocol, sock=narrow_socket(), ssl=server_tls)
        self.port = self.server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self.server.close()
        for client in self.clients:
            client.abort()
        await self.gateway.close(5)
        self.hub.denials.close()
        await self.server.wait_closed()
        await asyncio.sleep(0)
        assert self.gateway.connections == 0
        assert self.hub.budget.used == 0

    def change(self, credential_id: int, **fields: Any) -> None:
        """Commit a change of a credential."""
        entry = self.directory.credential_by_id(credential_id)
        assert entry is not None
        self.directory.put_credential(replace(entry, **fields))

    def change_hub(self, hub_id: str, **fields: Any) -> None:
        """Commit a change of a hub."""
        entry = self.directory.hub(hub_id)
        assert entry is not None
        self.directory.put_hub(replace(entry, **fields))

    async def dial(self, version: Codec = V311) -> Client:
        """A connection that has said nothing yet."""
        dialing = narrow_socket()
        dialing.setblocking(False)
        await asyncio.get_running_loop().sock_connect(dialing, ("127.0.0.1", self.port))
        secure = {"ssl": self.tls[1], "server_hostname": "localhost"} if self.tls else {}
        reader, writer = await asyncio.open_connection(sock=dialing, **secure)
        self.clients.append(Client(reader, writer, version))
        return self.clients[-1]

    async def login(self, name: str = "a", client_id: str = "", **fields: Any) -> Client:
        """A client that is logged in; of MQTT 5 with `level=5`."""
        asked = connect(name, client_id, **fields)
        client = await self.dial(CODECS[asked.level])
        answer = await client.ask(asked)
        assert isinstance(answer, mqtt.Connack) and (answer.session_present, answer.code) == (False, 0)
        client.connack = answer
        return client

    async def ready(self, name: str = "a", spelling: str = "in", **fields: Any) -> Client:
        """A client that hears its hub, and has said hello."""
        client = await self.login(name, **fields)
        outbound = {"in": "out", "c2s": "s2c"}[spelling]
        await self.subscribe(client, name, outbound)
        await client.send(mqtt.Publish(topic(name, spelling), HELLO))
        for frame in (HUB_HELLO, HUB_OFFER):
            got = await client.receive()
            assert isinstance(got, mqtt.Publish) and got.topic == topic(name, outbound) and got.payload == frame
            await client.send(mqtt.Puback(got.packet_id or 0))
        assert await client.silent()
        return client

    async def subscribe(self, client: Client, name: str, *segments: str, qos: int = 1) -> None:
        filters = tuple((topic(name, segment), qos) for segment in segments)
        expected = mqtt.Suback(9, (min(qos & 3, 1),) * len(segments))
        assert await client.ask(mqtt.Subscribe(9, filters)) == expected


def narrow_socket() -> socket.socket:
    """A socket whose kernel buffers are small: what is unread is soon the endpoint's concern."""
    made = socket.socket()
    made.bind(("127.0.0.1", 0))
    for buffer in (socket.SO_SNDBUF, socket.SO_RCVBUF):
        made.setsockopt(socket.SOL_SOCKET, buffer, 16_384)
    return made


def credential(number: int, name: str, hub: str = "h1") -> CredentialEntry:
    return CredentialEntry(
        number, f"client-{name}", hub, f"key-{name}", name, "site", prefix(name),
        mqtt_password_hash=mqtt_password_hash(PASSWORD), psk=bytes(32),
    )  # fmt: skip


def prefix(name: str) -> str:
    return f"hubs/h1/clients/{name}"


def topic(name: str, segment: str) -> bytes:
    return f"{prefix(name)}/{segment}".encode()


def connect(name: str = "a", client_id: str = "", **fields: Any) -> mqtt.Connect:
    return mqtt.Connect(client_id, **{"username": f"key-{name}", "password": PASSWORD, **fields})


def publish(name: str, segment: str, payload: bytes, **fields: Any) -> mqtt.Publish:
    return mqtt.Publish(topic(name, segment), payload, **fields)


def segments_of(name: str, names: Iterable[str] = ("c2s", "in", "s2c", "out", "status")) -> dict[bytes, str]:
    return {topic(name, segment): segment for segment in names}


@pytest.fixture
def rig() -> SimpleNamespace:
    """What the tests of this folder share; there is no package to import it from."""
    return SimpleNamespace(
        Endpoint=Endpoint, FakeConnection=FakeConnection, PASSWORD=PASSWORD, HELLO=HELLO, SHAKE=SHAKE,
        HUB_HELLO=HUB_HELLO, HUB_OFFER=HUB_OFFER, topic=topic, prefix=prefix, connect=connect, publish=publish,
        credential=credential, segments_of=segments_of,
    )  # fmt: skip
