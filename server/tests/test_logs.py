# SPDX-License-Identifier: Apache-2.0
"""A secret that somebody logs by mistake does not reach the log."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from thalovant_server.logs import REDACTED, redact


@pytest.mark.parametrize(
    "name",
    ["password", "broker_password", "Secret", "access_token", "authorization", "apiKey", "access_key", "psk", "cookie"],
)
def test_a_value_under_a_secret_name_is_taken_out(name: str) -> None:
    assert redact(None, "info", {"event": "x", name: "canary"}) == {"event": "x", name: REDACTED}
    assert redact(None, "info", {"event": "x", "inner": {name: "canary"}})["inner"] == {name: REDACTED}


@pytest.mark.parametrize(
    "text",
    [
        "GET /hubs/h?authorization=canary&x=1",
        "header Authorization: Bearer canary",
        "set-cookie: hivemind_http_replica=canary; Path=/",
    ],
)
def test_a_secret_inside_a_text_is_taken_out(text: str) -> None:
    for event in ({"event": text}, {"event": "x", "list": [text]}, {"event": "x", "deep": {"a": (text,)}}):
        assert "canary" not in str(redact(None, "info", dict(event)))


def test_what_is_no_secret_stays() -> None:
    event: dict[str, Any] = {
        "event": "session ready",
        "credential_id": 7,
        "carrier": "mqtt",
        "pattern": "KKpsk0",
        "n": 1,
    }
    assert redact(None, "info", dict(event)) == event


def test_both_kinds_of_loggers_write_one_redacted_line_to_standard_error() -> None:
    program = (
        "from thalovant_server import logs; logs.configure()\n"
        "import logging, structlog\n"
        "structlog.get_logger('a').info('first', carrier='mqtt', password='canary')\n"
        "logging.getLogger('b').warning('second ?authorization=%s', 'canary')\n"
        "logging.getLogger('uvicorn.error').info('chatter')\n"
        "try: 1 / 0\nexcept ZeroDivisionError: structlog.get_logger('c').exception('third')\n"
    )
    run = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=True)
    first, second, third = run.stderr.splitlines()
    assert run.stdout == ""
    assert "canary" not in run.stderr
    assert "event=first" in first and "carrier=mqtt" in first
    assert "second" in second
    assert "ZeroDivisionError" in third
