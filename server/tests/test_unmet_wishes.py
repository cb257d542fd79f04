# SPDX-License-Identifier: Apache-2.0
"""What a hub wants that this start does not have is one warning, with what to type; what it has is none."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from structlog.testing import capture_logs

from thalovant_server.directory import CredentialEntry, HubEntry
from thalovant_server.testing.directory import directory_of
from thalovant_server.unmet_wishes import warn_of_unmet_wishes

HUB = HubEntry("h1", "kitchen", "Kitchen", "echo", frozenset({"wss", "mqtt"}), True, mqtt_via="link")
LAMP = CredentialEntry(
    1, "client-1", "h1", "key-1", "kitchen lamp", "site", "home/hubs/h1/clients/client-1", has_broker_password=True
)


def warned(hub: HubEntry, *credentials: CredentialEntry, root: str | None = "home", agents: str = "echo") -> list[Any]:
    with capture_logs() as logs:
        warn_of_unmet_wishes(directory_of([hub], credentials), has_agent=lambda name: name == agents, root=root)
    assert all(each["log_level"] == "warning" and each["hub"] == "kitchen" for each in logs)
    return logs


def test_a_hub_that_has_all_it_wants_is_not_told_of() -> None:
    assert warned(HUB, LAMP) == []
    assert warned(replace(HUB, mqtt_via="embedded"), LAMP, root=None) == []


def test_an_agent_that_was_not_declared() -> None:
    (told,) = warned(HUB, LAMP, agents="other")
    assert (told["event"], told["agent"]) == ("hub_names_an_absent_agent", "echo")
    assert "--agent echo=" in told["mend"] and "thalovant hubs set kitchen --no-agent" in told["mend"]


def test_a_broker_that_this_start_does_not_name() -> None:
    (told,) = warned(HUB, LAMP, root=None)
    assert told["event"] == "hub_without_its_broker"
    assert "--broker-url" in told["mend"] and "thalovant hubs set kitchen --mqtt embedded" in told["mend"]


@pytest.mark.parametrize("fields", [{"active": False}, {"protocols": frozenset({"wss"})}], ids=["asleep", "off"])
def test_a_hub_that_lets_nobody_in_over_mqtt_misses_no_broker(fields: dict[str, Any]) -> None:
    assert warned(replace(HUB, **fields), LAMP, root=None) == []


@pytest.mark.parametrize(
    "lost",
    [replace(LAMP, has_broker_password=False), replace(LAMP, topic_prefix="hubs/h1/clients/client-1")],
    ids=["from before the hub was there", "of another root"],
)
def test_clients_that_no_broker_is_told_of(lost: CredentialEntry) -> None:
    other = replace(LAMP, id=2, client_id="client-2", access_key="key-2")
    (told,) = warned(HUB, lost, other)
    assert (told["event"], told["clients"]) == ("clients_without_their_broker", 1)
    assert told["mend"].endswith("thalovant clients rotate 'kitchen lamp'")
    assert warned(HUB, replace(lost, expires_at=2**60), other) == []  # it was replaced, and is in its grace
    assert warned(HUB, replace(lost, active=False)) == []
