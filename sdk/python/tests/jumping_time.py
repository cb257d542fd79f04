# SPDX-License-Identifier: Apache-2.0
"""An event loop whose time jumps to the next thing that is due, so that tests of long pauses take no time."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable
from typing import Any


class _JumpingSelector(selectors.DefaultSelector):
    """Instead of waiting it says how long the loop would have waited."""

    jump: Callable[[float], None]

    def select(self, timeout: float | None = None) -> Any:
        if timeout is None:
            raise AssertionError("everybody waits and nothing will ever happen")
        self.jump(max(timeout, 0.0))
        return super().select(0)


class JumpingLoop(asyncio.SelectorEventLoop):
    """Its time jumps to the next thing that is due; what belongs on a thread is done at once."""

    def __init__(self) -> None:
        self.now = 1000.0
        selector = _JumpingSelector()
        selector.jump = self._jump
        super().__init__(selector)

    def _jump(self, seconds: float) -> None:
        self.now += seconds

    def time(self) -> float:
        return self.now

    def run_in_executor(self, executor: Any, function: Any, *arguments: Any) -> Any:
        done = self.create_future()
        done.set_result(function(*arguments))
        return done

    @property
    def timers(self) -> list[asyncio.TimerHandle]:
        """What is still to be called, sleeps included."""
        return [each for each in self._scheduled if not each.cancelled()]  # type: ignore[attr-defined]
