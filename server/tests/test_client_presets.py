# SPDX-License-Identifier: Apache-2.0
"""The presets: each grants no more than it needs, and the table that operators read is the one that holds."""

from __future__ import annotations

from pathlib import Path

import pytest

from thalovant_server.client_presets import DEFAULT, PRESETS, UTTERANCE, preset_of, preset_permissions
from thalovant_server.directory import Permissions

TABLE = (Path(__file__).parents[2] / "docs" / "operations.md").read_text().splitlines()


def row_of(first: str) -> list[str]:
    (row,) = [line for line in TABLE if line.startswith(f"| {first} |")]
    return [cell.strip() for cell in row.strip("|").split("|")]


def written(permissions: Permissions) -> list[str]:
    rate = permissions.rate_limit
    return [
        ", ".join(f"`{each}`" for each in sorted(permissions.allowed_types)),
        "yes" if permissions.can_escalate else "no",
        "yes" if permissions.can_propagate else "no",
        "none" if rate is None else f"{rate.messages} in {rate.per_seconds} s",
    ]


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_the_documents_row_is_the_preset(name: str) -> None:
    assert row_of(f"`{name}`")[1:] == [*written(PRESETS[name].permissions), PRESETS[name].reason]


def test_the_documents_default_is_the_default() -> None:
    assert row_of("any other, or none")[1:5] == written(DEFAULT)
    assert preset_permissions("toaster") == preset_permissions(None) == DEFAULT
    assert preset_of("toaster") is None


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_no_preset_broadcasts_or_keeps_a_client_from_asking(name: str) -> None:
    given = PRESETS[name].permissions
    assert UTTERANCE in given.allowed_types
    assert not given.can_broadcast
    assert (given.daily_quota, given.blocked_skills, given.blocked_intents) == (None, frozenset(), frozenset())


def test_an_embedded_device_has_the_least() -> None:
    least = PRESETS["embedded"].permissions
    for preset in PRESETS.values():
        assert least.allowed_types <= preset.permissions.allowed_types
    assert not (least.can_propagate or least.can_escalate)
