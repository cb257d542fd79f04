# SPDX-License-Identifier: Apache-2.0
"""What an operator reads once everything accepts; here what it says of a broker."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from thalovant_server import announcement
from thalovant_server.settings import Settings

READY = {
    "api_url": "https://localhost:8443",
    "mqtt_endpoint": "mqtts://localhost:8883",
    "mqtt_websocket_endpoint": "wss://localhost:8443/mqtt",
    "ca_fingerprint": "ab" * 32,
    "admin_email": "admin@thalovant.local",
    "admin_password_file": "/data/admin-password",
}
JOINED = {"broker_url": "mqtts://broker.example", "broker_password_file": Path("/x"), "broker_root": "home/hubs"}


@pytest.mark.parametrize(
    ("options", "ready", "line"),
    [
        ({}, {}, None),
        (
            {"broker": "mosquitto"},
            {"broker_endpoint": "mqtts://localhost:8884", "broker_folder": "/data/broker"},
            "  broker           mqtts://localhost:8884, its files in /data/broker",
        ),
        (
            JOINED,
            {"broker_endpoint": "mqtts://broker.example:8883"},
            "  broker           mqtts://broker.example:8883, joined, topics below home/hubs",
        ),
    ],
)
def test_the_broker_is_named_where_there_is_one(
    options: dict[str, Any], ready: dict[str, str], line: str | None
) -> None:
    text = announcement.text(Settings(data=Path("/data"), **options), {**READY, **ready})
    assert [each for each in text.splitlines() if each.startswith("  broker")] == ([line] if line else [])


def test_a_broker_that_is_not_reached_is_not_called_joined() -> None:
    ready = {**READY, "broker_endpoint": "mqtts://broker.exmaple:8883"}
    said = announcement.text(Settings(data=Path("/data"), **JOINED), ready, "cannot be reached: Name not known")
    assert "mqtts://broker.exmaple:8883, NOT JOINED: cannot be reached: Name not known, topics below" in said
    assert ", joined" not in said
