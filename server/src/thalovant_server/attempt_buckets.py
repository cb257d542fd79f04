# SPDX-License-Identifier: Apache-2.0
"""Token buckets for attempts: those of an address, an account or an access key, whatever a throttle counts by.

Sans-I/O: the time, of a clock in seconds that never goes back, is passed in. What is remembered is bounded, the longest
unused is forgotten first. Decides nothing: what an empty bucket means is the throttle's business.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass

MOST_REMEMBERED = 10_000
_ROUNDING = 1e-6  # seconds that sums of floats may lack


@dataclass(frozen=True, slots=True)
class Rate:
    """A bucket: how many attempts at once, and how many seconds until one more is allowed."""

    burst: int
    seconds_each: float


class AttemptBuckets:
    """Token buckets by key, as the moment at which each is full again; one that nobody has used is full.

    Args:
        rate: of each.
        most: keys that are remembered.
    """

    __slots__ = ("_full_at", "_most", "_rate")

    def __init__(self, rate: Rate, most: int) -> None:
        self._rate = rate
        self._most = most
        self._full_at: OrderedDict[Hashable, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._full_at)

    def knows(self, key: Hashable) -> bool:
        """Tell whether this key is remembered."""
        return key in self._full_at

    def is_full(self, key: Hashable, now: float) -> bool:
        """Tell whether nothing was taken of late."""
        return self._full_at.get(key, now) <= now

    def wait(self, key: Hashable, now: float) -> float:
        """Return the seconds until a token is there, 0.0 when one is."""
        missing = self._full_at.get(key, now) - now - (self._rate.burst - 1) * self._rate.seconds_each
        return missing if missing > _ROUNDING else 0.0

    def take(self, key: Hashable, now: float) -> None:
        """Take a token; an empty bucket goes no deeper, or nobody could wait until it is paid back."""
        most = now + self._rate.burst * self._rate.seconds_each
        self._set(key, min(self._from(key, now) + self._rate.seconds_each, most))

    def give_back(self, key: Hashable, now: float) -> None:
        """Put a token back; a bucket never holds more than its burst, and of an unknown key nothing is remembered."""
        if key in self._full_at:
            self._set(key, max(self._from(key, now) - self._rate.seconds_each, now))

    def remember(self, key: Hashable, now: float) -> None:
        """Know this key from now on, its bucket as it is."""
        self._set(key, self._from(key, now))

    def forget(self, key: Hashable) -> None:
        """Fill its bucket."""
        self._full_at.pop(key, None)

    def _from(self, key: Hashable, now: float) -> float:
        return max(self._full_at.get(key, now), now)

    def _set(self, key: Hashable, full_at: float) -> None:
        self._full_at[key] = full_at
        self._full_at.move_to_end(key)
        if len(self._full_at) > self._most:
            self._full_at.popitem(last=False)
