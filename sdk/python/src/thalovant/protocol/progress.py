# SPDX-License-Identifier: Apache-2.0
"""How far an answer has come, so that a request sent again goes on where its link was lost (`docs/wire.md`).

A hub of ours marks each message of an answer, in the envelope's metadata; the client says in the request's context how
much of which turn it has heard. Other hubs and clients know neither.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

MARK: Final = "thalovant"
"""The key of ours, in an envelope's metadata and in a context."""

MAX_TURN: Final = 64  # characters of a turn's id
MAX_PARTS: Final = 2**31


@dataclass(frozen=True, slots=True)
class Progress:
    """`parts` parts of the answer of one turn, counted from its beginning. A turn is one run of the agent."""

    turn: str
    parts: int

    @classmethod
    def of_message(cls, metadata: Mapping[str, Any]) -> Progress | None:
        """How far the answer has come with this message; None when its metadata do not say."""
        return _read(metadata.get(MARK))

    @classmethod
    def of_request(cls, context: Mapping[str, Any]) -> Progress | None:
        """How much the asker has heard; None when the request's context does not say."""
        mark = context.get(MARK)
        return _read(mark.get("heard")) if isinstance(mark, dict) else None

    def as_dict(self) -> dict[str, Any]:
        """The mark as it travels."""
        return {"turn": self.turn, "parts": self.parts}


def with_heard(context: Mapping[str, Any], heard: Progress | None) -> dict[str, Any]:
    """The context of a request that is sent again: with how much was heard, as far as that is known."""
    mark = context.get(MARK)
    mark = {key: value for key, value in mark.items() if key != "heard"} if isinstance(mark, dict) else {}
    if heard is not None:
        mark["heard"] = heard.as_dict()
    return {**context, MARK: mark} if mark or MARK in context else dict(context)


def _read(mark: object) -> Progress | None:
    if not isinstance(mark, dict):
        return None
    turn, parts = mark.get("turn"), mark.get("parts")
    if not isinstance(turn, str) or not 0 < len(turn) <= MAX_TURN:
        return None
    if not isinstance(parts, int) or isinstance(parts, bool) or not 0 <= parts <= MAX_PARTS:
        return None
    return Progress(turn, parts)
