# SPDX-License-Identifier: Apache-2.0
"""What MQTT packets are made of: integers, UTF-8 strings, binary data (MQTT 3.1.1, 1.5 and 2.2.3; MQTT 5, 1.5).

The same in every protocol version. This file knows no packet. All reading errors are `MalformedPacketError`,
without the offending bytes: they may hold a password.
"""

from __future__ import annotations

from thalovant.protocol.errors import MalformedPacketError, MqttError
from thalovant.protocol.mqtt.reason_codes import ReasonCode

MAX_STRING = 65_535
MAX_REMAINING_LENGTH = 268_435_455
MOST = 1_024
"""Topic filters, or user properties, that are read of one packet. The standards have no bound; a packet of 256 KiB
holds 50,000, and reading them would take longer than anybody else should wait."""


def checked_text(raw: bytes) -> str:
    """The text of a UTF-8 string field. A byte order mark is kept as it is (MQTT-1.5.3-3).

    Raises MalformedPacketError when it is not UTF-8, encodes a surrogate (MQTT-1.5.3-1) or has U+0000
    (MQTT-1.5.3-2).
    """
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        raise MalformedPacketError("A string of the packet is not valid UTF-8.") from None
    if "\0" in text:
        raise MalformedPacketError("A string of the packet holds U+0000.")
    return text


def checked_topic_name(raw: bytes) -> None:
    """Check the topic of a PUBLISH or will: UTF-8, not empty, no wildcard (MQTT-3.3.2-2, MQTT-4.7.3-1)."""
    if not raw:
        raise MalformedPacketError("The topic name is empty.")
    if b"+" in raw or b"#" in raw:
        raise MalformedPacketError("The topic name holds a wildcard.")
    if b"\0" in raw or not raw.isascii():
        checked_text(raw)


def checked_filter(raw: bytes) -> None:
    """Check that a topic filter is UTF-8 and not empty (MQTT-3.8.3-1, MQTT-4.7.3-1), not where wildcards stand."""
    if not raw:
        raise MalformedPacketError("The topic filter is empty.")
    checked_text(raw)


def checked_count(count: int) -> None:
    """Raise MqttError ("mqtt_too_many", MQTT 5: quota exceeded) for more than `MOST`."""
    if count > MOST:
        text = f"A packet with more than {MOST} topic filters or user properties is not read."
        raise MqttError(text, code="mqtt_too_many", reason_code=ReasonCode.QUOTA_EXCEEDED)


def encode_remaining_length(length: int) -> bytes:
    """1 to 4 bytes, 7 bits each, least significant first (MQTT 3.1.1, 2.2.3; MQTT 5, 1.5.5)."""
    if length < 128:
        return length.to_bytes()
    if length > MAX_REMAINING_LENGTH:
        raise MalformedPacketError(f"A packet body of {length} bytes cannot be written in MQTT.")
    out = bytearray()
    while length > 127:
        out.append(length & 127 | 128)
        length >>= 7
    out.append(length)
    return bytes(out)


def encode_binary(data: bytes) -> bytes:
    """Two bytes of length, then the data."""
    if len(data) > MAX_STRING:
        raise MalformedPacketError(f"A field of {len(data)} bytes is longer than MQTT allows (65535).")
    return len(data).to_bytes(2) + data


def encode_text(text: str) -> bytes:
    """A UTF-8 string field. Raises MalformedPacketError for surrogates, U+0000 and more than 65535 bytes."""
    try:
        raw = text.encode()
    except UnicodeEncodeError:
        raise MalformedPacketError("A text with lone surrogates cannot be written in MQTT.") from None
    if b"\0" in raw:
        raise MalformedPacketError("A text with U+0000 cannot be written in MQTT.")
    return encode_binary(raw)


def encode_packet_id(value: int | None) -> bytes:
    """A packet identifier as it is written. Raises MalformedPacketError unless it is from 1 to 65535."""
    if value is None or not 0 < value < 65_536:
        raise MalformedPacketError("This packet needs a packet identifier from 1 to 65535.")
    return value.to_bytes(2)


def encode_packet(first: int, body: bytes) -> bytes:
    """A whole packet: the first byte, the remaining length, and what it counts."""
    return first.to_bytes() + encode_remaining_length(len(body)) + body


class FieldReader:
    """Takes one field after the other from a packet's body; `finish` demands that nothing is left.

    Every method raises MalformedPacketError when the body ends within the field it is to take.
    """

    __slots__ = ("_at", "_body")

    def __init__(self, body: bytes, at: int = 0) -> None:
        self._body = body
        self._at = at

    @property
    def more(self) -> bool:
        """Whether anything is left."""
        return self._at < len(self._body)

    def byte(self) -> int:
        """One byte, 0 to 255."""
        return self.take(1)[0]

    def uint16(self) -> int:
        """Two bytes, most significant first (MQTT 3.1.1, 1.5.2)."""
        return int.from_bytes(self.take(2))

    def uint32(self) -> int:
        """Four bytes, most significant first (MQTT 5, 1.5.3)."""
        return int.from_bytes(self.take(4))

    def variable(self) -> int:
        """A variable byte integer of 1 to 4 bytes, as short as it can be (MQTT 5, 1.5.5)."""
        value = 0
        for shift in (0, 7, 14, 21):
            byte = self.byte()
            value |= (byte & 127) << shift
            if byte < 128:
                if not byte and shift:
                    raise MalformedPacketError("A variable byte integer is not as short as it can be.")
                return value
        raise MalformedPacketError("A variable byte integer has more than four bytes.")

    def packet_id(self) -> int:
        """A packet identifier, which is never 0 (MQTT-2.3.1-1)."""
        value = self.uint16()
        if not value:
            raise MalformedPacketError("The packet identifier is 0.")
        return value

    def binary(self) -> bytes:
        """Two bytes of length and so much data."""
        return self.take(self.uint16())

    def text(self) -> str:
        """A UTF-8 string field; malformed as in `checked_text`."""
        return checked_text(self.binary())

    def rest(self) -> bytes:
        """All that is left, maybe nothing."""
        return self.take(len(self._body) - self._at)

    def finish(self) -> None:
        """Raise MalformedPacketError when anything is left."""
        if self.more:
            raise MalformedPacketError("The packet has bytes after its last field.")

    def take(self, count: int) -> bytes:
        """So many bytes."""
        end = self._at + count
        if end > len(self._body):
            raise MalformedPacketError("The packet ends within a field.")
        taken = self._body[self._at : end]
        self._at = end
        return taken
