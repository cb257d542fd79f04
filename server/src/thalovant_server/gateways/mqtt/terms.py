# SPDX-License-Identifier: Apache-2.0
"""What one CONNECT fixed for its connection: the version of MQTT, what the client can take, what it is told.

A limit of the client's holds for every packet to it (MQTT-3.1.2-24, MQTT-3.3.4-9); a reason string is left out where
the client wants none (MQTT-3.1.2-29) or where the packet would be too large with it (MQTT-3.2.2-19 and its like).

It will not say whether the client may log in.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeAlias

from thalovant.protocol.mqtt.fields import encode_remaining_length
from thalovant.protocol.mqtt.packets import (
    ACCEPTED,
    Codec,
    Connack,
    Connect,
    Disconnect,
    Puback,
    Pubcomp,
    Pubrec,
    Suback,
    Unsuback,
)
from thalovant.protocol.mqtt.properties import Properties
from thalovant.protocol.mqtt.v5 import V5
from thalovant.protocol.mqtt.versions import CODECS
from thalovant_server.gateways.mqtt.bounds import Bounds

FRAME_BYTES = 65_535
"""A sealed frame is no longer (contract section 6.1)."""

Answer: TypeAlias = Connack | Puback | Pubrec | Pubcomp | Suback | Unsuback | Disconnect
"""What we say to a client that may have a reason string."""

LEAST_PACKET = 128
"""A client that takes less is refused: our CONNACK would not fit, and no answer of a hub."""


@dataclass(frozen=True, slots=True)
class Terms:
    """Made by `terms_of`. Sizes are in bytes of a whole packet, times in seconds."""

    codec: Codec
    in_flight: int
    """PUBLISHes with QoS 1 that it takes unacknowledged."""
    packet_bytes: int | None
    """The largest packet that it takes; None is no limit."""
    explains: bool
    """Whether it may be sent reason strings."""
    keepalive: int
    """After one and a half times so long a silence it is gone; 0 is never."""
    keepalive_told: bool
    """Whether that is not what it asked for."""
    expires: bool
    """Whether it asked for a session that outlives the connection."""

    @property
    def five(self) -> bool:
        """Whether it speaks MQTT 5."""
        return self.codec is V5

    def takes(self, size: int) -> bool:
        """Whether the client takes a packet of that size."""
        return self.packet_bytes is None or size <= self.packet_bytes

    def say(self, packet: Answer, advice: str = "") -> bytes | None:
        """The bytes of a packet, with `advice` as its reason string if that may be; None when it is too large."""
        if advice and self.explains:
            properties = replace(packet.properties, reason_string=advice)
            data = self.codec.encode(replace(packet, properties=properties))
            if self.takes(len(data)):
                return data
        data = self.codec.encode(packet)
        return data if self.takes(len(data)) else None

    def takes_publish(self, topic: bytes, payload: bytes, qos: int) -> bool:
        """Whether the client takes this PUBLISH."""
        return self.packet_bytes is None or publish_size(topic, len(payload), qos) <= self.packet_bytes

    def welcome(self, bounds: Bounds, assigned: str | None) -> Connack:
        """The CONNACK of a login that is good; `assigned` is the client id for a client that brought none.

        MQTT 5, 3.2.2.3: what is not offered is said, and what was asked for and is not given.
        """
        if not self.five:
            return Connack(False, ACCEPTED)
        return Connack(
            False,
            ACCEPTED,
            Properties(
                session_expiry_interval=0 if self.expires else None,
                assigned_client_identifier=assigned,
                server_keep_alive=self.keepalive if self.keepalive_told else None,
                receive_maximum=bounds.unreleased,
                maximum_packet_size=bounds.packet_bytes,
                wildcard_subscription_available=0,
                subscription_identifier_available=0,
                shared_subscription_available=0,
            ),
        )


def publish_size(topic: bytes, payload: int, qos: int) -> int:
    """Bytes of a PUBLISH of MQTT 5 without properties, with so many bytes of payload."""
    rest = 2 + len(topic) + (2 if qos else 0) + 1 + payload
    return 1 + len(encode_remaining_length(rest)) + rest


def terms_of(connect: Connect, bounds: Bounds) -> Terms:
    """What this CONNECT asks for, within our bounds."""
    asked = connect.properties
    keepalive = connect.keepalive
    if connect.level == V5.level and not 0 < keepalive <= bounds.keepalive_most:
        keepalive = bounds.keepalive_most
    return Terms(
        codec=CODECS[connect.level],
        in_flight=min(bounds.in_flight, asked.receive_maximum or bounds.in_flight),
        packet_bytes=asked.maximum_packet_size,
        explains=connect.level == V5.level and asked.request_problem_information != 0,
        keepalive=keepalive,
        keepalive_told=keepalive != connect.keepalive,
        expires=bool(asked.session_expiry_interval),
    )
