# SPDX-License-Identifier: Apache-2.0
"""Gives memory that is free again back to the system, and looks for garbage only where there may be some.

A thousand strangers at once leave holes between what is in use, and glibc keeps those: the process would look, and be
charged, as if they were still there. It is asked now and then to let them go, in a thread of its own; where there is
no glibc nothing is done.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import sys
from collections.abc import Callable, Iterator

INTERVAL_SECONDS = 10.0


class MemoryKeeper:
    """Trims every so often until its task is cancelled."""

    def __init__(self, interval: float = INTERVAL_SECONDS, trim: Callable[[], object] | None = None) -> None:
        self._interval = interval
        self._trim = trim or find_trim()

    async def run(self) -> None:
        """Do so for ever; return at once where it cannot be done."""
        if self._trim is None:
            return
        while True:
            await asyncio.sleep(self._interval)
            await asyncio.to_thread(self._trim)


def find_trim() -> Callable[[], object] | None:
    """Return what gives memory back (blocking, some milliseconds), None where there is no such thing."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError):  # another C library
        return None
    return lambda: trim(0)


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Load programs: nothing of what is made meanwhile is looked through for garbage, neither now nor later."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
