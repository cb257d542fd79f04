# SPDX-License-Identifier: Apache-2.0
"""A secret that somebody logs by mistake does not reach the log."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalovant_server.logs import REDACTED, name_error, redact


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


@pytest.mark.parametrize("character", ["\x1b", "\r", "\x00", "\x08", "\x7f", "\x9b", "\t", "\u202e", "\u2028"])
def test_control_characters_are_written_out(character: str) -> None:
    class Odd:
        def __str__(self) -> str:
            return f"odd{character}"

    given: dict[str, Any] = {"event": f"a{character}b", "path": Odd(), "list": [f"c{character}"]}
    for value in redact(None, "info", given).values():
        assert character not in str(value)
    assert given["event"] == f"a\\x{ord(character):02x}b"


def test_line_ends_are_the_renderers() -> None:
    assert redact(None, "info", {"exception": "Traceback\n  line"})["exception"] == "Traceback\n  line"


@given(st.text())
def test_a_text_without_controls_is_left_as_it_is(text: str) -> None:
    printed = redact(None, "info", {"event": text})["event"]
    assert all(character == "\n" or character not in printed for character in map(chr, (*range(32), *range(127, 160))))
    if text.isprintable() and "=" not in text and "earer" not in text.lower():
        assert printed == text


def raised(error: BaseException) -> BaseException:
    try:
        raise error
    except BaseException as caught:
        return caught


class SilentError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ValueError("no such light"), "ValueError: no such light"),
        (KeyError(), "KeyError"),
        (SilentError(), "SilentError"),
        (RuntimeError("x" * 1000), f"RuntimeError: {'x' * 500}"),
    ],
)
def test_what_went_wrong_has_a_field_of_its_own(error: Exception, said: str) -> None:
    assert name_error(None, "error", {"exc_info": error})["error"] == said  # never raised: no place
    caught = raised(error)
    line = caught.__traceback__.tb_lineno if caught.__traceback__ else 0
    for given_as in (caught, (type(caught), caught, caught.__traceback__)):
        assert name_error(None, "error", {"exc_info": given_as})["error"] == f"{said} (test_logs.py:{line})"


def test_an_event_without_an_exception_or_with_an_error_of_its_own_stays() -> None:
    for event in ({"event": "x"}, {"exc_info": None}, {"exc_info": (None, None, None)}, {"exc_info": True}):
        assert "error" not in name_error(None, "error", dict(event))
    assert name_error(None, "error", {"exc_info": ValueError("a"), "error": "mine"})["error"] == "mine"


def test_the_line_named_is_the_authors_not_a_librarys() -> None:
    try:
        json.loads("{")
    except ValueError as error:
        assert "(test_logs.py:" in name_error(None, "error", {"exc_info": error})["error"]


def test_the_error_comes_right_after_the_event() -> None:
    program = (
        "from thalovant_server import logs; logs.configure()\n"
        "import logging, structlog\n"
        "try: raise ValueError('no such \\x1b[31mlight')\n"
        "except ValueError as error:\n"
        "    structlog.get_logger('a').error('agent_failed', agent='x', exc_info=error)\n"
        "    logging.getLogger('b').exception('second')\n"
    )
    run = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=True)
    lines = run.stderr.splitlines()
    assert len(lines) == 2
    assert "\x1b" not in run.stderr
    for line, event in zip(lines, ("agent_failed", "second"), strict=True):
        assert f'event={event} error="ValueError: no such \\\\x1b[31mlight (<string>:3)"' in line
        assert "exception=" in line
