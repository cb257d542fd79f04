# SPDX-License-Identifier: Apache-2.0
"""The link before a real hub, at a real Mosquitto that knows its accounts from the start; clients on our codec."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import json
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import uvloop

from thalovant.protocol import session
from thalovant.protocol.clear import clear_kind, parse_clear, refusal_of
from thalovant.protocol.messages import bus
from thalovant.protocol.mqtt.client_events import Arrived, NotTaken
from thalovant.protocol.mqtt.packets import Connect
from thalovant.protocol.mqtt.v5 import V5
from thalovant.protocol.mqtt.v311 import V311
from thalovant.protocol.noise import generate_private_key
from thalovant_server import broker_socket
from thalovant_server.agents.echo import EchoAgent
from thalovant_server.backoff import Backoff
from thalovant_server.broker_socket import BrokerSocket, BrokerTarget, client_context, open_socket
from thalovant_server.brokers.base import Secret
from thalovant_server.brokers.mosquitto_files import SECURITY
from thalovant_server.brokers.names import BrokerAddress, Namespace
from thalovant_server.directory import CARRIERS, CredentialEntry, HubEntry
from thalovant_server.gateways.broker_link.gateway import BrokerLinkGateway
from thalovant_server.gateways.broker_link.keeper import LinkKeeper, Preparation
from thalovant_server.hub.hub import Hub
from thalovant_server.hub.limits import Limits
from thalovant_server.testing.directory import directory_of
from thalovant_server.testing.mosquitto import MosquittoProcess

NODE, PASSWORD, SERVER_SECRET = "node", "client-broker-password", "server-broker-password"
HELLO = b'{"msg_type": "hello", "payload": {"pubkey": ""}, "metadata": {}, "route": []}'
CLIENTS = ("a", "b", "c")
HUBS = ("h1", "h2")


def psk_of(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()


def prefix(name: str, hub_id: str = "h1", root: str = "") -> str:
    return Namespace(root).topic(f"hubs/{hub_id}/clients/{name}")


def hub_entry(hub_id: str = "h1", **fields: Any) -> HubEntry:
    return HubEntry(
        **{
            "id": hub_id,
            "slug": hub_id,
            "name": hub_id,
            "agent": None,
            "protocols": frozenset(CARRIERS),
            "active": True,
            "mqtt_via": "link",
            **fields,
        }
    )


def credential(name: str, hub_id: str = "h1", root: str = "", **fields: Any) -> CredentialEntry:
    number = HUBS.index(hub_id) * 100 + CLIENTS.index(name) + 1
    plain = {
        "id": number,
        "client_id": f"{hub_id}-{name}",
        "hub_id": hub_id,
        "access_key": f"key-{hub_id}-{name}",
        "client_name": name,
        "site_id": "site",
        "topic_prefix": prefix(name, hub_id, root),
        "psk": psk_of(name),
    }
    return CredentialEntry(**{**plain, **fields})


def write_accounts(folder: Path, root: str = "") -> None:
    """Put the hub's account and every client's into the file that Mosquitto starts with."""
    content = json.loads((folder / SECURITY).read_text())
    ours = Namespace(root)
    below = ours.topic("hubs/+/clients/+")
    heard = [f"{below}/{each}" for each in ("in", "c2s", "status")]
    said = [f"{below}/out", f"{below}/s2c", ours.presence]
    _add(content, ours.server, SERVER_SECRET, heard, said, "subscribePattern")
    for hub_id in HUBS:
        for name in CLIENTS:
            own = prefix(name, hub_id, root)
            hears, says = (f"{own}/out", f"{own}/s2c", f"{own}/status"), (f"{own}/in", f"{own}/c2s", f"{own}/status")
            _add(content, f"key-{hub_id}-{name}", PASSWORD, hears, says, "subscribeLiteral")
    (folder / SECURITY).write_text(json.dumps(content))


def _add(content: Any, user: str, password: str, heard: Any, said: Any, kind: str) -> None:
    salt = hashlib.sha256(user.encode()).digest()[:12]
    stretched = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, 101)
    acls = [("publishClientReceive", topic) for topic in heard] + [("publishClientSend", topic) for topic in said]
    acls += [(kind, topic) for topic in heard] + [("unsubscribePattern", "#")]
    content["roles"].append(
        {"rolename": user, "acls": [{"acltype": each, "topic": topic, "allow": True} for each, topic in acls]}
    )
    content["clients"].append(
        {
            "username": user,
            "password": base64.b64encode(stretched).decode(),
            "salt": base64.b64encode(salt).decode(),
            "iterations": 101,
            "roles": [{"rolename": user}],
        }
    )


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MosquittoProcess]:
    """A Mosquitto for a file of tests. What a test does to it, it undoes."""
    made = MosquittoProcess(tmp_path_factory.mktemp("broker") / "broker")
    write_accounts(made.folder)
    with made as running:
        yield running


def target_of(broker: MosquittoProcess, port: int | None = None) -> BrokerTarget:
    return BrokerTarget(BrokerAddress("localhost", port or broker.port), client_context(broker.ca_file))


class OnlyEcho:
    """Finds one agent under every name."""

    def __init__(self, agent: Any) -> None:
        self.agent = agent

    def get(self, name: str | None) -> Any:
        return self.agent


class Device:
    """A client of a hub, at the broker: its Noise session on a bare connection."""

    opened: ClassVar[list[BrokerSocket]] = []

    def __init__(self, name: str, hub_id: str = "h1", spelling: str = "in", root: str = "") -> None:
        self.name = name
        own = prefix(name, hub_id, root)
        answers = {"in": "out", "c2s": "s2c"}[spelling]
        self.into, self.out, self.status = (f"{own}/{each}".encode() for each in (spelling, answers, "status"))
        self.user = f"key-{hub_id}-{name}"
        self.key = generate_private_key()
        self.heard: asyncio.Queue[Any] = asyncio.Queue()
        self.lost: list[NotTaken] = []
        self.socket: BrokerSocket
        self.begin()

    def begin(self, pinned: bytes | None = None) -> None:
        self.session = session.ClientSession(
            static_private=self.key,
            site_id="site",
            session_id="s",
            pinned=pinned,
            psk={NODE: psk_of(self.name)},
            repeats=True,
        )

    async def connect(self, target: BrokerTarget, level: int = 5) -> Device:
        login = Connect(f"device-{self.name}", username=self.user, password=PASSWORD.encode())
        if level == V5.level:
            self.socket = await open_socket(target, login, self._happened)
        else:
            connection = broker_socket.ClientConnection(V311, login, broker_socket.PATIENCE)
            opening = BrokerSocket(connection, self._happened, "broker")
            opened = await broker_socket._opened(target, V311, opening)
            assert opened is not None
            self.socket = opened
        self.opened.append(self.socket)
        self.socket.subscribe([(self.out, 1)])
        await self.heard.get()  # SUBACK
        return self

    def _happened(self, event: Any) -> None:
        if isinstance(event, NotTaken):
            self.lost.append(event)
        else:
            self.heard.put_nowait(event.payload if isinstance(event, Arrived) else event)

    def say(self, payload: bytes, topic: bytes | None = None, **more: Any) -> None:
        self.socket.publish(topic or self.into, payload, **more)

    async def next(self) -> list[Any]:
        """What the next frame means; what that calls for is sent."""
        payload = await self.heard.get()
        clear = self.session.state != "ready" and clear_kind(payload) is not None
        outputs = (self.session.receive_clear if clear else self.session.receive_sealed)(payload)
        for output in outputs:
            if isinstance(output, session.SendClear):
                self.say(output.data)
            elif isinstance(output, session.SendSealed):
                self.say(output.frame)
        return outputs

    async def ready(self, *, ask: bool = True) -> Device:
        self.begin()
        self.say(HELLO)
        while self.session.state != "ready":
            for output in await self.next():
                assert not isinstance(output, session.Failed), output
        if ask:
            assert await self.ask("ready?") == "ready?"  # the hub is, too
        return self

    def request(self, text: str) -> list[bytes]:
        """The frames of an ask."""
        message = bus("recognizer_loop:utterance", {"utterances": [text], "lang": "en"}, {"request_id": text})
        return [output.frame for output in self.session.send(message)]

    async def answer(self) -> str:
        """The next answer, until it is over."""
        spoken = ""
        while True:
            for output in await self.next():
                assert not isinstance(output, session.Failed), output
                if isinstance(output, session.Received):
                    spoken += output.message.payload.get("data", {}).get("utterance", "")
                    if output.message.payload.get("type") == "ovos.utterance.handled":
                        return spoken

    async def ask(self, text: str) -> str:
        for frame in self.request(text):
            self.say(frame)
        return await self.answer()

    async def last_word(self) -> str:
        """The code of the hub's refusal, past whatever comes before it."""
        while True:
            payload = await self.heard.get()
            if isinstance(payload, bytes) and clear_kind(payload) == "shake":
                refused = refusal_of(parse_clear(payload).payload)
                if refused is not None:
                    return refused.code

    async def close(self) -> None:
        await self.socket.close()


class Rig:
    """A hub, its directory and its link."""

    def __init__(
        self, target: BrokerTarget, *, root: str = "", limits: Limits | None = None, agent: Any = None, **keeper: Any
    ) -> None:
        self.target = target
        self.hub_entry = hub_entry
        names = [(name, hub_id) for hub_id in HUBS for name in CLIENTS]
        self.directory = directory_of(
            [hub_entry(each) for each in HUBS], [credential(*each, root=root) for each in names], node_id=NODE
        )
        agents = OnlyEcho(agent or EchoAgent())
        self.hub = Hub(
            self.directory, agents, static_private=bytes(range(32)), node_id=NODE, version="0", limits=limits
        )
        self.events: asyncio.Event = asyncio.Event()
        ended = self.hub.ended
        self.hub.ended = lambda connection: (ended(connection), self.events.set())[0]  # type: ignore[method-assign]
        self.link = BrokerLinkGateway(self.hub, self.directory, Namespace(root), target.address.where)
        self.prepared: list[str] = []
        self.keeper = LinkKeeper(
            self.link,
            target,
            Namespace(root),
            **{
                "instance": b"this",
                "secret": Secret(SERVER_SECRET),
                "preparation": Preparation(self._look_out, self._provision, self._withdraw),
                "backoff": Backoff(0.01, 0.05),
                **keeper,
            },
        )
        self.fault: Exception | None = None

    async def _look_out(self) -> None:
        self.prepared.append("look_out")
        if self.fault is not None:
            raise self.fault

    async def _provision(self) -> None:
        self.prepared.append("provision")

    async def _withdraw(self) -> None:
        self.prepared.append("withdraw")

    async def until(self, what: Callable[[], Any]) -> None:
        """Wait until something is so; looked at again when a session ends, and every few milliseconds."""
        async with asyncio.timeout(15):
            while not what():
                self.events.clear()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self.events.wait(), 0.02)

    async def device(self, name: str = "a", hub_id: str = "h1", spelling: str = "in", level: int = 5) -> Device:
        return await Device(name, hub_id, spelling).connect(self.target, level)

    async def stop(self) -> None:
        await self.hub.stop(0)
        await self.keeper.stop(1.0)
        await self.directory.stop()
        assert self.hub.connections == self.link.connections == 0
        assert self.hub.budget.used == 0


@contextlib.asynccontextmanager
async def opened(target: BrokerTarget, **fields: Any) -> AsyncIterator[Rig]:
    """A link that is up."""
    made = Rig(target, **fields)
    try:
        await made.keeper.start()
        yield made
    finally:
        await made.stop()


@pytest.fixture
def rig(broker: MosquittoProcess) -> SimpleNamespace:
    """The parts of a test: `rig.opened(...)`, `rig.run(main())`."""

    def run(main: Any) -> None:
        async def bounded() -> None:
            try:
                await asyncio.wait_for(main, 40)
            finally:
                while Device.opened:
                    Device.opened.pop().abort()
                await asyncio.sleep(0)

        uvloop.run(bounded())

    def opened_here(port: int | None = None, **fields: Any) -> Any:
        return opened(target_of(broker, port), **fields)

    return SimpleNamespace(
        run=run, opened=opened_here, target=lambda port=None: target_of(broker, port), hub=hub_entry,
        credential=credential, prefix=prefix, Device=Device, Rig=Rig, HELLO=HELLO, SECRET=SERVER_SECRET,
        PASSWORD=PASSWORD, psk_of=psk_of, admin=broker.admin,
    )  # fmt: skip
