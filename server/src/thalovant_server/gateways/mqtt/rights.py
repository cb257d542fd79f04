# SPDX-License-Identifier: Apache-2.0
"""What a client may publish and hear: its own topics in their direction, whole, and nothing else.

A client has exactly its own topics (architecture decision 2). Whoever asks has looked the topic up already: `segment`
is the last one of a topic that the client has, empty for any other. It knows neither who the client is nor a version
of MQTT; a denial has the reason code of MQTT 5, and 3.1.1 has only one for all of them.
"""

from __future__ import annotations

from dataclasses import dataclass

from thalovant.protocol.mqtt.packets import Publish
from thalovant.protocol.mqtt.reason_codes import ReasonCode as Code
from thalovant.protocol.topics import OFFLINE, ONLINE, SPELLINGS, STATUS

PUBLISHED = frozenset({*SPELLINGS, STATUS})
HEARD = frozenset({*SPELLINGS.values(), STATUS})
STATUSES = frozenset({ONLINE, OFFLINE})


@dataclass(frozen=True, slots=True)
class Denial:
    """Why not: the reason code for whatever packet says so, and what to do instead."""

    code: Code
    advice: str


_OWN = "the topics of a client are in its identity's mqtt block."

NOT_TO_PUBLISH = Denial(Code.NOT_AUTHORIZED, f"Publish to this client's own c2s, in or status topic: {_OWN}")
NOT_RETAINED = Denial(Code.NOT_AUTHORIZED, "Publish to the hub without the retain flag: nothing is kept there.")
NO_STATUS = Denial(Code.PAYLOAD_FORMAT_INVALID, "A status is the word online or offline.")

NOT_TO_HEAR = Denial(Code.NOT_AUTHORIZED, f"Subscribe to this client's own s2c, out or status topic: {_OWN}")
HUB_HEARS = Denial(Code.TOPIC_FILTER_INVALID, "The hub hears this topic: subscribe to s2c, out or status.")
NO_WILDCARDS = Denial(
    Code.WILDCARD_SUBSCRIPTIONS_NOT_SUPPORTED, f"Subscribe without wildcards, to s2c, out or status: {_OWN}"
)
NOT_SHARED = Denial(Code.SHARED_SUBSCRIPTIONS_NOT_SUPPORTED, f"Subscribe without $share, to s2c, out or status: {_OWN}")


def publish_denial(segment: str, packet: Publish) -> Denial | None:
    """Why this PUBLISH may not be, or None."""
    if segment not in PUBLISHED:
        return NOT_TO_PUBLISH
    if segment == STATUS:
        return None if packet.payload in STATUSES else NO_STATUS
    return NOT_RETAINED if packet.retain else None


def filter_denial(segment: str, topic_filter: bytes) -> Denial | None:
    """Why this filter is not granted, or None."""
    if segment in HEARD:
        return None
    if segment:
        return HUB_HEARS
    if topic_filter.startswith(b"$share/"):
        return NOT_SHARED
    return NO_WILDCARDS if b"+" in topic_filter or b"#" in topic_filter else NOT_TO_HEAR
