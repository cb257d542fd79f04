# SPDX-License-Identifier: Apache-2.0
"""What idle HTTPS clients cost the server: pollers as the published SDK is one, and our own client's long poll.

The pollers are bare sockets that send what the published SDK sends, when it does: both queues, one after the other,
then a pause of 100 ms; over one connection that is kept alive.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os
import ssl
import tempfile
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import uvloop

from thalovant import AsyncThalovantClient, ThalovantControlPlane
from thalovant.protocol.noise import stretch
from thalovant.protocol.session import ClientSession, NeedPsk, SendClear, SendSealed
from thalovant_server.testing import ServerProcess

PAUSE = 0.1
USER_AGENT = "ThalovantPythonSDK/0.9.7"
EACH = 16  # sessions of one credential


def run(short: bool) -> list[str]:
    """Measure, and return the lines to print."""
    pollers, idle, seconds = (4, 4, 2.0) if short else (48, 496, 10.0)
    with tempfile.TemporaryDirectory() as folder, ServerProcess(Path(folder) / "data") as server:
        os.environ.update(server.environment, XDG_CONFIG_HOME=folder)
        with ThalovantControlPlane(server.ready["api_url"]) as api:
            api.login(*server.admin)

            def identities(kind: str, count: int) -> list[Any]:
                names = [f"{kind}-{n}" for n in range(-(-count // EACH))]
                return [api.create_client_identity(server.ready["hub_id"], name=name).identity for name in names]

            # The second ones are made when the first are measured: stretching their passwords is work of its own.
            lines = [uvloop.run(published(server, identities("published", pollers), pollers, seconds))]
            return [*lines, uvloop.run(ours(server, identities("ours", idle), idle, seconds))]


async def published(server: ServerProcess, identities: list[Any], count: int, seconds: float) -> str:
    """CPU of the server for pollers as the published SDK is one."""
    context = ssl.create_default_context()
    psks: dict[tuple[str, str], bytes] = {}
    pollers = [Poller(identities[n // EACH], context, psks) for n in range(count)]
    for poller in pollers:
        await poller.connect()
    tasks = [asyncio.create_task(poller.poll(), name="poller") for poller in pollers]
    await asyncio.sleep(1)
    requests = sum(poller.requests for poller in pollers)
    busy, took = await cpu(server.pid, seconds)
    requests = sum(poller.requests for poller in pollers) - requests
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for poller in pollers:
        poller.writer.transport.abort()
    rate, each = requests / took / count, busy / requests * 1e6
    return (
        f"CPU of the server, HTTPS, {count} idle clients that poll as the published SDK: "
        f"{busy / took / count:.3%} of a core each; {rate:.1f} requests/s, {each:.0f} µs a request"
    )


async def ours(server: ServerProcess, identities: list[Any], count: int, seconds: float) -> str:
    """CPU of the server for idle clients of ours."""
    clients = [
        AsyncThalovantClient(identities[n // EACH], protocol="https", handshake_timeout=120) for n in range(count)
    ]
    for client in clients:
        await client.connect()
    await asyncio.sleep(1)
    busy, took = await cpu(server.pid, seconds)
    await asyncio.gather(*(client.close() for client in clients))
    return f"CPU of the server, HTTPS, {count} idle clients of ours: {busy / took:.2%} of a core for all"


class Poller:
    """One client that polls, on a bare connection."""

    def __init__(self, identity: Any, context: ssl.SSLContext, psks: dict[tuple[str, str], bytes]) -> None:
        self._identity = identity
        self._context = context
        self._key = hashlib.sha256(identity.access_key.encode()).digest()
        self._psks = psks
        self._url = urlsplit(identity.endpoint_base())
        value = base64.b64encode(f"{USER_AGENT}:{identity.access_key}".encode()).decode()
        self._query = f"authorization={quote(value, safe='')}"
        self._cookie = ""
        self.requests = 0

    async def connect(self) -> None:
        """Connect and shake hands."""
        self.reader, self.writer = await asyncio.open_connection(
            "127.0.0.1", self._url.port, ssl=self._context, server_hostname="localhost"
        )
        await self._ask("POST", "connect")
        session = ClientSession(static_private=self._key, site_id="bench", session_id="s")
        while session.state != "ready":
            for text in json.loads(await self._ask("GET", "get_messages"))["messages"]:
                await self._act(session, session.receive_clear(text))

    async def poll(self) -> None:
        """Ask for both queues, pause, again."""
        while True:
            await self._ask("GET", "get_messages")
            await self._ask("GET", "get_binary_messages")
            await asyncio.sleep(PAUSE)

    async def _act(self, session: ClientSession, outputs: list[Any]) -> None:
        for output in outputs:
            match output:
                case NeedPsk(node_id=node_id):
                    who = self._identity.password, node_id
                    self._psks[who] = self._psks.get(who) or await asyncio.to_thread(stretch, *who)
                    await self._act(session, session.provide_psk(self._psks[who]))
                case SendClear(data=data):
                    await self._ask("POST", "send_message", f"message={quote(data.decode())}")
                case SendSealed(frame=frame):
                    text = quote(base64.b64encode(frame).decode(), safe="")
                    await self._ask("POST", "send_message", f"message={text}&binary=1")

    async def _ask(self, method: str, name: str, form: str = "") -> bytes:
        body = f"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {len(form)}\r\n" if form else ""
        self.writer.write(
            f"{method} {self._url.path}/{name}?{self._query} HTTP/1.1\r\nHost: {self._url.netloc}\r\n"
            f"User-Agent: {USER_AGENT}\r\n{self._cookie}Accept: */*\r\nAccept-Encoding: gzip, deflate\r\n"
            f"{body}\r\n{form}".encode()
        )
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode().lower()
        assert head.startswith("http/1.1 200"), head
        if name == "connect":
            self._cookie = f"Cookie: {head.partition('set-cookie: ')[2].partition(';')[0]}\r\n"
        self.requests += 1
        return await self.reader.readexactly(int(head.partition("content-length: ")[2].partition("\r")[0]))


async def cpu(pid: int, seconds: float) -> tuple[float, float]:
    """Seconds of CPU that a process uses while so many seconds go by, and how many these were."""
    before, began = _used(pid), time.monotonic()
    await asyncio.sleep(seconds)
    return _used(pid) - before, time.monotonic() - began


def _used(pid: int) -> float:
    """What all its threads have run, in nanoseconds: clock ticks would miss most of what takes microseconds."""
    threads = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads) / 1e9
