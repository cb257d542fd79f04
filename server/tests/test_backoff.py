# SPDX-License-Identifier: Apache-2.0
"""How long the link to a broker, and the keeper of our own, wait before they try again."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from thalovant_server.backoff import EASED_SECONDS, Backoff


def test_waits_double_up_to_the_longest_and_begin_anew() -> None:
    backoff = Backoff(0.5, 30.0, chance=lambda: 0.5)
    assert [backoff.next() for _ in range(8)] == [0.5, 1, 2, 4, 8, 16, 30, 30]
    backoff.reset()
    assert backoff.next() == 0.5


def test_a_link_that_was_up_is_not_waited_for_as_long_as_one_that_is_away() -> None:
    backoff = Backoff(0.5, 30.0, chance=lambda: 0.5)
    assert [backoff.next() for _ in range(6)][-1] == 16
    backoff.ease()
    assert backoff.next() == EASED_SECONDS
    backoff.reset()
    backoff.ease()
    assert backoff.next() == 0.5


def test_however_often_it_was_in_vain_there_is_a_next_time() -> None:
    backoff = Backoff(0.5, 30.0, chance=lambda: 0.5)
    assert {backoff.next() for _ in range(3000)} == {0.5, 1, 2, 4, 8, 16, 30}


@given(st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=12))
def test_each_wait_is_by_chance_and_within_its_bounds(chances: list[float]) -> None:
    drawn = iter(chances)
    backoff = Backoff(0.5, 30.0, chance=lambda: next(drawn))
    for count in range(len(chances)):
        due = min(0.5 * 2**count, 30.0)
        assert due * 0.5 <= backoff.next() <= due * 1.5
