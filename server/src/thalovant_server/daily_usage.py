# SPDX-License-Identifier: Apache-2.0
"""How many asks each client has made today, UTC: counted in memory, and begun anew at midnight.

Sans-I/O: told the time, told what is stored, and asked for what is to be written. It holds one number for each client
that asked today, and forgets them all at midnight. Decides nothing (`hub.policy`) and writes nothing (`usage_keeper`).
"""

from __future__ import annotations

import datetime
import itertools
from collections.abc import Iterable, Mapping

from thalovant_server.wall_clock import SECOND, Clock, now

DAY = 86_400 * SECOND


class DailyUsage:
    """Asks of this day by client. `clock` gives microseconds since 1970; a day is the same for everybody."""

    def __init__(self, clock: Clock = now) -> None:
        self._clock = clock
        self.total = 0
        """Asks counted since the start, whatever the day."""
        self._day = clock() // DAY
        self._used: dict[str, int] = {}
        self._unwritten: dict[str, None] = {}

    @property
    def day(self) -> int:
        """Today, in days since 1970."""
        self._turn_over()
        return self._day

    def load(self, day: int, used: Mapping[str, int]) -> None:
        """Take in what was stored of a day, if it is today."""
        if day == self.day:
            self._used.update(used)

    def used(self, client_id: str) -> int:
        """Return how many asks a client has made today."""
        self._turn_over()
        return self._used.get(client_id, 0)

    def count(self, client_id: str) -> None:
        """One more ask of a client."""
        self._turn_over()
        self.total += 1
        self._used[client_id] = self._used.get(client_id, 0) + 1
        self._unwritten[client_id] = None

    def seconds_left(self) -> int:
        """Return the seconds until the counts begin anew, at least 1."""
        return -(-(DAY - self._clock() % DAY) // SECOND)

    def forget(self, client_id: str) -> None:
        """Forget a client that is gone."""
        self._used.pop(client_id, None)
        self._unwritten.pop(client_id, None)

    @property
    def is_unwritten(self) -> bool:
        """Whether there are counts that were not given to be written."""
        return bool(self._unwritten)

    def take_unwritten(self, most: int) -> tuple[int, dict[str, int]]:
        """Return today, and counts that changed since they were written, of at most so many clients.

        They count as written from now on.
        """
        self._turn_over()
        taken = list(itertools.islice(self._unwritten, most))
        for client_id in taken:
            del self._unwritten[client_id]
        return self._day, {client_id: self._used[client_id] for client_id in taken}

    def give_back(self, client_ids: Iterable[str]) -> None:
        """Those could not be written after all: they are unwritten again, as far as they are still known."""
        self._unwritten.update((client_id, None) for client_id in client_ids if client_id in self._used)

    def _turn_over(self) -> None:
        """Begin anew when the day is another: midnight passed, or the machine's clock was set."""
        day = self._clock() // DAY
        if day != self._day:
            self._day = day
            self._used.clear()
            self._unwritten.clear()


def day_text(day: int) -> str:
    """Return a day as ISO 8601 has it."""
    return (datetime.date(1970, 1, 1) + datetime.timedelta(days=day)).isoformat()
