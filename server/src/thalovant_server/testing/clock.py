# SPDX-License-Identifier: Apache-2.0
"""A clock that stands: time passes only when a test says so, and timers fire in the order of their times."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable


class StandingTimer:
    """A timer that may be cancelled."""

    cancelled = False

    def cancel(self) -> None:
        """Never fire."""
        self.cancelled = True


class StandingClock:
    """A `hub.clock.Clock` whose time passes only in `advance`."""

    def __init__(self) -> None:
        self.time = 1000.0
        self._calls: list[tuple[float, int, StandingTimer, Callable[[], object]]] = []
        self._numbers = itertools.count()

    def now(self) -> float:
        """Seconds, as they stand."""
        return self.time

    def call_later(self, delay: float, callback: Callable[[], object]) -> StandingTimer:
        """Call ``callback`` once time has been advanced by ``delay`` seconds."""
        timer = StandingTimer()
        heapq.heappush(self._calls, (self.time + delay, next(self._numbers), timer, callback))
        return timer

    @property
    def armed(self) -> int:
        """How many timers wait."""
        return sum(not timer.cancelled for _, _, timer, _ in self._calls)

    def advance(self, seconds: float) -> None:
        """Let time pass; what is due fires on its way, in order."""
        until = self.time + seconds
        while self._calls and self._calls[0][0] <= until:
            self.time, _, timer, callback = heapq.heappop(self._calls)
            if not timer.cancelled:
                callback()
        self.time = until
