# SPDX-License-Identifier: Apache-2.0
"""A TLS front before a server, with any certificate that a test wants: expired, misnamed, of another authority.

::

    with TlsFront("localhost", 8883, issue("other.example", root, hosts=["other.example"])) as front:
        client = connect_to(f"mqtts://localhost:{front.port}")

It passes on what it decrypts, over TLS again, so that a client which does trust it reaches the real server.
"""

from __future__ import annotations

import asyncio
import ssl
import tempfile
import threading
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from thalovant_server.testing.certificates import Issued

PIECE = 65_536


class TlsFront:
    """A way to `host` and `port` that shows a certificate of the test's own. Use it in a `with` block."""

    def __init__(self, host: str, port: int, shown: Issued) -> None:
        self.port = 0
        self._target = host, port
        self._context = _context_of(shown)
        self._loop = asyncio.new_event_loop()
        self._loop.set_exception_handler(lambda *_: None)  # clients that do not trust it hang up on it
        self._thread = threading.Thread(target=self._loop.run_forever, name="tls-front", daemon=True)
        self._passing: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _start(self) -> None:
        self._server = await asyncio.start_server(self._accepted, "127.0.0.1", 0, ssl=self._context)
        self.port = int(self._server.sockets[0].getsockname()[1])

    async def _end(self) -> None:
        assert self._server is not None  # noqa: S101 - started
        self._server.close()
        for task in self._passing:
            task.cancel()
        await asyncio.gather(*self._passing, return_exceptions=True)

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = self._loop.create_task(self._pass_on(reader, writer), name="tls-front-pass")
        self._passing.add(task)
        task.add_done_callback(self._passing.discard)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        behind = ssl.create_default_context()
        behind.check_hostname, behind.verify_mode = False, ssl.CERT_NONE
        try:
            there, back = await asyncio.open_connection(*self._target, ssl=behind)
            try:
                await asyncio.gather(_pump(reader, back), _pump(there, writer))
            finally:
                back.transport.abort()
        finally:
            writer.transport.abort()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(PIECE):
            writer.write(data)
            await writer.drain()
    writer.close()


def _context_of(shown: Issued) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.TemporaryDirectory() as folder:
        context.load_cert_chain(*shown.write(Path(folder)))
    return context
