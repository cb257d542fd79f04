# SPDX-License-Identifier: Apache-2.0
"""Turns within a lane, and how many packets it grants. Time is the test's own."""

from __future__ import annotations

import asyncio
import gc

import pytest

from thalovant_server.gateways.lane import SLICE_PACKETS, Lane, Lanes


class Loop:
    """A fake event loop: one `turn` calls what was due before it."""

    def __init__(self):
        self.now, self.soon, self.later = 100.0, [], []

    def time(self):
        return self.now

    def call_soon(self, callback):
        self.soon.append(callback)

    def call_later(self, delay, callback):
        self.later.append((self.now + delay, callback))

    def turn(self, seconds=0.0):
        self.now += seconds
        due = [callback for at, callback in self.later if at <= self.now]
        self.later = [(at, callback) for at, callback in self.later if at > self.now]
        due, self.soon = self.soon + due, []
        for callback in due:
            callback()


@pytest.fixture
def loop(monkeypatch):
    made = Loop()
    monkeypatch.setattr(asyncio, "get_running_loop", lambda: made)
    return made


def test_one_slice_a_turn_for_all_of_a_lane_and_each_in_its_turn(loop):
    lane, done = Lane(1000.0, 1000), []

    def work(name, left):
        def run():
            done.append(name)
            if left:
                lane.wait(work(name, left - 1))

        return run

    lane.wait(work("a", 2))
    lane.wait(work("b", 0))
    assert lane.busy and done == []
    for expected in ("a", "ab", "aba", "abaa"):
        loop.turn()
        assert "".join(done) == expected
    assert not lane.busy
    loop.turn()
    assert loop.soon == loop.later == []


def test_the_burst_is_granted_in_slices_then_the_rate(loop):
    lane, taken = Lane(1000.0, 2 * SLICE_PACKETS), 0
    while lane.allowance():
        assert lane.allowance() == SLICE_PACKETS
        taken += SLICE_PACKETS
        lane.spend(SLICE_PACKETS)
    assert taken == 2 * SLICE_PACKETS
    loop.now += 0.010
    assert lane.allowance() == 10
    lane.spend(14)  # a step may be a few more than allowed
    loop.now += 0.004
    assert lane.allowance() == 0
    loop.now += 3600
    assert lane.allowance() == SLICE_PACKETS


def test_who_was_too_fast_waits_and_is_not_forgotten(loop):
    lane, done = Lane(1000.0, SLICE_PACKETS), []
    lane.spend(SLICE_PACKETS)
    lane.wait(lambda: done.append(1))
    loop.turn()
    assert not done
    loop.turn(0.060)
    assert not done
    loop.turn(0.005)
    assert done == [1]


def test_no_more_than_the_rate_over_a_long_time(loop):
    lane, taken = Lane(1000.0, 100), 0

    def work():
        nonlocal taken
        count = lane.allowance()
        taken += count
        lane.spend(count)
        lane.wait(work)

    lane.wait(work)
    for _ in range(10_000):
        loop.turn(0.001)
    assert 9_900 <= taken <= 10_101


def test_a_turn_that_fails_takes_nobody_elses(loop):
    lane, done = Lane(1000.0, 100), []
    lane.wait(lambda: 1 // 0)
    lane.wait(lambda: done.append(1))
    with pytest.raises(ZeroDivisionError):
        loop.turn()
    loop.turn()
    assert done == [1]


def test_a_credential_has_one_lane_as_long_as_somebody_uses_it(loop):
    lanes = Lanes()
    one, again, other = lanes.of(1), lanes.of(1), lanes.of("192.0.2.1")
    assert one is again and one is not other
    one.spend(10_000_000)
    del one, again
    gc.collect()
    assert lanes.of(1).allowance() == SLICE_PACKETS
