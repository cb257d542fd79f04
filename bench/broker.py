# SPDX-License-Identifier: Apache-2.0
"""`ask` through Mosquitto, against bare MQTT clients over the same Mosquitto in the same run; and how soon a client
notices that its credential is gone.
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

from bench import bare_mqtt
from bench.asks import TEXT, times
from thalovant import AsyncThalovantClient, AsyncThalovantControlPlane
from thalovant_server.errors import SettingsError
from thalovant_server.testing import ServerProcess
from thalovant_server.testing.mosquitto import MosquittoProcess

PATIENCE = 60.0
VIA = ("link", "embedded")  # through the broker; to the server's own endpoint


def run(short: bool) -> list[str]:
    """Measure, and return the lines to print."""
    at_once, rounds, victims = (2, 10, 1) if short else (50, 60, 20)
    crowds = (2,) if short else (1, 100)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        try:
            broker = MosquittoProcess(folder / "broker")
        except SettingsError as error:
            return [f"through a broker: not measured. {error}"]
        with broker, ServerProcess(folder / "data", options=broker.options) as server:
            os.environ.update(server.environment, XDG_CONFIG_HOME=name)
            uvloop.run(bare_mqtt.let_in(broker, at_once))
            lines = []
            for clients, count in ((1, rounds * 20), (at_once, rounds)):
                ruler = bare_mqtt.measure(broker, clients, count)
                lines += _compared(clients, ruler, *(uvloop.run(_ask(server, via, clients, count)) for via in VIA))
            return lines + uvloop.run(_end(server, crowds, victims))


def _compared(clients: int, ruler: list[float], took: list[float], direct: list[float]) -> list[str]:
    base, mine, without = map(statistics.median, (ruler, took, direct))
    who = f"{clients} client{'s at once' if clients > 1 else ''}"
    return [
        f"bare echo through Mosquitto, TLS, QoS 1, {bare_mqtt.SIZE} B, {who}: {times(ruler)}  n={len(ruler)}",
        f"ask over mqtt at the same server itself, TLS, async client, echo agent, {who}: {times(direct)}",
        f"ask through Mosquitto, TLS, async client, echo agent, {who}: {times(took)}  {mine / base:.1f}x bare echo, "
        f"{mine / without:.1f}x without a broker  n={len(took)}",
    ]


async def _ask(server: ServerProcess, via: str, clients: int, rounds: int) -> list[float]:
    """Seconds of each ask, all clients at once in each round."""
    async with AsyncThalovantControlPlane(server.ready["api_url"]) as api:
        await api.login(*server.admin)
        spec = {"version": "1", "agent": "echo", "protocols": {"mqtt": {"enabled": True, "via": via}}}
        hub = await api.create_hub({"name": f"{via} {clients}", "spec": spec})
        made = [await _identity(api, hub["id"], f"asks-{number}") for number in range(clients)]
    connected = await _connected([identity for _, identity in made])
    took: list[float] = []
    for _ in range(rounds):
        took += await asyncio.gather(*map(_timed, connected))
    await asyncio.gather(*(client.close() for client in connected))
    return took[clients:]  # the first round warms


async def _timed(client: AsyncThalovantClient) -> float:
    began = time.perf_counter()
    await client.ask(TEXT)
    return time.perf_counter() - began


async def _identity(api: AsyncThalovantControlPlane, hub: str, name: str) -> tuple[str, Any]:
    made = await api.create_client_identity(hub, name=name)
    assert made.client_id and made.identity.mqtt
    return made.client_id, made.identity


async def _connected(identities: list[Any]) -> list[AsyncThalovantClient]:
    gate = asyncio.Semaphore(4)  # stretching a password is work for one core, here and at the server
    options: dict[str, Any] = {"protocol": "mqtt", "auto_reconnect": False, "handshake_timeout": PATIENCE}
    clients = [AsyncThalovantClient(identity, **options) for identity in identities]

    async def connect(client: AsyncThalovantClient) -> None:
        async with gate:
            await client.connect(PATIENCE)

    await asyncio.gather(*map(connect, clients))
    return clients


async def _end(server: ServerProcess, crowds: tuple[int, ...], victims: int) -> list[str]:
    """Credentials are taken away while so many clients are connected."""
    lines, bystanders = [], list[AsyncThalovantClient]()
    async with AsyncThalovantControlPlane(server.ready["api_url"]) as api:
        await api.login(*server.admin)
        for crowd in crowds:
            wanted = range(len(bystanders) + 1, crowd)  # the victim is one of the crowd
            bystanders += await _connected(
                [(await _identity(api, server.ready["hub_id"], f"stays-{n}"))[1] for n in wanted]
            )
            for how, end in (("revoke", _revoke), ("rotate without a grace", _rotate)):
                cut = [1000 * await _noticed(api, server, end) for _ in range(victims)]
                lines.append(
                    f"{how} → cut through Mosquitto, TLS, {crowd} connected: sent → client notices p50 "
                    f"{statistics.median(cut):.1f} ms, most {max(cut):.1f} ms  n={len(cut)}"
                )
        await asyncio.gather(*(client.close() for client in bystanders))
    return lines


async def _noticed(api: AsyncThalovantControlPlane, server: ServerProcess, end: Any) -> float:
    """Seconds from the request to the client's noticing."""
    client_id, identity = await _identity(api, server.ready["hub_id"], "victim")
    (client,) = await _connected([identity])
    await client.ask("connected?")
    etag = str((await api.get_client(client_id))["etag"])

    async def wait() -> float:
        await client.wait_closed(PATIENCE)
        return time.perf_counter()

    noticing = asyncio.create_task(wait())
    began = time.perf_counter()
    await end(api, client_id, etag)
    noticed = await noticing
    await client.close()
    if end is _rotate:
        await api.delete_client(client_id)
    return noticed - began


async def _revoke(api: AsyncThalovantControlPlane, client_id: str, etag: str) -> None:
    await api.delete_client(client_id, etag=etag)


async def _rotate(api: AsyncThalovantControlPlane, client_id: str, _etag: str) -> None:
    await api.rotate_client_identity(client_id, grace_seconds=0)
