# SPDX-License-Identifier: Apache-2.0
"""A counter that never passes its ceiling."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from thalovant_server.hub.budget import ByteBudget


def test_what_does_not_fit_is_not_taken():
    budget = ByteBudget(10)
    assert budget.take(7)
    assert not budget.take(4)
    assert budget.take(3)
    budget.give(10)
    assert budget.used == 0


@given(st.lists(st.integers(0, 40)))
def test_the_ceiling_holds_and_all_comes_back(wishes):
    budget, taken = ByteBudget(100), []
    for wish in wishes:
        if budget.take(wish):
            taken.append(wish)
        assert budget.used == sum(taken) <= 100
    for each in taken:
        budget.give(each)
    assert budget.used == 0
