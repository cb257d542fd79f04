# SPDX-License-Identifier: Apache-2.0
"""Resident memory of the server per connected MQTT client: handshake done, `online` said, idle."""

from __future__ import annotations

import asyncio
import os
import re
import tempfile
from pathlib import Path
from typing import Any

import uvloop

from thalovant import AsyncThalovantClient, ThalovantControlPlane
from thalovant_server.testing import ServerProcess


def run(short: bool) -> list[str]:
    """Measure, and return the lines to print."""
    steps = (10,) if short else (10, 200)
    with tempfile.TemporaryDirectory() as folder, ServerProcess(Path(folder) / "data") as server:
        os.environ.update(server.environment, XDG_CONFIG_HOME=folder)
        with ThalovantControlPlane(server.ready["api_url"]) as api:
            api.login(*server.admin)
            hub = server.ready["hub_id"]
            identities = [api.create_client_identity(hub, name=f"memory-{n}").identity for n in range(max(steps) + 1)]
        return uvloop.run(connect(server, identities, steps))


async def connect(server: ServerProcess, identities: list[Any], steps: tuple[int, ...]) -> list[str]:
    """Connect the clients a few at a time; read the server's memory at each step."""
    clients = [AsyncThalovantClient(identity, protocol="mqtt", handshake_timeout=120) for identity in identities]
    gate = asyncio.Semaphore(2)

    async def ask(client: AsyncThalovantClient) -> None:
        async with gate:
            await client.ask("once", timeout=120)

    # Everybody once: stretching a password takes 64 MiB for a moment, and what the first client loads is nobody's cost.
    await asyncio.gather(*(ask(client) for client in clients))
    await asyncio.gather(*(client.disconnect() for client in clients))
    await ask(clients[0])
    lines, base, connected = [], resident(server.pid), 1
    for step in steps:
        await asyncio.gather(*(ask(client) for client in clients[connected : step + 1]))
        connected = step + 1
        now = resident(server.pid)
        lines.append(
            f"memory of the server, MQTT over TLS, {step} idle clients: {(now - base) / step:.0f} KiB a client "
            f"({base / 1024:.0f} → {now / 1024:.0f} MiB resident)"
        )
    await asyncio.gather(*(client.close() for client in clients))
    return lines


def resident(pid: int) -> int:
    """Resident memory of a process in KiB."""
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found
    return int(found[1])
