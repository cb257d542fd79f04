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
    """A CONNECT of MQTT, but of a version that this side does not speak. `level` is the protocol level it
    names.

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
    client_id: str
    clean_session: bool = True
    keepalive: int = 0
    """Seconds; 0 switches it off."""
    username: str | None = field(default=None, repr=False)
    password: bytes | None = field(default=None, repr=False)
    will: Will | None = None


@dataclass(slots=True)
class Connack:
    session_present: bool
    code: int


@dataclass(slots=True)
class Publish:
    topic: bytes
    payload: bytes = field(repr=False)
    qos: int = 0
    packet_id: int | None = None
    """1 to 65535 with QoS 1 and 2, None with QoS 0."""
    retain: bool = False
    dup: bool = False


@dataclass(slots=True)
class Puback:
    packet_id: int


@dataclass(slots=True)
class Pubrec:
    packet_id: int


@dataclass(slots=True)
class Pubrel:
    packet_id: int


@dataclass(slots=True)
class Pubcomp:
    packet_id: int


@dataclass(slots=True)
class Subscribe:
    packet_id: int
    filters: tuple[tuple[bytes, int], ...]
    """Pairs of filter and requested QoS, at least one."""


@dataclass(slots=True)
class Suback:
    packet_id: int
    codes: tuple[int, ...]
    """One for each filter, in order: the granted QoS or `REFUSED`."""


@dataclass(slots=True)
class Unsubscribe:
    packet_id: int
    filters: tuple[bytes, ...]


@dataclass(slots=True)
class Unsuback:
    packet_id: int


@dataclass(slots=True)
class Pingreq:
    pass


@dataclass(slots=True)
class Pingresp:
    pass


@dataclass(slots=True)
class Disconnect:
    pass


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
