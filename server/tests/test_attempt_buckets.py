# SPDX-License-Identifier: Apache-2.0
"""Buckets of attempts: never more than their burst and what time gives back, whoever takes, gives or is forgotten."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from thalovant_server.attempt_buckets import AttemptBuckets, Rate

RATE = Rate(burst=3, seconds_each=6.0)


@given(st.lists(st.tuples(st.sampled_from(["a", "b"]), st.integers(0, 9)), max_size=60))
def test_no_more_are_let_through_than_the_burst_and_what_time_gave_back(steps: list[tuple[str, int]]) -> None:
    buckets, now, taken = AttemptBuckets(RATE, 10), 0.0, {"a": 0, "b": 0}
    for key, seconds in steps:
        now += seconds
        if buckets.wait(key, now) == 0.0:
            buckets.take(key, now)
            taken[key] += 1
        else:
            assert buckets.wait(key, now + buckets.wait(key, now)) == 0.0
        assert taken[key] <= RATE.burst + now / RATE.seconds_each


@given(st.integers(1, 5), st.integers(0, 5))
def test_what_is_given_back_can_be_taken_again_and_never_more_than_the_burst(takes: int, gives: int) -> None:
    buckets = AttemptBuckets(RATE, 10)
    for _ in range(takes):
        buckets.take("a", 0.0)
    for _ in range(gives):
        buckets.give_back("a", 0.0)
    left = min(RATE.burst, RATE.burst - min(takes, RATE.burst) + gives)
    free = 0
    while buckets.wait("a", 0.0) == 0.0:
        buckets.take("a", 0.0)
        free += 1
    assert free == left


def test_what_is_known_is_bounded_and_the_longest_unused_goes_first() -> None:
    buckets = AttemptBuckets(RATE, 2)
    buckets.give_back("nobody", 0.0)
    assert len(buckets) == 0
    for key in ("a", "b"):
        buckets.remember(key, 0.0)
    buckets.take("a", 0.0)
    buckets.remember("c", 0.0)
    assert [buckets.knows(key) for key in ("a", "b", "c")] == [True, False, True]
    assert not buckets.is_full("a", 5.0) and buckets.is_full("a", 6.0)
    buckets.forget("a")
    assert buckets.is_full("a", 0.0) and len(buckets) == 1
