# SPDX-License-Identifier: Apache-2.0
"""An ask in flight: the one timer it needs and whoever waits for it. Decides nothing; `protocol.asks` does."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from thalovant.protocol.asks import Ask, Outcome

if TYPE_CHECKING:
    from thalovant.link import Link

__all__ = ["PendingAsk"]


class PendingAsk:
    """Wakes the caller when the ask that was sent on `link` has an outcome.

    Call `look` after each event, `end` in every case.
    """

    __slots__ = ("_due", "_loop", "_timer", "_waiter", "ask", "link")

    def __init__(self, ask: Ask, link: Link, loop: asyncio.AbstractEventLoop) -> None:
        self.ask = ask
        self.link = link
        self._loop = loop
        self._waiter: asyncio.Future[Outcome] = loop.create_future()
        self._timer: asyncio.TimerHandle | None = None
        self._due: float | None = None
        self.look()

    async def outcome(self) -> Outcome:
        """Wait for it."""
        return await self._waiter

    def look(self) -> None:
        """See what became of the ask; wake the caller, or set the timer to when time will tell."""
        outcome = self.ask.outcome
        if outcome is not None:
            if not self._waiter.done():
                self._waiter.set_result(outcome)
        elif self.ask.next_at != self._due:
            self._set_timer(self.ask.next_at)

    def end(self) -> None:
        """Stop the timer."""
        if self._timer is not None:
            self._timer.cancel()

    def _set_timer(self, due: float | None) -> None:
        self.end()
        self._due = due
        self._timer = None if due is None else self._loop.call_at(due, self._strike)

    def _strike(self) -> None:
        self._due = None  # the loop's clock is coarse: it may be a little early, and the timer must be set anew
        self.ask.tick(self._loop.time())
        self.look()
