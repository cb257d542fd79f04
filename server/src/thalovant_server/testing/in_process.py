# SPDX-License-Identifier: Apache-2.0
"""The whole server in a thread of this process, for tests that restart it often or move its clock.

Everything is real: sockets, TLS, database. Only the clock may be moved, and a cheap function stands in for argon2id.
For anything else use :class:`thalovant_server.testing.ServerProcess`, whose server is a program of its own.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import uvloop

from thalovant_server.app import Server
from thalovant_server.hub.limits import Limits
from thalovant_server.ready_file import ReadyFile
from thalovant_server.settings import Settings
from thalovant_server.shutdown import Shutdown
from thalovant_server.testing.directory import cheap_stretch

START_SECONDS = 60.0


class MovedClock:
    """The time of day, and `ahead` seconds more. Call it for microseconds since 1970."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> int:
        return time.time_ns() // 1000 + int(self.ahead * 1_000_000)


class InProcessServer:
    """A server on free ports that keeps them, and its data, when it is stopped and started again.

    Args:
        data: its data directory.
        clock: of everything that it stores or lets expire.
        limits: of its data plane.
        loop: makes the event loop that it runs on.
    """

    def __init__(
        self,
        data: Path,
        *,
        clock: Callable[[], int] | None = None,
        limits: Limits | None = None,
        loop: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop,
    ) -> None:
        self.data = data
        self.ready: dict[str, str] = {}
        self.clock = clock or MovedClock()
        self._limits = limits or Limits()
        self._loop = loop
        self._ports = (0, 0)
        self._thread: threading.Thread | None = None
        self._stop: Callable[[], object] = lambda: None

    @property
    def admin(self) -> tuple[str, str]:
        """The e-mail address and the password of its administrator."""
        return self.ready["admin_email"], Path(self.ready["admin_password_file"]).read_text().strip()

    def start(self) -> Self:
        """Start it and wait until everything accepts."""
        started: Future[dict[str, Any]] = Future()
        self._thread = threading.Thread(target=self._run, args=(started,), name="in-process-server")
        self._thread.start()
        self.ready = started.result(START_SECONDS)
        ports = (self.ready[name].rpartition(":")[2].partition("/")[0] for name in ("api_url", "mqtt_endpoint"))
        self._ports = (int(next(ports)), int(next(ports)))
        return self

    def stop(self) -> None:
        """Stop it as SIGTERM would, and wait until it has."""
        self._stop()
        if self._thread is not None:
            self._thread.join(START_SECONDS)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _run(self, started: Future[dict[str, Any]]) -> None:
        with asyncio.Runner(loop_factory=self._loop) as runner:
            runner.run(self._serve(started))

    async def _serve(self, started: Future[dict[str, Any]]) -> None:
        loop, shutdown = asyncio.get_running_loop(), Shutdown(drain_seconds=1.0)
        self._stop = lambda: loop.call_soon_threadsafe(shutdown.request)
        ports = {"api_port": self._ports[0], "mqtt_port": self._ports[1]}
        settings = Settings.model_validate({"data": self.data, **ports})
        server = Server(
            settings, shutdown, ReadyFile(None), stretch=cheap_stretch, clock=self.clock, limits=self._limits
        )
        try:
            started.set_result(await server.start())
            await shutdown.wait()
        except BaseException as error:
            if not started.done():
                started.set_exception(error)
            raise
        finally:
            self._stop = lambda: None
            await shutdown.run()
