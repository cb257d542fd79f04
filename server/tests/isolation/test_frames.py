# SPDX-License-Identifier: Apache-2.0
"""Frames of a session that is up, tampered with, on each carrier: the session ends with a reason, and only that one.

A whole server in this process; the clients are bare sockets with our session inside, whose frames are kept and bent.
"""

from __future__ import annotations

import base64
import contextlib
import ssl
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, Protocol

import httpx2
import pytest
from raw_mqtt import HELLO, Client, Dialect, Login, is_sealed
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect as connect_websocket

from thalovant import ThalovantControlPlane, ThalovantIdentity
from thalovant.addresses import authorization_query, https_base, mqtt_address, wss_request
from thalovant.protocol.frames import CHUNK_SIZE, FrameWriter
from thalovant.protocol.messages import bus
from thalovant.protocol.noise import SUITES, CipherState, generate_private_key
from thalovant.protocol.session import ClientSession, Failed, NeedPsk, Received, SendClear, SendSealed
from thalovant_server.testing.certificates import for_two_threads
from thalovant_server.testing.directory import cheap_stretch
from thalovant_server.testing.in_process import InProcessServer

MIB = 1024 * 1024
AGENT = "isolation/1"


class EndedError(Exception):
    """The server ended the session; the text is what it said, in the carrier's words."""


class Road(Protocol):
    """One carrier, already connected."""

    def send(self, sealed: bool, data: bytes) -> None: ...
    def receive(self) -> tuple[bool, bytes]: ...
    def close(self) -> None: ...


class Wss:
    """A WebSocket."""

    def __init__(self, identity: ThalovantIdentity, tls: ssl.SSLContext) -> None:
        self._stack = contextlib.ExitStack()
        dialled = connect_websocket(wss_request(identity, AGENT), ssl=tls, max_size=None, proxy=None)
        self._socket = self._stack.enter_context(dialled)

    def send(self, sealed: bool, data: bytes) -> None:
        try:
            self._socket.send(data if sealed else data.decode())
        except ConnectionClosed as error:
            raise self._ended(error) from None

    def receive(self) -> tuple[bool, bytes]:
        try:
            got = self._socket.recv(timeout=20)
        except ConnectionClosed as error:
            raise self._ended(error) from None
        return isinstance(got, bytes), got if isinstance(got, bytes) else got.encode()

    def close(self) -> None:
        self._stack.close()

    def _ended(self, error: ConnectionClosed) -> EndedError:
        return EndedError(str(error.rcvd and error.rcvd.code))


class Https:
    """Polling, as published clients do it."""

    def __init__(self, identity: ThalovantIdentity, tls: ssl.SSLContext) -> None:
        self._http = httpx2.Client(verify=tls, base_url=https_base(identity), trust_env=False)
        self._query = authorization_query(AGENT, identity.access_key)
        self._got: list[tuple[bool, bytes]] = []
        self.call("POST", "connect")

    def call(self, method: str, name: str, **more: Any) -> dict[str, Any]:
        answer = self._http.request(method, f"{name}?{self._query}", **more)
        said: dict[str, Any] = answer.json()
        if "error" in said:
            raise EndedError(f"{answer.status_code} {said['error']}")
        return said

    def send(self, sealed: bool, data: bytes) -> None:
        form = {"message": base64.b64encode(data).decode(), "binary": "1"} if sealed else {"message": data.decode()}
        self.call("POST", "send_message", data=form)

    def receive(self) -> tuple[bool, bytes]:
        while not self._got:
            self._got += [(False, each.encode()) for each in self.call("GET", "get_messages")["messages"]]
            sealed = self.call("GET", "get_binary_messages")["b64_messages"]
            self._got += [(True, base64.b64decode(each)) for each in sealed]
        return self._got.pop(0)

    def close(self) -> None:
        self._http.close()


class Mqtt:
    """MQTT 5 over TLS."""

    def __init__(self, identity: ThalovantIdentity, tls: ssl.SSLContext) -> None:
        block, address = identity.mqtt, mqtt_address(identity)
        assert block is not None and block.topic_prefix is not None
        login = Login(block.username, block.password, block.topic_prefix)
        self._into = login.topic("c2s")
        self._client = Client(Dialect(5), (address.host, address.port), tls)
        assert self._client.ask(self._client.write_as.connect(login)).code == 0
        self._client.hear(login.topic("s2c"), 0)
        self.send(False, HELLO)

    def send(self, sealed: bool, data: bytes) -> None:
        try:
            self._client.send(self._client.write_as.publish(self._into, data))
        except OSError:
            self.receive()

    def receive(self) -> tuple[bool, bytes]:
        said = self._client.receive()
        if said is None or said.kind == "DISCONNECT":
            raise EndedError("closed" if said is None else f"0x{said.code:02x}")
        return is_sealed(said.payload), said.payload

    def close(self) -> None:
        self._client.close()


ROADS: dict[str, Callable[[ThalovantIdentity, ssl.SSLContext], Road]] = {"wss": Wss, "https": Https, "mqtt": Mqtt}


class Device:
    """A client on a road. What it sends is sealed first, so that a test may bend it."""

    def __init__(self, road: Road, identity: ThalovantIdentity, key: bytes) -> None:
        self.road = road
        self._password = identity.password
        self._session = ClientSession(static_private=key, site_id="site", session_id="s")
        self._heard: list[str] = []
        while self._session.state != "ready":
            self._take()

    def seal(self, text: str) -> list[bytes]:
        """The frames of an utterance."""
        data = {"utterances": [text], "lang": "en-us"}
        sealed = self._session.send(bus("recognizer_loop:utterance", data, {"request_id": text[:20]}))
        return [each.frame for each in sealed]

    def seal_chunks(self, size: int) -> Iterator[bytes]:
        """The chunks of a message that is longer than our own writer would seal (contract 6.1)."""
        assert self._session._writer is not None
        encrypt = self._session._writer._encrypt
        yield encrypt(b"\2" + bytes(CHUNK_SIZE))
        for _ in range(size // CHUNK_SIZE):
            yield encrypt(b"\4" + bytes(CHUNK_SIZE))

    def send(self, *frames: bytes) -> None:
        for frame in frames:
            self.road.send(True, frame)

    def ask(self, text: str) -> str:
        """What the agent, an echo, says to it."""
        self.send(*self.seal(text))
        return self.hear()

    def hear(self) -> str:
        """The next thing that the agent says."""
        while not self._heard:
            self._take()
        return self._heard.pop(0)

    def reason(self) -> str:
        """Wait for the end, and what was said about it."""
        with pytest.raises(EndedError) as ended:
            while True:
                self.road.receive()
        return str(ended.value)

    def _take(self) -> None:
        sealed, data = self.road.receive()
        self._act(self._session.receive_sealed(data) if sealed else self._session.receive_clear(data))

    def _act(self, outputs: list[Any]) -> None:
        for output in outputs:
            match output:
                case SendClear(data=data):
                    self.road.send(False, data)
                case SendSealed(frame=frame):
                    self.road.send(True, frame)
                case NeedPsk(node_id=node_id):
                    self._act(self._session.provide_psk(cheap_stretch(self._password, node_id)))
                case Received(message=message) if message.payload.get("type") == "speak":
                    self._heard.append(message.payload["data"]["utterance"])
                case Failed(text=text):
                    raise AssertionError(f"What the hub said is not taken here: {text}")


@pytest.fixture(scope="module")
def big_hub(plane: ThalovantControlPlane) -> str:
    """A hub that takes messages as long as the wire knows."""
    on = {name: {"enabled": True} for name in ("wss", "http", "mqtt")}
    spec = {"version": "1", "protocols": on, "max_message": 32 * MIB}
    return str(plane.create_hub({"name": "big", "spec": spec})["id"])


@pytest.fixture
def enter(plane: ThalovantControlPlane, running: InProcessServer) -> Iterator[Callable[..., Device]]:
    """`enter(carrier, whom=None, hub=None)`: a device that is ready; `whom` is an identity and its key."""
    roads: list[Road] = []
    tls = for_two_threads(ssl.create_default_context(cafile=running.ready["ca_file"]))

    def bring(carrier: str, whom: tuple[ThalovantIdentity, bytes] | None = None, hub: str | None = None) -> Device:
        identity, key = whom or make(hub)
        roads.append(ROADS[carrier](identity, tls))
        device = Device(roads[-1], identity, key)
        assert device.ask("hello") == "hello"  # its key is pinned by then
        return device

    def make(hub: str | None = None) -> tuple[ThalovantIdentity, bytes]:
        hub = hub or running.ready["hub_id"]
        return plane.create_client_identity(hub, name="frames").identity, generate_private_key()

    bring.make = make  # type: ignore[attr-defined]
    yield bring
    for road in roads:
        road.close()


# What each carrier says of a frame that no session of ours could have sent.
UNREADABLE = {"wss": "1002", "https": "500 Message sending failed", "mqtt": "0x99"}


@pytest.mark.parametrize("carrier", ROADS)
@pytest.mark.parametrize("bend", ["replayed", "truncated", "reordered", "altered", "lengthened", "empty"])
def test_a_bent_frame_ends_its_session_and_no_other(carrier: str, bend: str, enter: Callable[..., Device]) -> None:
    neighbour, attacker = enter(carrier), enter(carrier)
    (first,), (second,) = attacker.seal("first"), attacker.seal("second")
    frames = {
        "replayed": (first, first),
        "truncated": (first[:-1],),
        "reordered": (second, first),
        "altered": (first[:-1] + bytes([first[-1] ^ 1]),),
        "lengthened": (first + b"\0",),
        "empty": (b"\0" * 16,),
    }[bend]
    assert _ended(attacker, *frames) == UNREADABLE[carrier]
    assert neighbour.ask("still here") == "still here"


@pytest.mark.parametrize("carrier", ROADS)
def test_a_neighbours_frame_is_nobody_elses(carrier: str, enter: Callable[..., Device]) -> None:
    """Caught on its way and said again on the attacker's own session."""
    neighbour, attacker = enter(carrier), enter(carrier)
    (caught,) = neighbour.seal("for the hub alone")
    assert _ended(attacker, caught) == UNREADABLE[carrier]
    neighbour.send(caught)  # it is the neighbour's to send, once
    assert neighbour.hear() == "for the hub alone"


@pytest.mark.parametrize("carrier", ROADS)
def test_a_frame_of_another_session_of_the_same_client_is_not_taken(carrier: str, enter: Callable[..., Device]) -> None:
    whom = enter.make()  # type: ignore[attr-defined]
    older, newer = enter(carrier, whom), enter(carrier, whom)
    (frame,) = older.seal("of the older one")
    assert _ended(newer, frame) == UNREADABLE[carrier]
    older.send(frame)
    assert older.hear() == "of the older one"


@pytest.mark.parametrize("carrier", ROADS)
def test_plain_text_after_the_handshake_ends_the_session(carrier: str, enter: Callable[..., Device]) -> None:
    neighbour, attacker = enter(carrier), enter(carrier)
    message = bus("recognizer_loop:utterance", {"utterances": ["in the clear"]}, {"request_id": "r"}).encode()
    with pytest.raises(EndedError) as ended:
        attacker.road.send(False, message)
        while True:
            attacker.road.receive()
    assert str(ended.value) == UNREADABLE[carrier]
    assert neighbour.ask("still here") == "still here"


@pytest.mark.parametrize("carrier", ROADS)
def test_a_message_of_33_mib_in_chunks_ends_the_session(
    carrier: str, enter: Callable[..., Device], big_hub: str
) -> None:
    """Also at a hub that takes the longest messages there are: 32 MiB."""
    neighbour, attacker = enter(carrier, hub=big_hub), enter(carrier, hub=big_hub)
    try:
        for frame in attacker.seal_chunks(33 * MIB):
            attacker.send(frame)
        reason = attacker.reason()
    except EndedError as ended:
        reason = str(ended)
    assert reason == {"wss": "1009", "https": "500 Message sending failed", "mqtt": "0x97"}[carrier]
    assert neighbour.ask("still here") == "still here"


@pytest.mark.parametrize("carrier", ROADS)
def test_what_was_tried_with_a_frame_is_in_the_audit_log(
    carrier: str, enter: Callable[..., Device], plane: ThalovantControlPlane
) -> None:
    whom = enter.make()  # type: ignore[attr-defined]
    attacker = enter(carrier, whom)
    (frame,) = attacker.seal("once")
    assert _ended(attacker, frame, frame) == UNREADABLE[carrier]
    client_id = whom[0].mqtt.topic_prefix.rpartition("/")[2]
    (entry,) = plane.list_audit(outcome="denied", client_id=client_id)["data"]
    assert (entry["action"], entry["code"]) == ("session.refused", "decrypt")
    assert (entry["actor"]["kind"], entry["actor"]["id"]) == ("client", client_id)
    assert entry["after"]["carrier"] == carrier


def _ended(device: Device, *frames: bytes) -> str:
    """Send these; what the server says of the end."""
    try:
        device.send(*frames)
    except EndedError as ended:
        return str(ended)
    return device.reason()


def test_a_sealed_frame_that_begins_as_json_does_is_sealed() -> None:
    """One in 256 does. A device that took it for a clear one would wait for an answer that was there."""
    writer = FrameWriter(CipherState(bytes(32), SUITES[0]))
    frames = [writer.seal(b"{}")[0] for _ in range(2_000)]
    assert any(frame.startswith(b"{") for frame in frames)
    assert all(map(is_sealed, frames))
    assert not is_sealed(HELLO)


def test_a_device_that_cannot_take_what_it_is_told_says_so() -> None:
    """It never waits for more."""

    class Babble:
        def send(self, sealed: bool, data: bytes) -> None: ...
        def receive(self) -> tuple[bool, bytes]:
            return True, bytes(40)

        def close(self) -> None: ...

    nobody: Any = SimpleNamespace(password="unused")
    with pytest.raises(AssertionError, match="before the handshake was done"):
        Device(Babble(), nobody, generate_private_key())
