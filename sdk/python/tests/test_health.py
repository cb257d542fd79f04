# SPDX-License-Identifier: Apache-2.0
"""Health: when a connection counts as usable, and how it is shown."""

from __future__ import annotations

import pytest

from thalovant.health import ThalovantConnectionInfo, ThalovantHealth


@pytest.mark.parametrize(
    ("health", "ok"),
    [
        (ThalovantHealth(True, True, True), True),
        (ThalovantHealth(True, True, True, connection=ThalovantConnectionInfo(phase="ready")), True),
        (ThalovantHealth(True, True, True, last_error="e"), False),
        (ThalovantHealth(False, True, True), False),
        (ThalovantHealth(True, False, True), False),
        (ThalovantHealth(True, True, False), False),
    ],
)
def test_ok_sums_it_up(health: ThalovantHealth, ok: bool) -> None:
    assert (health.ok, health.as_dict()["ok"]) == (ok, ok)


def test_a_connection_not_tried_yet_is_idle() -> None:
    assert ThalovantConnectionInfo().as_dict() == {
        "phase": "idle",
        "started_at": None,
        "connected_at": None,
        "transport_open_ms": None,
        "socket_open_ms": None,
        "handshake_ms": None,
        "connect_ms": None,
        "last_error": None,
        "protocol": None,
        "attempts": (),
        "moved_because": None,
    }


def test_health_shows_the_connection_too() -> None:
    info = ThalovantConnectionInfo(phase="error", connect_ms=1.5, last_error="e")
    assert ThalovantHealth(False, False, False, "e", info).as_dict() == {
        "ok": False,
        "connected": False,
        "handshake_complete": False,
        "transport_alive": False,
        "last_error": "e",
        "connection": info.as_dict(),
    }
    assert ThalovantHealth(True, True, True).as_dict()["connection"] is None
