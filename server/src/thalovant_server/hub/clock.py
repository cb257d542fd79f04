# SPDX-License-Identifier: Apache-2.0
"""Time as the hub sees it: now, and a call later. Tests bring their own.

It will not sleep or make tasks.
"""

import asyncio
from collections.abc import Callable
from typing import Protocol


class Timer(Protocol):
    """What `call_later` gives back."""

    def cancel(self) -> None:
        """Forget the call; harmless when it has happened."""


class Clock(Protocol):
    """A monotonic clock in seconds."""

    def now(self) -> float:
        """Seconds since some fixed moment."""
        ...

    def call_later(self, delay: float, callback: Callable[[], object]) -> Timer:
        """Call `callback` once, `delay` seconds from now, on the event loop."""
        ...


class LoopClock:
    """The event loop's own clock."""

    __slots__ = ("_loop",)

    def __init__(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        self._loop = loop or asyncio.get_running_loop()

    def now(self) -> float:
        """The loop's time."""
        return self._loop.time()

    def call_later(self, delay: float, callback: Callable[[], object]) -> Timer:
        """As the loop's `call_later`."""
        return self._loop.call_later(delay, callback)
