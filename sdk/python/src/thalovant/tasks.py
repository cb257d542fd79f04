# SPDX-License-Identifier: Apache-2.0
"""Tasks that somebody owns: named, and ended with their owner. Catches and logs nothing on their behalf."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

__all__ = ["OwnedTasks"]

T = TypeVar("T")


class OwnedTasks:
    """The tasks of one owner, all on one event loop."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    def start(self, work: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
        """Run `work` as a task of this name. What it raises is for whoever awaits the task, if anybody does."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._forget)
        return task

    async def end(self) -> None:
        """Cancel all of them and wait until they are over; the one that calls this is left alone."""
        tasks = self._tasks - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def end_by_itself(self) -> None:
        """Wait until all of them are over."""
        await asyncio.gather(*(self._tasks - {asyncio.current_task()}), return_exceptions=True)

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # counts as seen: asyncio would otherwise complain at some later time
