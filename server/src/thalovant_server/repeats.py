# SPDX-License-Identifier: Apache-2.0
"""What may happen thousands of times a second, told a few times a minute: the first of a kind at once, then a number.

Whoever makes things happen chooses how often, and of how many kinds. So kinds are bounded, per source and over all;
what comes beyond that is counted for the source, or for everybody, and told as one line when its minute is over.
What is remembered is bounded with it.

`RepeatWindow` is sans-I/O: time in, lines out. `Repeats` gives it a clock, so that a number is told in its time.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from enum import Enum
from typing import Generic, TypeVar

from thalovant_server.hub.clock import Clock, Timer

SECONDS = 60.0
# Kinds remembered at once, and those of one source: a fleet behind one address has room, a guesser is cut short.
KINDS = 1_024
KINDS_PER_SOURCE = 20

Item = TypeVar("Item")


class Told(Enum):
    """What a line stands for."""

    ONCE = "once"  # it happened, just now
    AGAIN = "again"  # the same kind happened so many times more
    MORE_OF_SOURCE = "more of source"  # kinds that had no room, of one source
    MORE = "more"  # kinds that had no room, of everybody


@dataclass(frozen=True, slots=True)
class Line(Generic[Item]):
    """One line to tell. `item` is the first of those that it stands for."""

    item: Item
    told: Told
    times: int = 1


@dataclass(slots=True)
class _Kind(Generic[Item]):
    since: float
    item: Item
    source: str
    sums_up: Told = Told.AGAIN
    told: int = 0
    untold: int = 0


class RepeatWindow(Generic[Item]):
    """What happened of late, by kind, the longest ago first. Times are seconds that never go back.

    Args:
        seconds: after which a kind is told anew.
        kinds: remembered at once.
        per_source: of these, at most so many of one source.
        each: how many of a kind are told each by itself before the others become a number.
    """

    def __init__(
        self, *, seconds: float = SECONDS, kinds: int = KINDS, per_source: int = KINDS_PER_SOURCE, each: int = 1
    ) -> None:
        self._seconds = seconds
        self._most = kinds
        self._most_of_source = per_source
        self._each = each
        self._kinds: OrderedDict[Hashable, _Kind[Item]] = OrderedDict()
        self._of_source: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._kinds)

    @property
    def next_due(self) -> float | None:
        """When `due` has something to do."""
        return None if not self._kinds else next(iter(self._kinds.values())).since + self._seconds

    def note(self, now: float, kind: Hashable, source: str, item: Item) -> list[Line[Item]]:
        """It happened; return what is to be told now, in order."""
        lines = self.due(now)
        known = self._kinds.get((kind,)) or self._placed(now, kind, source, item)
        if known.sums_up is Told.AGAIN and known.told < self._each:
            known.told += 1
            return [*lines, Line(item, Told.ONCE)]
        known.untold += 1
        return lines

    def due(self, now: float) -> list[Line[Item]]:
        """Return the numbers whose minute is over, and forget their kinds."""
        lines: list[Line[Item]] = []
        while self._kinds and now >= next(iter(self._kinds.values())).since + self._seconds:
            lines += self._forget_first()
        return lines

    def close(self) -> list[Line[Item]]:
        """Return every number that was not told yet, and forget everything."""
        lines: list[Line[Item]] = []
        while self._kinds:
            lines += self._forget_first()
        return lines

    def _placed(self, now: float, kind: Hashable, source: str, item: Item) -> _Kind[Item]:
        """A new kind, or the number that it is one of."""
        if self._of_source[source] >= self._most_of_source:
            return self._number(now, ("source", source), item, Told.MORE_OF_SOURCE)
        if self._of_source.total() >= self._most:
            return self._number(now, ("everybody", ""), item, Told.MORE)
        self._of_source[source] += 1
        known = self._kinds[(kind,)] = _Kind(now, item, source)
        return known

    def _number(self, now: float, key: Hashable, item: Item, sums_up: Told) -> _Kind[Item]:
        known = self._kinds.get(key)
        if known is None:
            known = self._kinds[key] = _Kind(now, item, "", sums_up)
        return known

    def _forget_first(self) -> list[Line[Item]]:
        _, kind = self._kinds.popitem(last=False)
        if kind.sums_up is Told.AGAIN:
            self._of_source[kind.source] -= 1
            if not self._of_source[kind.source]:
                del self._of_source[kind.source]
        return [Line(kind.item, kind.sums_up, kind.untold)] if kind.untold else []


class Repeats(Generic[Item]):
    """A window on a clock: `tell` gets each line in its time. It arms one timer, and none while nothing happens."""

    def __init__(
        self, clock: Clock, tell: Callable[[Line[Item]], None], window: RepeatWindow[Item] | None = None
    ) -> None:
        self._clock = clock
        self._tell = tell
        self._window = RepeatWindow[Item]() if window is None else window  # an empty one is false
        self._timer: Timer | None = None
        self._closed = False

    def note(self, kind: Hashable, source: str, item: Item) -> None:
        """It happened."""
        self._say(self._window.note(self._clock.now(), kind, source, item))

    def close(self) -> None:
        """Tell what was not told yet. May be called again, for what came after."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for line in self._window.close():
            self._tell(line)

    def _turn(self) -> None:
        self._timer = None
        self._say(self._window.due(self._clock.now()))

    def _say(self, lines: list[Line[Item]]) -> None:
        for line in lines:
            self._tell(line)
        due = self._window.next_due
        if self._timer is None and due is not None and not self._closed:
            self._timer = self._clock.call_later(max(0.0, due - self._clock.now()), self._turn)
