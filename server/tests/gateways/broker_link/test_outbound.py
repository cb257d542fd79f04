# SPDX-License-Identifier: Apache-2.0
"""Frames on their way out: each client's in order, the clients in turn, and what waits is counted."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from thalovant_server.gateways.broker_link.outbound import FRAME_COST, Outbound, OutQueue
from thalovant_server.gateways.share import Share
from thalovant_server.hub.budget import ByteBudget


class Line:
    """A connection with room for so many frames."""

    def __init__(self, room: int = 0) -> None:
        self.room = room
        self.written: list[tuple[bytes, bytes]] = []
        self.out = Outbound(lambda: self.room > 0, self.write)

    def write(self, topic: bytes, payload: bytes) -> None:
        assert self.room > 0
        self.room -= 1
        self.written.append((topic, payload))


def queue(budget: ByteBudget, who: str = "a") -> OutQueue:
    return OutQueue(Share(budget.share(who)))


def test_with_room_a_frame_is_written_at_once_and_costs_nothing() -> None:
    line, budget = Line(2), ByteBudget(1000)
    mine = queue(budget)
    assert line.out.put(mine, b"t", b"1") and line.out.put(mine, b"t", b"2")
    assert line.written == [(b"t", b"1"), (b"t", b"2")] and budget.used == 0


def test_without_room_it_waits_and_is_counted() -> None:
    line, budget = Line(), ByteBudget(1000)
    mine = queue(budget)
    assert line.out.put(mine, b"t", b"12345")
    assert line.written == [] and budget.used == 5 + FRAME_COST == mine.size
    line.room = 1
    line.out.drain()
    assert line.written == [(b"t", b"12345")] and budget.used == 0


def test_what_comes_later_does_not_overtake() -> None:
    line, budget = Line(), ByteBudget(1000)
    mine = queue(budget)
    line.out.put(mine, b"t", b"1")
    line.room = 5
    line.out.put(mine, b"t", b"2")
    line.out.drain()
    assert [payload for _, payload in line.written] == [b"1", b"2"]


def test_who_has_little_to_say_does_not_wait_behind_one_who_has_much() -> None:
    line, budget = Line(), ByteBudget(100_000)
    greedy, modest = queue(budget, "greedy"), queue(budget, "modest")
    for number in range(100):
        line.out.put(greedy, b"greedy", b"%d" % number)
    line.out.put(modest, b"modest", b"0")
    line.room = 2
    line.out.drain()
    assert line.written == [(b"greedy", b"0"), (b"modest", b"0")]


def test_too_much_is_said_and_a_queue_that_was_cleared_is_passed_over() -> None:
    line, budget = Line(), ByteBudget(10_000, share=200)
    mine, other = queue(budget, "a"), queue(budget, "b")
    assert line.out.put(mine, b"t", b"x" * 100)
    assert not line.out.put(mine, b"t", b"x" * 100)
    assert line.out.put(other, b"o", b"1")
    mine.clear()
    assert line.out.put(mine, b"t", b"last word")
    line.room = 9
    line.out.drain()
    assert sorted(line.written) == [(b"o", b"1"), (b"t", b"last word")] and budget.used == 0


@given(st.lists(st.one_of(st.sampled_from("abc"), st.integers(0, 4)), max_size=80))
def test_each_clients_frames_keep_their_order_and_nothing_is_lost(steps: list[str | int]) -> None:
    line, budget = Line(), ByteBudget(1_000_000)
    queues = {name: queue(budget, name) for name in "abc"}
    count = dict.fromkeys("abc", 0)
    for step in steps:
        if isinstance(step, str):
            assert line.out.put(queues[step], step.encode(), b"%d" % count[step])
            count[step] += 1
        else:
            line.room += step
            line.out.drain()
        assert budget.used == sum(each.size for each in queues.values())
        assert line.room == 0 or budget.used == 0
    line.room = 1000
    line.out.drain()
    for name, total in count.items():
        own = [payload for topic, payload in line.written if topic == name.encode()]
        assert own == [b"%d" % number for number in range(total)]
    assert budget.used == 0
