# SPDX-License-Identifier: Apache-2.0
"""A task that hears of the directory's changes for as long as it runs. It does nothing of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from thalovant_server.directory import Change, Directory


class DirectoryTask:
    """One task, between `begin` and `end`.

    Args:
        directory: whose changes are heard.
        changed: hears each.
    """

    def __init__(self, directory: Directory, changed: Callable[[Change], None]) -> None:
        self._directory, self._changed = directory, changed
        self._task: asyncio.Task[None] | None = None
        self._unsubscribe: Callable[[], None] = lambda: None

    def begin(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """Begin that work; call on the running loop."""
        self._unsubscribe = self._directory.subscribe(self._changed)
        self._task = asyncio.create_task(work, name=name)

    async def end(self) -> None:
        """Hear no more, end the work, wait until it has ended. Nothing happens where none was begun."""
        self._unsubscribe()
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
