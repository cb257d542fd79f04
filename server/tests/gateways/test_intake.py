# SPDX-License-Identifier: Apache-2.0
"""Everything that came is worked through once and in order, however it is cut, held and granted."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalovant_server.gateways.intake import Intake
from thalovant_server.gateways.lane import SLICE_SECONDS


class FakeLane:
    """Grants so many packets a slice; turns are taken by `turn`."""

    def __init__(self, *grants):
        self.grants, self.queue, self.spent = list(grants), [], 0

    @property
    def busy(self):
        return bool(self.queue)

    def allowance(self):
        return self.grants.pop(0) if self.grants else 64

    def spend(self, count):
        self.spent += count

    def wait(self, work):
        self.queue.append(work)

    def turn(self):
        self.queue.pop(0)()


class Parser:
    """Every byte is a packet; `most` of them a step."""

    def __init__(self, lane, most=8, chunk=1000):
        self.seen, self.rest, self.most, self.settled = b"", b"", most, 0
        self.intake = Intake(lane, self.step, self.settle, chunk=chunk)
        self.largest = 0

    def step(self, data):
        assert not (data and self.rest)
        self.largest = max(self.largest, len(data))
        self.rest += data
        taken, self.rest = self.rest[: self.most], self.rest[self.most :]
        self.seen += taken
        return len(taken), bool(self.rest)

    def settle(self):
        self.settled += 1


@given(st.lists(st.binary(min_size=1, max_size=300), max_size=8), st.lists(st.integers(0, 20), max_size=30))
def test_all_of_it_in_order(reads, grants):
    lane = FakeLane(*grants)
    parser = Parser(lane, chunk=50)
    for read in reads:
        parser.intake.receive(read)
        assert len(lane.queue) <= 1
        if lane.queue:
            lane.turn()
    while lane.queue:
        lane.turn()
    assert parser.seen == b"".join(reads)
    assert not parser.intake.pending and parser.intake.size == 0
    assert lane.spent == len(parser.seen)
    assert parser.largest <= 50


def test_a_few_packets_are_worked_through_at_once():
    lane = FakeLane()
    parser = Parser(lane)
    parser.intake.receive(b"abc")
    assert parser.seen == b"abc" and parser.settled == 1 and not lane.queue


def test_a_flood_is_taken_slice_by_slice():
    lane = FakeLane()
    parser = Parser(lane)
    parser.intake.receive(bytes(1000))
    assert len(parser.seen) == 64 and parser.intake.pending
    lane.turn()
    assert len(parser.seen) == 128 and parser.settled == 2


def test_a_slice_is_bounded_in_time_too(monkeypatch):
    times = iter(range(100))
    monkeypatch.setattr("thalovant_server.gateways.intake.monotonic", lambda: next(times) * SLICE_SECONDS * 0.75)
    parser = Parser(FakeLane())
    parser.intake.receive(bytes(60))
    assert 8 <= len(parser.seen) < 32


def test_it_queues_up_behind_its_neighbour_in_the_lane():
    lane, done = FakeLane(), []
    parser = Parser(lane)
    lane.wait(lambda: done.append(b"" + parser.seen))
    parser.intake.receive(b"abc")
    assert parser.seen == b"" and parser.settled == 1  # its owner stops reading
    lane.turn()
    lane.turn()
    assert done == [b""] and parser.seen == b"abc"


@pytest.mark.parametrize("when", ["before", "while it waits"])
def test_what_is_held_waits_until_it_is_resumed(when):
    lane = FakeLane()
    parser = Parser(lane)
    parser.intake.held = when == "before"
    parser.intake.receive(bytes(70))
    parser.intake.held = True
    while lane.queue:
        lane.turn()
    before = len(parser.seen)
    assert before == (0 if when == "before" else 64)
    parser.intake.resume()
    assert len(parser.seen) == before
    while lane.queue:
        lane.turn()
    assert len(parser.seen) == 70


def test_what_is_closed_does_nothing_more():
    lane = FakeLane()
    parser = Parser(lane)
    parser.intake.receive(bytes(70))
    parser.intake.close()
    assert not parser.intake.pending
    while lane.queue:
        lane.turn()
    parser.intake.receive(b"more")
    assert len(parser.seen) == 64 and not lane.queue


def test_a_step_may_close_it():
    lane = FakeLane()
    parser = Parser(lane)
    parser.intake._step = lambda data: (parser.intake.close(), (1, True))[1]
    parser.intake.receive(bytes(70))
    assert not parser.intake.pending and not lane.queue
