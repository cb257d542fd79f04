# SPDX-License-Identifier: Apache-2.0
"""Our SDK at our endpoint in MQTT 5: it is what they speak, and a denied publish is the error of its call."""

from __future__ import annotations

from dataclasses import replace

import pytest

from thalovant import (
    ThalovantClient,
    ThalovantControlPlane,
    ThalovantHubRefusedError,
    ThalovantIdentity,
    ThalovantPublishDeniedError,
)
from thalovant_server.testing import ServerProcess


def test_they_speak_5(identity: ThalovantIdentity) -> None:
    with ThalovantClient(identity, protocol="mqtt") as client:
        assert client.ask("in which words?").ok
        link = client._core._keeper.link
        assert link is not None and link.transport.level == 5  # type: ignore[attr-defined]


def with_topics(identity: ThalovantIdentity, **topics: str | None) -> ThalovantIdentity:
    assert identity.mqtt is not None
    return replace(identity, mqtt=replace(identity.mqtt, **topics))  # type: ignore[arg-type]


def test_a_publish_to_anothers_topic_is_denied_by_name(
    api: ThalovantControlPlane, server: ServerProcess, identity: ThalovantIdentity
) -> None:
    neighbour = api.create_client_identity(server.ready["hub_id"], name="neighbour").identity
    assert neighbour.mqtt is not None
    with ThalovantClient(neighbour, protocol="mqtt") as undisturbed:
        astray = with_topics(identity, c2s_topic=neighbour.mqtt.c2s_topic)
        client = ThalovantClient(astray, protocol="mqtt")
        with pytest.raises(ThalovantPublishDeniedError, match="create a fresh identity") as caught:
            client.ask("is this mine?")
        client.close()
        assert (caught.value.topic_kind, caught.value.reason_code) == ("c2s", 0x87)
        assert "c2s" in caught.value.reason, "the endpoint's own words"
        assert neighbour.mqtt.username not in str(caught.value)
        assert undisturbed.ask("still mine").text == "still mine"


def test_a_will_on_anothers_status_is_refused(
    api: ThalovantControlPlane, server: ServerProcess, identity: ThalovantIdentity
) -> None:
    neighbour = api.create_client_identity(server.ready["hub_id"], name="neighbour").identity
    assert neighbour.mqtt is not None
    astray = with_topics(identity, status_topic=neighbour.mqtt.status_topic)
    client = ThalovantClient(astray, protocol="mqtt")
    with pytest.raises(ThalovantHubRefusedError, match="0x87"):
        client.connect()
    client.close()
