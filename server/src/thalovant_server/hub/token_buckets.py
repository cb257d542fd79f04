# SPDX-License-Identifier: Apache-2.0
"""Rate limits as token buckets: one for each client, whatever the carrier and the credential that it comes with.

A bucket holds `messages` tokens, is full at first, and gets one back every `per_seconds / messages` seconds. All that
is kept of it is the moment at which it will be full again (the generic cell rate algorithm), in whole nanoseconds: so
verdicts do not depend on when anybody looked, and in T seconds never more than `messages * (1 + T / per_seconds)` pass.
A bucket that is full is forgotten sooner or later: a new one is full too.

Sans-I/O: the time, of a monotonic clock in seconds, is passed in. Decides nothing else.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from thalovant_server.directory import RateLimit

SECOND = 1_000_000_000
# Buckets looked at with each message: more than one, so that they are forgotten faster than they come.
SWEPT = 2


class TokenBuckets:
    """The buckets that are not full, by client id."""

    __slots__ = ("_buckets",)

    def __init__(self) -> None:
        # When it is full again, and the limit that it was counted by.
        self._buckets: OrderedDict[str, tuple[int, RateLimit]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, client_id: str, limit: RateLimit, now: float) -> float:
        """Take a token; return 0.0 when there was one, else the seconds until there is one again."""
        moment = int(now * SECOND)
        self._sweep(moment)
        each = _interval(limit)
        full_at = self._full_at(client_id, limit, moment)
        missing = full_at + each - (moment + each * limit.messages)
        if missing > 0:
            return missing / SECOND
        self._buckets[client_id] = full_at + each, limit
        return 0.0

    def forget(self, client_id: str) -> None:
        """Forget a client that is gone."""
        self._buckets.pop(client_id, None)

    def _full_at(self, client_id: str, limit: RateLimit, moment: int) -> int:
        """When the bucket is full again, by its present limit: a change leaves as many tokens missing, or all."""
        full_at, counted_by = self._buckets.get(client_id, (moment, limit))
        if counted_by == limit or full_at <= moment:
            return max(full_at, moment)
        missing = -(-(full_at - moment) // _interval(counted_by))
        full_at = moment + min(missing, limit.messages) * _interval(limit)
        self._buckets[client_id] = full_at, limit
        return full_at

    def _sweep(self, moment: int) -> None:
        """Look at the buckets in turn and forget those that are full."""
        for _ in range(min(SWEPT, len(self._buckets))):
            client_id = next(iter(self._buckets))
            if self._buckets[client_id][0] <= moment:
                del self._buckets[client_id]
            else:
                self._buckets.move_to_end(client_id)


def _interval(limit: RateLimit) -> int:
    """Nanoseconds from token to token."""
    return -(-limit.per_seconds * SECOND // limit.messages)
