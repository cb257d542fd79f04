# SPDX-License-Identifier: Apache-2.0
"""How long to wait before something is tried again: doubling, and never at the same moment as everybody else."""

from __future__ import annotations

import random
from collections.abc import Callable

FIRST_SECONDS = 0.5
MOST_SECONDS = 30.0
EASED_SECONDS = 2.0


class Backoff:
    """Seconds of one wait after the other.

    Args:
        first: the first one, about.
        most: the longest one, about.
        chance: returns a number from 0 up to 1.
    """

    __slots__ = ("_chance", "_first", "_most", "_next")

    def __init__(
        self,
        first: float = FIRST_SECONDS,
        most: float = MOST_SECONDS,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._first = self._next = first
        self._most = most
        self._chance = chance

    def next(self) -> float:
        """Seconds to wait now: from half of what is due to one and a half of it."""
        due, self._next = self._next, min(self._next * 2, self._most)
        return due * (0.5 + self._chance())

    def ease(self) -> None:
        """It worked: should it fail at once, it is not gone for all that."""
        self._next = min(self._next, EASED_SECONDS)

    def reset(self) -> None:
        """Begin anew: it worked for a while."""
        self._next = self._first
