# SPDX-License-Identifier: Apache-2.0
"""One private event loop on one daemon thread, and a second thread that calls the user's handlers.

The synchronous twins run the asyncio core on it. It knows nothing of hubs, protocols or identities; it never
runs user code on the loop's thread, so that a handler may call back into the client without blocking itself.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import logging
import queue
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

__all__ = ["HandlerThread", "LoopEndedError", "LoopThread"]

T = TypeVar("T")

_log = logging.getLogger("thalovant.handlers")

MAX_WAITING = 10_000


class LoopEndedError(RuntimeError):
    """There is no loop any more, and there will be none: `LoopThread.close` was called."""


class LoopThread:
    """An event loop on a daemon thread; starts on the first `run`, ends for good with `close`.

    Safe to call from any thread but its own.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._ended = False  # like the two above, only touched under the lock

    @property
    def running(self) -> bool:
        """Whether there is a loop to run something on."""
        return self._loop is not None

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run `work` on the loop and wait for it. An interrupt (Ctrl-C) while waiting cancels it there.

        Raises `RuntimeError` when called on the loop's own thread: it would wait for itself; `LoopEndedError` after
        `close`, and `concurrent.futures.CancelledError` when `close` ends the work.
        """
        try:
            future = self._submitted(work)
        except BaseException:
            work.close()
            raise
        try:
            return future.result()
        except BaseException:
            future.cancel()  # does nothing when the work is what failed
            raise

    def abandon(self, last: Callable[[], Coroutine[Any, Any, object]]) -> None:
        """Run one last thing, then end as `close` does, without waiting for either; for finalizers."""
        with self._lock:
            loop, self._loop, self._thread = self._loop, None, None
            self._ended = True
        if loop is not None:
            loop.call_soon_threadsafe(_end_after, loop, last)

    def close(self) -> None:
        """End every task of the loop, the loop and its thread, and start none again. Idle the second time."""
        with self._lock:
            loop, thread = self._loop, self._thread
            self._loop = self._thread = None
            self._ended = True
        if loop is None or thread is None:
            return
        loop.call_soon_threadsafe(loop.stop)
        if thread is not threading.current_thread():
            thread.join()

    def _submitted(self, work: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
        """Hand `work` to the loop; under the lock, so that what is handed over is ahead of the loop's end."""
        with self._lock:
            if self._ended:
                raise LoopEndedError("the loop was closed")
            if threading.current_thread() is self._thread:
                raise RuntimeError("this call would wait for itself; use the asynchronous client here")
            return asyncio.run_coroutine_threadsafe(work, self._loop or self._started())

    def _started(self) -> asyncio.AbstractEventLoop:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=_serve, args=(self._loop,), name=self._name, daemon=True)
        self._thread.start()
        return self._loop


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
    finally:
        _end_tasks(loop)
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
        asyncio.set_event_loop(None)
        loop.close()


def _end_after(loop: asyncio.AbstractEventLoop, last: Callable[[], Coroutine[Any, Any, object]]) -> None:
    task = loop.create_task(last(), name="thalovant-abandoned")
    task.add_done_callback(lambda done: (done.cancelled() or done.exception(), loop.stop()))


def _end_tasks(loop: asyncio.AbstractEventLoop) -> None:
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    if tasks:
        loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))


class HandlerThread:
    """Calls functions one after the other on a daemon thread of its own; starts with the first one.

    At most 10,000 calls wait; further ones are dropped and the first drop of a row is logged: a handler that
    never returns must not eat the memory of its program. What a handler raises is logged, never passed on.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._calls: queue.Queue[Callable[[], object] | None] = queue.Queue(MAX_WAITING)
        self._thread: threading.Thread | None = None
        self._dropping = False
        self._ending = False

    def call(self, function: Callable[[], object]) -> None:
        """Have `function` called soon; never blocks."""
        try:
            self._calls.put_nowait(function)
            self._dropping = False
        except queue.Full:
            if not self._dropping:
                _log.warning("event handlers are too slow: %d events wait, further ones are dropped", MAX_WAITING)
            self._dropping = True
        if self._thread is None:
            self._start()

    def close(self) -> None:
        """End the thread for good once the call under way has returned; what still waits is dropped.

        Called by a handler itself, it does not wait for that handler.
        """
        self.abandon()
        with self._lock:
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def abandon(self) -> None:
        """The same without waiting; for finalizers."""
        self._ending = True
        with contextlib.suppress(queue.Full):
            self._calls.put_nowait(None)  # wakes it; with a full queue it is awake

    def _start(self) -> None:
        with self._lock:
            if self._thread is None and not self._ending:
                self._thread = threading.Thread(target=self._serve, name=self._name, daemon=True)
                self._thread.start()

    def _serve(self) -> None:
        while (function := self._calls.get()) is not None and not self._ending:
            try:
                function()
            except Exception:  # noqa: BLE001 - the next call must be served
                _log.exception("an event handler failed")
