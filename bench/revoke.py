# SPDX-License-Identifier: Apache-2.0
"""How long a revoked client stays connected: from the DELETE to the moment at which the client itself notices.

Every client is real and ours, connected and idle; bystanders share credentials, each victim has its own.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import uvloop

from thalovant import AsyncThalovantClient, AsyncThalovantControlPlane
from thalovant_server.testing import ServerProcess

CARRIERS = ("mqtt", "wss", "https")
EACH = 16  # sessions of one credential
PATIENCE = 60.0


def run(short: bool) -> list[str]:
    """Measure, and return the lines to print."""
    crowds, victims = ((4,), 1) if short else ((1, 100, 1000), 20)
    with tempfile.TemporaryDirectory() as folder, ServerProcess(Path(folder) / "data") as server:
        os.environ.update(server.environment, XDG_CONFIG_HOME=folder)
        return uvloop.run(_measure(server, crowds, victims))


async def _measure(server: ServerProcess, crowds: tuple[int, ...], victims: int) -> list[str]:
    lines = []
    async with AsyncThalovantControlPlane(server.ready["api_url"]) as api:
        await api.login(*server.admin)
        hub = server.ready["hub_id"]
        shared = [await _identity(api, hub, f"bystander-{n}") for n in range(-(-max(crowds) // EACH))]
        for carrier in CARRIERS:
            bystanders: list[AsyncThalovantClient] = []
            for crowd in crowds:
                wanted = range(len(bystanders) + 1, crowd)  # the victim is one of the crowd
                bystanders += await _connected([shared[n % len(shared)][1] for n in wanted], carrier)
                cut = [await _revoke(api, hub, carrier) for _ in range(victims)]
                lines.append(_line(carrier, crowd, cut))
            await asyncio.gather(*(client.close() for client in bystanders))
    return lines


async def _identity(api: AsyncThalovantControlPlane, hub: str, name: str) -> tuple[str, Any]:
    result = await api.create_client_identity(hub, name=name)
    assert result.client_id
    return result.client_id, result.identity


async def _connected(identities: list[Any], carrier: str) -> list[AsyncThalovantClient]:
    gate = asyncio.Semaphore(4)  # as many unfinished sessions as a credential may have over HTTPS
    options: dict[str, Any] = {"protocol": carrier, "auto_reconnect": False, "handshake_timeout": PATIENCE}
    clients = [AsyncThalovantClient(identity, **options) for identity in identities]

    async def connect(client: AsyncThalovantClient) -> None:
        async with gate:
            await client.connect(PATIENCE)

    await asyncio.gather(*(connect(client) for client in clients))
    return clients


async def _revoke(api: AsyncThalovantControlPlane, hub: str, carrier: str) -> tuple[float, float]:
    """Seconds from the DELETE, and from its answer, to the client's noticing. (The answer may be later: then 0.)"""
    client_id, identity = await _identity(api, hub, "victim")
    (client,) = await _connected([identity], carrier)
    await client.ask("connected?")
    etag = str((await api.get_client(client_id))["etag"])
    noticing = asyncio.create_task(_noticed(client), name="noticing")
    began = time.perf_counter()
    await api.delete_client(client_id, etag=etag)
    answered = time.perf_counter()
    noticed = await noticing
    await client.close()
    return noticed - began, max(0.0, noticed - answered)


async def _noticed(client: AsyncThalovantClient) -> float:
    await client.wait_closed(PATIENCE)
    return time.perf_counter()


def _line(carrier: str, crowd: int, cut: list[tuple[float, float]]) -> str:
    whole, after = ([1000 * each[n] for each in cut] for n in (0, 1))
    return (
        f"revoke → cut over {carrier}, TLS, {crowd} connected: DELETE sent → client notices p50 "
        f"{statistics.median(whole):.1f} ms p99 {_p99(whole):.1f} ms; from its answer p50 "
        f"{statistics.median(after):.1f} ms p99 {_p99(after):.1f} ms  n={len(cut)}"
    )


def _p99(values: list[float]) -> float:
    """The 99th percentile; of fewer than a hundred values that is the largest."""
    return sorted(values)[min(len(values) - 1, int(len(values) * 0.99))]
