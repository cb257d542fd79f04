# SPDX-License-Identifier: Apache-2.0
"""A TCP proxy that fails as networks do, for tests, ours and yours.

::

    with Proxy("localhost", 8883) as proxy:
        client = connect_to(f"mqtts://localhost:{proxy.port}")
        proxy.freeze()

It runs on a thread of its own and passes bytes on as they come; it looks at none of them.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Self, TypeVar

T = TypeVar("T")

PIECE = 65_536


class Proxy:
    """A way to `host` and `port` that can be made to fail. Its own `port` stays the same. Use it in a `with` block."""

    def __init__(self, host: str, port: int) -> None:
        self.port = 0
        self.accepted = 0
        """Connections that were accepted so far."""
        self._target = host, port
        self._server: asyncio.Server | None = None
        self._live: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._allowance: int | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._passing: asyncio.Event

    def __enter__(self) -> Self:
        self._thread.start()
        self._run(self._start())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._run(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def connections(self) -> int:
        """Connections that are open now."""
        return len(self._live) // 2

    def cut(self) -> None:
        """Reset every connection; new ones are accepted."""
        self._run(self._cut())

    def refuse(self) -> None:
        """Reset every connection and listen no more."""
        self._run(self._refuse())

    def accept(self) -> None:
        """Undo `refuse`."""
        self._run(self._start())

    def freeze(self) -> None:
        """Pass nothing on any more, in either direction; connections stay, and new ones are accepted."""
        self._run(self._set_passing(False))

    def thaw(self) -> None:
        """Undo `freeze`: what was held back arrives late."""
        self._run(self._set_passing(True))

    def cut_after(self, count: int | None) -> None:
        """Reset the connection that passes the last of so many bytes from now on; once. None: not any more."""
        self._run(self._allow(count))

    # -- on the loop ------------------------------------------------------------------------------------------

    async def _start(self) -> None:
        if not hasattr(self, "_passing"):
            self._passing = asyncio.Event()
            self._passing.set()
        if self._server is None:
            self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
            self.port = self._server.sockets[0].getsockname()[1]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a stream's callback runs in a task
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self._live.add(writer)
        try:
            there = await asyncio.open_connection(*self._target)
        except OSError:
            self._drop(writer)
            return
        self._live.add(there[1])
        try:
            await asyncio.gather(self._pump(reader, there[1]), self._pump(there[0], writer))
        except (OSError, asyncio.CancelledError):
            pass  # one side is gone, or the proxy ends
        finally:
            self._drop(writer)
            self._drop(there[1])

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(PIECE):
            await self._passing.wait()
            writer.write(self._allowed(data))
            if self._allowance == 0:
                self._allowance = None
                raise ConnectionResetError
            await writer.drain()
        await self._passing.wait()
        writer.write_eof() if writer.can_write_eof() else writer.close()

    def _allowed(self, data: bytes) -> bytes:
        if self._allowance is None:
            return data
        passed = data[: self._allowance]
        self._allowance -= len(passed)
        return passed

    def _drop(self, writer: asyncio.StreamWriter) -> None:
        self._live.discard(writer)
        writer.transport.abort()

    async def _cut(self) -> None:
        for writer in list(self._live):
            self._drop(writer)

    async def _refuse(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        await self._cut()

    async def _set_passing(self, passing: bool) -> None:
        if passing:
            self._passing.set()
        else:
            self._passing.clear()

    async def _allow(self, count: int | None) -> None:
        self._allowance = count

    async def _end(self) -> None:
        await self._refuse()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)
