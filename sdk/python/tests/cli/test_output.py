# SPDX-License-Identifier: Apache-2.0
"""What is printed cannot steer the terminal that shows it."""

from __future__ import annotations

import json

import pytest

from thalovant.cli.output import json_line, print_json

STEERS = "\x1b[31m \x9b31m \u202e \u2028 \x07 \r"


def test_json_holds_every_character_and_none_that_steers_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    value = {STEERS: [STEERS, "Küche 😀"]}
    print_json(value)
    for text in (capsys.readouterr().out, json_line(value) + "\n"):
        assert json.loads(text) == value
        assert "Küche 😀" in text and text.replace("\n", "").isprintable()
