# SPDX-License-Identifier: Apache-2.0
"""The events that one `listen` waits for and has not taken yet: a bounded buffer between the hub and a loop.

When it is full nothing is dropped in silence: what is in it is handed out, and then the listener gets an error that
says so. It subscribes to nothing and knows no connection.
"""

from __future__ import annotations

import asyncio
from collections import deque

from thalovant.errors import ThalovantRuntimeError
from thalovant.events import ThalovantEvent
from thalovant.subscriptions import EventPredicate

__all__ = ["Listening"]

OVERFLOW = "listener_overflow"
"""`code` of the error for a listener that is too slow."""


class Listening:
    """Events on their way to one listener, all on one event loop; ends once, at `deadline_at` (loop time) by itself."""

    def __init__(
        self, event_name: str, fits: EventPredicate | None, most: int, deadline_at: float | None = None
    ) -> None:
        """At most `most` events wait. Raises ValueError unless that is a positive number."""
        if most < 1:
            raise ValueError("max_buffered_events must be a positive integer.")
        self._event_name = event_name
        self._fits = fits
        self._most = most
        self._deadline_at = deadline_at
        self._waiting: deque[ThalovantEvent] = deque()
        self._changed = asyncio.Event()
        self._ended = False
        self._error: Exception | None = None
        self.timed_out = False
        """Whether it ended because its time was up."""

    def put(self, event: ThalovantEvent) -> None:
        """Take an event, if it fits; what the predicate raises is for the listener."""
        self._look_at_the_clock()
        if self._ended:
            return
        try:
            wanted = self._fits is None or self._fits(event)
        except Exception as error:  # noqa: BLE001 - the predicate's fault is for its caller
            self.end(error)
            return
        if wanted and len(self._waiting) >= self._most:
            self.end(self._overflow())
        elif wanted:
            self._waiting.append(event)
            self._changed.set()

    def end(self, error: Exception | None = None) -> None:
        """Let nothing more in: when the rest is handed out the listener hears `error`, or simply the end."""
        if not self._ended:
            self._ended, self._error = True, error
            self._changed.set()

    async def next(self) -> ThalovantEvent | None:
        """Wait for the next event; None after the last one. Raises the error it was ended with."""
        try:
            async with asyncio.timeout_at(self._deadline_at):
                await self._change()
        except TimeoutError:
            self._end_in_time()
        if self._waiting:
            return self._waiting.popleft()
        if self._error is not None:
            raise self._error
        return None

    def _look_at_the_clock(self) -> None:
        if self._deadline_at is not None and asyncio.get_running_loop().time() >= self._deadline_at:
            self._end_in_time()

    def _end_in_time(self) -> None:
        self.timed_out = self.timed_out or not self._ended
        self.end()

    async def _change(self) -> None:
        while not self._waiting and not self._ended:
            self._changed.clear()
            await self._changed.wait()

    def _overflow(self) -> ThalovantRuntimeError:
        error = ThalovantRuntimeError(
            f"More than {self._most} {self._event_name!r} events waited to be taken, and the one after them was lost. "
            f"Take them faster, or listen with a larger max_buffered_events."
        )
        error.code = OVERFLOW
        return error
