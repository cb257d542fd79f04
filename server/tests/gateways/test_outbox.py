# SPDX-License-Identifier: Apache-2.0
"""What waits for a client that fetches: nothing lost, nothing twice, whatever answers get lost on their way."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalovant.protocol.exchange import MAX_FRAMES
from thalovant_server.gateways.outbox import FRAME_COST, Outbox


def filled(*frames):
    outbox = Outbox()
    for sealed, data in frames:
        outbox.put(sealed, data)
    return outbox


def test_polling_takes_one_kind_and_leaves_the_other():
    outbox = filled((False, b"a"), (True, b"b"), (False, b"c"))
    assert outbox.fetch(False) == [b"a", b"c"]
    assert (len(outbox), outbox.size) == (1, 1 + FRAME_COST)
    assert outbox.fetch(False) == []
    assert outbox.fetch(True) == [b"b"]
    assert (len(outbox), outbox.size, outbox.kept) == (0, 0, 0)


def test_what_is_handed_out_is_kept_until_it_is_acknowledged():
    outbox = filled((False, b"a"), (True, b"b"))
    assert outbox.hand_out(1000) == (0, [(False, b"a"), (True, b"b")])
    assert (len(outbox), outbox.kept) == (0, 2)
    assert outbox.hand_out(1000) == (2, [])
    assert outbox.acknowledge(1) and outbox.kept == 1
    outbox.rewind()
    assert outbox.hand_out(1000) == (1, [(True, b"b")])
    assert outbox.acknowledge(2)
    assert (outbox.kept, outbox.size, outbox.first) == (0, 0, 2)


@pytest.mark.parametrize("following", [2, 3, 2**64 - 1])
def test_nobody_can_acknowledge_what_was_not_handed_out(following):
    outbox = filled((True, b"a" * 10), (True, b"b"))
    outbox.hand_out(15)
    assert not outbox.acknowledge(following)
    assert (outbox.kept, outbox.first, len(outbox)) == (2, 0, 1)


def test_an_acknowledgement_that_comes_late_changes_nothing():
    outbox = filled((True, b"a"), (True, b"b"))
    outbox.hand_out(1000)
    assert outbox.acknowledge(2) and outbox.acknowledge(1) and outbox.acknowledge(0)
    assert outbox.first == 2


def test_a_long_answer_comes_in_pieces_of_one_frame_at_least():
    outbox = filled(*[(True, b"x" * 100)] * 3)
    assert [len(outbox.hand_out(210)[1]) for _ in range(3)] == [2, 1, 0]
    outbox.rewind()
    assert [outbox.hand_out(1)[0] for _ in range(3)] == [0, 1, 2]


def test_an_answer_holds_so_many_frames():
    outbox = filled(*[(True, b"")] * (MAX_FRAMES + 1))
    assert [len(outbox.hand_out(1 << 20)[1]) for _ in range(2)] == [MAX_FRAMES, 1]


def test_what_is_forgotten_is_not_numbered_anew():
    outbox = filled((True, b"a"), (True, b"b"))
    outbox.hand_out(1000)
    outbox.clear()
    assert (len(outbox), outbox.kept, outbox.size) == (0, 0, 0)
    outbox.put(True, b"c")
    assert outbox.hand_out(1000) == (2, [(True, b"c")])


STEPS = st.lists(st.sampled_from(["put", "ask", "ask and lose the answer"]), max_size=60)


@given(STEPS, st.integers(1, 40))
def test_a_client_gets_everything_once_and_in_order(steps, most):
    """As the client does it: it acknowledges with each request, and says when an answer was lost."""
    outbox, put, got, again = Outbox(), [], [], False
    for step in [*steps, *["ask"] * (len(steps) + 1)]:
        if step == "put":
            put.append((len(put) % 2 == 0, b"%d" % len(put)))
            outbox.put(*put[-1])
            continue
        assert outbox.acknowledge(len(got))
        if again:
            outbox.rewind()
        again = step != "ask"
        number, frames = outbox.hand_out(most)
        if not again:
            assert number <= len(got)
            got += frames[len(got) - number :]
        assert outbox.size == sum(len(data) + FRAME_COST for _, data in put[outbox.first :])
    assert got == put
