# SPDX-License-Identifier: Apache-2.0
"""The topics of an identity are those that its client uses."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from thalovant.errors import ThalovantConnectionError
from thalovant.identity import ThalovantIdentity
from thalovant.mqtt_credentials import MqttBrokerCredentials
from thalovant.mqtt_topics import MqttTopicSet, mqtt_topics_for_identity

VECTORS = json.loads((Path(__file__).parents[3] / "contract" / "vectors" / "client-topics.json").read_text())


def identity(prefix: str | None, **topics: str) -> ThalovantIdentity:
    values: dict[str, Any] = {"access_key": "a" * 32, "password": "p" * 32, "site_id": "s"}
    made = ThalovantIdentity.from_mapping(values | {"default_master": "wss://localhost:1"})
    return replace(made, mqtt=MqttBrokerCredentials("mqtts://localhost", "u", "p", prefix, **topics))  # type: ignore[arg-type]


@pytest.mark.parametrize("case", VECTORS["cases"], ids=lambda case: repr(case["topic_prefix"]))
def test_a_prefix_has_the_recorded_topics(case: dict[str, Any]) -> None:
    if "error" in case:
        with pytest.raises(ThalovantConnectionError):
            mqtt_topics_for_identity(identity(case["topic_prefix"]))
    else:
        expected = (case["inbound"], case["outbound"], case["status"])
        assert mqtt_topics_for_identity(identity(case["topic_prefix"])) == expected


def test_topics_that_are_named_win() -> None:
    topics = mqtt_topics_for_identity(identity("p", c2s_topic="up", s2c_topic="down"))
    assert topics == MqttTopicSet(inbound="up", outbound="down", status="p/status")


def test_an_identity_without_mqtt_has_none() -> None:
    with pytest.raises(ThalovantConnectionError, match="no MQTT"):
        mqtt_topics_for_identity(replace(identity("p"), mqtt=None))
