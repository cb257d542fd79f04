# SPDX-License-Identifier: Apache-2.0
"""`ask` per carrier, asynchronous and synchronous, against our own server with the echo agent."""

from __future__ import annotations

import asyncio
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import uvloop

from bench import bare_echo
from thalovant import AsyncThalovantClient, ThalovantClient, ThalovantControlPlane
from thalovant_server.testing import ServerProcess

TEXT = "How warm is it in the kitchen, and in the cellar?"
CARRIERS = ("mqtt", "wss", "https")


def run(short: bool) -> list[str]:
    """Measure, and return the lines to print."""
    count = 50 if short else 2000
    with tempfile.TemporaryDirectory() as folder, ServerProcess(Path(folder) / "data") as server:
        os.environ.update(server.environment, XDG_CONFIG_HOME=folder)
        with ThalovantControlPlane(server.ready["api_url"]) as api:
            api.login(*server.admin)
            identity = api.create_client_identity(server.ready["hub_id"], name="bench").identity
        ruler = bare_echo.measure(Path(folder) / "data", count)
        base = statistics.median(ruler)
        lines = [f"bare echo, TLS, {bare_echo.SIZE} B, uvloop, 1 client: {times(ruler)}  n={count}"]
        for carrier in CARRIERS:
            for kind, took in (
                ("async", asynchronous(identity, carrier, count)),
                ("sync", synchronous(identity, carrier, count)),
            ):
                ratio = statistics.median(took) / base
                lines.append(
                    f"ask over {carrier}, TLS, {kind} client, echo agent, 1 client: "
                    f"{times(took)}  {ratio:.1f}x bare echo  n={count}"
                )
        lines += [pipelined(identity, carrier, 500 if short else 10_000) for carrier in CARRIERS]
    return lines


def asynchronous(identity: Any, carrier: str, count: int) -> list[float]:
    """Seconds of each ask of one AsyncThalovantClient on uvloop."""

    async def main() -> list[float]:
        took = []
        async with AsyncThalovantClient(identity, protocol=carrier) as client:
            await client.ask("warm")
            for _ in range(count):
                began = time.perf_counter()
                await client.ask(TEXT)
                took.append(time.perf_counter() - began)
        return took

    return uvloop.run(main())


def synchronous(identity: Any, carrier: str, count: int) -> list[float]:
    """Seconds of each ask of one ThalovantClient."""
    took = []
    with ThalovantClient(identity, protocol=carrier) as client:
        client.ask("warm")
        for _ in range(count):
            began = time.perf_counter()
            client.ask(TEXT)
            took.append(time.perf_counter() - began)
    return took


def pipelined(identity: Any, carrier: str, count: int) -> str:
    """Asks a second with 8 in flight on one connection: what one client's own bound lets run at once."""

    async def main() -> float:
        async with AsyncThalovantClient(identity, protocol=carrier) as client:
            await client.ask("warm")
            left = iter(range(count))

            async def worker() -> None:
                for _ in left:
                    await client.ask(TEXT)

            began = time.perf_counter()
            await asyncio.gather(*(worker() for _ in range(8)))
            return count / (time.perf_counter() - began)

    return (
        f"asks a second over {carrier}, TLS, async client, 8 in flight, 1 client: {uvloop.run(main()):,.0f}  n={count}"
    )


def times(took: list[float]) -> str:
    """p50 and p99 as text."""
    ordered = sorted(took)
    return f"p50 {ordered[len(ordered) // 2] * 1e3:.2f} ms, p99 {ordered[int(len(ordered) * 0.99)] * 1e3:.2f} ms"
