# SPDX-License-Identifier: Apache-2.0
"""The protocol versions that are spoken here, and how each side finds out which one the other speaks."""

from __future__ import annotations

from thalovant.protocol.errors import MqttError, ProtocolViolationError
from thalovant.protocol.mqtt.packets import Codec, Connack, Packet, UnsupportedVersionError
from thalovant.protocol.mqtt.reason_codes import ReasonCode
from thalovant.protocol.mqtt.v5 import V5
from thalovant.protocol.mqtt.v311 import V311

CODECS: dict[int, Codec] = {codec.level: codec for codec in (V311, V5)}
"""By protocol level, 4 and 5."""

_NAMED = b"\0\x04MQTT"
_LEVEL_AT = len(_NAMED)  # in the body of a CONNECT (3.1.2.2 in both standards)


def _decode_opening(first_byte: int, body: bytes) -> Packet:
    """The CONNECT of either version.

    Raises ProtocolViolationError for another packet (MQTT-3.1.0-1 in both standards), UnsupportedVersionError for
    another version, and what the codec of its version raises, with the `level`.
    """
    if first_byte != 0x10:
        raise ProtocolViolationError("The first packet is no CONNECT.")
    level = body[_LEVEL_AT] if body.startswith(_NAMED) and len(body) > _LEVEL_AT else None
    try:
        return CODECS.get(level or V311.level, V311).decode(first_byte, body)
    except UnsupportedVersionError as error:
        raise UnsupportedVersionError(error.level, tuple(CODECS)) from None
    except MqttError as error:
        error.level = level
        raise


def _encode_nothing(*args: object, **kwargs: object) -> bytes:
    raise MqttError("Before CONNECT it is not known which version of MQTT the answer must be in.")


OPENING = Codec(0, _decode_opening, _encode_nothing, _encode_nothing, V311.first_bytes | V5.first_bytes)
"""What a server reads with until the CONNECT came: that packet of either version. It writes nothing."""


def _decode_answer(first_byte: int, body: bytes) -> Packet:
    """A packet of MQTT 5; a CONNACK as MQTT 3.1.1 has it says that 5 is not spoken, whatever its code.

    A server that knows only 3.1.1 may read more into a CONNECT of 5 than its version, and complain of that first.
    """
    if first_byte == 0x20 and len(body) == 2:
        V311.decode(first_byte, body)
        return Connack(False, ReasonCode.UNSUPPORTED_PROTOCOL_VERSION)
    return V5.decode(first_byte, body)


ANSWER = Codec(V5.level, _decode_answer, V5.encode, V5.encode_publish, V5.first_bytes)
"""What a client of MQTT 5 reads with until the CONNACK came, which a server that does not speak 5 writes otherwise."""
