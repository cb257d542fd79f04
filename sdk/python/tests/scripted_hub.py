# SPDX-License-Identifier: Apache-2.0
"""A hub for the client's tests: real TLS sockets, the real Noise responder, all three carriers, and a script.

It runs on a thread of its own. It checks little and answers what the test says; it is no server, keeps nothing and
knows no policy. The pre-shared key is a cheap hash: see the fixture, which gives the client the same one.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import json
import logging
import queue
import secrets
import ssl
import threading
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from thalovant.client import AsyncThalovantClient
from thalovant.identity import ThalovantIdentity
from thalovant.protocol import clear, noise
from thalovant.protocol.binary import BinaryFrame
from thalovant.protocol.errors import ProtocolError
from thalovant.protocol.frames import FrameReader, FrameWriter
from thalovant.protocol.messages import HiveMessage, bus
from thalovant.protocol.mqtt import packets
from thalovant.protocol.mqtt.framing import PacketReader
from thalovant.protocol.mqtt.properties import NOTHING, Properties
from thalovant.protocol.mqtt.reason_codes import ReasonCode
from thalovant.protocol.mqtt.v311 import V311
from thalovant.protocol.mqtt.versions import CODECS, OPENING

ACCESS_KEY = "0123456789abcdef0123456789abcdef"
PASSWORD = "f00dfeedf00dfeedf00dfeedf00dfeed"
BROKER_PASSWORD = "broker-password"
PREFIX = "hubs/h1/clients/c1"
NODE_ID = "scripted-hub"
REASONS = {
    "paused": "this client is paused",
    "unknown_key": "invalid api key",
    "busy": "the server is busy, try again later",
    "revoked": "this credential was revoked",
    "handshake_failed": "handshake failure: wrong password or altered offer",
}


def cheap_stretch(password: str, node_id: str) -> bytes:
    return hashlib.sha256(f"{password}@{node_id}".encode()).digest()


@dataclass
class Turn:
    """One utterance that reached the hub, and the way back to who sent it."""

    hub: ScriptedHub
    session: Session
    text: str
    request_id: str
    payload: dict[str, Any]
    query_id: str | None = None
    """Of the `query` frame it came in; its events then travel in such frames."""

    @property
    def heard(self) -> Any:
        """How much of the answer the client says it has heard."""
        return self.payload["context"].get("thalovant", {}).get("heard")

    def say(
        self, event_type: str, data: dict[str, Any] | None = None, *, mark: dict[str, Any] | None = None, **context: Any
    ) -> None:
        """Send an event of this turn, with a mark of how far the answer has come; from any thread."""
        metadata = {} if mark is None else {"thalovant": mark}
        if self.query_id is None:
            message = bus(event_type, data or {}, self.payload["context"] | context)
            message.metadata = metadata
        else:
            inner = bus(event_type, data or {}, {"query_id": self.query_id} | context)
            message = HiveMessage("query", inner.as_dict(), {"query_id": self.query_id} | metadata)
        self.hub.soon(self.session.send, message)

    def answer(self, *parts: str) -> None:
        for part in parts:
            self.say("speak", {"utterance": part, "lang": "en-us"})
        self.say("ovos.utterance.handled" if self.query_id is None else "hive.query.complete")


def echo(turn: Turn) -> None:
    turn.answer(turn.text)


@dataclass
class Script:
    """What the hub does. Change it at any time."""

    answer: Callable[[Turn], None] | None = echo
    """None: the turn is only put into `turns`."""
    hear: Callable[[Session, HiveMessage], None] = lambda session, message: None
    """Called with every message that is no utterance."""
    capabilities: list[str] | None = field(default_factory=lambda: ["handled"])
    password: str = PASSWORD
    broker_password: str = BROKER_PASSWORD
    knows_key: bool = True
    static_private: bytes = field(default_factory=noise.generate_private_key)
    greets: bool = True
    mqtt_levels: tuple[int, ...] = (4, 5)
    mqtt_terms: Properties = NOTHING  # of a CONNACK of MQTT 5
    puback: int = 0  # for what comes in, as MQTT 5 has it; not taken from 0x80 on
    upgrade_status: int | None = None
    offers_kk: bool = True
    hangs_up: bool = False
    """Whether it closes an MQTT connection that it refuses; else it is silent."""
    last_words: bool = False
    """Whether it says over MQTT, in the clear, why it refuses, as a hub behind an outside broker does."""
    refuses: str = ""
    """The code with which it refuses whoever greets it."""


class Session:
    """The hub's side of one session; `transmit(kind, data)` and `end(code)` belong to its carrier."""

    def __init__(
        self, hub: ScriptedHub, carrier: str, transmit: Callable[[str, bytes], None], end: Callable[[int], None]
    ) -> None:
        self.hub, self.carrier, self._transmit, self._end = hub, carrier, transmit, end
        self._hello: dict[str, Any] = {}
        self._offer: dict[str, Any] = {}
        self._handshake: noise.Handshake | None = None
        self.reader: FrameReader | None = None
        self._writer: FrameWriter | None = None
        self.pattern = ""
        hub.sessions.append(self)
        hub.connections.append(carrier)

    def greet(self) -> None:
        script = self.hub.script
        if script.refuses:
            self.refuse(script.refuses)
        if script.refuses or not script.greets:
            return
        self._handshake = self.reader = self._writer = None
        patterns = ["KKpsk0", "XXpsk2"] if self.hub.pin and script.offers_kk else ["XXpsk2"]
        self._hello = {"pubkey": "none", "peer": secrets.token_hex(4), "node_id": NODE_ID}
        if script.capabilities is not None:
            self._hello["thalovant"] = {"server": "0", "capabilities": script.capabilities}
        self._offer = {"max_protocol_version": 3, "noise": {"patterns": patterns, "suites": list(noise.SUITES)}}
        self._transmit("clear", clear.hello_frame(self._hello))
        self._transmit("clear", clear.offer_frame(self._offer))

    def clear(self, data: bytes | str) -> None:
        frame = clear.parse_clear(data)
        if frame.kind == "hello":
            self.greet()
            return
        envelope = clear.noise_envelope(frame.payload)
        try:
            if self._handshake is None:
                self._first(envelope)
            else:
                self._handshake.read_message(envelope.message)
        except ProtocolError:
            self.refuse("handshake_failed")
            return
        if self._handshake is not None and self._handshake.finished:
            self._finish(self._handshake)

    def _first(self, envelope: clear.NoiseEnvelope) -> None:
        script, pattern, suite = self.hub.script, envelope.pattern or "", envelope.suite or ""
        self.pattern = pattern
        self.hub.patterns.append(pattern)
        self._handshake = handshake = noise.Handshake.responder(
            pattern,
            suite,
            prologue=noise.prologue(self._hello, self._offer, pattern, suite),
            psk=cheap_stretch(script.password, NODE_ID),
            static_private=script.static_private,
            remote_static=self.hub.pin if pattern == "KKpsk0" else None,
        )
        handshake.read_message(envelope.message)
        self._transmit("clear", clear.hub_shake(handshake.write_message(clear.MESSAGE_2_PAYLOAD)))

    def _finish(self, handshake: noise.Handshake) -> None:
        key = handshake.remote_static
        if self.hub.pin not in (None, key):
            self.refuse("key_mismatch")
            return
        self.hub.pin = key
        sending, receiving = handshake.split()
        self._writer, self.reader = FrameWriter(sending), FrameReader(receiving)

    def sealed(self, data: bytes) -> None:
        if self.reader is None:
            return
        frame = self.reader.open(data)
        if frame is not None:
            self.hub.receive(self, HiveMessage.decode(frame.body))

    def raw(self, data: bytes) -> None:
        """What MQTT brings: clear or sealed, as the session stands."""
        if self.reader is None or clear.clear_kind(data) == "hello":
            with contextlib.suppress(ProtocolError):
                self.clear(data)
        else:
            self.sealed(data)

    def send(self, message: HiveMessage) -> None:
        if self._writer is not None:
            for frame in self._writer.seal(message.encode()):
                self._transmit("sealed", frame)

    def send_binary(self, frame: BinaryFrame) -> None:
        if self._writer is not None:
            for sealed in self._writer.seal(frame.encode(), binary=True):
                self._transmit("sealed", sealed)

    def send_raw(self, kind: str, data: bytes) -> None:
        self._transmit(kind, data)

    def refuse(self, code: str) -> None:
        """As the carrier has it, and in the clear where the script says so."""
        if self.carrier == "mqtt" and self.hub.script.last_words:
            self._transmit("clear", clear.refusal_frame(code, REASONS.get(code, "")))
        self._end(1008)

    def end(self, code: int) -> None:
        self._end(code)


class ScriptedHub:
    """Start it, make an `identity()` for it, script it, look at what it saw."""

    def __init__(self, chain_file: Path, ca_pem: str) -> None:
        self.script = Script()
        self.ca_pem = ca_pem
        self.pin: bytes | None = None
        self.turns: queue.Queue[Turn] = queue.Queue()
        self.messages: queue.Queue[HiveMessage] = queue.Queue()
        self.presence: queue.Queue[str] = queue.Queue()
        self.hellos: list[dict[str, Any]] = []
        self.hello: queue.Queue[dict[str, Any]] = queue.Queue()
        self.sessions: list[Session] = []
        self.patterns: list[str] = []
        self.connections: list[str] = []
        self.requests: list[str] = []
        self.logins: list[packets.Connect] = []
        self.user_agents: list[str] = []
        self.ports: dict[str, int] = {}
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._tls.load_cert_chain(chain_file)
        self._live: set[asyncio.WriteTransport] = set()
        self._servers: list[Any] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="scripted-hub")
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    def soon(self, function: Callable[..., object], *arguments: object) -> None:
        self._loop.call_soon_threadsafe(function, *arguments)

    def identity(self, **changes: Any) -> ThalovantIdentity:
        base = f"https://localhost:{self.ports['https']}"
        values: dict[str, Any] = {
            "access_key": ACCESS_KEY,
            "password": PASSWORD,
            "site_id": "kitchen",
            "default_master": base,
            "data_plane_endpoints": {"wss": f"wss://localhost:{self.ports['wss']}/hub", "https": f"{base}/hub"},
            "mqtt": {
                "endpoint": f"mqtts://localhost:{self.ports['mqtt']}",
                "username": ACCESS_KEY,
                "password": BROKER_PASSWORD,
                "topic_prefix": PREFIX,
                "c2s_topic": f"{PREFIX}/c2s",
                "s2c_topic": f"{PREFIX}/s2c",
                "status_topic": f"{PREFIX}/status",
            },
            "ca_pem": self.ca_pem,
        }
        return ThalovantIdentity.from_mapping(values | changes)

    # Its life

    async def start(self) -> None:
        port = self.ports.get
        quiet = logging.getLogger("scripted-hub")
        quiet.setLevel("CRITICAL")
        wss = await serve(
            self._wss,
            "127.0.0.1",
            port("wss", 0),
            ssl=self._tls,
            compression=None,
            process_request=self._upgrade,
            logger=quiet,
        )
        mqtt = await asyncio.start_server(self._mqtt, "127.0.0.1", port("mqtt", 0), ssl=self._tls)
        https = await asyncio.start_server(self._https, "127.0.0.1", port("https", 0), ssl=self._tls)
        self._servers = [wss, mqtt, https]
        for name, server in zip(("wss", "mqtt", "https"), self._servers, strict=True):
            self.ports[name] = next(iter(server.sockets)).getsockname()[1]

    async def stop(self) -> None:
        for server in self._servers:
            server.close()
        self._cut()
        for server in self._servers:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(server.wait_closed(), 5)
        self._servers = []

    def cut(self) -> None:
        """Reset every connection, from any thread."""
        self.soon(self._cut)

    def _cut(self) -> None:
        for transport in list(self._live):
            transport.abort()
        for polled in self._polled.values():
            polled.ended = True

    def close(self) -> None:
        self.run(self.stop())
        self.run(self._settle())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _settle(self) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # What it hears

    def receive(self, session: Session, message: HiveMessage) -> None:
        if message.msg_type == "hello":
            self.hellos.append(message.payload)
            self.hello.put(message.payload)
            return
        inner = message.nested() if message.msg_type == "query" else message
        name, data, context = inner.bus_parts() if inner.msg_type == "bus" else ("", {}, {})
        if name != "recognizer_loop:utterance":
            self.messages.put(message)
            self.script.hear(session, message)
            return
        query_id = message.metadata["query_id"] if message.msg_type == "query" else None
        turn = Turn(self, session, data["utterances"][0], context["request_id"], inner.payload, query_id)
        self.requests.append(turn.request_id)
        if self.script.answer is None:
            self.turns.put(turn)
        else:
            self.script.answer(turn)

    def tell_all(self, message: HiveMessage) -> None:
        """Send a message on every session, from any thread."""
        for session in list(self.sessions):
            self.soon(session.send, message)

    def tell(self, session: Session, message: HiveMessage) -> None:
        """Send a message on one session, from any thread."""
        self.soon(session.send, message)

    def _authorized(self, target: str) -> bool:
        value = parse_qs(urlsplit(target).query).get("authorization", [""])[0]
        agent, _, key = base64.b64decode(value).decode().partition(":")
        self.user_agents.append(agent)
        return key == ACCESS_KEY and self.script.knows_key

    # WSS

    def _upgrade(self, connection: ServerConnection, _request: Any) -> Any:
        status = self.script.upgrade_status
        return None if status is None else connection.respond(status, "no\n")

    async def _wss(self, connection: ServerConnection) -> None:
        self._live.add(connection.transport)
        assert connection.request is not None
        try:
            if not self._authorized(connection.request.path):
                await connection.close(1008, "invalid api key")
                return
            await self._wss_session(connection)
        except (ConnectionClosed, OSError):
            pass
        finally:
            self._live.discard(connection.transport)

    async def _wss_session(self, connection: ServerConnection) -> None:
        outgoing: asyncio.Queue[tuple[str, Any]] = asyncio.Queue()
        session = Session(
            self,
            "wss",
            lambda kind, data: outgoing.put_nowait((kind, data)),
            lambda code: outgoing.put_nowait(("end", code)),
        )

        async def write() -> None:
            while True:
                kind, data = await outgoing.get()
                if kind == "end":
                    await connection.close(data)
                    return
                await connection.send(data.decode() if kind == "clear" else data)

        writer = asyncio.create_task(write())
        session.greet()
        try:
            async for frame in connection:
                if isinstance(frame, str):
                    session.clear(frame)
                else:
                    session.sealed(frame)
        finally:
            writer.cancel()
            await asyncio.gather(writer, return_exceptions=True)
            self.sessions.remove(session)

    # MQTT

    async def _mqtt(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._live.add(writer.transport)
        packet_reader = PacketReader(1 << 20, OPENING)
        state = _MqttState(self, writer)
        try:
            while data := await reader.read(65_536):
                while received := packet_reader.feed(data, at_most=1):
                    state.receive(received[0])
                    packet_reader.version, data = state.codec, b""
        except (OSError, ConnectionError):
            pass
        finally:
            self._live.discard(writer.transport)
            writer.close()
            if state.session is not None:
                self.sessions.remove(state.session)

    # HTTPS

    async def _https(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._live.add(writer.transport)
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                lines = head.decode().split("\r\n")
                method, target, _ = lines[0].split(" ")
                headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                status, answer, extra = self._https_answer(method, target, headers, parse_qs(body.decode()))
                content = json.dumps(answer).encode()
                fields = f"content-length: {len(content)}\r\n{extra}"
                writer.write(f"HTTP/1.1 {status} X\r\n{fields}\r\n".encode() + content)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            self._live.discard(writer.transport)
            writer.close()

    def _https_answer(
        self, method: str, target: str, headers: dict[str, str], form: dict[str, list[str]]
    ) -> tuple[int, dict[str, Any], str]:
        if not self._authorized(target):
            return 403, {"error": "Invalid authorization"}, ""
        name = urlsplit(target).path.removeprefix("/hub/")
        if name == "connect":
            cookie = secrets.token_hex(16)
            self._polled[cookie] = polled = _Polled(self)
            polled.session.greet()
            return 200, {"status": "Connected"}, f"set-cookie: hivemind_http_replica={cookie}; Path=/\r\n"
        polled = self._polled.get(headers.get("cookie", "").partition("=")[2])
        if polled is not None and polled.refused:
            return 403, {"error": "Invalid authorization"}, ""
        if polled is None or polled.ended:
            return (200 if method == "GET" else 409), {"error": "Client is not connected"}, ""
        return (*polled.answer(name, form), "")

    @property
    def _polled(self) -> dict[str, _Polled]:
        return self.__dict__.setdefault("polled", {})


class _Polled:
    def __init__(self, hub: ScriptedHub) -> None:
        self.clear: list[str] = []
        self.sealed: list[str] = []
        self.ended = self.refused = False
        self.session = Session(hub, "https", self._transmit, self._end)

    def _transmit(self, kind: str, data: bytes) -> None:
        if kind == "clear":
            self.clear.append(data.decode())
        else:
            self.sealed.append(base64.b64encode(data).decode())

    def _end(self, code: int) -> None:
        self.ended, self.refused = True, code == 1008

    def answer(self, name: str, form: dict[str, list[str]]) -> tuple[int, dict[str, Any]]:
        if name == "get_messages":
            held, self.clear = self.clear, []
            return 200, {"status": "messages retrieved", "messages": held}
        if name == "get_binary_messages":
            held, self.sealed = self.sealed, []
            return 200, {"status": "messages retrieved", "b64_messages": held}
        if name == "disconnect":
            self.ended = True
            return 200, {"status": "Disconnected"}
        message = form["message"][0]
        if form.get("binary") == ["1"]:
            self.session.sealed(base64.b64decode(message))
        else:
            self.session.clear(message)
        if self.refused:
            return 403, {"error": "Invalid authorization"}
        return (500, {"error": "no"}) if self.ended else (200, {"status": "message sent"})


class _MqttState:
    def __init__(self, hub: ScriptedHub, writer: asyncio.StreamWriter) -> None:
        self._hub, self._writer = hub, writer
        self._packet_id = 0
        self.codec = V311
        self.session: Session | None = None

    def _say(self, packet: packets.Packet) -> None:
        self._writer.write(self.codec.encode(packet))

    def receive(self, packet: packets.Packet) -> None:
        if isinstance(packet, packets.Connect):
            self._log_in(packet)
        elif isinstance(packet, packets.Subscribe):
            ((topic, options),) = packet.filters
            assert (topic, options & 3) == (f"{PREFIX}/s2c".encode(), 1)
            self._say(packets.Suback(packet.packet_id, (1,)))
            self.session = Session(self._hub, "mqtt", self._transmit, self._end)
        elif isinstance(packet, packets.Publish):
            self._published(packet)
        elif isinstance(packet, packets.Pingreq):
            self._say(packets.Pingresp())

    def _log_in(self, packet: packets.Connect) -> None:
        script = self._hub.script
        if packet.level not in script.mqtt_levels:
            self._say(packets.Connack(False, packets.UNACCEPTABLE_VERSION))
            self._writer.close()
            return
        self.codec = CODECS[packet.level]
        self._hub.logins.append(packet)
        known = packet.password == script.broker_password.encode() and packet.username == ACCESS_KEY
        refused = packets.NOT_AUTHORIZED if packet.level == 4 else ReasonCode.NOT_AUTHORIZED
        terms = script.mqtt_terms if packet.level == 5 else NOTHING
        self._say(packets.Connack(False, 0, terms) if known else packets.Connack(False, refused))

    def _published(self, packet: packets.Publish) -> None:
        code = 0 if packet.topic.endswith(b"/status") else self._hub.script.puback
        if packet.packet_id is not None:
            self._say(packets.Puback(packet.packet_id, code))
        if packet.topic == f"{PREFIX}/status".encode():
            assert packet.retain
            self._hub.presence.put(packet.payload.decode())
        elif code < 0x80:
            assert packet.topic == f"{PREFIX}/c2s".encode() and not packet.retain
            assert self.session is not None
            if self._hub.script.knows_key:
                self.session.raw(packet.payload)

    def _end(self, _code: int) -> None:
        if self._hub.script.hangs_up:
            self._writer.close()

    def _transmit(self, _kind: str, data: bytes) -> None:
        self._packet_id = self._packet_id % 65_535 + 1
        topic = f"{PREFIX}/s2c".encode()
        self._writer.write(self.codec.encode_publish(topic, data, qos=1, packet_id=self._packet_id))


@pytest.fixture
def hub(certificates: Any, monkeypatch: pytest.MonkeyPatch, lonely: Path) -> Iterator[ScriptedHub]:
    """A scripted hub on free ports; the client stretches passwords the cheap way while it runs."""
    monkeypatch.setattr(noise, "stretch", cheap_stretch)
    started = ScriptedHub(certificates.chain_file, certificates.ca_pem)
    started.run(started.start())
    yield started
    started.close()


@pytest.fixture
def make_client(hub: ScriptedHub, tmp_path: Path) -> Callable[..., AsyncThalovantClient]:
    """Make a client of the scripted hub; all of one test share their Noise state."""

    def make(protocol: Any = "wss", **options: Any) -> AsyncThalovantClient:
        identity = options.pop("identity", None) or hub.identity()
        return AsyncThalovantClient(identity, protocol=protocol, noise_state_dir=str(tmp_path / "noise"), **options)

    return make


@pytest.fixture
def play_scene() -> Callable[[Callable[[], Coroutine[Any, Any, None]]], None]:
    """Run a scene in asyncio's debug mode; nothing of the client may be left on the loop at its end."""

    async def main(scene: Callable[[], Coroutine[Any, Any, None]]) -> None:
        async with asyncio.timeout(60):
            await scene()
        await asyncio.sleep(0)  # cancelled tasks of the libraries end
        left = [task.get_name() for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        assert left == []

    return lambda scene: asyncio.run(main(scene), debug=True)
