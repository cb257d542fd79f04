# SPDX-License-Identifier: Apache-2.0
"""An event loop whose time stands still until a test moves it, while its sockets stay real.

What happens after seconds of silence then happens in the order of what is due, however slow the machine is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

T = TypeVar("T")

STEP_SECONDS = 0.5
TURNS = 4  # of the loop: what is due is called in the first, and what that plans in those after it


class HeldLoop(asyncio.SelectorEventLoop):
    """Its time runs as everybody's until it is held."""

    def __init__(self) -> None:
        self._held: float | None = None
        self._ahead = 0.0
        super().__init__()

    def time(self) -> float:
        """Seconds since some fixed moment."""
        return super().time() + self._ahead if self._held is None else self._held

    def hold(self) -> None:
        """Let no time pass."""
        self._held = self.time()

    def release(self) -> None:
        """Let it pass again, from where it is."""
        if self._held is not None:
            self._ahead = self._held - super().time()
            self._held = None

    async def step(self, seconds: float = STEP_SECONDS) -> None:
        """Let so much time pass at once, and see to what is due then. For its own thread, while it is held."""
        assert self._held is not None, "hold it first"  # noqa: S101 - a mistake of the test
        self._held += seconds
        for _ in range(TURNS):
            await asyncio.sleep(0)

    async def pass_until(self, done: Awaitable[T], step: float = STEP_SECONDS) -> T:
        """Let time pass in steps of so many seconds, from another loop, until that is done; return what it gives."""
        waiting = asyncio.ensure_future(done)
        self.call_soon_threadsafe(self.hold)
        try:
            while not waiting.done():
                await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self.step(step), self))
                await asyncio.wait([waiting], timeout=0.0)
        finally:
            waiting.cancel()
            self.call_soon_threadsafe(self.release)
        return await waiting
