# SPDX-License-Identifier: Apache-2.0
"""MQTT control packets as values, one class a packet type, and what a codec of one protocol version is.

Shared by both versions: `v311` and `v5` turn these into bytes and back. What only MQTT 5 has (`properties`, reason
codes, AUTH) has a default that says nothing; the codec of 3.1.1 refuses to write anything else. Topics and filters
stay bytes (they are compared, never shown), the rest of the text is `str`.

They are values: nobody changes one. They are not `frozen` only because that takes longer to make than all the
rest of decoding a PUBLISH.

This file will not check anything: a codec checks what it reads and what it writes. Nothing secret is in any
`repr`: not the user name (it is the access key), not the password, not a payload.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from thalovant.protocol.errors import MqttError
from thalovant.protocol.mqtt.properties import NOTHING, Properties
from thalovant.protocol.mqtt.reason_codes import ReasonCode

REFUSED = 0x80
"""Return code of a SUBACK for a filter that is not granted (MQTT 3.1.1, 3.9.3). MQTT 5: see `reason_codes`."""

NO_LOCAL = 0x04
RETAIN_AS_PUBLISHED = 0x08
RETAIN_HANDLING = 0x30
"""Bits of the options of a filter (MQTT 5, 3.8.3.1); the requested QoS is the lowest two."""

ACCEPTED = 0
UNACCEPTABLE_VERSION = 1
IDENTIFIER_REJECTED = 2
SERVER_UNAVAILABLE = 3
BAD_CREDENTIALS = 4
NOT_AUTHORIZED = 5
"""Return codes of a CONNACK (MQTT 3.1.1, table 3.1)."""

_VERSIONS = {4: "3.1.1", 5: "5.0"}


class UnsupportedVersionError(MqttError):
    """A CONNECT of MQTT, but of a version that this side does not speak; `level` is the one it names.

    A server answers it with CONNACK `UNACCEPTABLE_VERSION` and closes (MQTT-3.1.2-2). `spoken` are the levels that
    would have been taken.
    """

    default_code = "mqtt_unsupported_version"
    default_reason_code = ReasonCode.UNSUPPORTED_PROTOCOL_VERSION

    def __init__(self, level: int, spoken: tuple[int, ...] = (4,)) -> None:
        versions = " or ".join(f"MQTT {_VERSIONS[one]} (level {one})" for one in spoken)
        super().__init__(f"MQTT protocol level {level} is not spoken here; connect with {versions}.")
        self.level: int = level


@dataclass(slots=True)
class Will:
    """What the server publishes when the connection ends without DISCONNECT."""

    topic: bytes
    payload: bytes = field(repr=False)
    qos: int = 0
    retain: bool = False
    properties: Properties = NOTHING


@dataclass(slots=True)
class Connect:
    """A client asks to be let in (both standards, 3.1)."""

    client_id: str
    clean_session: bool = True
    """In MQTT 5 its name is Clean Start."""
    keepalive: int = 0
    """Seconds; 0 switches it off."""
    username: str | None = field(default=None, repr=False)
    password: bytes | None = field(default=None, repr=False)
    will: Will | None = None
    level: int = 4
    """The protocol level: 4 for MQTT 3.1.1, 5 for MQTT 5.0."""
    properties: Properties = NOTHING


@dataclass(slots=True)
class Connack:
    """The answer to CONNECT: `ACCEPTED` or why not, a return code of 3.1.1 or a reason code of 5 (3.2)."""

    session_present: bool
    code: int
    properties: Properties = NOTHING


@dataclass(slots=True)
class Publish:
    """A message on a topic, in either direction (MQTT 3.1.1, 3.3)."""

    topic: bytes
    payload: bytes = field(repr=False)
    qos: int = 0
    packet_id: int | None = None
    """1 to 65535 with QoS 1 and 2, None with QoS 0."""
    retain: bool = False
    dup: bool = False
    properties: Properties = NOTHING


@dataclass(slots=True)
class Puback:
    """A PUBLISH with QoS 1 was taken (MQTT 3.1.1, 3.4)."""

    packet_id: int
    code: int = 0
    properties: Properties = NOTHING


@dataclass(slots=True)
class Pubrec:
    """QoS 2, first answer: the PUBLISH was taken (MQTT 3.1.1, 3.5)."""

    packet_id: int
    code: int = 0
    properties: Properties = NOTHING


@dataclass(slots=True)
class Pubrel:
    """QoS 2, answer to PUBREC: the packet identifier may be let go (MQTT 3.1.1, 3.6)."""

    packet_id: int
    code: int = 0
    properties: Properties = NOTHING


@dataclass(slots=True)
class Pubcomp:
    """QoS 2, last answer: it was let go (MQTT 3.1.1, 3.7)."""

    packet_id: int
    code: int = 0
    properties: Properties = NOTHING


@dataclass(slots=True)
class Subscribe:
    """A client asks for topics (MQTT 3.1.1, 3.8)."""

    packet_id: int
    filters: tuple[tuple[bytes, int], ...]
    """Pairs of filter and options, at least one. The options are the requested QoS; in MQTT 5 more bits may be set."""
    properties: Properties = NOTHING


@dataclass(slots=True)
class Suback:
    """The answer to SUBSCRIBE (MQTT 3.1.1, 3.9)."""

    packet_id: int
    codes: tuple[int, ...]
    """One for each filter, in order: the granted QoS, or `REFUSED` or another reason code from 0x80 on."""
    properties: Properties = NOTHING


@dataclass(slots=True)
class Unsubscribe:
    """A client wants topics no longer (MQTT 3.1.1, 3.10)."""

    packet_id: int
    filters: tuple[bytes, ...]
    properties: Properties = NOTHING


@dataclass(slots=True)
class Unsuback:
    """The answer to UNSUBSCRIBE (both standards, 3.11)."""

    packet_id: int
    codes: tuple[int, ...] = ()
    """MQTT 5: one for each filter, in order."""
    properties: Properties = NOTHING


@dataclass(slots=True)
class Pingreq:
    """A client asks whether the server is there (MQTT 3.1.1, 3.12)."""


@dataclass(slots=True)
class Pingresp:
    """The server is (MQTT 3.1.1, 3.13)."""


@dataclass(slots=True)
class Disconnect:
    """A side leaves in good order and, in MQTT 5, says why (3.14). In 3.1.1 only a client sends it."""

    code: int = 0
    properties: Properties = NOTHING


@dataclass(slots=True)
class Auth:
    """A step of an extended authentication (MQTT 5, 3.15)."""

    code: int = 0
    properties: Properties = NOTHING


Packet: TypeAlias = (
    Connect
    | Connack
    | Publish
    | Puback
    | Pubrec
    | Pubrel
    | Pubcomp
    | Subscribe
    | Suback
    | Unsubscribe
    | Unsuback
    | Pingreq
    | Pingresp
    | Disconnect
    | Auth
)


class EncodePublish(Protocol):
    """The fast road to the bytes of a PUBLISH: the topic is taken as it is, so pass one that was checked.

    Raises MalformedPacketError when QoS, DUP and packet identifier do not fit together or a length does not fit.
    """

    def __call__(
        self,
        topic: bytes,
        payload: bytes,
        *,
        qos: int,
        packet_id: int | None = None,
        retain: bool = False,
        dup: bool = False,
    ) -> bytes: ...


@dataclass(frozen=True, slots=True, repr=False)
class Codec:
    """One protocol version: how its packets become bytes and come back.

    `decode(first_byte, body)` takes the first byte of the fixed header and everything after the remaining
    length. `first_bytes` are those that may begin a packet, so that nothing is buffered behind any other.
    """

    level: int
    decode: Callable[[int, bytes], Packet]
    encode: Callable[[Packet], bytes]
    encode_publish: EncodePublish
    first_bytes: frozenset[int]

    def __repr__(self) -> str:
        return f"Codec(level={self.level})"
