# SPDX-License-Identifier: Apache-2.0
"""The three MQTT topics of an identity, for people and programs that look at the broker themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from thalovant.errors import ThalovantConnectionError
from thalovant.protocol.errors import TopicError
from thalovant.protocol.topics import TopicSet, topics_for

if TYPE_CHECKING:
    from thalovant.identity import ThalovantIdentity

__all__ = ["MqttTopicSet", "mqtt_topics_for_identity", "topics_of"]


class MqttTopicSet(NamedTuple):
    """`inbound`: the client speaks there; `outbound`: it hears the hub; `status`: its presence (contract 10.3)."""

    inbound: str
    outbound: str
    status: str


def mqtt_topics_for_identity(identity: ThalovantIdentity) -> MqttTopicSet:
    """The topics that a client of this identity uses. Raises `ThalovantConnectionError` when it has none to use."""
    topics = topics_of(identity)
    return MqttTopicSet(topics.c2s, topics.s2c, topics.status)


def topics_of(identity: ThalovantIdentity) -> TopicSet:
    """The same for the carrier. Raises `ThalovantConnectionError`."""
    mqtt = identity.mqtt
    if mqtt is None:
        raise ThalovantConnectionError("This identity has no MQTT credentials; ask for a fresh identity.")
    try:
        return topics_for(
            mqtt.topic_prefix, c2s_topic=mqtt.c2s_topic, s2c_topic=mqtt.s2c_topic, status_topic=mqtt.status_topic
        )
    except TopicError as error:
        raise ThalovantConnectionError(f"The identity's MQTT topics cannot be used: {error.text}") from error
