# SPDX-License-Identifier: Apache-2.0
"""The queue before the costly stretching of passwords: one at a time, those who wait first (architecture
decision 7).

Knows nothing of what is computed for a key, of tables or of carriers.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable

from thalovant_server.errors import Overloaded

MOST_WAITING = 100
RETRY_AFTER_SECONDS = 5

_log = logging.getLogger(__name__)


class StretchQueue:
    """Computes a result per credential in one worker task; work that somebody waits for goes first.

    Args:
        compute: makes the result for a credential id; runs in the worker task, one at a time.
        most_waiting: how many callers may wait in `now`.
    """

    def __init__(self, compute: Callable[[int], Awaitable[bytes]], *, most_waiting: int = MOST_WAITING) -> None:
        self._compute = compute
        self._most_waiting = most_waiting
        self._waiting = 0
        self._urgent: OrderedDict[int, asyncio.Future[bytes]] = OrderedDict()
        self._later: OrderedDict[int, None] = OrderedDict()
        self._running: tuple[int, asyncio.Future[bytes]] | None = None
        self._filled = asyncio.Event()
        self._worker: asyncio.Task[None] | None = None
        self._stopped = False

    def start(self) -> None:
        """Start the worker; call on the running loop."""
        self._worker = asyncio.create_task(self._work(), name="stretch-queue")

    async def stop(self) -> None:
        """End the worker; whoever waits gets `Overloaded`."""
        self._stopped = True
        if self._worker is not None:
            self._worker.cancel()
            await asyncio.gather(self._worker, return_exceptions=True)
        running = [self._running[1]] if self._running else []
        for future in [*self._urgent.values(), *running]:
            _settle(future, error=Overloaded("The server is stopping."))
        self._urgent.clear()

    def later(self, credential_id: int) -> None:
        """Compute the result some time, when nobody waits for another."""
        if credential_id not in self._urgent:
            self._later[credential_id] = None
            self._filled.set()

    def forget(self, credential_id: int) -> None:
        """Drop work that was put off and that nobody waits for."""
        self._later.pop(credential_id, None)

    async def now(self, credential_id: int) -> bytes:
        """Return the result, computed before all work that nobody waits for.

        Raises:
            Overloaded: too many wait already, or the queue is stopped.
        """
        if self._stopped or self._waiting >= self._most_waiting:
            raise Overloaded("Too many clients wait for their first handshake.", RETRY_AFTER_SECONDS)
        future = self._future_of(credential_id)
        self._waiting += 1
        try:
            return await asyncio.shield(future)
        finally:
            self._waiting -= 1

    def _future_of(self, credential_id: int) -> asyncio.Future[bytes]:
        if self._running is not None and self._running[0] == credential_id:
            return self._running[1]
        future = self._urgent.get(credential_id)
        if future is None:
            future = self._urgent[credential_id] = _quiet_future()
            self._later.pop(credential_id, None)
            self._filled.set()
        return future

    async def _work(self) -> None:
        while True:
            credential_id, future = await self._next()
            self._running = (credential_id, future)
            try:
                _settle(future, result=await self._compute(credential_id))
            except Exception as error:  # noqa: BLE001 - whoever waits gets it; the worker lives on
                _log.warning("stretching for credential %s failed: %s", credential_id, type(error).__name__)
                _settle(future, error=error)
            self._running = None

    async def _next(self) -> tuple[int, asyncio.Future[bytes]]:
        while not (self._urgent or self._later):
            self._filled.clear()
            await self._filled.wait()
        if self._urgent:
            return self._urgent.popitem(last=False)
        return self._later.popitem(last=False)[0], _quiet_future()


def _quiet_future() -> asyncio.Future[bytes]:
    """Return a future whose failure nobody has to look at: background work has no waiter."""
    future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
    future.add_done_callback(lambda done: done.cancelled() or done.exception())
    return future


def _settle(future: asyncio.Future[bytes], *, result: bytes | None = None, error: Exception | None = None) -> None:
    if future.done():
        return
    if error is not None:
        future.set_exception(error)
    elif result is not None:
        future.set_result(result)
