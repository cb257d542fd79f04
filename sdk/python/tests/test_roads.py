# SPDX-License-Identifier: Apache-2.0
"""Which road is next, when a better one is looked at, what is remembered: tables, and anything that can happen."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from thalovant import roads
from thalovant.roads import Roads, Walk

ALL: Any = ("mqtt", "wss", "https")


def walk(*order: Any, head_start: float = 2.0, faithful_until: float | None = None) -> Walk:
    return Walk(order or ALL, 0.0, head_start=head_start, faithful_until=faithful_until)


# One walk


def test_the_first_road_starts_at_once_and_the_next_when_it_fails() -> None:
    one = walk()
    assert one.due(0.0) == ["mqtt"] and one.due(0.0) == []
    one.failed("mqtt", 0.1)
    assert one.next_at is not None and one.next_at <= 0.1
    assert one.due(0.1) == ["wss"]
    one.failed("wss", 0.2)
    assert one.due(0.2) == ["https"] and not one.over
    one.failed("https", 0.3)
    assert one.over and one.next_at is None and one.due(99.0) == []


def test_a_slow_road_gets_company_and_goes_on() -> None:
    one = walk()
    one.due(0.0)
    assert one.due(1.9) == [] and one.next_at == 2.0
    assert one.due(2.0) == ["wss"] and one.running == ("mqtt", "wss") and one.next_at == 4.0
    one.failed("wss", 2.5)  # the next one need not wait for its turn
    assert one.due(2.5) == ["https"] and one.running == ("mqtt", "https")
    assert one.next_at is None and not one.over
    assert one.overtaken_by("https") == ("mqtt",) and one.overtaken_by("mqtt") == ()


def test_the_lost_road_is_dialled_again_for_a_while_before_any_other() -> None:
    one = walk("wss", "mqtt", faithful_until=1.0)
    times = []
    now = 0.0
    while "mqtt" not in (due := one.due(now)):
        times += [now] * due.count("wss")
        one.failed("wss", now)
        assert one.next_at is not None
        now = max(now, one.next_at)
    assert times == pytest.approx([0.0, 0.3, 0.6, 0.9]) and now == pytest.approx(0.9)
    one.failed("mqtt", now)
    assert one.over


def test_a_refusal_is_no_reason_to_dial_the_same_road_again() -> None:
    one = walk("wss", "mqtt", faithful_until=1.0)
    one.due(0.0)
    one.failed("wss", 0.1, passing=False)
    assert one.due(0.1) == ["mqtt"]


def test_a_lost_road_that_hangs_delays_the_next_one_by_its_head_start() -> None:
    one = walk("wss", "mqtt", faithful_until=1.5)
    assert one.due(0.0) == ["wss"] and one.next_at == 2.0 and one.due(2.0) == ["mqtt"]


@given(
    order=st.permutations(ALL).flatmap(lambda each: st.integers(1, 3).map(lambda n: tuple(each[:n]))),
    head_start=st.floats(0.001, 5.0),
    faithful=st.one_of(st.none(), st.floats(0.0, 3.0)),
    fates=st.lists(st.tuples(st.floats(0.0, 30.0), st.booleans()), min_size=1),
)
def test_a_walk_tries_every_road_never_stalls_and_ends(
    order: Any, head_start: float, faithful: Any, fates: Any
) -> None:
    """Each try fails after a time of its own; `due` is asked exactly when `next_at` says."""
    one = Walk(order, 0.0, head_start=head_start, faithful_until=faithful)
    ends: list[tuple[float, Any, bool]] = []
    started: list[Any] = []
    now = 0.0
    while not one.over:
        for road in one.due(now):
            lasts, passing = fates[len(started) % len(fates)]
            assert road not in [each for _, each, _ in ends], "one try of a road at a time"
            started.append(road)
            ends.append((now + lasts, road, passing))
        assert sorted(one.running) == sorted(road for _, road, _ in ends)
        moments = [end for end, _, _ in ends] + ([] if one.next_at is None else [one.next_at])
        assert moments, "nothing runs and nothing is due: it would hang"
        now = max(now, min(moments))
        for end in [each for each in ends if each[0] <= now]:
            ends.remove(end)
            one.failed(end[1], now, passing=end[2])
        assert len(started) <= len(order) + 3.0 / roads.AGAIN_AFTER + 2
    assert list(dict.fromkeys(started)) == list(order)
    assert not ends


# What is remembered between two


def known(**options: Any) -> Roads:
    return Roads(ALL, **options)


def test_the_preferred_road_is_first_and_a_road_that_failed_where_another_worked_is_last() -> None:
    some = known()
    assert some.order(0.0) == ALL
    some.reached("wss", 0.0, ["mqtt"])
    assert some.order(29.0) == ("wss", "https", "mqtt")
    assert some.order(30.0) == ALL  # it is looked at again about then
    assert some.current == "wss"


def test_a_hub_that_is_down_says_nothing_about_its_roads() -> None:
    some = known()
    for _ in range(5):
        one = some.walk(0.0)
        for road in ALL:
            one.due(0.0)
            one.failed(road, 0.0)
        assert one.over
    assert some.order(0.0) == ALL and some.set_aside() == {}


def test_pauses_between_probes_double_up_to_ten_minutes() -> None:
    some = known()
    some.reached("wss", 0.0, ["mqtt"])
    now, pauses = 0.0, []
    for _ in range(8):
        probe = some.next_probe(now)
        assert probe is not None and probe[1] == "mqtt"
        pauses.append(probe[0] - now)
        now = probe[0]
        some.probe_failed("mqtt", now)
    assert pauses == [30, 60, 120, 240, 480, 600, 600, 600]


@pytest.mark.parametrize("chance", [0.5, 1.5])
def test_pauses_are_jittered(chance: float) -> None:
    some = known(chance=lambda: chance)
    some.reached("wss", 0.0, ["mqtt"])
    assert some.next_probe(0.0) == (30.0 * chance, "mqtt")


def test_only_better_roads_are_looked_at_the_one_due_first_first() -> None:
    some = known()
    assert some.next_probe(0.0) is None  # on none yet
    some.reached("https", 0.0, ["mqtt", "wss"])
    assert some.next_probe(0.0) == (30.0, "mqtt")
    some.probe_failed("mqtt", 30.0)
    assert some.next_probe(30.0) == (30.0, "wss")
    some.reached("wss", 30.0)
    assert some.next_probe(30.0) == (90.0, "mqtt")
    some.reached("mqtt", 90.0)
    assert some.next_probe(90.0) is None and some.order(90.0) == ALL


def test_the_lost_road_is_first_for_a_minute_and_faithfully_so_for_a_moment() -> None:
    some = known()
    some.reached("wss", 0.0, ["mqtt"])
    some.lost("wss", 100.0, 100.0)
    assert some.order(100.0) == ("wss", "mqtt", "https")  # although mqtt is due again
    assert some.order(100.0 + roads.LOST_LATELY + 1) == ALL
    at_once = some.walk(100.1)
    at_once.due(100.1)
    at_once.failed("wss", 100.2)
    assert at_once.due(100.5) == ["wss"]
    later = some.walk(110.0)
    later.due(110.0)
    later.failed("wss", 110.0)
    assert later.due(110.0) == ["mqtt"]


def test_a_refused_link_gives_way_at_once() -> None:
    some = known()
    some.reached("wss", 0.0, ["mqtt"])
    some.lost("wss", 40.0, 40.0, refused=True)
    assert some.order(40.0) == ALL
    one = some.walk(40.0)
    one.due(40.0)
    one.failed("mqtt", 40.0)
    assert one.due(40.0) == ["wss"]


def test_a_single_road_is_dialled_once_a_walk() -> None:
    some = Roads(("wss",))
    some.reached("wss", 0.0)
    some.lost("wss", 10.0, 10.0)
    one = some.walk(10.0)
    one.due(10.0)
    one.failed("wss", 10.0)
    assert one.over


def test_links_that_do_not_last_set_a_road_aside() -> None:
    some = known()
    for number in range(1, roads.BRIEF_LIVES + 1):
        some.reached("mqtt", 0.0)
        some.lost("mqtt", 1.0, 1.0)
        assert (some.order(1.0)[0] == "mqtt") is (number < roads.BRIEF_LIVES)


def test_a_road_that_came_back_must_prove_steady_before_it_is_forgiven() -> None:
    some = known()
    some.reached("wss", 0.0, ["mqtt"])
    some.reached("mqtt", 30.0)
    some.lost("mqtt", 31.0, 1.0)  # one brief life is enough now, and the pause grows
    assert some.order(31.0) == ("wss", "https", "mqtt")
    some.reached("wss", 31.0)
    assert some.next_probe(31.0) == (31.0 + 60.0, "mqtt")
    some.reached("mqtt", 91.0)
    some.lost("mqtt", 200.0, roads.STEADY)
    some.reached("wss", 200.0, ["mqtt"])
    assert some.next_probe(200.0) == (230.0, "mqtt")


def test_a_short_deadline_is_shared_out() -> None:
    some = known()
    one = some.walk(0.0, patience=1.0)
    one.due(0.0)
    assert one.next_at == 0.25
    assert some.walk(0.0, patience=3600.0).due(0.0) == ["mqtt"]
    late = some.walk(0.0, patience=-1.0)  # the deadline is over: nothing waits for anything
    late.due(0.0)
    assert late.next_at == 0.0


def test_a_roads_head_start_is_two_seconds_without_a_deadline() -> None:
    one = known().walk(0.0)
    one.due(0.0)
    assert one.next_at == roads.HEAD_START == 2.0


def test_another_run_takes_over_what_is_set_aside() -> None:
    first, second = known(), known()
    first.reached("wss", 100.0, ["mqtt"])
    first.probe_failed("mqtt", 130.0)
    assert first.set_aside() == {"mqtt": (130.0, 2)}
    second.recall({"mqtt": (130.0, 2)})
    assert second.order(189.0) == ("wss", "https", "mqtt") and second.order(190.0) == ALL
    second.reached("wss", 140.0)
    assert second.next_probe(140.0) == (190.0, "mqtt")
    second.probe_failed("mqtt", 190.0)
    assert second.next_probe(190.0) == (190.0 + 120.0, "mqtt")


def test_what_is_not_one_of_its_roads_is_not_taken_over() -> None:
    some = Roads(("wss", "https"))
    some.recall({"mqtt": (0.0, 1), "wss": (0.0, 0)})
    assert some.set_aside() == {} and some.order(0.0) == ("wss", "https")


class AnyLife(RuleBasedStateMachine):
    """Whatever becomes of the roads, in whatever order, as time goes on."""

    @initialize(preference=st.permutations(ALL), chance=st.floats(0.5, 1.5), recalled=st.integers(0, 1000))
    def begin(self, preference: Any, chance: float, recalled: int) -> None:
        self.now = 1000.0
        self.roads = Roads(preference, chance=lambda: chance)
        if recalled:
            self.roads.recall({preference[0]: (900.0, recalled)})
        self.on: Any = None

    @rule(seconds=st.floats(0.0, 2000.0))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @precondition(lambda self: self.on is None)
    @rule(patience=st.one_of(st.none(), st.floats(0.0, 60.0)), fails=st.integers(0, 3))
    def walks(self, patience: Any, fails: int) -> None:
        order = self.roads.order(self.now)
        one = self.roads.walk(self.now, patience)
        failed: list[Any] = []
        while not one.over:
            for road in one.due(self.now):
                if len(failed) == fails:
                    self.roads.reached(road, self.now, failed)
                    self.on = road
                    return
                one.failed(road, self.now, passing=False)
                failed.append(road)
        assert failed == list(order)

    @precondition(lambda self: self.on is not None)
    @rule(lived=st.floats(0.0, 200.0), refused=st.booleans())
    def loses(self, lived: float, refused: bool) -> None:
        self.roads.lost(self.on, self.now, lived, refused=refused)
        self.on = None

    @precondition(lambda self: self.on is not None and self.roads.next_probe(self.now) is not None)
    @rule(opens=st.booleans())
    def probes(self, opens: bool) -> None:
        at, road = self.roads.next_probe(self.now)  # type: ignore[misc]
        self.now = max(self.now, at)
        if opens:
            self.roads.reached(road, self.now)
            self.on = road
        else:
            self.roads.probe_failed(road, self.now)
            again = self.roads.next_probe(self.now)
            assert again is not None and (again[1] != road or again[0] - self.now >= 0.5 * roads.FIRST_PROBE)

    @invariant()
    def nothing_is_lost_from_sight(self) -> None:
        some = self.roads
        assert sorted(some.order(self.now)) == sorted(ALL)
        for at, times in some.set_aside().values():
            assert at <= self.now and times >= 1
        # Whatever happened, the preferred order holds again once the longest pause is over.
        assert some.order(self.now + 1.5 * roads.LONGEST_PROBE + roads.LOST_LATELY + 1) == some.preference

    @invariant()
    def a_better_road_is_always_looked_at_again_in_time(self) -> None:
        if self.on is None:
            return
        probe = self.roads.next_probe(self.now)
        best = self.on == self.roads.preference[0]
        assert (probe is None) is best
        if probe is not None:
            better = self.roads.preference[: self.roads.preference.index(self.on)]
            assert probe[1] in better and math.isfinite(probe[0])
            assert probe[0] - self.now <= 1.5 * roads.LONGEST_PROBE


TestAnyLife = AnyLife.TestCase
