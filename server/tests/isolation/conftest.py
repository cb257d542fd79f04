# SPDX-License-Identifier: Apache-2.0
"""A broker that holds nothing back, a real server with two identities, and the way to each."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest

from thalovant import ThalovantControlPlane
from thalovant_server.isolation.moves import HELLO, Party, Scene
from thalovant_server.isolation.streams import TlsStream
from thalovant_server.testing.directory import cheap_stretch
from thalovant_server.testing.in_process import InProcessServer

SCENE = Scene(Party("key-A", "secret-A", "hubs/h1/clients/a"), Party("key-B", "secret-B", "hubs/h1/clients/b"))


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcessServer]:
    """The whole server, in a thread."""
    with InProcessServer(tmp_path_factory.mktemp("frames") / "data") as server:
        yield server


@pytest.fixture(scope="module")
def plane(running: InProcessServer) -> Iterator[ThalovantControlPlane]:
    """Its control plane."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", running.ready["ca_bundle"])
        patch.setattr("thalovant.protocol.noise.stretch", cheap_stretch)  # as that server has it
        for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
            patch.delenv(name, raising=False)
        with ThalovantControlPlane(running.ready["api_url"]) as made:
            made.login(*running.admin)
            yield made


@dataclass(eq=False)
class Guest:
    """A connection of the open broker."""

    writer: asyncio.StreamWriter
    level: int = 4
    client_id: bytes = b""
    filters: list[bytes] = field(default_factory=list)
    will: tuple[bytes, bytes] | None = None

    def say(self, data: bytes) -> None:
        if not self.writer.is_closing():
            self.writer.write(data)


class OpenBroker:
    """A broker without any rule: every login is good, every filter granted, every PUBLISH forwarded.

    It also plays every client's hub: to a hello on `<prefix>/c2s` it answers on `<prefix>/s2c`, and so on. Written for
    the tests of the proof: against it, whatever can work has to be found to work.
    """

    def __init__(self) -> None:
        self.guests: dict[bytes, Guest] = {}

    async def __aenter__(self) -> OpenBroker:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=1 << 20)
        self._port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for guest in list(self.guests.values()):
            guest.writer.transport.abort()
        await self._server.wait_closed()

    async def dial(self) -> TlsStream:
        """A way in, without TLS."""
        return TlsStream(*await asyncio.open_connection("127.0.0.1", self._port))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        guest = Guest(writer)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while await self._packet(guest, reader):
                await writer.drain()
        if self.guests.get(guest.client_id) is guest:
            del self.guests[guest.client_id]
        if guest.will is not None:
            self._spread(*guest.will)
        writer.close()

    async def _packet(self, guest: Guest, reader: asyncio.StreamReader) -> bool:
        first = (await reader.readexactly(1))[0]
        length = shift = 0
        while True:
            byte = (await reader.readexactly(1))[0]
            length |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                break
        body = await reader.readexactly(length)
        kind = first >> 4
        if kind == 1 and not guest.client_id:
            self._connect(guest, body)
        elif kind == 3:
            self._publish(guest, first, body)
        elif kind == 8:
            self._subscribe(guest, body)
        elif kind == 12:
            guest.say(b"\xd0\x00")
        else:
            return kind == 6
        return True

    def _connect(self, guest: Guest, body: bytes) -> None:
        guest.level, flags = body[6], body[7]
        at = 10 + (guest.level == 5)
        guest.client_id, at = _take(body, at)
        if flags & 4:
            topic, at = _take(body, at + (guest.level == 5))
            guest.will = topic, _take(body, at)[0]
        older = self.guests.pop(guest.client_id, None)
        if older is not None:
            older.writer.transport.abort()
        self.guests[guest.client_id] = guest
        guest.say(b"\x20\x03\x00\x00\x00" if guest.level == 5 else b"\x20\x02\x00\x00")

    def _subscribe(self, guest: Guest, body: bytes) -> None:
        five, at, count = guest.level == 5, 2 + (guest.level == 5), 0
        while at < len(body):
            topic_filter, at = _take(body, at)
            guest.filters.append(topic_filter)
            at, count = at + 1, count + 1
        answer = body[:2] + b"\x00" * five + bytes(count)
        guest.say(bytes([0x90, len(answer)]) + answer)

    def _publish(self, guest: Guest, first: int, body: bytes) -> None:
        topic, at = _take(body, 0)
        qos = first >> 1 & 3
        if qos:
            guest.say(bytes([(0x40, 0x50)[qos - 1], 2]) + body[at : at + 2])
        payload = body[at + 2 * bool(qos) + (guest.level == 5) :]
        self._spread(topic, payload)
        self._spread(b"$SYS/broker/load", b"1")
        self._spread(b"$CONTROL/dynamic-security/v1/response", b"{}")
        spoken, _, last = topic.rpartition(b"/")
        if payload == HELLO and last in (b"c2s", b"in"):
            for kind in (b"hello", b"shake"):
                answer = b'{"msg_type": "%s", "payload": {}, "metadata": {}, "route": []}' % kind
                self._spread(spoken + {b"c2s": b"/s2c", b"in": b"/out"}[last], answer)

    def _spread(self, topic: bytes, payload: bytes) -> None:
        for guest in list(self.guests.values()):
            if any(_matches(each, topic) for each in guest.filters):
                body = len(topic).to_bytes(2) + topic + b"\x00" * (guest.level == 5) + payload
                length = bytes([len(body)]) if len(body) < 128 else bytes([len(body) & 127 | 128, len(body) >> 7])
                guest.say(b"\x30" + length + body)


def _take(body: bytes, at: int) -> tuple[bytes, int]:
    end = at + 2 + int.from_bytes(body[at : at + 2])
    return body[at + 2 : end], end


def _matches(topic_filter: bytes, topic: bytes) -> bool:
    wanted = topic_filter.removeprefix(b"$share/g/").split(b"/")
    levels = topic.split(b"/")
    for index, level in enumerate(wanted):
        if level == b"#":
            return True
        if index >= len(levels) or level not in (b"+", levels[index]):
            return False
    return len(levels) == len(wanted)


@pytest.fixture
def rig() -> SimpleNamespace:
    """What the tests of this folder share; there is no package to import it from."""
    return SimpleNamespace(OpenBroker=OpenBroker, SCENE=SCENE)
