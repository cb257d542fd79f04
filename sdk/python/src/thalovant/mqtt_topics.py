# SPDX-License-Identifier: Apache-2.0
"""The three MQTT topics of an identity, for people and programs that look at the broker themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from thalovant.addresses import why_no_mqtt
from thalovant.diagnoses import diagnose, diagnosed
from thalovant.errors import ThalovantConnectionError
from thalovant.protocol.errors import TopicError
from thalovant.protocol.topics import TopicSet, hub_topics, topics_for

if TYPE_CHECKING:
    from thalovant.identity import ThalovantIdentity

__all__ = ["MqttTopicSet", "mqtt_topics_for_identity", "overridden_topics", "topics_of"]


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
        raise diagnosed(ThalovantConnectionError, why_no_mqtt(identity))
    try:
        return topics_for(
            mqtt.topic_prefix, c2s_topic=mqtt.c2s_topic, s2c_topic=mqtt.s2c_topic, status_topic=mqtt.status_topic
        )
    except TopicError as error:
        raise diagnosed(ThalovantConnectionError, diagnose("topics_unusable", said=error.text)) from error


def overridden_topics(identity: ThalovantIdentity) -> tuple[str, ...]:
    """The names of the fields whose topic does not lie below the identity's own `topic_prefix`.

    A server gives topics below the prefix, in one of two spellings (contract 10.3); others were put there by hand.
    Empty for an identity without credentials, or whose prefix is none.
    """
    mqtt = identity.mqtt
    try:
        served = hub_topics(mqtt.topic_prefix) if mqtt is not None and mqtt.topic_prefix else None
    except TopicError:
        served = None
    if mqtt is None or served is None:
        return ()
    named = {"c2s_topic": mqtt.c2s_topic, "s2c_topic": mqtt.s2c_topic, "status_topic": mqtt.status_topic}
    fits = {name: {getattr(each, name.removesuffix("_topic")) for each in served} for name in named}
    return tuple(name for name, topic in named.items() if topic is not None and topic not in fits[name])
