# SPDX-License-Identifier: Apache-2.0
"""The outcomes of a proof, as a table for people and as JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from thalovant_server.isolation.findings import findings
from thalovant_server.isolation.packets import Wire
from thalovant_server.isolation.verdicts import Outcome, Verdict

HEAD = ("move", "MQTT", "what came back", "verdict")


def proven(outcomes: Sequence[Outcome]) -> bool:
    """Whether something was tried and nothing worked."""
    return bool(outcomes) and all(each.verdict is not Verdict.WORKED for each in outcomes)


def as_text(outcomes: Sequence[Outcome]) -> str:
    """One line a move, and the sum. What others noticed stands below the move."""
    rows = [(each.move, _version(each), each.answer, each.verdict.value) for each in outcomes]
    widths = [max(len(row[column]) for row in [HEAD, *rows]) for column in range(len(HEAD) - 1)]
    lines = [_line(HEAD, widths)]
    for row, outcome in zip(rows, outcomes, strict=True):
        lines += [_line(row, widths), *(f"    {noticed}" for noticed in outcome.noticed)]
    open_ends = [f"- {each}" for each in findings(outcomes)]
    return "\n".join([*lines, "", *open_ends, *([""] if open_ends else []), summary(outcomes)])


def summary(outcomes: Sequence[Outcome]) -> str:
    """The outcome in one line."""
    counts = {verdict: sum(each.verdict is verdict for each in outcomes) for verdict in Verdict}
    told = ", ".join(f"{count} {verdict.value}" for verdict, count in counts.items() if count)
    return f"{'ISOLATED' if proven(outcomes) else 'NOT ISOLATED'}: {len(outcomes)} moves, {told or 'none made'}."


def as_json(outcomes: Sequence[Outcome]) -> str:
    """The same, as one JSON object."""
    return json.dumps(
        {"isolated": proven(outcomes), "findings": findings(outcomes), "moves": [_row(each) for each in outcomes]},
        indent=2,
    )


def _version(outcome: Outcome) -> str:
    return f"{Wire(outcome.level).name} WebSocket" if outcome.road == "WebSocket" else Wire(outcome.level).name


def _row(outcome: Outcome) -> dict[str, Any]:
    return {
        "move": outcome.move,
        "gain": outcome.gain,
        "mqtt": Wire(outcome.level).name,
        "road": outcome.road,
        "answer": outcome.answer,
        "noticed": list(outcome.noticed),
        "verdict": outcome.verdict.value,
    }


def _line(row: tuple[str, ...], widths: Sequence[int]) -> str:
    cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
    return "  ".join([*cells, row[-1]])
