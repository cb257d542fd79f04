# SPDX-License-Identifier: Apache-2.0
"""The ruler: a bare TLS echo on uvloop, in a process of its own as the server is; no protocol, no thought."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
import sys
import time
from pathlib import Path

import uvloop

SIZE = 200  # bytes: about what a sealed ask is


class Echo(asyncio.Protocol):
    """Sends back what comes."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)  # type: ignore[attr-defined]


class Asker(asyncio.Protocol):
    """Sends one block, waits until it is back."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport, self.missing = transport, 0
        self.back: asyncio.Future[None] | None = None

    def ask(self) -> asyncio.Future[None]:
        self.missing = SIZE
        self.back = asyncio.get_running_loop().create_future()
        self.transport.write(b"x" * SIZE)  # type: ignore[attr-defined]
        return self.back

    def data_received(self, data: bytes) -> None:
        self.missing -= len(data)
        if not self.missing and self.back:
            self.back.set_result(None)


async def serve(certificate: str, key: str) -> None:
    """Echo on a free port, which is printed, until standard input ends."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server = await asyncio.get_running_loop().create_server(Echo, "127.0.0.1", 0, ssl=context)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)
    server.close()


async def ask(port: int, authority: str, count: int) -> list[float]:
    """Seconds of each of ``count`` round trips."""
    context = ssl.create_default_context(cafile=authority)
    loop = asyncio.get_running_loop()
    transport, asker = await loop.create_connection(Asker, "127.0.0.1", port, ssl=context, server_hostname="localhost")
    took = []
    for _ in range(count):
        began = time.perf_counter()
        await asker.ask()
        took.append(time.perf_counter() - began)
    transport.close()
    return took


def measure(folder: Path, count: int) -> list[float]:
    """Seconds of each round trip against an echo in another process; ``folder`` is a server's data directory."""
    command = [sys.executable, "-m", "bench.bare_echo", str(folder / "tls.crt"), str(folder / "tls.key")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as echo:
        assert echo.stdin is not None and echo.stdout is not None
        port = int(echo.stdout.readline())
        took = uvloop.run(ask(port, str(folder / "ca.pem"), count))
        echo.stdin.close()
    return took


if __name__ == "__main__":
    uvloop.run(serve(*sys.argv[1:3]))
