# SPDX-License-Identifier: Apache-2.0
"""A counter that never passes its ceiling."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from thalovant_server.hub.budget import ByteBudget


def test_what_does_not_fit_is_not_taken():
    budget = ByteBudget(10)
    account = budget.share("a")
    assert account.take(7)
    assert not account.take(4)
    assert account.take(3)
    account.give(10)
    assert budget.used == 0


@given(st.lists(st.integers(0, 40)))
def test_the_ceiling_holds_and_all_comes_back(wishes):
    budget, taken = ByteBudget(100), []
    for owner, wish in enumerate(wishes):
        if budget.share(owner).take(wish):
            taken.append((owner, wish))
        assert budget.used == sum(wish for _, wish in taken) <= 100
    for owner, wish in taken:
        budget.share(owner).give(wish)
    assert budget.used == 0


def test_an_owner_gets_its_share_over_all_its_accounts_and_no_more():
    budget = ByteBudget(100, share=30)
    one, again, other = budget.share("a"), budget.share("a"), budget.share("b")
    assert one.take(20) and again.take(10)
    assert not one.take(1) and not again.take(1)
    assert (one.used, again.used, other.used, budget.used) == (30, 30, 0, 30)
    assert other.take(30)
    again.give(30)
    assert one.take(30)


def test_an_owner_whose_messages_may_be_longer_gets_more():
    budget = ByteBudget(100, share=30)
    assert budget.share("a", at_least=50).take(50)
    assert not budget.share("a", at_least=50).take(1)
    assert not budget.share("b", at_least=5).take(31)


def test_the_last_part_is_for_those_who_hold_little():
    budget = ByteBudget(100, share=40, reserved=25, little=5)
    assert budget.share("a").take(40) and budget.share("b").take(35)
    assert not budget.share("b").take(1)
    assert not budget.share("c").take(6)
    assert budget.share("c").take(5)
    assert not budget.share("c").take(1)
    for number in range(4):
        assert budget.share(number).take(5)
    assert not budget.share("d").take(1)
    budget.share("a").give(40)
    assert budget.share("c").take(10)


def test_who_holds_nothing_is_forgotten():
    budget = ByteBudget(100)
    accounts = [budget.share(number) for number in range(10)]
    assert all(account.take(3) for account in accounts)
    assert budget.owners == 10
    for account in accounts:
        account.give(3)
    assert (budget.owners, budget.used) == (0, 0)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(-40, 40))))
def test_every_bound_holds_and_the_sum_is_the_sum(steps):
    budget, held = ByteBudget(100, share=50, reserved=25, little=5), dict.fromkeys("abc", 0)
    for owner, wish in steps:
        account, before = budget.share(owner), budget.used
        if wish < 0:
            count = min(-wish, held[owner])
            account.give(count)
            held[owner] -= count
        elif account.take(wish):
            held[owner] += wish
            assert held[owner] <= 5 or budget.used <= 75
        else:
            assert held[owner] + wish > 50 or before + wish > 75
        assert (account.used, budget.used) == (held[owner], sum(held.values()))
        assert budget.used <= 100 and max(held.values()) <= 50
