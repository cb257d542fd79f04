# SPDX-License-Identifier: Apache-2.0
"""One connection's part of the budget: never more than there is, and all of it given back."""

from hypothesis import given
from hypothesis import strategies as st

from thalovant_server.gateways.share import UNCOUNTED, Share, strangers_of
from thalovant_server.hub.budget import ByteBudget


def test_a_share_takes_and_gives_the_difference():
    budget = ByteBudget(100)
    share = Share(budget.share("a"))
    for count in (60, 100, 30, 30, 0):
        assert share.hold(count)
        assert budget.used == count


def test_what_there_is_not_changes_nothing():
    budget = ByteBudget(100)
    one, two = Share(budget.share("a")), Share(budget.share("b"))
    assert one.hold(60) and two.hold(40)
    assert not two.hold(41)
    assert budget.used == 100
    one.release()
    assert two.hold(100)


def test_the_beginning_of_a_message_is_not_counted():
    budget = ByteBudget(10 * UNCOUNTED)
    share = Share(budget.share("a"))
    assert share.hold_partial(UNCOUNTED) and budget.used == 0
    assert share.hold_partial(UNCOUNTED + 1) and budget.used == UNCOUNTED + 1
    assert share.hold_partial(1) and budget.used == 0


def test_all_strangers_together_hold_no_more_than_one_client():
    budget = ByteBudget(100, share=30, reserved=20)
    strangers = [Share(strangers_of(budget)) for _ in range(20)]
    assert [stranger.hold(10) for stranger in strangers] == [True] * 3 + [False] * 17
    assert budget.share("a").take(30)


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 50)), max_size=40))
def test_the_budget_is_the_sum_of_the_shares(steps):
    budget = ByteBudget(100)
    shares, held = [Share(budget.share(number)) for number in range(3)], [0, 0, 0]
    for who, count in steps:
        if shares[who].hold(count):
            held[who] = count
        else:
            assert sum(held) - held[who] + count > 100
        assert budget.used == sum(held) <= 100
    for share in shares:
        share.release()
    assert budget.used == 0
