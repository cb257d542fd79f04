# SPDX-License-Identifier: Apache-2.0
"""How much of a turn of the event loop one client may have, however many connections it has and whatever it sends.

Each credential has a lane. Its connections take slices of work one after the other, one slice a loop turn for all of
them together, and no more packets a second than a token bucket grants: whoever sends faster is read later, and
nothing is dropped. A neighbour's ask then waits for one slice and not for a whole flood.

It will not read a socket (`intake` says what is left to do) nor know a packet.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Hashable
from weakref import WeakValueDictionary

# Our client asking at full speed with eight asks in flight sends some 13,000 MQTT packets a second. A flood of so
# many that mean nothing costs about a tenth of a core.
PACKETS_A_SECOND = 16_000
BURST = 32_000
# Most packets take microseconds, so these are a fraction of a millisecond; for those that do not, the time counts.
SLICE_PACKETS = 64
SLICE_SECONDS = 0.002


class Lane:
    """The turns of one client. Made by `Lanes.of`."""

    __slots__ = ("__weakref__", "_burst", "_due", "_filled", "_loop", "_queue", "_rate", "_tokens")

    def __init__(self, rate: float, burst: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._rate = rate
        self._burst = burst
        self._tokens = float(burst)
        self._filled = self._loop.time()
        self._queue: deque[Callable[[], None]] = deque()
        self._due = False

    @property
    def busy(self) -> bool:
        """Whether somebody waits for a turn already; who comes now queues up behind."""
        return bool(self._queue)

    def allowance(self) -> int:
        """How many packets may be worked through now: a slice at most, 0 when the client was too fast."""
        if self._tokens < SLICE_PACKETS:
            self._fill()
        return min(SLICE_PACKETS, int(self._tokens)) if self._tokens > 0 else 0

    def spend(self, packets: int) -> None:
        """So many packets were worked through. A few more than allowed are paid back later."""
        self._tokens -= packets

    def wait(self, work: Callable[[], None]) -> None:
        """Call `work` once when it is its turn: in a later turn of the loop, after whoever waits already."""
        self._queue.append(work)
        self._schedule()

    def _fill(self) -> None:
        now = self._loop.time()
        self._tokens = min(self._tokens + (now - self._filled) * self._rate, float(self._burst))
        self._filled = now

    def _schedule(self) -> None:
        if self._due or not self._queue:
            return
        self._due = True
        if self.allowance() > 0:
            self._loop.call_soon(self._run)
        else:  # a whole slice at once is cheaper than packets one by one
            self._loop.call_later((min(SLICE_PACKETS, self._burst) - self._tokens) / self._rate, self._run)

    def _run(self) -> None:
        self._due = False
        try:
            self._queue.popleft()()
        finally:
            self._schedule()


class Lanes:
    """The lanes of one carrier; one is forgotten with the last connection that holds it."""

    __slots__ = ("_burst", "_lanes", "_rate")

    def __init__(self, rate: float = PACKETS_A_SECOND, burst: int = BURST) -> None:
        self._rate = rate
        self._burst = burst
        self._lanes: WeakValueDictionary[Hashable, Lane] = WeakValueDictionary()

    def of(self, who: Hashable) -> Lane:
        """The lane of a credential (its id), or of an address that nobody logged in from yet."""
        lane = self._lanes.get(who)
        if lane is None:
            lane = self._lanes[who] = Lane(self._rate, self._burst)
        return lane
