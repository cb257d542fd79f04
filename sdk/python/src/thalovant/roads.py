# SPDX-License-Identifier: Apache-2.0
"""Which road to the hub next: the decisions behind `protocols=`, without a clock, a socket or a die.

A road is a carrier that an identity can use; the client names several in the order that it prefers. Two machines:

- `Walk`: one attempt to reach the hub. Each road in turn; the next one starts when one fails, or beside it when it has
  not got there within its head start. A road that was lost a moment ago is dialled again a few times before any other:
  a hub that restarts is no reason to move.
- `Roads`: what is remembered between two walks. A road that failed where another one worked is *set aside*: tried
  after the others, and looked at again (a *probe*) after about 30 seconds, then 60, and so on to about ten minutes.
  When every road fails that says something about the hub, and none is set aside for it.

Times are seconds of the caller's clock, passed in; `chance` makes pauses differ, 0.5 to 1.5. Nothing here raises.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from thalovant.hub_endpoints import HubProtocol

__all__ = ["Roads", "Walk"]

FIRST_PROBE = 30.0
LONGEST_PROBE = 600.0
HEAD_START = 2.0  # before the next road starts beside one that has not got there
FAITHFUL = 1.5  # after a loss, in which no other road than the lost one is dialled
AGAIN_AFTER = 0.3  # between two dials of the lost road
LOST_LATELY = 60.0  # a road that was lost so long ago is still the first one to be dialled
BRIEF = 10.0  # a link that lived no longer speaks against its road,
BRIEF_LIVES = 3  # so many in a row set it aside,
STEADY = 60.0  # and one that lived so long clears its name


class Walk:
    """One attempt to reach the hub. Start what `due` names, tell it of each that `failed`, look again at `next_at`.

    It ends with the first road that gets there, which its owner sees, or when it is `over`.
    """

    def __init__(
        self, order: Sequence[HubProtocol], now: float, *, head_start: float, faithful_until: float | None = None
    ) -> None:
        """`order` holds each road once; until `faithful_until` its first one is dialled again when it fails."""
        self._left = deque(order)
        self._first = order[0]
        self._head_start = head_start
        self._faithful_until = faithful_until
        self._start_at = now
        self._again_at: float | None = None
        self._running: list[HubProtocol] = []  # in the order in which they were started

    @property
    def next_at(self) -> float | None:
        """When `due` has something to start; None when only what runs can change anything."""
        due = [self._start_at] if self._left else []
        if self._again_at is not None:
            due.append(self._again_at)
        return min(due, default=None)

    @property
    def over(self) -> bool:
        """Whether every road has failed."""
        return not self._running and self.next_at is None

    @property
    def running(self) -> tuple[HubProtocol, ...]:
        """The roads under way, in the order in which they were started."""
        return tuple(self._running)

    def overtaken_by(self, road: HubProtocol) -> tuple[HubProtocol, ...]:
        """The roads that were started before `road` and are still under way."""
        return self.running[: self._running.index(road)]

    def due(self, now: float) -> list[HubProtocol]:
        """The roads to start now."""
        starting = []
        if self._again_at is not None and now >= self._again_at:
            self._again_at = None
            starting.append(self._first)
        if self._left and now >= self._start_at:
            starting.append(self._left.popleft())
            self._start_at = now + self._head_start
        self._running += starting
        return starting

    def failed(self, road: HubProtocol, now: float, *, passing: bool = True) -> None:
        """A road did not get there; `passing` when the same road may do better in a moment."""
        self._running.remove(road)
        again_at = now + AGAIN_AFTER
        faithful = self._faithful_until is not None and again_at <= self._faithful_until
        if passing and faithful and road == self._first:
            self._again_at = again_at
        else:
            self._start_at = min(self._start_at, now)


@dataclass(frozen=True, slots=True)
class _Aside:
    """Why and how long a road is set aside: found wanting at `at`, for the `times`th time in a row."""

    at: float
    times: int
    until: float


class Roads:
    """What is known about the roads of one client; `preference` has the best one first, each once."""

    def __init__(self, preference: Sequence[HubProtocol], *, chance: Callable[[], float] = lambda: 1.0) -> None:
        self.preference = tuple(preference)
        self.current: HubProtocol | None = None
        """The road that the client is on, or was on before its link was lost."""
        self._chance = chance
        self._aside: dict[HubProtocol, _Aside] = {}
        self._times: dict[HubProtocol, int] = {}  # outlives `_aside`, until the road has proved steady
        self._brief: dict[HubProtocol, int] = {}
        self._lost: tuple[HubProtocol, float] | None = None

    def order(self, now: float) -> tuple[HubProtocol, ...]:
        """Every road, the one to dial first first: lost lately, then by preference, then those set aside."""
        lost = self._lost_lately(now)

        def rank(road: HubProtocol) -> tuple[bool, bool]:
            aside = self._aside.get(road)
            return road != lost, aside is not None and now < aside.until

        return tuple(sorted(self.preference, key=rank))  # sorting is stable: else by preference

    def walk(self, now: float, patience: float | None = None) -> Walk:
        """Begin an attempt; whoever waits has `patience` seconds, which every road gets its share of."""
        order = self.order(now)
        share = LONGEST_PROBE if patience is None else max(patience, 0.0) / (len(order) + 1)
        faithful_until = None
        if self._lost is not None and self._lost[0] == order[0] and len(order) > 1:
            faithful_until = min(self._lost[1] + FAITHFUL, now + share)
        return Walk(order, now, head_start=min(HEAD_START, share), faithful_until=faithful_until)

    def reached(self, road: HubProtocol, now: float, failed: Iterable[HubProtocol] = ()) -> None:
        """The client is on this road now; `failed` did not get there although it did."""
        for other in failed:
            if other != road:
                self._set_aside(other, now)
        self._aside.pop(road, None)
        self._lost = None
        self.current = road

    def lost(self, road: HubProtocol, now: float, lived: float, *, refused: bool = False) -> None:
        """The link on this road was lost after `lived` seconds; `refused` when dialling it again will not help."""
        if lived >= STEADY:
            self._times.pop(road, None)
        brief = self._brief.get(road, 0) + 1 if lived < BRIEF else 0
        unsteady = brief >= BRIEF_LIVES or (brief > 0 and road in self._times)
        if unsteady:
            self._set_aside(road, now)
        self._brief[road] = 0 if unsteady else brief
        self._lost = None if unsteady or refused else (road, now)

    def next_probe(self, now: float) -> tuple[float, HubProtocol] | None:
        """When to look at which better road than the current one; None when there is no better one."""
        if self.current is None:
            return None
        better = self.preference[: self.preference.index(self.current)]
        due = [(self._aside[road].until if road in self._aside else now, road) for road in better]
        return min(due, key=lambda each: each[0], default=None)

    def probe_failed(self, road: HubProtocol, now: float) -> None:
        """A look at a better road has shown that it is still not open."""
        self._set_aside(road, now)

    def set_aside(self) -> dict[HubProtocol, tuple[float, int]]:
        """The roads set aside: since when, and for the how-manieth time; for another run of the program."""
        return {road: (aside.at, aside.times) for road, aside in self._aside.items()}

    def recall(self, aside: Mapping[HubProtocol, tuple[float, int]]) -> None:
        """Take over what an earlier run knew; before the first walk."""
        for road, (at, times) in aside.items():
            if road in self.preference and times > 0:
                self._times[road] = times
                self._aside[road] = _Aside(at, times, at + self._pause(times))

    def _lost_lately(self, now: float) -> HubProtocol | None:
        if self._lost is None or now - self._lost[1] > LOST_LATELY:
            return None
        return self._lost[0]

    def _set_aside(self, road: HubProtocol, now: float) -> None:
        times = self._times.get(road, 0) + 1
        self._times[road] = times
        self._aside[road] = _Aside(now, times, now + self._pause(times))

    def _pause(self, times: int) -> float:
        doubled: float = FIRST_PROBE * 2.0 ** min(times - 1, 30)
        return min(doubled, LONGEST_PROBE) * self._chance()
