# SPDX-License-Identifier: Apache-2.0
"""A bounded pool of daemon threads for synchronous agents (architecture decision 11).

Daemons, because a thread that an agent blocks for ever must not keep the process from ending, as the standard
library's pool would.

It will not limit how much waits (the runtime does) nor interrupt a thread (nothing can).
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue


class DaemonPool:
    """Runs jobs on up to `size` threads, which are made when they are needed."""

    def __init__(self, name: str, size: int) -> None:
        self._name = name
        self._size = size
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._threads = 0
        self._idle = 0
        self._closed = False

    def submit(self, job: Callable[[], None]) -> None:
        """Run `job` on a thread, in its turn. A job must not raise.

        Raises:
            RuntimeError: the pool is closed.
        """
        with self._lock:
            if self._closed:
                raise RuntimeError(f"the threads of {self._name} are gone")
            self._jobs.put(job)
            if self._idle > 0:
                self._idle -= 1
            elif self._threads < self._size:
                self._threads += 1
                name = f"{self._name}-{self._threads}"
                threading.Thread(target=self._work, name=name, daemon=True).start()

    def close(self) -> None:
        """Take no more jobs; threads that are free end at once, busy ones after their job."""
        with self._lock:
            self._closed = True
            for _ in range(self._threads):
                self._jobs.put(None)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()
            with self._lock:
                self._idle += 1
