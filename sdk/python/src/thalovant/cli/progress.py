# SPDX-License-Identifier: Apache-2.0
"""Tell a person at a terminal that something still goes on, once it has taken a second.

On standard error and gone when it ends. Never in a pipe or with `--json`: programs want neither dots nor colours.
"""

from __future__ import annotations

import contextlib
import os
import stat
import sys
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

from thalovant.cli.output import is_for_people, wants_json

if TYPE_CHECKING:
    from rich.progress import Progress

__all__ = ["waiting"]

PATIENCE = 1.0  # seconds


@contextlib.contextmanager
def waiting(what: str) -> Iterator[None]:
    """While the block runs longer than `PATIENCE`, show `what` is being waited for, and for how long."""
    if wants_json(sys.argv[1:]) or not is_for_people(sys.stderr) or _is_pipe():
        yield
        return
    sign = _Sign(what)
    try:
        yield
    finally:
        sign.take_down()


class _Sign:
    """A spinner that appears late. Its timer and whoever takes it down may meet; one lock keeps them apart."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._lock = threading.Lock()
        self._down = False
        self._progress: Progress | None = None
        self._timer = threading.Timer(PATIENCE, self._put_up)
        self._timer.name, self._timer.daemon = "thalovant-waiting", True
        self._timer.start()

    def take_down(self) -> None:
        self._timer.cancel()
        with self._lock:
            self._down = True
            if self._progress is not None:
                self._progress.stop()

    def _put_up(self) -> None:
        # Loading rich takes a while; whoever has the answer within a second need not.
        from rich.console import Console
        from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        console = Console(stderr=True)
        with self._lock:
            if self._down:
                return
            if console.is_dumb_terminal:
                console.print(f"Still waiting: {self._what} ...", highlight=False, markup=False)
                return
            columns = (
                SpinnerColumn(),
                TextColumn("Still waiting: {task.description}", markup=False),
                TimeElapsedColumn(),
            )
            self._progress = Progress(*columns, console=console, transient=True)
            self._progress.add_task(self._what, total=None)
            self._progress.start()


def _is_pipe() -> bool:
    """Whether another program reads the output; it may well write to the same terminal."""
    try:
        return stat.S_ISFIFO(os.fstat(sys.stdout.fileno()).st_mode)
    except (OSError, ValueError):  # no file at all
        return True
