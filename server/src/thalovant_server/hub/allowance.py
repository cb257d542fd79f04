# SPDX-License-Identifier: Apache-2.0
"""How much a client may send: its rate limit and its daily quota, and the denials when they are used up (contract 9.4).

Both belong to the client, over all carriers and both of its credentials. The rate counts every message that asks for
something; the quota counts asks and queries that run.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from thalovant_server.hub.token_buckets import TokenBuckets

if TYPE_CHECKING:
    from thalovant_server.daily_usage import DailyUsage
    from thalovant_server.directory import Permissions, RateLimit


@dataclass(frozen=True, slots=True)
class Shortage:
    """What is used up; `reset_after`: seconds until something more may be sent, at least 1."""

    code: str
    reason: str
    period: str
    limit: int
    used: int
    reset_after: int

    @property
    def data(self) -> dict[str, Any]:
        """The nested `data` of the denial."""
        return {"period": self.period, "limit": self.limit, "used": self.used, "reset_after": self.reset_after}


class Allowances:
    """What is left to each client. `usage` counts asks of the day."""

    def __init__(self, usage: DailyUsage) -> None:
        self._usage = usage
        self._buckets = TokenBuckets()

    def spend(self, client_id: str, permissions: Permissions, now: float) -> Shortage | None:
        """Count a message against the rate limit; return what is short when it is over it.

        `now`: of a monotonic clock, in seconds.
        """
        limit = permissions.rate_limit
        if limit is None:
            return None
        wait = self._buckets.take(client_id, limit, now)
        return _too_fast(limit, wait) if wait else None

    def quota_left(self, client_id: str, permissions: Permissions) -> Shortage | None:
        """Return None when the client may ask once more today, else what is short."""
        quota = permissions.daily_quota
        used = self._usage.used(client_id) if quota is not None else 0
        if quota is None or used < quota:
            return None
        return Shortage(
            "intent_quota_exceeded",
            f"the quota of {quota} asks a day is used up",
            "daily",
            quota,
            used,
            self._usage.seconds_left(),
        )

    def count(self, client_id: str) -> None:
        """An ask of the client runs."""
        self._usage.count(client_id)

    def forget(self, client_id: str) -> None:
        """Forget a client that is gone."""
        self._usage.forget(client_id)
        self._buckets.forget(client_id)


def _too_fast(limit: RateLimit, wait: float) -> Shortage:
    period = f"{limit.per_seconds}s"
    reason = f"more than {limit.messages} message{'' if limit.messages == 1 else 's'} in {period}"
    return Shortage("rate_limited", reason, period, limit.messages, limit.messages, math.ceil(wait))
