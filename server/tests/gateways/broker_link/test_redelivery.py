# SPDX-License-Identifier: Apache-2.0
"""What a broker sends again is dealt with once."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from thalovant_server.gateways.broker_link.redelivery import Redeliveries


def test_what_came_before_is_known_and_what_is_new_is_not() -> None:
    seen = Redeliveries(10)
    assert seen.note(1, b"one", again=False)
    assert not seen.note(1, b"one", again=True)
    assert not seen.note(1, b"one", again=True)
    assert seen.note(2, b"one", again=True)  # it was sent, and never arrived
    assert seen.note(1, b"another", again=True)  # the number is used anew


def test_what_is_not_marked_is_new_whatever_it_looks_like() -> None:
    seen = Redeliveries(10)
    assert seen.note(1, b"hello", again=False) and seen.note(1, b"hello", again=False)


def test_long_payloads_are_told_apart_by_their_ends() -> None:
    seen = Redeliveries(10)
    assert seen.note(1, b"x" * 60_000 + b"tag", again=False)
    assert seen.note(1, b"x" * 60_000 + b"gat", again=True)
    assert not seen.note(1, b"x" * 60_000 + b"gat", again=True)


def test_a_broker_that_has_forgotten_begins_anew() -> None:
    seen = Redeliveries(10)
    seen.note(1, b"one", again=False)
    seen.clear()
    assert seen.note(1, b"one", again=True)


@given(st.integers(1, 5), st.integers(1, 40), st.data())
def test_what_may_be_under_way_is_remembered_and_no_more(most: int, count: int, data: st.DataObject) -> None:
    """The broker sends again any number of the last ones, in their order, before new ones."""
    seen, came = Redeliveries(most), []
    for number in range(count):
        packet_id = number % 7 + 1 if most < 7 else number + 1
        assert seen.note(packet_id, b"%d" % number, again=False)
        came.append((packet_id, b"%d" % number))
        assert len(seen._seen) <= max(most, 1)
    unsettled = data.draw(st.integers(0, min(most, count)))
    for packet_id, payload in came[len(came) - unsettled :]:
        assert not seen.note(packet_id, payload, again=True)
