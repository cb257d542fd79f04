# SPDX-License-Identifier: Apache-2.0
"""MQTT packets written by hand, also those that nobody may send: our codec refuses to write half of what is tried.

One class writes both versions. It reads nothing: what a broker answers is judged by `thalovant.protocol.mqtt`.
"""

from __future__ import annotations

from dataclasses import dataclass

PINGREQ = b"\xc0\x00"
PUBREL = b"\x62\x02\x00\x01"
"""Lets a message of QoS 2 go that `Wire.publish` began with."""
NO_PACKET = b"\x00\x00"
"""What no broker may bear with: it ends the connection without a DISCONNECT of the client's, so a will is due. (Of a
second CONNECT Mosquitto 2.0 forgets the will, and a proof with that would prove nothing.)"""


@dataclass(frozen=True, slots=True)
class Will:
    """What a CONNECT wants published when its connection breaks."""

    topic: bytes
    payload: bytes = b"offline"


@dataclass(frozen=True, slots=True)
class Wire:
    """Writes the packets of one protocol level: 4 is MQTT 3.1.1, 5 is MQTT 5."""

    level: int

    @property
    def name(self) -> str:
        """The version as people write it."""
        return "5" if self.level == 5 else "3.1.1"

    def connect(
        self,
        username: str | bytes,
        password: str | bytes,
        client_id: str | bytes,
        *,
        will: Will | None = None,
        keepalive: int = 60,
    ) -> bytes:
        """CONNECT with a clean start (both standards, 3.1); a will is of QoS 1 and retained."""
        flags = 0xC2 | (0x2C if will else 0)
        fields = [_field(client_id)]
        if will is not None:
            fields += [self._nothing, _field(will.topic), _field(will.payload)]
        fields += [_field(username), _field(password)]
        head = _field("MQTT") + bytes([self.level, flags]) + keepalive.to_bytes(2)
        return _packet(0x10, head, self._nothing, *fields)

    def publish(self, topic: bytes, payload: bytes, *, qos: int = 1, retain: bool = False) -> bytes:
        """PUBLISH with packet identifier 1."""
        identifier = b"\x00\x01" if qos else b""
        return _packet(0x30 | qos << 1 | retain, _field(topic), identifier, self._nothing, payload)

    def subscribe(self, *filters: bytes, qos: int = 0) -> bytes:
        """SUBSCRIBE with packet identifier 1."""
        asked = b"".join(_field(each) + bytes([qos]) for each in filters)
        return _packet(0x82, b"\x00\x01", self._nothing, asked)

    @property
    def _nothing(self) -> bytes:
        """The property section of MQTT 5, empty."""
        return b"\x00" if self.level == 5 else b""


def _field(value: str | bytes) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    return len(raw).to_bytes(2) + raw


def _packet(first: int, *fields: bytes) -> bytes:
    body = b"".join(fields)
    left, length = len(body), bytearray()
    while left > 0x7F:
        length.append(left & 0x7F | 0x80)
        left >>= 7
    return bytes([first]) + bytes([*length, left]) + body
