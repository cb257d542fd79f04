# SPDX-License-Identifier: Apache-2.0
"""What `thalovant-server health` says of a broker, and when that counts. (test_cli has it with real servers.)"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from thalovant_server import cli, health
from thalovant_server.health import Health

AWAY = {"state": "away", "since": "2026-11-22T10:00:00.000Z", "fault": "cannot be reached"}


@pytest.mark.parametrize(
    ("broker", "line"),
    [
        (AWAY, "broker: away since 2026-11-22T10:00:00.000Z: cannot be reached"),
        ({**AWAY, "state": "connected", "fault": None}, "broker: connected since 2026-11-22T10:00:00.000Z"),
        ({"state": "missing", "since": None, "fault": "a hub wants one"}, "broker: missing: a hub wants one"),
    ],
)
def test_a_second_line_is_about_the_broker(broker: dict[str, Any], line: str) -> None:
    assert str(health._with_broker("1.2.3", broker)) == f"ok: thalovant-server 1.2.3\n{line}"


def test_without_a_broker_there_is_one_line() -> None:
    assert str(Health("1.2.3")) == "ok: thalovant-server 1.2.3"


@pytest.mark.parametrize(
    ("found", "options", "code"),
    [
        (Health("1"), (), 0),
        (Health("1", "away"), (), 0),
        (Health("1", "connected"), ("--with-broker",), 0),
        (Health("1", "away"), ("--with-broker",), 1),
        (Health("1", "refused"), ("--with-broker",), 1),
        (Health("1"), ("--with-broker",), 1),
    ],
)
def test_a_broker_that_is_away_counts_only_where_that_is_asked(
    found: Health, options: tuple[str, ...], code: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(cli, "check_health", lambda settings: found)
    run = CliRunner().invoke(cli.app, ["health", "--data", str(tmp_path), *options])
    assert run.exit_code == code and run.output.startswith("ok: thalovant-server 1")
