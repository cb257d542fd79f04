# SPDX-License-Identifier: Apache-2.0
"""How many entries strangers may add to the audit log, which forgets nothing: so many at once, then one in a while.

Strangers cost nothing and have any number of addresses, so no bound for each of them bounds the log. What concerns
nobody here (no account, no hub, no client) shares one bucket; beyond it only numbers are left.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from thalovant_server.store.audit import AuditEntry
from thalovant_server.wall_clock import SECOND

BURST = 1_000
SECONDS_EACH = 6.0


def is_nobodys(entry: AuditEntry) -> bool:
    """Tell whether it is about no account, hub or client that there is, nor by one."""
    return entry.owner_id is None and entry.client_id is None and entry.actor_kind == "nobody"


class StrangersShare:
    """A bucket of entries that fills up with time. Times are microseconds; a clock that goes back adds nothing."""

    def __init__(self, burst: int = BURST, seconds_each: float = SECONDS_EACH) -> None:
        self._burst = burst
        self._each = seconds_each * SECOND
        self._level, self._at = float(burst), 0

    def divided(self, entries: Iterable[AuditEntry], now: int) -> tuple[list[AuditEntry], int, Counter[str]]:
        """Return the entries that have room, how many of those are strangers', and by action how often the others.

        Nothing is taken yet: see `take`.
        """
        room = int(self._filled(now))
        kept: list[AuditEntry] = []
        taken, over = 0, Counter[str]()
        for entry in entries:
            if not is_nobodys(entry):
                kept.append(entry)
            elif taken < room:
                kept.append(entry)
                taken += 1
            else:
                over[entry.action] += entry.times
        return kept, taken, over

    def take(self, entries: int, now: int) -> None:
        """So many of strangers were written."""
        self._level, self._at = self._filled(now) - entries, max(now, self._at)

    def _filled(self, now: int) -> float:
        return min(float(self._burst), self._level + max(0, now - self._at) / self._each)
