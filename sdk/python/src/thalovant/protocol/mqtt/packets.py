# SPDX-License-Identifier: Apache-2.0
"""MQTT control packets as values, one class a packet type, and what a codec of one protocol version is.

Shared by every version: `v311` turns these into bytes and back, a later version is a sibling file that fills
the same classes. Topics and filters stay bytes (they are compared, never shown), the rest of the text is
`str`.

They are values: nobody changes one. They are not `frozen` only because that takes longer to make than all the
rest of decoding a PUBLISH.

This file will not check anything: a codec checks what it reads and what it writes. Nothing secret is in any
`repr`: not the user name (it is the access key), not the password, not a payload.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

from thalovant.protocol.errors import MqttError

REFUSED = 0x80
"""Return code of a SUBACK for a filter that is not granted (MQTT 3.1.1, 3.9.3)."""

ACCEPTED = 0
UNACCEPTABLE_VERSION = 1
IDENTIFIER_REJECTED = 2
SERVER_UNAVAILABLE = 3
BAD_CREDENTIALS = 4
NOT_AUTHORIZED = 5
"""Return codes of a CONNACK (MQTT 3.1.1, table 3.1)."""


class UnsupportedVersionError(MqttError):
    """A CONNECT of MQTT, but of a version that this side does not speak; `level` is the one it names.

    A server answers it with CONNACK `UNACCEPTABLE_VERSION` and closes (MQTT-3.1.2-2).
    """

    default_code = "mqtt_unsupported_version"

    def __init__(self, level: int) -> None:
        super().__init__(f"MQTT protocol level {level} is not spoken here; connect with MQTT 3.1.1 (level 4).")
        self.level = level


@dataclass(slots=True)
class Will:
    """What the server publishes when the connection ends without DISCONNECT."""

    topic: bytes
    payload: bytes = field(repr=False)
    qos: int = 0
    retain: bool = False


@dataclass(slots=True)
class Connect:
    """A client asks to be let in (MQTT 3.1.1, 3.1)."""

    client_id: str
    clean_session: bool = True
    keepalive: int = 0
    """Seconds; 0 switches it off."""
    username: str | None = field(default=None, repr=False)
    password: bytes | None = field(default=None, repr=False)
    will: Will | None = None


@dataclass(slots=True)
class Connack:
    """The answer to CONNECT: `ACCEPTED` or why not (MQTT 3.1.1, 3.2)."""

    session_present: bool
    code: int


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


@dataclass(slots=True)
class Puback:
    """A PUBLISH with QoS 1 was taken (MQTT 3.1.1, 3.4)."""

    packet_id: int


@dataclass(slots=True)
class Pubrec:
    """QoS 2, first answer: the PUBLISH was taken (MQTT 3.1.1, 3.5)."""

    packet_id: int


@dataclass(slots=True)
class Pubrel:
    """QoS 2, answer to PUBREC: the packet identifier may be let go (MQTT 3.1.1, 3.6)."""

    packet_id: int


@dataclass(slots=True)
class Pubcomp:
    """QoS 2, last answer: it was let go (MQTT 3.1.1, 3.7)."""

    packet_id: int


@dataclass(slots=True)
class Subscribe:
    """A client asks for topics (MQTT 3.1.1, 3.8)."""

    packet_id: int
    filters: tuple[tuple[bytes, int], ...]
    """Pairs of filter and requested QoS, at least one."""


@dataclass(slots=True)
class Suback:
    """The answer to SUBSCRIBE (MQTT 3.1.1, 3.9)."""

    packet_id: int
    codes: tuple[int, ...]
    """One for each filter, in order: the granted QoS or `REFUSED`."""


@dataclass(slots=True)
class Unsubscribe:
    """A client wants topics no longer (MQTT 3.1.1, 3.10)."""

    packet_id: int
    filters: tuple[bytes, ...]


@dataclass(slots=True)
class Unsuback:
    """The answer to UNSUBSCRIBE (MQTT 3.1.1, 3.11)."""

    packet_id: int


@dataclass(slots=True)
class Pingreq:
    """A client asks whether the server is there (MQTT 3.1.1, 3.12)."""


@dataclass(slots=True)
class Pingresp:
    """The server is (MQTT 3.1.1, 3.13)."""


@dataclass(slots=True)
class Disconnect:
    """A client leaves in good order; its will is dropped (MQTT 3.1.1, 3.14)."""


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
)


@dataclass(frozen=True, slots=True)
class Codec:
    """One protocol version: how its packets become bytes and come back.

    `decode(first_byte, body)` takes the first byte of the fixed header and everything after the remaining
    length. `first_bytes` are those that may begin a packet, so that nothing is buffered behind any other.
    """

    level: int
    decode: Callable[[int, bytes], Packet]
    encode: Callable[[Packet], bytes]
    first_bytes: frozenset[int]
