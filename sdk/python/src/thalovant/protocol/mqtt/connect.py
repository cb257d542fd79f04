# SPDX-License-Identifier: Apache-2.0
"""The parts of a CONNECT that are the same in both versions: flags, keep alive and login (both standards, 3.1.2)."""

from __future__ import annotations

from thalovant.protocol.errors import MalformedPacketError
from thalovant.protocol.mqtt.fields import FieldReader, encode_binary, encode_text
from thalovant.protocol.mqtt.packets import Connect


def flags_of(packet: Connect) -> int:
    """The connect flags of a packet. Raises MalformedPacketError for a will with another QoS than 0 to 2."""
    flags = (packet.username is not None) << 7 | (packet.password is not None) << 6 | packet.clean_session << 1
    if packet.will is None:
        return flags
    if not 0 <= packet.will.qos <= 2:
        raise MalformedPacketError(f"There is no QoS {packet.will.qos}.")
    return flags | packet.will.retain << 5 | packet.will.qos << 3 | 4


def check_flags(flags: int) -> None:
    """Raise MalformedPacketError for flags that neither version allows."""
    if flags & 1:
        raise MalformedPacketError("The reserved flag of the CONNECT is set.")  # MQTT-3.1.2-3
    if not flags & 4 and flags & 0x38:
        raise MalformedPacketError("The CONNECT has will flags without a will.")  # MQTT-3.1.2-11, -13, 3.1.1 also -15
    if flags & 0x18 == 0x18:
        raise MalformedPacketError("There is no QoS 3.")  # 3.1.1 MQTT-3.1.2-14, 5 MQTT-3.1.2-12


def checked_keepalive(seconds: int) -> bytes:
    """The keep alive as it is written. Raises MalformedPacketError when it does not fit."""
    if not 0 <= seconds < 65_536:
        raise MalformedPacketError("The keep alive is not from 0 to 65535 seconds.")
    return seconds.to_bytes(2)


def written_login(packet: Connect) -> list[bytes]:
    """User name and password, as far as there are any."""
    username = [] if packet.username is None else [encode_text(packet.username)]
    return username if packet.password is None else [*username, encode_binary(packet.password)]


def read_login(reader: FieldReader, flags: int) -> tuple[str | None, bytes | None]:
    """User name and password, as far as the flags announce them."""
    username = reader.text() if flags & 0x80 else None
    return username, reader.binary() if flags & 0x40 else None
