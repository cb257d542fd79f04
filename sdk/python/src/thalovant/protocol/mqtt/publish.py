# SPDX-License-Identifier: Apache-2.0
"""A PUBLISH on its way out (both standards, 3.3): all of it but what only MQTT 5 has between header and payload.

Reading one is with each version: it is the hottest path there is, and the two differ in the middle of it.
"""

from __future__ import annotations

from thalovant.protocol.errors import MalformedPacketError
from thalovant.protocol.mqtt.fields import encode_binary, encode_packet_id, encode_remaining_length


def written_publish(
    topic: bytes, payload: bytes, properties: bytes, qos: int, packet_id: int | None, retain: bool, dup: bool
) -> bytes:
    """The bytes of a PUBLISH; `properties` are as written, nothing at all in MQTT 3.1.1. The topic is taken as it is.

    Raises MalformedPacketError when QoS, DUP and packet identifier do not fit together or a length does not fit.
    """
    first = 0x30 | dup << 3 | qos << 1 | retain
    if not qos:
        if dup or packet_id is not None:
            raise MalformedPacketError("A PUBLISH with QoS 0 has neither DUP nor a packet identifier.")
        head = encode_binary(topic) + properties
    else:
        if qos > 2:
            raise MalformedPacketError(f"There is no QoS {qos}.")
        head = encode_binary(topic) + encode_packet_id(packet_id) + properties
    return b"".join((first.to_bytes(), encode_remaining_length(len(head) + len(payload)), head, payload))
