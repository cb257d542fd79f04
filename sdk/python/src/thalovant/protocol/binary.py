# SPDX-License-Identifier: Apache-2.0
"""The bit-packed binary frame: audio, files and images, and the compact spelling of JSON messages (contract 8).

    pad to whole bytes | 1 | versioned 1 | [version 8] | type 5 | compressed 1 | metadata length 8 | metadata | body

Type `bin` has a 4-bit payload kind before its raw bytes, so four zero bits pad its front and its payload starts on
a byte. Every other type needs no pad and starts with a 1 bit. Inflation is capped; the length of a frame is the
caller's to limit.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from typing import Any, Final

from thalovant.protocol import strict_json
from thalovant.protocol.errors import MessageError, TooLargeError
from thalovant.protocol.messages import MALFORMED_PAYLOAD, NESTING_TYPES, UNKNOWN_TYPE, HiveMessage

MAX_INFLATED: Final = 33_554_432
"""What a compressed part may grow to, in bytes, unless the caller says otherwise."""

MAX_METADATA: Final = 255
"""Bytes of the metadata block on the wire, after compression."""

KIND_NAMES: Final = (
    "binary:0",
    "raw_audio",
    "numpy_image",
    "file",
    "stt_transcribe",
    "stt_handle",
    "tts_audio",
)
"""Names of the payload kinds 0 to 6; 7 to 15 have none."""

_TYPE_CODES: Final = {
    "shake": 0,
    "bus": 1,
    "shared_bus": 2,
    "broadcast": 3,
    "propagate": 4,
    "escalate": 5,
    "hello": 6,
    "query": 7,
    "cascade": 8,
    "ping": 9,
    "rendezvous": 10,
    "bin": 12,
}
_TYPE_NAMES: Final = {code: name for name, code in _TYPE_CODES.items()}
_BIN: Final = _TYPE_CODES["bin"]
_MAX_INFLATED_METADATA: Final = 65_536
_VERSIONS: Final = (0, 1)


def kind_name(kind: int) -> str:
    """The name of a payload kind; `binary:<n>` for one without a name of its own."""
    return KIND_NAMES[kind] if 0 <= kind < len(KIND_NAMES) else f"binary:{kind}"


@dataclass(slots=True)
class BinaryFrame:
    """One binary frame.

    `type` is a `msg_type`. With `bin`, `kind` is 0 to 15 and `payload` is bytes; with any other type `kind` is None and
    `payload` an object. `compressed` and `version` (None: not stated, as is usual) say how it is written.
    """

    type: str
    kind: int | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    payload: bytes | dict[str, Any] = b""
    compressed: bool = False
    version: int | None = None

    def encode(self) -> bytes:
        """The bytes of the wire. Raises `MessageError` when a field does not fit its place."""
        code = _TYPE_CODES.get(self.type)
        if code is None:
            raise MessageError(f"{self.type!r} has no binary form.", code=UNKNOWN_TYPE)
        metadata, body = self._packed_metadata(), self._packed_payload()
        if code != _BIN:
            return self._header(code, metadata).to_bytes(2 + len(metadata) + self._version_bytes(), "big") + body
        if self.kind is None or not 0 <= self.kind <= 15:
            raise MessageError("The kind of a binary payload is a number from 0 to 15.")
        bits = self._header(code, metadata) << 4 | self.kind
        return bits.to_bytes(3 + len(metadata) + self._version_bytes(), "big") + body

    @classmethod
    def decode(cls, data: bytes, *, max_inflated: int = MAX_INFLATED, max_values: int | None = None) -> BinaryFrame:
        """Read one frame.

        Raises `MessageError` when it is malformed (`unknown_type` for an unassigned type code), `TooLargeError` when a
        compressed part grows beyond `max_inflated` bytes or a part holds more than `max_values` JSON values.
        """
        return _decode(data, max_inflated, max_values)

    def to_message(self) -> HiveMessage:
        """The HiveMessage that a frame of any type but `bin` spells.

        The frame has no route of its own; that of the message inside is taken, as upstream does. Raises
        `MessageError` (`malformed_payload`) for `bin`.
        """
        if not isinstance(self.payload, dict):
            raise MessageError("A 'bin' frame holds no HiveMessage.", code=MALFORMED_PAYLOAD)
        route = self.payload.get("route") if self.type in NESTING_TYPES else None
        return HiveMessage(self.type, self.payload, self.metadata, route if isinstance(route, list) else [])

    def _version_bytes(self) -> int:
        return 0 if self.version is None else 1

    def _header(self, code: int, metadata: bytes) -> int:
        """All bits from the marker to the end of the metadata, as one number."""
        bits = 0b10
        if self.version is not None:
            if self.version not in _VERSIONS:
                raise MessageError("The version of a binary frame is at most 1.")
            bits = 0b11 << 8 | self.version
        bits = (bits << 5 | code) << 1 | self.compressed
        bits = bits << 8 | len(metadata)
        return bits << (8 * len(metadata)) | int.from_bytes(metadata, "big")

    def _packed_metadata(self) -> bytes:
        text = strict_json.dump_spaced(self.metadata).encode()
        packed = zlib.compress(text) if self.compressed else text
        if len(packed) > MAX_METADATA:
            raise MessageError(f"The metadata of a binary frame holds at most {MAX_METADATA} bytes.")
        return packed

    def _packed_payload(self) -> bytes:
        if self.type == "bin":
            if isinstance(self.payload, dict):
                raise MessageError("The payload of a 'bin' frame is bytes.")
            return bytes(self.payload)
        if not isinstance(self.payload, dict):
            raise MessageError(f"The payload of a {self.type!r} frame is an object.")
        text = strict_json.dump_spaced(self.payload).encode()
        return zlib.compress(text) if self.compressed else text


def _decode(data: bytes, max_inflated: int, max_values: int | None) -> BinaryFrame:
    shift = _pad(data)
    version, flags, start = _preamble(data, shift)
    kind_type = _TYPE_NAMES.get(flags >> 1)
    if kind_type is None:
        raise MessageError("A binary frame has an unassigned type.", code=UNKNOWN_TYPE)
    if (kind_type == "bin") is not (shift == 4):
        raise MessageError("A binary frame does not fill its bytes.")
    compressed = bool(flags & 1)
    length = _bits(data, start, 1, shift)
    end = start + 1 + length
    block = _bits(data, start + 1, length, shift).to_bytes(length, "big")
    metadata = _read_metadata(block, compressed, max_inflated, max_values)
    if kind_type == "bin":
        kind = _bits(data, end, 1, 0) & 0x0F
        return BinaryFrame("bin", kind, metadata, data[end + 1 :], compressed, version)
    payload = _read_payload(kind_type, _text(data[end:], compressed, max_inflated), max_values)
    return BinaryFrame(kind_type, None, metadata, payload, compressed, version)


def _pad(data: bytes) -> int:
    """How many zero bits stand before the marker bit: none, or four."""
    first = data[0] if data else 0
    if first & 0x80:
        return 0
    if first >> 3 == 1:
        return 4
    raise MessageError("A binary frame has no marker bit in its place.")


def _preamble(data: bytes, shift: int) -> tuple[int | None, int, int]:
    """Version or None, the six bits of type and flag, and the byte where the metadata length begins."""
    first = _bits(data, 0, 1, shift)
    if not first & 0x40:
        return None, first & 0x3F, 1
    version = _bits(data, 0, 2, shift) >> 6 & 0xFF
    if version not in _VERSIONS:
        raise MessageError("A binary frame has a version we do not know.", code="unknown_version")
    return version, _bits(data, 1, 1, shift) & 0x3F, 2


def _bits(data: bytes, start: int, length: int, shift: int) -> int:
    """The `length` bytes that begin `shift` bits after byte `start`, as a number."""
    end = start + length + (1 if shift else 0)
    if end > len(data):
        raise MessageError("A binary frame ends too early.")
    number = int.from_bytes(data[start:end], "big")
    if not shift:
        return number
    return number >> (8 - shift) & ((1 << (8 * length)) - 1)


def _read_metadata(block: bytes, compressed: bool, max_inflated: int, max_values: int | None) -> dict[str, Any]:
    if not block:
        return {}
    text = _text(block, compressed, min(max_inflated, _MAX_INFLATED_METADATA))
    value = strict_json.parse(text, max_values=max_values)
    if not isinstance(value, dict):
        raise MessageError("The metadata of a binary frame is an object.")
    return value


def _read_payload(kind_type: str, text: bytes, max_values: int | None) -> dict[str, Any]:
    value = strict_json.parse(text, max_values=max_values)
    if isinstance(value, dict):
        return value
    if kind_type == "ping":
        return {}
    raise MessageError(f"The payload of {kind_type!r} is not an object.", code=MALFORMED_PAYLOAD)


def _text(block: bytes, compressed: bool, max_inflated: int) -> bytes:
    return _inflate(block, max_inflated) if compressed else block


def _inflate(data: bytes, limit: int) -> bytes:
    """Undo zlib, holding at most `limit` bytes and one more."""
    stream = zlib.decompressobj()
    try:
        out = stream.decompress(data, limit + 1)
    except zlib.error:
        raise MessageError("A compressed part of a binary frame is not zlib data.") from None
    if len(out) > limit:
        raise TooLargeError(f"A compressed part grows beyond {limit} bytes.", limit=limit)
    if not stream.eof or stream.unused_data:
        raise MessageError("A compressed part of a binary frame does not end where it should.")
    return out
