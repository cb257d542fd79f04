# SPDX-License-Identifier: Apache-2.0
"""A byte stream cut into MQTT packets, however the stream is cut into reads.

Cost is linear in the bytes received, also when they come one at a time. A packet longer than the limit is
refused from its fixed header, before its body is buffered. This file knows no packet type; the codec it is
given does.
"""

from __future__ import annotations

from thalovant.protocol.errors import MalformedPacketError, MqttError, PacketTooLargeError
from thalovant.protocol.mqtt.packets import Codec, Packet
from thalovant.protocol.mqtt.v311 import V311


class PacketReader:
    """Feed it what came from the socket; it gives back the packets that are complete.

    `max_packet_size` counts the whole packet, fixed header included, in bytes; it and the codec, `version`, may be
    changed between two calls and hold for every packet that is parsed from then on.

    A bad packet never hides the good ones before it: `feed` returns those and keeps the error in `error`, and
    raises it from the next call. With nothing good before it, `feed` raises at once. After an error nothing
    is parsed any more.
    """

    __slots__ = ("_needed", "_pending", "error", "max_packet_size", "version")

    def __init__(self, max_packet_size: int, version: Codec = V311) -> None:
        self.max_packet_size = max_packet_size
        self.error: MqttError | None = None
        self.version = version
        self._pending = bytearray()
        self._needed = 0  # bytes in `_pending` below which parsing again is of no use

    @property
    def buffered(self) -> int:
        """Bytes held that are not yet a packet."""
        return len(self._pending)

    def feed(self, data: bytes = b"", at_most: int | None = None) -> list[Packet]:
        """The packets that `data` completes, in order; at most `at_most` of them, the rest with the next call.

        Raises MqttError (MalformedPacketError, PacketTooLargeError, ProtocolViolationError,
        UnsupportedVersionError) as the class says.
        """
        if self.error is not None:
            raise self.error
        if self._pending:
            self._pending += data
            if len(self._pending) < self._needed:
                return []
            data = bytes(self._pending)
            self._pending.clear()
        packets: list[Packet] = []
        try:
            used = self._parse(data, packets, at_most)
        except MqttError as error:
            self.error = error
            if not packets:
                raise
            return packets
        if used < len(data):
            self._pending += data[used:]
        return packets

    def _parse(self, data: bytes, packets: list[Packet], at_most: int | None) -> int:
        """Append the packets in `data` to `packets`; the number of bytes they took."""
        at = 0
        self._needed = 0
        decode = self.version.decode
        while at < len(data) and (at_most is None or len(packets) < at_most):
            body, end = self._extent(data, at)
            if end > len(data):
                self._needed = end - at
                break
            packets.append(decode(data[at], data[body:end]))
            at = end
        return at

    def _extent(self, data: bytes, at: int) -> tuple[int, int]:
        """Where the body of the packet at `at` begins and ends; beyond the data when more is needed."""
        length, shift, body = 0, 0, at + 1
        for byte in data[body : at + 5]:
            body += 1
            length |= (byte & 127) << shift
            if byte < 128:
                break
            shift += 7
        else:
            if shift == 28:
                raise MalformedPacketError("The remaining length has more than four bytes.")  # 2.2.3
            return body, body + 1
        if not byte and shift and self.version.level == 5:
            raise MalformedPacketError("The remaining length is not as short as it can be.")  # MQTT-1.5.5-1
        end = body + length
        if end - at > self.max_packet_size:
            raise self._too_large(end - at)
        if data[at] not in self.version.first_bytes:
            raise MalformedPacketError(f"No MQTT packet begins with 0x{data[at]:02x}.")
        return body, end

    def _too_large(self, size: int) -> PacketTooLargeError:
        text = f"A packet of {size} bytes is more than the {self.max_packet_size} taken here."
        return PacketTooLargeError(text, size=size, limit=self.max_packet_size)
