# SPDX-License-Identifier: Apache-2.0
"""MQTT as bytes, for tests of conformance: packets written by hand, and clients on a blocking TLS socket.

Nothing of our codec is used here: what it gets wrong on both sides would not be seen. A `Dialect` writes packets of
one version, also those that nobody may send.
"""

from __future__ import annotations

import json
import socket
import ssl
from dataclasses import dataclass, field
from typing import Any

from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.uri import parse_uri

PINGREQ, PINGRESP, DISCONNECT = b"\xc0\x00", b"\xd0\x00", b"\xe0\x00"
HELLO = b'{"msg_type": "hello", "payload": {"pubkey": ""}, "metadata": {}, "route": []}'
"""A payload that a hub answers with two PUBLISHes."""
PATIENCE = 15.0

# The properties of MQTT 5 (table 2-4) by identifier: how each is read.
NUMBERS = {0x01: 1, 0x02: 4, 0x11: 4, 0x13: 2, 0x17: 1, 0x18: 4, 0x19: 1, 0x21: 2, 0x22: 2, 0x23: 2, 0x24: 1,
           0x25: 1, 0x27: 4, 0x28: 1, 0x29: 1, 0x2A: 1}  # fmt: skip
STRINGS = {0x03, 0x08, 0x09, 0x12, 0x15, 0x16, 0x1A, 0x1C, 0x1F}
REASON_STRING, USER_PROPERTY = 0x1F, 0x26


def u16(number: int) -> bytes:
    """Two bytes, most significant first."""
    return number.to_bytes(2)


def u32(number: int) -> bytes:
    """Four bytes."""
    return number.to_bytes(4)


def text(value: str | bytes) -> bytes:
    """A string or binary field: its length, and it."""
    raw = value.encode() if isinstance(value, str) else value
    return u16(len(raw)) + raw


def variable(number: int) -> bytes:
    """A variable byte integer, as short as it can be."""
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


def packet(first: int, *fields: bytes) -> bytes:
    """A packet of this first byte and these fields."""
    body = b"".join(fields)
    return bytes([first]) + variable(len(body)) + body


def is_sealed(payload: bytes) -> bool:
    """Whether a hub said this inside a session: what it says in the clear is JSON.

    The first byte alone does not tell: one sealed frame of 256 begins with `{` too.
    """
    try:
        json.loads(payload)
    except ValueError:
        return True
    return False


@dataclass(frozen=True)
class Login:
    """A client of a hub: its credential, and its topics."""

    username: str
    password: str
    prefix: str

    def topic(self, segment: str) -> bytes:
        """One of its topics: c2s, s2c, in, out, status."""
        return f"{self.prefix}/{segment}".encode()


@dataclass(frozen=True)
class Will:
    """A will, with its properties where there are any."""

    topic: bytes
    payload: bytes = b"offline"
    qos: int = 1
    retain: bool = True
    properties: bytes = b""


@dataclass(frozen=True)
class Dialect:
    """How the packets of one protocol level are written."""

    level: int

    def properties(self, written: bytes) -> bytes:
        """The property section: nothing at all in 3.1.1."""
        return variable(len(written)) + written if self.level == 5 else b""

    def connect(
        self,
        login: Login | None,
        client_id: str | bytes = "",
        *,
        clean: bool = True,
        keepalive: int = 0,
        will: Will | None = None,
        properties: bytes = b"",
        password: bytes | None = None,
        flags: int | None = None,
        name: str = "MQTT",
        level: int | None = None,
        tail: bytes = b"",
    ) -> bytes:
        """CONNECT. `flags` overrides those that follow from the rest; `tail` is one field too many."""
        made = clean << 1 | (login is not None) * 0xC0
        fields = [text(client_id)]
        if will is not None:
            made |= 4 | will.qos << 3 | will.retain << 5
            fields += [self.properties(will.properties), text(will.topic), text(will.payload)]
        if login is not None:
            fields += [text(login.username), text(login.password if password is None else password)]
        head = text(name) + bytes([self.level if level is None else level, made if flags is None else flags])
        return packet(0x10, head, u16(keepalive), self.properties(properties), *fields, tail)

    def publish(
        self,
        topic: bytes,
        payload: bytes,
        *,
        qos: int = 0,
        packet_id: int | None = None,
        retain: bool = False,
        dup: bool = False,
        properties: bytes = b"",
    ) -> bytes:
        """PUBLISH; whatever is asked for is written."""
        identifier = b"" if packet_id is None else u16(packet_id)
        first = 0x30 | dup << 3 | qos << 1 | retain
        return packet(first, text(topic), identifier, self.properties(properties), payload)

    def subscribe(
        self, packet_id: int, *filters: tuple[bytes, int], properties: bytes = b"", first: int = 0x82
    ) -> bytes:
        """SUBSCRIBE to these filters, each with its options."""
        body = b"".join(text(topic_filter) + bytes([options]) for topic_filter, options in filters)
        return packet(first, u16(packet_id), self.properties(properties), body)

    def unsubscribe(self, packet_id: int, *filters: bytes, properties: bytes = b"", first: int = 0xA2) -> bytes:
        """UNSUBSCRIBE."""
        return packet(first, u16(packet_id), self.properties(properties), *map(text, filters))


@dataclass
class Said:
    """A packet of the server: its first byte and its body; of MQTT 5 where the client speaks that."""

    first: int
    body: bytes = field(repr=False)
    level: int

    @property
    def raw(self) -> bytes:
        """All its bytes."""
        return packet(self.first, self.body)

    @property
    def kind(self) -> str:
        """Its name."""
        return KINDS[self.first >> 4]

    @property
    def qos(self) -> int:
        """Of a PUBLISH."""
        return self.first >> 1 & 3

    @property
    def dup(self) -> bool:
        """Of a PUBLISH."""
        return bool(self.first & 8)

    @property
    def retain(self) -> bool:
        """Of a PUBLISH."""
        return bool(self.first & 1)

    @property
    def topic(self) -> bytes:
        """Of a PUBLISH."""
        return self.body[2 : 2 + int.from_bytes(self.body[:2])]

    @property
    def packet_id(self) -> int:
        """Of a PUBLISH with QoS 1 or 2, or of an acknowledgement."""
        at = 2 + len(self.topic) if self.kind == "PUBLISH" else 0
        return int.from_bytes(self.body[at : at + 2])

    @property
    def code(self) -> int:
        """Of CONNACK, PUBACK to PUBCOMP, DISCONNECT; 0 where it is left out."""
        at = {"CONNACK": 1, "DISCONNECT": 0}.get(self.kind, 2)
        return self.body[at] if len(self.body) > at else 0

    @property
    def codes(self) -> bytes:
        """Of SUBACK and UNSUBACK."""
        return self._split()[1]

    @property
    def payload(self) -> bytes:
        """Of a PUBLISH."""
        return self._split()[1]

    @property
    def properties(self) -> dict[int, Any]:
        """By identifier; user properties are a list of pairs."""
        return self._split()[0]

    def _split(self) -> tuple[dict[int, Any], bytes]:
        at = {"CONNACK": 2, "DISCONNECT": 1, "SUBACK": 2, "UNSUBACK": 2}.get(self.kind, 3)
        if self.kind == "PUBLISH":
            at = 2 + len(self.topic) + (2 if self.qos else 0)
        if self.level != 5 or at >= len(self.body):
            return {}, self.body[at:]
        length, after = read_variable(self.body, at)
        return read_properties(self.body[after : after + length]), self.body[after + length :]


KINDS = ["", "CONNECT", "CONNACK", "PUBLISH", "PUBACK", "PUBREC", "PUBREL", "PUBCOMP", "SUBSCRIBE", "SUBACK",
         "UNSUBSCRIBE", "UNSUBACK", "PINGREQ", "PINGRESP", "DISCONNECT", "AUTH"]  # fmt: skip


def read_variable(data: bytes, at: int) -> tuple[int, int]:
    """A variable byte integer, which must be as short as it can be; and where it ends."""
    number = shift = 0
    start = at
    while True:
        number |= (data[at] & 127) << shift
        at, shift = at + 1, shift + 7
        if data[at - 1] < 128:
            assert data[start:at] == variable(number), "not as short as it can be"
            return number, at


def read_properties(data: bytes) -> dict[int, Any]:
    """The properties of a section; one that is there twice, or is none, is an error."""
    found: dict[int, Any] = {}
    at = 0
    while at < len(data):
        kind, at = data[at], at + 1
        if kind in NUMBERS:
            value: Any = int.from_bytes(data[at : at + NUMBERS[kind]])
            at += NUMBERS[kind]
        elif kind in STRINGS:
            value, at = _field(data, at)
        else:
            assert kind == USER_PROPERTY, f"property 0x{kind:02x}"
            name, at = _field(data, at)
            value, at = _field(data, at)
            found.setdefault(kind, []).append((name, value))
            continue
        assert kind not in found, f"property 0x{kind:02x} twice"
        found[kind] = value
    return found


def _field(data: bytes, at: int) -> tuple[bytes, int]:
    end = at + 2 + int.from_bytes(data[at : at + 2])
    return data[at + 2 : end], end


class Client:
    """A bare client on a TLS socket. It answers nothing by itself."""

    def __init__(self, dialect: Dialect, address: tuple[str, int], tls: ssl.SSLContext) -> None:
        self.write_as = dialect
        self._socket = tls.wrap_socket(socket.create_connection(address, PATIENCE), server_hostname=address[0])
        self._data = b""
        self.port = self._socket.getsockname()[1]
        """Its own, by which the server's log names it."""

    def send(self, *packets: bytes) -> None:
        """Write these at once."""
        self._socket.sendall(b"".join(packets))

    def receive(self) -> Said | None:
        """The next packet; None when the server has closed."""
        while (said := self._next()) is None:
            try:
                data = self._socket.recv(65_536)
            except TimeoutError:
                raise
            except OSError:  # reset, or TLS ended without a word
                data = b""
            if not data:
                assert not self._data, "the server closed in the middle of a packet"
                return None
            self._data += data
        return said

    def ask(self, *packets: bytes) -> Said:
        """Send, and the next packet."""
        self.send(*packets)
        said = self.receive()
        assert said is not None, "the server closed"
        return said

    def silent(self) -> bool:
        """Whether nothing came before the answer to a ping: all that was sent so far is dealt with."""
        return self.ask(PINGREQ).raw == PINGRESP

    def closed(self) -> bool:
        """Whether the server closes without another word."""
        return self.receive() is None

    def hear(self, topic: bytes, options: int = 1) -> Client:
        """Subscribe, and see it granted."""
        said = self.ask(self.write_as.subscribe(900, (topic, options)))
        assert (said.kind, said.codes) == ("SUBACK", bytes([min(options & 3, 1)]))
        return self

    def close(self) -> None:
        """Hang up."""
        self._socket.close()

    def _next(self) -> Said | None:
        if len(self._data) < 2:
            return None
        try:
            length, at = read_variable(self._data, 1)
        except IndexError:
            return None
        if len(self._data) < at + length:
            return None
        said = Said(self._data[0], self._data[at : at + length], self.write_as.level)
        self._data = self._data[at + length :]
        return said


class WebSocket:
    """A WebSocket at this address that offers the subprotocol `mqtt`, on a TLS socket, in one thread."""

    def __init__(self, address: str, tls: ssl.SSLContext) -> None:
        uri = parse_uri(address)
        self._protocol = ClientProtocol(uri, subprotocols=["mqtt"])
        self._socket = tls.wrap_socket(
            socket.create_connection((uri.host, uri.port), PATIENCE), server_hostname=uri.host
        )
        self._events: list[Any] = []
        self._protocol.send_request(self._protocol.connect())
        self._flush()
        answer = self._next()
        assert isinstance(answer, Response) and answer.status_code == 101
        self.subprotocol = answer.headers["Sec-WebSocket-Protocol"]

    def send(self, data: bytes) -> None:
        """One binary frame."""
        self._protocol.send_binary(data)
        self._flush()

    def send_text(self, data: str) -> None:
        """One text frame."""
        self._protocol.send_text(data.encode())
        self._flush()

    def receive(self, enough: int) -> bytes:
        """What binary frames hold, at least so many bytes; less when the server closes."""
        data = b""
        while len(data) < enough and isinstance(frame := self._next(), Frame) and frame.opcode is Opcode.BINARY:
            data += frame.data
        return data

    def close_code(self) -> int | None:
        """The code of the server's close frame, once it has closed; what came before that is skipped."""
        while self._next() is not None:
            pass
        return self._protocol.close_rcvd and self._protocol.close_rcvd.code

    def close(self) -> None:
        """Hang up."""
        self._socket.close()

    def _next(self) -> Any:
        while not self._events:
            data = self._socket.recv(65_536)
            if not data:
                return None
            self._protocol.receive_data(data)
            self._events += self._protocol.events_received()
        return self._events.pop(0)

    def _flush(self) -> None:
        self._socket.sendall(b"".join(self._protocol.data_to_send()))
