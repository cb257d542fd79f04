# SPDX-License-Identifier: Apache-2.0
"""The properties of MQTT 5 to bytes and back: which there are, of which type, and in which packets (2.2.2).

Source: OASIS standard "MQTT Version 5.0", 7 March 2019, table 2-4 and the clauses of each packet. A property that a
packet may not have, or that is not of its type, is a `MalformedPacketError` (2.2.2.2); one that is there twice, or has
a value that the standard rules out, a `ProtocolViolationError`. Which side may send it is not known here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

from thalovant.protocol.errors import MalformedPacketError, ProtocolViolationError
from thalovant.protocol.mqtt.fields import (
    MAX_REMAINING_LENGTH,
    FieldReader,
    checked_count,
    checked_text,
    checked_topic_name,
    encode_binary,
    encode_remaining_length,
    encode_text,
)
from thalovant.protocol.mqtt.properties import NOTHING, Properties
from thalovant.protocol.mqtt.reason_codes import ReasonCode


@dataclass(frozen=True, slots=True)
class _Type:
    """How a value is read, written, and what it must be; `most` bounds a number."""

    read: Callable[[FieldReader], Any]
    write: Callable[[Any], bytes]
    least: int = 0
    most: int | None = None


@dataclass(frozen=True, slots=True)
class _Property:
    identifier: int
    name: str
    type: _Type
    several: bool = False


def _number(size: int) -> Callable[[int], bytes]:
    return lambda value: value.to_bytes(size)


def _read_pair(reader: FieldReader) -> tuple[str, str]:
    return reader.text(), reader.text()


def _write_pair(pair: tuple[str, str]) -> bytes:
    return encode_text(pair[0]) + encode_text(pair[1])


def _read_topic(reader: FieldReader) -> str:
    raw = reader.binary()
    checked_topic_name(raw)
    return checked_text(raw)


def _write_topic(topic: str) -> bytes:
    written = encode_text(topic)
    checked_topic_name(written[2:])
    return written


_FLAG = _Type(FieldReader.byte, _number(1), most=1)
_UINT16 = _Type(FieldReader.uint16, _number(2), most=0xFFFF)
_UINT16_FROM_1 = _Type(FieldReader.uint16, _number(2), least=1, most=0xFFFF)
_UINT32 = _Type(FieldReader.uint32, _number(4), most=0xFFFFFFFF)
_UINT32_FROM_1 = _Type(FieldReader.uint32, _number(4), least=1, most=0xFFFFFFFF)
_VARIABLE_FROM_1 = _Type(FieldReader.variable, encode_remaining_length, least=1, most=MAX_REMAINING_LENGTH)
_TEXT = _Type(FieldReader.text, encode_text)
_BINARY = _Type(FieldReader.binary, encode_binary)
_TOPIC = _Type(_read_topic, _write_topic)  # MQTT-3.3.2-13, -14
_PAIR = _Type(_read_pair, _write_pair)

_PUBLISHED = {
    0x01: _Property(0x01, "payload_format_indicator", _FLAG),
    0x02: _Property(0x02, "message_expiry_interval", _UINT32),
    0x03: _Property(0x03, "content_type", _TEXT),
    0x08: _Property(0x08, "response_topic", _TOPIC),
    0x09: _Property(0x09, "correlation_data", _BINARY),
}
_ANYWHERE = {0x26: _Property(0x26, "user_properties", _PAIR, several=True)}
_EXPLAINED = {0x1F: _Property(0x1F, "reason_string", _TEXT), **_ANYWHERE}
_AUTHENTICATION = {
    0x15: _Property(0x15, "authentication_method", _TEXT),
    0x16: _Property(0x16, "authentication_data", _BINARY),
}
_SESSION_EXPIRY = {0x11: _Property(0x11, "session_expiry_interval", _UINT32)}
_SERVER_REFERENCE = {0x1C: _Property(0x1C, "server_reference", _TEXT)}
_BOUNDS = {
    0x21: _Property(0x21, "receive_maximum", _UINT16_FROM_1),
    0x22: _Property(0x22, "topic_alias_maximum", _UINT16),
    0x27: _Property(0x27, "maximum_packet_size", _UINT32_FROM_1),
}


class PropertyCodec:
    """The properties of one kind of packet, or of a will. `packet` is its name, for errors."""

    def __init__(self, packet: str, kinds: dict[int, _Property]) -> None:
        self._packet = packet
        self._kinds = dict(sorted(kinds.items()))
        self._several = {kind.name for kind in kinds.values() if kind.several}
        own = {kind.name for kind in kinds.values()}
        self._foreign = [field.name for field in fields(Properties) if field.name not in own]

    def read(self, reader: FieldReader) -> Properties:
        """Take the property length and the properties; `NOTHING` itself when there are none.

        Raises MalformedPacketError and ProtocolViolationError as this file says.
        """
        length = reader.variable()
        if not length:
            return NOTHING
        section, found = FieldReader(reader.take(length)), dict[str, Any]()
        while section.more:
            kind = self._kind(section.variable())
            self._add(found, kind, kind.type.read(section))
        for name in self._several & found.keys():
            found[name] = tuple(found[name])
        properties = Properties(**found)
        _check_authentication(properties)
        return properties

    def write(self, properties: Properties) -> bytes:
        """The property length and the properties, those with the lowest identifier first.

        Raises MalformedPacketError for a property that this packet has not or that cannot be written, and
        ProtocolViolationError for a value that the standard rules out.
        """
        if properties is NOTHING:
            return b"\0"
        for name in self._foreign:
            if getattr(properties, name) not in (None, ()):
                raise MalformedPacketError(f"A {self._packet} has no property {_spoken(name)}.")
        _check_authentication(properties)
        section = b"".join([self._written(kind, properties) for kind in self._kinds.values()])
        return encode_remaining_length(len(section)) + section

    def _kind(self, identifier: int) -> _Property:
        kind = self._kinds.get(identifier)
        if kind is None:
            raise MalformedPacketError(f"A {self._packet} has no property 0x{identifier:02x}.")
        return kind

    def _add(self, found: dict[str, Any], kind: _Property, value: Any) -> None:
        _check_range(kind, value)
        if kind.several:
            values = found.setdefault(kind.name, [])
            values.append(value)
            checked_count(len(values))
        elif kind.name in found:
            raise ProtocolViolationError(f"The {self._packet} has the property {_spoken(kind.name)} twice.")
        else:
            found[kind.name] = (value,) if kind.name == "subscription_identifiers" else value

    def _written(self, kind: _Property, properties: Properties) -> bytes:
        value = getattr(properties, kind.name)
        if value is None:
            return b""
        values = value if isinstance(value, tuple) else (value,)
        if len(values) > 1 and not kind.several:
            raise ProtocolViolationError(f"A {self._packet} has the property {_spoken(kind.name)} once at most.")
        for one in values:
            _check_range(kind, one)
        return b"".join(kind.identifier.to_bytes() + kind.type.write(one) for one in values)


def _spoken(name: str) -> str:
    return name.replace("_", " ")


def _check_range(kind: _Property, value: Any) -> None:
    limits = kind.type
    if limits.most is None or limits.least <= value <= limits.most:
        return
    code = ReasonCode.TOPIC_ALIAS_INVALID if kind.name == "topic_alias" else None
    raise ProtocolViolationError(f"The property {_spoken(kind.name)} may not be {value}.", reason_code=code)


def _check_authentication(properties: Properties) -> None:
    if properties.authentication_data is not None and properties.authentication_method is None:
        raise ProtocolViolationError("There is authentication data without an authentication method.")  # 3.1.2.11.10


CONNECT = PropertyCodec(
    "CONNECT",
    {
        **_SESSION_EXPIRY,
        **_AUTHENTICATION,
        0x17: _Property(0x17, "request_problem_information", _FLAG),
        0x19: _Property(0x19, "request_response_information", _FLAG),
        **_BOUNDS,
        **_ANYWHERE,
    },
)
WILL = PropertyCodec("will", {**_PUBLISHED, 0x18: _Property(0x18, "will_delay_interval", _UINT32), **_ANYWHERE})
CONNACK = PropertyCodec(
    "CONNACK",
    {
        **_SESSION_EXPIRY,
        0x12: _Property(0x12, "assigned_client_identifier", _TEXT),
        0x13: _Property(0x13, "server_keep_alive", _UINT16),
        **_AUTHENTICATION,
        0x1A: _Property(0x1A, "response_information", _TEXT),
        **_SERVER_REFERENCE,
        **_BOUNDS,
        0x24: _Property(0x24, "maximum_qos", _FLAG),
        0x25: _Property(0x25, "retain_available", _FLAG),
        0x28: _Property(0x28, "wildcard_subscription_available", _FLAG),
        0x29: _Property(0x29, "subscription_identifier_available", _FLAG),
        0x2A: _Property(0x2A, "shared_subscription_available", _FLAG),
        **_EXPLAINED,
    },
)
PUBLISH = PropertyCodec(
    "PUBLISH",
    {
        **_PUBLISHED,
        0x0B: _Property(0x0B, "subscription_identifiers", _VARIABLE_FROM_1, several=True),
        0x23: _Property(0x23, "topic_alias", _UINT16_FROM_1),
        **_ANYWHERE,
    },
)
ACKNOWLEDGEMENT = PropertyCodec("acknowledgement", _EXPLAINED)
"""Of PUBACK, PUBREC, PUBREL, PUBCOMP, SUBACK and UNSUBACK."""
SUBSCRIBE = PropertyCodec(
    "SUBSCRIBE", {0x0B: _Property(0x0B, "subscription_identifiers", _VARIABLE_FROM_1), **_ANYWHERE}
)
UNSUBSCRIBE = PropertyCodec("UNSUBSCRIBE", _ANYWHERE)
DISCONNECT = PropertyCodec("DISCONNECT", {**_SESSION_EXPIRY, **_SERVER_REFERENCE, **_EXPLAINED})
AUTH = PropertyCodec("AUTH", {**_AUTHENTICATION, **_EXPLAINED})
