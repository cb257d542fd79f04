# SPDX-License-Identifier: Apache-2.0
"""MQTT 3.1.1 (protocol level 4): packets to bytes and back, both directions, strict.

Source: OASIS standard "MQTT Version 3.1.1", 29 October 2014; the clause numbers in this file are its.
Whatever that standard calls a reason to close the connection is `MalformedPacketError` here. Whether a packet
is allowed *now* is not known here: that is the business of the side that holds the connection. What only MQTT 5
can say is not written: nothing is lost without a word.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from thalovant.protocol.errors import MalformedPacketError
from thalovant.protocol.mqtt import connect
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
    ACCEPTED,
    NOT_AUTHORIZED,
    REFUSED,
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

LEVEL = 4
_NAMES = (b"MQTT", b"MQIsdp")  # the second is MQTT 3.1: known, and not spoken


def encode(packet: Packet) -> bytes:
    """The bytes of one packet.

    Raises MalformedPacketError when a field cannot be written, the standard forbids it, or only MQTT 5 has it.
    """
    encoder = _ENCODERS.get(type(packet))
    if encoder is None:
        raise MalformedPacketError("MQTT 3.1.1 has no AUTH.")
    return encoder(packet)


def decode(first_byte: int, body: bytes) -> Packet:
    """The packet whose fixed header begins with `first_byte` and whose remaining bytes are `body`.

    Raises MalformedPacketError, UnsupportedVersionError for a CONNECT of another MQTT version, or MqttError as
    `fields.checked_count`.
    """
    if first_byte & 0xF0 == 0x30:
        return _decode_publish(first_byte, body)
    decoder = _DECODERS.get(first_byte)
    if decoder is None:
        raise MalformedPacketError(f"No MQTT 3.1.1 packet begins with 0x{first_byte:02x}.")
    reader = FieldReader(body)
    packet = decoder(reader)
    reader.finish()
    return packet


def encode_publish(
    topic: bytes,
    payload: bytes,
    *,
    qos: int,
    packet_id: int | None = None,
    retain: bool = False,
    dup: bool = False,
) -> bytes:
    """The bytes of a PUBLISH (3.3), the fast road: the topic is taken as it is, so pass one that was checked.

    Raises MalformedPacketError when QoS, DUP and packet identifier do not fit together or a length does not fit.
    """
    return written_publish(topic, payload, b"", qos, packet_id, retain, dup)


def _decode_publish(first: int, body: bytes) -> Publish:
    qos = first >> 1 & 3
    if qos == 3:
        raise MalformedPacketError("There is no QoS 3.")  # MQTT-3.3.1-4
    dup = first & 8 != 0
    if dup and not qos:
        raise MalformedPacketError("DUP is set on a PUBLISH with QoS 0.")  # MQTT-3.3.1-2
    end = 2 + int.from_bytes(body[:2])
    after = end + 2 if qos else end
    if len(body) < after or len(body) < 2:
        raise MalformedPacketError("The PUBLISH ends within its header.")
    topic = body[2:end]
    checked_topic_name(topic)
    packet_id = None
    if qos:
        packet_id = int.from_bytes(body[end:after])
        if not packet_id:
            raise MalformedPacketError("The packet identifier is 0.")  # MQTT-2.3.1-1
    return Publish(topic, body[after:], qos, packet_id, first & 1 != 0, dup)


def _without(properties: Properties) -> None:
    if properties is not NOTHING and properties != NOTHING:
        raise MalformedPacketError("MQTT 3.1.1 has no properties.")


def _without_code(code: int) -> None:
    if code:
        raise MalformedPacketError("MQTT 3.1.1 has no reason code in this packet.")


# CONNECT and CONNACK (3.1, 3.2)


def _encode_connect(packet: Connect) -> bytes:
    if packet.level != LEVEL:
        raise MalformedPacketError(f"MQTT 3.1.1 is protocol level 4, not {packet.level}.")
    _without(packet.properties)
    if packet.password is not None and packet.username is None:
        raise MalformedPacketError("A CONNECT with a password needs a user name.")  # MQTT-3.1.2-22
    keepalive = connect.checked_keepalive(packet.keepalive)
    body = [encode_binary(_NAMES[0]), LEVEL.to_bytes(), connect.flags_of(packet).to_bytes(), keepalive]
    body.append(encode_text(packet.client_id))
    if packet.will is not None:
        checked_topic_name(packet.will.topic)
        _without(packet.will.properties)
        body += [encode_binary(packet.will.topic), encode_binary(packet.will.payload)]
    return encode_packet(0x10, b"".join([*body, *connect.written_login(packet)]))


def _decode_connect(reader: FieldReader) -> Connect:
    name, level = reader.binary(), reader.byte()
    if name not in _NAMES:
        raise MalformedPacketError("The CONNECT does not name MQTT.")  # MQTT-3.1.2-1
    if (name, level) != (_NAMES[0], LEVEL):
        raise UnsupportedVersionError(level)  # MQTT-3.1.2-2
    flags = reader.byte()
    _check_connect_flags(flags)
    keepalive = reader.uint16()
    client_id = reader.text()
    will = _decode_will(reader, flags) if flags & 4 else None
    username, password = connect.read_login(reader, flags)
    return Connect(client_id, flags & 2 != 0, keepalive, username, password, will)


def _check_connect_flags(flags: int) -> None:
    connect.check_flags(flags)
    if flags & 0xC0 == 0x40:
        raise MalformedPacketError("The CONNECT has a password without a user name.")  # MQTT-3.1.2-22


def _decode_will(reader: FieldReader, flags: int) -> Will:
    topic = reader.binary()
    checked_topic_name(topic)
    return Will(topic, reader.binary(), flags >> 3 & 3, flags & 0x20 != 0)


def _encode_connack(packet: Connack) -> bytes:
    _without(packet.properties)
    _check_connack(packet)
    return bytes((0x20, 2, packet.session_present, packet.code))


def _decode_connack(reader: FieldReader) -> Connack:
    flags = reader.byte()
    if flags > 1:
        raise MalformedPacketError("A reserved flag of the CONNACK is set.")
    packet = Connack(flags == 1, reader.byte())
    _check_connack(packet)
    return packet


def _check_connack(packet: Connack) -> None:
    if not ACCEPTED <= packet.code <= NOT_AUTHORIZED:
        raise MalformedPacketError(f"A CONNACK has no return code {packet.code}.")
    if packet.session_present and packet.code:
        raise MalformedPacketError("A refusing CONNACK says that a session is present.")  # MQTT-3.2.2-4


# SUBSCRIBE, UNSUBSCRIBE and their answers (3.8 to 3.11)


def _encode_subscribe(packet: Subscribe) -> bytes:
    if not packet.filters:
        raise MalformedPacketError("A SUBSCRIBE needs a topic filter.")  # MQTT-3.8.3-3
    _without(packet.properties)
    body = [encode_packet_id(packet.packet_id)]
    for topic_filter, qos in packet.filters:
        checked_filter(topic_filter)
        if not 0 <= qos <= 2:
            raise MalformedPacketError(f"There is no QoS {qos}.")
        body += [encode_binary(topic_filter), qos.to_bytes()]
    return encode_packet(0x82, b"".join(body))


def _decode_subscribe(reader: FieldReader) -> Subscribe:
    packet_id = reader.packet_id()
    filters = []
    while reader.more:
        topic_filter, qos = reader.binary(), reader.byte()
        checked_filter(topic_filter)
        if qos > 2:
            raise MalformedPacketError("A requested QoS of the SUBSCRIBE is not 0, 1 or 2.")  # MQTT-3.8.3-4
        filters.append((topic_filter, qos))
        checked_count(len(filters))
    if not filters:
        raise MalformedPacketError("The SUBSCRIBE has no topic filter.")  # MQTT-3.8.3-3
    return Subscribe(packet_id, tuple(filters))


def _encode_suback(packet: Suback) -> bytes:
    _without(packet.properties)
    _check_suback(packet.codes)
    return encode_packet(0x90, encode_packet_id(packet.packet_id) + bytes(packet.codes))


def _decode_suback(reader: FieldReader) -> Suback:
    packet = Suback(reader.packet_id(), tuple(reader.rest()))
    _check_suback(packet.codes)
    return packet


def _check_suback(codes: tuple[int, ...]) -> None:
    if not codes:
        raise MalformedPacketError("The SUBACK has no return code.")
    if not {0, 1, 2, REFUSED}.issuperset(codes):
        raise MalformedPacketError("A return code of the SUBACK is reserved.")  # MQTT-3.9.3-2


def _encode_unsubscribe(packet: Unsubscribe) -> bytes:
    if not packet.filters:
        raise MalformedPacketError("An UNSUBSCRIBE needs a topic filter.")  # MQTT-3.10.3-2
    _without(packet.properties)
    for topic_filter in packet.filters:
        checked_filter(topic_filter)
    return encode_packet(0xA2, encode_packet_id(packet.packet_id) + b"".join(map(encode_binary, packet.filters)))


def _decode_unsubscribe(reader: FieldReader) -> Unsubscribe:
    packet_id = reader.packet_id()
    filters = []
    while reader.more:
        topic_filter = reader.binary()
        checked_filter(topic_filter)
        filters.append(topic_filter)
        checked_count(len(filters))
    if not filters:
        raise MalformedPacketError("The UNSUBSCRIBE has no topic filter.")  # MQTT-3.10.3-2
    return Unsubscribe(packet_id, tuple(filters))


def _encode_whole_publish(packet: Publish) -> bytes:
    checked_topic_name(packet.topic)
    _without(packet.properties)
    return encode_publish(
        packet.topic,
        packet.payload,
        qos=packet.qos,
        packet_id=packet.packet_id,
        retain=packet.retain,
        dup=packet.dup,
    )


# The packets that are a packet identifier, and those that are nothing (3.4 to 3.7, 3.11 to 3.14)

_IDENTIFIED: dict[int, Callable[[int], Any]] = {0x40: Puback, 0x50: Pubrec, 0x62: Pubrel, 0x70: Pubcomp}
_BARE: dict[int, Callable[[], Any]] = {0xC0: Pingreq, 0xD0: Pingresp, 0xE0: Disconnect}


def _identified_encoder(first: int) -> Callable[[Any], bytes]:
    def encoder(packet: Any) -> bytes:
        _without_code(packet.code)
        _without(packet.properties)
        return bytes((first, 2)) + encode_packet_id(packet.packet_id)

    return encoder


def _encode_unsuback(packet: Unsuback) -> bytes:
    _without_code(len(packet.codes))
    _without(packet.properties)
    return b"\xb0\x02" + encode_packet_id(packet.packet_id)


def _identified_decoder(kind: Callable[[int], Any]) -> Callable[[FieldReader], Any]:
    return lambda reader: kind(reader.packet_id())


def _encode_disconnect(packet: Disconnect) -> bytes:
    _without_code(packet.code)
    _without(packet.properties)
    return b"\xe0\x00"


def _bare_decoder(kind: Callable[[], Any]) -> Callable[[FieldReader], Any]:
    return lambda reader: kind()


_ENCODERS: dict[Any, Callable[[Any], bytes]] = {
    Connect: _encode_connect,
    Connack: _encode_connack,
    Publish: _encode_whole_publish,
    Subscribe: _encode_subscribe,
    Suback: _encode_suback,
    Unsubscribe: _encode_unsubscribe,
    **{kind: _identified_encoder(first) for first, kind in _IDENTIFIED.items()},
    Unsuback: _encode_unsuback,
    Pingreq: lambda packet: b"\xc0\x00",
    Pingresp: lambda packet: b"\xd0\x00",
    Disconnect: _encode_disconnect,
}

# By the whole first byte: the type and the flags that 2.2.2 demands of it.
_DECODERS: dict[int, Callable[[FieldReader], Packet]] = {
    0x10: _decode_connect,
    0x20: _decode_connack,
    0x82: _decode_subscribe,
    0x90: _decode_suback,
    0xA2: _decode_unsubscribe,
    **{first: _identified_decoder(kind) for first, kind in _IDENTIFIED.items()},
    0xB0: _identified_decoder(Unsuback),
    **{first: _bare_decoder(kind) for first, kind in _BARE.items()},
}

V311 = Codec(LEVEL, decode, encode, encode_publish, frozenset({*_DECODERS, *range(0x30, 0x40)}))
"""MQTT 3.1.1."""
