# SPDX-License-Identifier: Apache-2.0
"""What happens often is told seldom: the first of a kind, then a number; bounded per source and over all."""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from thalovant_server.repeats import KINDS, KINDS_PER_SOURCE, SECONDS, Line, Repeats, RepeatWindow, Told
from thalovant_server.testing.clock import StandingClock


def test_the_first_of_a_kind_is_told_at_once_and_the_rest_is_a_number_after_a_minute() -> None:
    window: RepeatWindow[str] = RepeatWindow()
    assert window.note(0, "a", "s", "first") == [Line("first", Told.ONCE)]
    assert [window.note(n, "a", "s", "more") for n in range(1, 50)] == [[]] * 49
    assert window.due(SECONDS - 0.1) == []
    assert window.due(SECONDS) == [Line("first", Told.AGAIN, 49)]
    assert window.note(SECONDS, "a", "s", "anew") == [Line("anew", Told.ONCE)]


def test_what_happened_once_leaves_no_number() -> None:
    window: RepeatWindow[str] = RepeatWindow()
    window.note(0, "a", "s", "x")
    assert window.due(SECONDS) == [] and len(window) == 0 and window.next_due is None


def test_another_kind_is_told_by_itself() -> None:
    window: RepeatWindow[str] = RepeatWindow()
    told = [window.note(0, kind, "s", kind) for kind in "aba"]
    assert told == [[Line("a", Told.ONCE)], [Line("b", Told.ONCE)], []]


def test_a_kind_may_be_told_some_times_before_it_is_a_number() -> None:
    window: RepeatWindow[str] = RepeatWindow(each=3)
    told = [len(window.note(0, "a", "s", "x")) for _ in range(5)]
    assert told == [1, 1, 1, 0, 0]
    assert window.close() == [Line("x", Told.AGAIN, 2)]


def test_a_source_with_too_many_kinds_is_a_number_and_leaves_room_for_others() -> None:
    window: RepeatWindow[str] = RepeatWindow()
    told = [line for n in range(3 * KINDS) for line in window.note(0, n, "guesser", f"guess {n}")]
    assert len(told) == KINDS_PER_SOURCE
    assert window.note(1, "a", "other", "x") == [Line("x", Told.ONCE)]
    assert window.due(SECONDS) == [Line(f"guess {KINDS_PER_SOURCE}", Told.MORE_OF_SOURCE, 3 * KINDS - KINDS_PER_SOURCE)]


def test_too_many_sources_are_one_number() -> None:
    window: RepeatWindow[str] = RepeatWindow(kinds=10)
    told = [line for n in range(25) for line in window.note(0, n, f"source {n}", f"x {n}")]
    assert len(told) == 10
    assert window.due(SECONDS) == [Line("x 10", Told.MORE, 15)]


def test_a_number_is_told_in_its_time_and_nothing_is_armed_when_nothing_happens() -> None:
    clock, told = StandingClock(), list[Line[str]]()
    repeats: Repeats[str] = Repeats(clock, told.append)
    assert clock.armed == 0
    for _ in range(3):
        repeats.note("a", "s", "x")
    assert [line.times for line in told] == [1] and clock.armed == 1
    clock.advance(SECONDS)
    assert [line.times for line in told] == [1, 2] and clock.armed == 0


def test_the_window_that_is_given_is_the_one_that_counts() -> None:
    told = list[Line[str]]()
    repeats: Repeats[str] = Repeats(StandingClock(), told.append, RepeatWindow(each=2))
    for _ in range(3):
        repeats.note("a", "s", "x")
    assert [line.told for line in told] == [Told.ONCE] * 2


def test_closing_tells_what_was_not_told_and_may_be_done_again() -> None:
    clock, told = StandingClock(), list[Line[str]]()
    repeats: Repeats[str] = Repeats(clock, told.append)
    for _ in range(2):
        for _ in range(3):
            repeats.note("a", "s", "x")
        repeats.close()
        assert clock.armed == 0
    assert [(line.told, line.times) for line in told] == [(Told.ONCE, 1), (Told.AGAIN, 2)] * 2


STEPS = st.lists(st.tuples(st.floats(0, 40), st.sampled_from("abcde"), st.sampled_from("xyz")), max_size=60)


@given(STEPS)
def test_everything_is_told_or_counted_once_in_time_and_what_is_kept_is_bounded(steps: list[Any]) -> None:
    window: RepeatWindow[tuple[str, str]] = RepeatWindow(kinds=4, per_source=2)
    now, lines = 0.0, list[Line[tuple[str, str]]]()
    for passed, kind, source in steps:
        now += passed
        lines += window.note(now, (kind, source), source, (kind, source))
        assert len(window) <= 4 + 4 + 1
        assert window.next_due is not None and window.next_due > now
    at_once = [line for line in lines if line.told is Told.ONCE]
    lines += window.close()
    assert sum(line.times for line in lines) == len(steps)
    assert window.close() == []
    known = Counter(line.item for line in at_once)
    for line in lines:
        if line.told is Told.AGAIN:
            assert known[line.item] and line.times > 0
