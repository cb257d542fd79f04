# SPDX-License-Identifier: Apache-2.0
"""The asks of a day: counted, begun anew at midnight UTC, given out once to be written, bounded by who asked today."""

from __future__ import annotations

from collections import Counter

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from thalovant_server.daily_usage import DAY, DailyUsage, day_text
from thalovant_server.wall_clock import SECOND

CLIENTS = st.sampled_from(["a", "b", "c"])


class Time:
    """A clock that is set by hand."""

    def __init__(self, micros: int = 20_000 * DAY) -> None:
        self.micros = micros

    def __call__(self) -> int:
        return self.micros


def test_asks_are_counted_by_client_until_midnight() -> None:
    time = Time(20_000 * DAY + DAY - SECOND)
    usage = DailyUsage(time)
    for _ in range(3):
        usage.count("a")
    usage.count("b")
    assert (usage.used("a"), usage.used("b"), usage.used("c"), usage.day) == (3, 1, 0, 20_000)
    assert usage.seconds_left() == 1
    time.micros += SECOND
    assert (usage.used("a"), usage.day) == (0, 20_001)
    assert usage.seconds_left() == 86_400


def test_a_day_is_written_as_people_read_it() -> None:
    assert (day_text(0), day_text(20_779)) == ("1970-01-01", "2026-11-22")


def test_only_what_was_stored_today_is_taken_in() -> None:
    usage = DailyUsage(Time())
    usage.load(19_999, {"a": 5})
    assert usage.used("a") == 0
    usage.load(20_000, {"a": 5})
    usage.count("a")
    assert usage.used("a") == 6
    assert usage.take_unwritten(9) == (20_000, {"a": 6})


def test_a_change_is_given_out_once_in_batches_and_again_when_it_could_not_be_written() -> None:
    usage = DailyUsage(Time())
    for client in "abc":
        usage.count(client)
    assert usage.take_unwritten(2) == (20_000, {"a": 1, "b": 1})
    assert usage.take_unwritten(2) == (20_000, {"c": 1})
    assert not usage.is_unwritten
    usage.forget("b")
    usage.give_back(["a", "b"])
    usage.count("a")
    assert usage.take_unwritten(9) == (20_000, {"a": 2})


def test_what_was_taken_before_midnight_is_not_given_back_to_the_next_day() -> None:
    time = Time()
    usage = DailyUsage(time)
    usage.count("a")
    _, taken = usage.take_unwritten(9)
    time.micros += DAY
    assert usage.used("a") == 0
    usage.give_back(taken)
    assert not usage.is_unwritten


class Days(RuleBasedStateMachine):
    """The counts against a model; what was written against what a new start reads."""

    def __init__(self) -> None:
        super().__init__()
        self.time = Time()
        self.usage = DailyUsage(self.time)
        self.model: Counter[str] = Counter()
        self.rows: dict[str, tuple[int, int]] = {}

    @rule(client=CLIENTS)
    def ask(self, client: str) -> None:
        self.usage.count(client)
        self.model[client] += 1

    @rule(client=CLIENTS)
    def remove(self, client: str) -> None:
        self.usage.forget(client)
        self.rows.pop(client, None)
        del self.model[client]

    @rule(micros=st.integers(1, DAY) | st.just(DAY))
    def wait(self, micros: int) -> None:
        before = self.time.micros // DAY
        self.time.micros += micros
        if self.time.micros // DAY != before:
            self.model.clear()

    @rule(most=st.integers(1, 3), fails=st.booleans())
    def write(self, most: int, fails: bool) -> None:
        day, used = self.usage.take_unwritten(most)
        if fails:
            self.usage.give_back(used)
        else:
            self.rows.update({client: (day, count) for client, count in used.items()})

    @rule()
    def restart(self) -> None:
        """An orderly one: everything is written first."""
        self.write(9, False)
        self.usage = DailyUsage(self.time)
        today = self.usage.day
        self.usage.load(today, {client: count for client, (day, count) in self.rows.items() if day == today})

    @invariant()
    def agrees(self) -> None:
        assert {client: self.usage.used(client) for client in "abc"} == {client: self.model[client] for client in "abc"}
        assert 1 <= self.usage.seconds_left() <= 86_400


TestDays = Days.TestCase
