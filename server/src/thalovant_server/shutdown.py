# SPDX-License-Identifier: Apache-2.0
"""The one object by which the whole process ends: stop accepting, drain until a deadline, cancel.

Whoever owns sockets or tasks registers how they end; they end in the reverse order of their registration, so that
what accepts stops before what it feeds.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Drain:
    """How long a part may let what is under way go on: so many seconds, and no longer once `hurry` is set."""

    seconds: float
    hurry: asyncio.Event


End = Callable[[Drain], Awaitable[None]]
"""Ends one part. It is never cut off itself: one that drains must heed `Drain.hurry`."""


class Shutdown:
    """A wish to stop, and the ordered end of everything that was started."""

    def __init__(self, drain_seconds: float) -> None:
        self._wished = asyncio.Event()
        self._hurry = asyncio.Event()
        self._drain_seconds = drain_seconds
        self._ends: list[tuple[str, End]] = []

    def listen_to_signals(self) -> None:
        """Wish to stop on SIGTERM and SIGINT; a second one cuts the draining short."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.request)

    def request(self) -> None:
        """Wish that the process stops. A second wish ends the draining, also the one that is under way."""
        if self._wished.is_set():
            self._hurry.set()
        self._wished.set()

    async def wait(self) -> None:
        """Wait until somebody wishes to stop."""
        await self._wished.wait()

    def at_end(self, name: str, end: End) -> None:
        """Register how a part ends; the last one registered ends first."""
        self._ends.append((name, end))

    async def run(self) -> None:
        """End every part. One that fails is logged and keeps no other from ending."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._drain_seconds
        while self._ends:
            name, end = self._ends.pop()
            left = 0.0 if self._hurry.is_set() else max(0.0, deadline - loop.time())
            try:
                await end(Drain(left, self._hurry))
            except Exception:
                log.exception("part did not end cleanly", part=name)
