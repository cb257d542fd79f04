# SPDX-License-Identifier: Apache-2.0
"""Identities created a second, when few and when many exist: over the API with TLS, eight at a time.

Their passwords are stretched meanwhile, as on every server: argon2id takes one of the machine's cores. The crowd of
those that exist is made by a server on which a cheap function stands in for it: else it would take an hour to settle.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Self

import uvloop

from thalovant import AsyncThalovantControlPlane
from thalovant_server.testing import ServerProcess

AT_ONCE = 8


class CheaplyStretching(ServerProcess):
    """A server on which a cheap function stands in for argon2id. Nobody can connect to it."""

    def start(self) -> Self:
        """Start it by way of this file."""
        self._command[self._command.index("thalovant_server")] = __spec__.name
        return super().start()


def run(short: bool) -> list[str]:
    """Measure, and return the lines to print."""
    steps, count = ((10,), 25) if short else ((10, 1_000, 20_000), 250)
    lines, existing = [], 0
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        for step in steps:
            with CheaplyStretching(data) as server:
                uvloop.run(_create(server, folder, step - existing))
            with ServerProcess(data) as server:
                rate, took = uvloop.run(_create(server, folder, count))
            existing = step + count
            lines.append(
                f"create an identity, API over TLS, {AT_ONCE} at a time, {step} exist: {rate:.0f} a second; "
                f"each p50 {1000 * statistics.median(took):.1f} ms  n={count}"
            )
    return lines


async def _create(server: ServerProcess, folder: str, count: int) -> tuple[float, list[float]]:
    """Make so many identities: how many a second, and the seconds that each took."""
    os.environ.update(server.environment, XDG_CONFIG_HOME=folder)
    took: list[float] = []
    async with AsyncThalovantControlPlane(server.ready["api_url"]) as api:
        await api.login(*server.admin)
        waiting = iter(range(count))

        async def worker() -> None:
            for number in waiting:
                began = time.perf_counter()
                await api.create_client_identity({"id": server.ready["hub_id"]}, name=f"client-{number}")
                took.append(time.perf_counter() - began)

        first = time.perf_counter()
        await asyncio.gather(*(worker() for _ in range(AT_ONCE)))
        return count / (time.perf_counter() - first), took


def _serve_cheaply() -> None:
    from thalovant_server import app, cli
    from thalovant_server.testing.directory import cheap_stretch

    app.stretch = cheap_stretch
    cli.main()


if __name__ == "__main__":
    _serve_cheaply()
