# SPDX-License-Identifier: Apache-2.0
"""How far an answer has come: written and read the same, and whatever else is written counts as not said."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thalovant.protocol.progress import MAX_PARTS, MAX_TURN, Progress, with_heard

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
PROGRESS = st.builds(Progress, st.text(min_size=1, max_size=MAX_TURN), st.integers(0, MAX_PARTS))


@settings(deadline=None)
@given(PROGRESS)
def test_what_is_written_is_read(progress: Progress) -> None:
    assert Progress.of_message({"thalovant": progress.as_dict(), "query_id": "q"}) == progress
    assert Progress.of_request(with_heard({"session": {}}, progress)) == progress


@pytest.mark.parametrize(
    "mark",
    [
        None,
        "t",
        [],
        {},
        {"turn": "t"},
        {"parts": 1},
        {"turn": 7, "parts": 1},
        {"turn": "", "parts": 1},
        {"turn": "t" * (MAX_TURN + 1), "parts": 1},
        {"turn": "t", "parts": -1},
        {"turn": "t", "parts": True},
        {"turn": "t", "parts": 1.0},
        {"turn": "t", "parts": MAX_PARTS + 1},
    ],
)
def test_the_malformed_is_not_said(mark: Any) -> None:
    assert Progress.of_message({"thalovant": mark}) is None
    assert Progress.of_request({"thalovant": {"heard": mark}}) is None


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(["thalovant", "heard", "turn", "parts"]), JSON))
def test_garbage_never_raises(value: dict[str, Any]) -> None:
    for read in (Progress.of_message, Progress.of_request):
        assert read(value) is None or isinstance(read(value), Progress)
    with_heard(value, Progress("t", 1))


def test_a_request_keeps_what_else_it_says_and_its_own_dictionary() -> None:
    context = {"thalovant": {"timeout_ms": 5}, "a": 1}
    again = with_heard(context, Progress("t", 2))
    assert again == {"thalovant": {"timeout_ms": 5, "heard": {"turn": "t", "parts": 2}}, "a": 1}
    assert context == {"thalovant": {"timeout_ms": 5}, "a": 1}
    assert with_heard(again, None) == context
    assert with_heard({"a": 1}, None) == {"a": 1}
