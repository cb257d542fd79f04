# SPDX-License-Identifier: Apache-2.0
"""MQTT 5.0 (protocol level 5): packets to bytes and back, both directions, strict.

Source: OASIS standard "MQTT Version 5.0", 7 March 2019; the clause numbers in this file are its. What cannot be
read by that standard is a `MalformedPacketError` (reason code 0x81), what can be read and says something that it
rules out is a `ProtocolViolationError` (0x82), as its clause 1.2 tells them apart. Not known here: which side a packet,
property or reason code may come from, which topic alias is known, and whether a packet is allowed *now*. That is the
business of the side that holds the connection.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from thalovant.protocol.errors import MalformedPacketError, ProtocolViolationError
from thalovant.protocol.mqtt import connect
from thalovant.protocol.mqtt import property_codec as properties_of
from thalovant.protocol.mqtt.fields import (
    FieldReader,
    checked_count,
    checked_filter,
    checked_topic_name,
    encode_binary,
    encode_packet,
    encode_packet_id,
    encode_text,
)
from thalovant.protocol.mqtt.packets import (
    NO_LOCAL,
    RETAIN_HANDLING,
    Auth,
    Codec,
    Connack,
    Connect,
    Disconnect,
    Packet,
    Pingreq,
    Pingresp,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Suback,
    Subscribe,
    Unsuback,
    Unsubscribe,
    UnsupportedVersionError,
    Will,
)
from thalovant.protocol.mqtt.properties import NOTHING, Properties
from thalovant.protocol.mqtt.publish import written_publish
from thalovant.protocol.mqtt.reason_codes import (
    AUTH_CODES,
    CONNACK_CODES,
    DISCONNECT_CODES,
    PUBACK_CODES,
    PUBREL_CODES,
    SUBACK_CODES,
    UNSUBACK_CODES,
)

LEVEL = 5
_NAME = b"MQTT"
_SHARED = b"$share/"


def encode(packet: Packet) -> bytes:
    """The bytes of one packet.

    Raises MalformedPacketError or ProtocolViolationError when a field cannot be written or the standard forbids it.
    """
    return _ENCODERS[type(packet)](packet)


def decode(first_byte: int, body: bytes) -> Packet:
    """The packet whose fixed header begins with `first_byte` and whose remaining bytes are `body`.

    Raises MalformedPacketError, ProtocolViolationError, UnsupportedVersionError for a CONNECT of another version, or
    MqttError as `fields.checked_count`.
    """
    if first_byte & 0xF0 == 0x30:
        return _decode_publish(first_byte, body)
    decoder = _DECODERS.get(first_byte)
    if decoder is None:
        raise MalformedPacketError(f"No MQTT 5 packet begins with 0x{first_byte:02x}.")  # 2.1.3
    reader = FieldReader(body)
    packet = decoder(reader)
    reader.finish()
    return packet


# PUBLISH (3.3)


def encode_publish(
    topic: bytes,
    payload: bytes,
    *,
    qos: int,
    packet_id: int | None = None,
    retain: bool = False,
    dup: bool = False,
) -> bytes:
    """The bytes of a PUBLISH without properties, the fast road: the topic is taken as it is, so pass a checked one.

    Raises MalformedPacketError when QoS, DUP and packet identifier do not fit together or a length does not fit.
    """
    return written_publish(topic, payload, b"\0", qos, packet_id, retain, dup)


def _encode_whole_publish(packet: Publish) -> bytes:
    if packet.topic or packet.properties.topic_alias is None:
        checked_topic_name(packet.topic)
    properties = properties_of.PUBLISH.write(packet.properties)
    return written_publish(
        packet.topic, packet.payload, properties, packet.qos, packet.packet_id, packet.retain, packet.dup
    )


def _decode_publish(first: int, body: bytes) -> Publish:
    qos = first >> 1 & 3
    if qos == 3:
        raise MalformedPacketError("There is no QoS 3.")  # MQTT-3.3.1-4
    dup = first & 8 != 0
    if dup and not qos:
        raise MalformedPacketError("DUP is set on a PUBLISH with QoS 0.")  # MQTT-3.3.1-2
    end = 2 + int.from_bytes(body[:2])
    after = end + 2 if qos else end
    if len(body) <= after:
        raise MalformedPacketError("The PUBLISH ends within its header.")
    topic = body[2:end]
    if topic:
        checked_topic_name(topic)
    packet_id = None
    if qos:
        packet_id = int.from_bytes(body[end:after])
        if not packet_id:
            raise MalformedPacketError("The packet identifier is 0.")  # MQTT-2.2.1-3
    if topic and not body[after]:
        return Publish(topic, body[after + 1 :], qos, packet_id, first & 1 != 0, dup)
    reader = FieldReader(body, after)
    properties = properties_of.PUBLISH.read(reader)
    if not topic and properties.topic_alias is None:
        raise ProtocolViolationError("The PUBLISH has neither a topic nor a topic alias.")  # 3.3.2.1
    return Publish(topic, reader.rest(), qos, packet_id, first & 1 != 0, dup, properties)


# CONNECT and CONNACK (3.1, 3.2)


def _encode_connect(packet: Connect) -> bytes:
    if packet.level != LEVEL:
        raise MalformedPacketError(f"MQTT 5 is protocol level 5, not {packet.level}.")
    keepalive = connect.checked_keepalive(packet.keepalive)
    body = [encode_binary(_NAME), LEVEL.to_bytes(), connect.flags_of(packet).to_bytes(), keepalive]
    body += [properties_of.CONNECT.write(packet.properties), encode_text(packet.client_id)]
    if packet.will is not None:
        body += _written_will(packet.will)
    return encode_packet(0x10, b"".join([*body, *connect.written_login(packet)]))


def _written_will(will: Will) -> list[bytes]:
    checked_topic_name(will.topic)
    return [properties_of.WILL.write(will.properties), encode_binary(will.topic), encode_binary(will.payload)]


def _decode_connect(reader: FieldReader) -> Connect:
    _check_version(reader)
    flags = reader.byte()
    connect.check_flags(flags)
    keepalive, properties, client_id = reader.uint16(), properties_of.CONNECT.read(reader), reader.text()
    will = _decode_will(reader, flags) if flags & 4 else None
    username, password = connect.read_login(reader, flags)
    return Connect(client_id, flags & 2 != 0, keepalive, username, password, will, LEVEL, properties)


def _check_version(reader: FieldReader) -> None:
    name, level = reader.binary(), reader.byte()
    if name not in (_NAME, b"MQIsdp"):  # the second is MQTT 3.1
        raise MalformedPacketError("The CONNECT does not name MQTT.")  # MQTT-3.1.2-1
    if (name, level) != (_NAME, LEVEL):
        raise UnsupportedVersionError(level, (LEVEL,))  # MQTT-3.1.2-2


def _decode_will(reader: FieldReader, flags: int) -> Will:
    properties, topic = properties_of.WILL.read(reader), reader.binary()
    checked_topic_name(topic)
    return Will(topic, reader.binary(), flags >> 3 & 3, flags & 0x20 != 0, properties)


def _encode_connack(packet: Connack) -> bytes:
    _check_connack(packet)
    return encode_packet(
        0x20, bytes((packet.session_present, packet.code)) + properties_of.CONNACK.write(packet.properties)
    )


def _decode_connack(reader: FieldReader) -> Connack:
    flags = reader.byte()
    if flags > 1:
        raise MalformedPacketError("A reserved flag of the CONNACK is set.")  # 3.2.2.1
    packet = Connack(flags == 1, reader.byte(), properties_of.CONNACK.read(reader))
    _check_connack(packet)
    return packet


def _check_connack(packet: Connack) -> None:
    _check_codes("CONNACK", (packet.code,), CONNACK_CODES)
    if packet.session_present and packet.code:
        raise ProtocolViolationError("A refusing CONNACK says that a session is present.")  # MQTT-3.2.2-6


def _check_codes(packet: str, codes: tuple[int, ...], allowed: frozenset[int]) -> None:
    if not allowed.issuperset(codes):
        raise ProtocolViolationError(f"The {packet} has a reason code that it cannot have.")


# SUBSCRIBE, UNSUBSCRIBE and their answers (3.8 to 3.11)


def _encode_subscribe(packet: Subscribe) -> bytes:
    body = [encode_packet_id(packet.packet_id), properties_of.SUBSCRIBE.write(packet.properties)]
    _check_any(packet.filters)
    for topic_filter, options in packet.filters:
        _check_subscription(topic_filter, options)
        body += [encode_binary(topic_filter), options.to_bytes()]
    return encode_packet(0x82, b"".join(body))


def _decode_subscribe(reader: FieldReader) -> Subscribe:
    packet_id, properties = reader.packet_id(), properties_of.SUBSCRIBE.read(reader)
    filters = []
    while reader.more:
        topic_filter, options = reader.binary(), reader.byte()
        _check_subscription(topic_filter, options)
        filters.append((topic_filter, options))
        checked_count(len(filters))
    _check_any(filters)
    return Subscribe(packet_id, tuple(filters), properties)


def _check_any(filters: Any) -> None:
    if not filters:
        raise ProtocolViolationError("There is no topic filter in the packet.")  # MQTT-3.8.3-2, MQTT-3.10.3-2


def _check_subscription(topic_filter: bytes, options: int) -> None:
    checked_filter(topic_filter)
    if not 0 <= options < 0x40:
        raise MalformedPacketError("A reserved subscription option is set.")  # MQTT-3.8.3-5
    if options & 3 == 3:
        raise ProtocolViolationError("There is no QoS 3.")  # 3.8.3.1
    if options & RETAIN_HANDLING == RETAIN_HANDLING:
        raise ProtocolViolationError("There is no retain handling 3.")  # 3.8.3.1
    if options & NO_LOCAL and topic_filter.startswith(_SHARED):
        raise ProtocolViolationError("A shared subscription cannot have No Local.")  # MQTT-3.8.3-4


def _encode_suback(packet: Suback) -> bytes:
    _check_answers("SUBACK", packet.codes, SUBACK_CODES)
    return encode_packet(0x90, _answer_head(packet) + bytes(packet.codes))


def _decode_suback(reader: FieldReader) -> Suback:
    packet_id, properties, codes = reader.packet_id(), properties_of.ACKNOWLEDGEMENT.read(reader), tuple(reader.rest())
    _check_answers("SUBACK", codes, SUBACK_CODES)
    return Suback(packet_id, codes, properties)


def _answer_head(packet: Suback | Unsuback) -> bytes:
    return encode_packet_id(packet.packet_id) + properties_of.ACKNOWLEDGEMENT.write(packet.properties)


def _check_answers(packet: str, codes: tuple[int, ...], allowed: frozenset[int]) -> None:
    if not codes:
        raise MalformedPacketError(f"The {packet} has no reason code.")
    _check_codes(packet, codes, allowed)


def _encode_unsubscribe(packet: Unsubscribe) -> bytes:
    head = encode_packet_id(packet.packet_id) + properties_of.UNSUBSCRIBE.write(packet.properties)
    _check_any(packet.filters)
    for topic_filter in packet.filters:
        checked_filter(topic_filter)
    return encode_packet(0xA2, head + b"".join(map(encode_binary, packet.filters)))


def _decode_unsubscribe(reader: FieldReader) -> Unsubscribe:
    packet_id, properties = reader.packet_id(), properties_of.UNSUBSCRIBE.read(reader)
    filters = []
    while reader.more:
        topic_filter = reader.binary()
        checked_filter(topic_filter)
        filters.append(topic_filter)
        checked_count(len(filters))
    _check_any(filters)
    return Unsubscribe(packet_id, tuple(filters), properties)


def _encode_unsuback(packet: Unsuback) -> bytes:
    _check_answers("UNSUBACK", packet.codes, UNSUBACK_CODES)
    return encode_packet(0xB0, _answer_head(packet) + bytes(packet.codes))


def _decode_unsuback(reader: FieldReader) -> Unsuback:
    packet_id, properties, codes = reader.packet_id(), properties_of.ACKNOWLEDGEMENT.read(reader), tuple(reader.rest())
    _check_answers("UNSUBACK", codes, UNSUBACK_CODES)
    return Unsuback(packet_id, codes, properties)


# PUBACK, PUBREC, PUBREL, PUBCOMP (3.4 to 3.7): the code, and behind it the properties, may be left out

_ACKNOWLEDGEMENTS: dict[int, tuple[Callable[..., Any], frozenset[int]]] = {
    0x40: (Puback, PUBACK_CODES),
    0x50: (Pubrec, PUBACK_CODES),
    0x62: (Pubrel, PUBREL_CODES),
    0x70: (Pubcomp, PUBREL_CODES),
}


def _acknowledgement_encoder(first: int, allowed: frozenset[int]) -> Callable[[Any], bytes]:
    def encoder(packet: Any) -> bytes:
        if not packet.code and packet.properties is NOTHING:
            return bytes((first, 2)) + encode_packet_id(packet.packet_id)
        name = type(packet).__name__.upper()
        _check_codes(name, (packet.code,), allowed)
        tail = _written_reason(packet.code, properties_of.ACKNOWLEDGEMENT.write(packet.properties))
        return encode_packet(first, encode_packet_id(packet.packet_id) + tail)

    return encoder


def _acknowledgement_decoder(kind: Callable[..., Any], allowed: frozenset[int]) -> Callable[[FieldReader], Any]:
    name = kind.__name__.upper()

    def decoder(reader: FieldReader) -> Any:
        packet_id = reader.packet_id()
        if not reader.more:
            return kind(packet_id)
        code = reader.byte()
        _check_codes(name, (code,), allowed)
        return kind(packet_id, code, _read_if_there(properties_of.ACKNOWLEDGEMENT, reader))

    return decoder


def _read_if_there(codec: properties_of.PropertyCodec, reader: FieldReader) -> Properties:
    return codec.read(reader) if reader.more else NOTHING


def _written_reason(code: int, properties: bytes) -> bytes:
    """As short as it can be: no properties, no property length; nor a code that says success."""
    if properties != b"\0":
        return code.to_bytes() + properties
    return code.to_bytes() if code else b""


# DISCONNECT and AUTH (3.14, 3.15), PINGREQ and PINGRESP (3.12, 3.13)


def _encode_disconnect(packet: Disconnect) -> bytes:
    _check_codes("DISCONNECT", (packet.code,), DISCONNECT_CODES)
    return encode_packet(0xE0, _written_reason(packet.code, properties_of.DISCONNECT.write(packet.properties)))


def _decode_disconnect(reader: FieldReader) -> Disconnect:
    code = reader.byte() if reader.more else 0
    _check_codes("DISCONNECT", (code,), DISCONNECT_CODES)
    return Disconnect(code, _read_if_there(properties_of.DISCONNECT, reader))


def _encode_auth(packet: Auth) -> bytes:
    _check_auth(packet)
    properties = properties_of.AUTH.write(packet.properties)
    return encode_packet(0xF0, b"" if properties == b"\0" else packet.code.to_bytes() + properties)


def _decode_auth(reader: FieldReader) -> Auth:
    packet = Auth(reader.byte(), properties_of.AUTH.read(reader)) if reader.more else Auth()
    _check_auth(packet)
    return packet


def _check_auth(packet: Auth) -> None:
    _check_codes("AUTH", (packet.code,), AUTH_CODES)
    if packet.properties.authentication_method is None and (packet.code or packet.properties != NOTHING):
        raise ProtocolViolationError("The AUTH names no authentication method.")  # 3.15.2.2.2


_ENCODERS: dict[Any, Callable[[Any], bytes]] = {
    Connect: _encode_connect,
    Connack: _encode_connack,
    Publish: _encode_whole_publish,
    **{kind: _acknowledgement_encoder(first, codes) for first, (kind, codes) in _ACKNOWLEDGEMENTS.items()},
    Subscribe: _encode_subscribe,
    Suback: _encode_suback,
    Unsubscribe: _encode_unsubscribe,
    Unsuback: _encode_unsuback,
    Pingreq: lambda packet: b"\xc0\x00",
    Pingresp: lambda packet: b"\xd0\x00",
    Disconnect: _encode_disconnect,
    Auth: _encode_auth,
}

# By the whole first byte: the type and the flags that 2.1.3 demands of it.
_DECODERS: dict[int, Callable[[FieldReader], Packet]] = {
    0x10: _decode_connect,
    0x20: _decode_connack,
    **{first: _acknowledgement_decoder(kind, codes) for first, (kind, codes) in _ACKNOWLEDGEMENTS.items()},
    0x82: _decode_subscribe,
    0x90: _decode_suback,
    0xA2: _decode_unsubscribe,
    0xB0: _decode_unsuback,
    0xC0: lambda reader: Pingreq(),
    0xD0: lambda reader: Pingresp(),
    0xE0: _decode_disconnect,
    0xF0: _decode_auth,
}

V5 = Codec(LEVEL, decode, encode, encode_publish, frozenset({*_DECODERS, *range(0x30, 0x40)}))
"""MQTT 5.0."""
