# SPDX-License-Identifier: Apache-2.0
"""The protocol versions that are spoken here, and how a server finds out which one a client speaks."""

from __future__ import annotations

from thalovant.protocol.errors import MqttError, ProtocolViolationError
from thalovant.protocol.mqtt.packets import Codec, Packet, UnsupportedVersionError
from thalovant.protocol.mqtt.v5 import V5
from thalovant.protocol.mqtt.v311 import V311

CODECS: dict[int, Codec] = {codec.level: codec for codec in (V311, V5)}
"""By protocol level, 4 and 5."""

_LEVEL_AT = 6  # in the body of a CONNECT that names "MQTT" (3.1.2.2 in both standards)


def _decode_opening(first_byte: int, body: bytes) -> Packet:
    """The CONNECT of either version.

    Raises ProtocolViolationError for another packet (MQTT-3.1.0-1 in both standards), UnsupportedVersionError for
    another version, and MalformedPacketError.
    """
    if first_byte != 0x10:
        raise ProtocolViolationError("The first packet is no CONNECT.")
    codec = CODECS.get(body[_LEVEL_AT] if len(body) > _LEVEL_AT else V311.level, V311)
    try:
        return codec.decode(first_byte, body)
    except UnsupportedVersionError as error:
        raise UnsupportedVersionError(error.level, tuple(CODECS)) from None


def _encode_nothing(*args: object, **kwargs: object) -> bytes:
    raise MqttError("Before CONNECT it is not known which version of MQTT the answer must be in.")


OPENING = Codec(0, _decode_opening, _encode_nothing, _encode_nothing, V311.first_bytes | V5.first_bytes)
"""What a server reads with until the CONNECT came: that packet of either version. It writes nothing."""
