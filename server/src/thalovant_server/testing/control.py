# SPDX-License-Identifier: Apache-2.0
"""The real control plane over a real database, called in process: no port, a clock moved by hand, cheap argon2id."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx2
from fastapi import FastAPI

from thalovant_server.bootstrap import ADMIN_EMAIL, ensure_first_start
from thalovant_server.control.app import create_app
from thalovant_server.control.passwords import Cost, PasswordHasher
from thalovant_server.control.services import Services
from thalovant_server.control.throttle import GuessThrottle, LoginThrottle
from thalovant_server.daily_usage import DailyUsage
from thalovant_server.directory import Change
from thalovant_server.directory_loading import open_directory
from thalovant_server.endpoints import Endpoints
from thalovant_server.hub.clock import LoopClock
from thalovant_server.hub.presence_watch import PresenceWatch
from thalovant_server.store import accounts
from thalovant_server.store.accounts import AccountRecord
from thalovant_server.store.database import Database
from thalovant_server.store.sealing import Sealer
from thalovant_server.testing.directory import cheap_stretch

PASSWORD = "correct horse battery staple"  # noqa: S105 - of a test
CHEAP = Cost(iterations=1, lanes=1, memory_kib=8)
ENDPOINTS = Endpoints("hub.example.test", 8443, 8883, "-----BEGIN CERTIFICATE-----\nca\n-----END CERTIFICATE-----\n")
BROKER_CA = "-----BEGIN CERTIFICATE-----\nbroker\n-----END CERTIFICATE-----\n"
BROKER_ENDPOINTS = replace(
    ENDPOINTS, broker_url="mqtts://broker.example.test:8884", broker_root="home/thalovant", broker_ca=BROKER_CA
)
"""The same of a server that has an outside broker: `world.services.endpoints = BROKER_ENDPOINTS`."""
AGENTS = ["echo", "helper"]
SEALER = Sealer(bytes(range(32)))
MINE = "the token of this world"


class ScriptedAdmission:
    """Stands in for the provisioner: a broker that has a credential when the test says so.

    `takes_all`: it has each at once.
    """

    def __init__(self, *, takes_all: bool = False, queued: int = 0) -> None:
        self.takes_all, self.queued = takes_all, queued
        self.waits: list[float] = []
        """How long it was given, each time that it was asked."""
        self._taken: set[int] = set()
        self._news = asyncio.Event()

    def take(self, credential_id: int) -> None:
        """Have the broker take a credential up."""
        self._taken.add(credential_id)
        self._news.set()
        self._news = asyncio.Event()

    async def has(self, credential_id: int, seconds: float) -> bool:
        """As `services.Admission` has it."""
        self.waits.append(seconds)
        try:
            async with asyncio.timeout(seconds or None):
                while seconds and not self._has(credential_id):
                    await self._news.wait()
        except TimeoutError:
            pass
        return self._has(credential_id)

    def _has(self, credential_id: int) -> bool:
        return self.takes_all or credential_id in self._taken


class Clock:
    """A clock for the throttle and one for the store, both moved by hand."""

    def __init__(self) -> None:
        self.seconds = 1_790_000_000.0

    def micros(self) -> int:
        """Return it as the store counts."""
        return int(self.seconds * 1_000_000)


@dataclass
class World:
    """A running control plane, and what its data plane was told."""

    http: httpx2.AsyncClient
    app: FastAPI
    services: Services
    changes: list[Change]
    clock: Clock
    token: str = ""

    async def call(
        self, method: str, path: str, body: Any = None, *, token: str | None = MINE, **headers: str
    ) -> httpx2.Response:
        """Send one request; `headers` in snake case; the token is the admin's unless another or none is given."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if token:
            sent["authorization"] = f"Bearer {self.token if token is MINE else token}"
        if isinstance(body, bytes):
            return await self.http.request(
                method, path, content=body, headers={"content-type": "application/json", **sent}
            )
        return await self.http.request(method, path, json=body, headers=sent)

    async def log_in(self, email: str = ADMIN_EMAIL, password: str = PASSWORD, **more: Any) -> httpx2.Response:
        """Try to sign in."""
        body = {"email": email, "password": password, **more}
        return await self.call("POST", "/v1/auth/token", body, token=None)

    async def token_for(self, email: str = ADMIN_EMAIL, **more: Any) -> str:
        """Sign in; return the token."""
        return str((await self.log_in(email, **more)).json()["access_token"])

    async def add_account(self, name: str) -> str:
        """Add an ordinary account `user-<name>`; return a token of it."""
        account = AccountRecord(
            f"user-{name}", f"{name}@example.test", self.services.hasher.derive(PASSWORD), name, "user", True, 1
        )
        await self.services.database.write(lambda transaction: accounts.add(transaction.connection, account))
        return await self.token_for(account.email)

    async def demo(self) -> dict[str, Any]:
        """Return the hub that the first start made."""
        return dict((await self.call("GET", "/v1/public/hubs/demo")).json())

    async def make_hub(self, name: str = "kitchen", **fields: Any) -> dict[str, Any]:
        """Make a hub; return the answer."""
        body = {"name": name, "spec": {"version": "1"}, **fields}
        answer = await self.call("POST", "/v1/hubs", body)
        assert answer.status_code == 201, answer.text  # noqa: S101 - this is a test
        return dict(answer.json())

    async def make_client(self, hub_id: str | None = None, **fields: Any) -> dict[str, Any]:
        """Make a client, of the hub `demo` unless another is named; return the answer."""
        hub = hub_id or (await self.demo())["id"]
        answer = await self.call("POST", "/v1/clients", {"hub_id": hub, "name": "lamp", **fields})
        assert answer.status_code == 201, answer.text  # noqa: S101 - this is a test
        return dict(answer.json())


_made: list[bytes] = []


async def _after_first_start() -> bytes:
    if not _made:
        with tempfile.TemporaryDirectory() as folder:
            path, hasher = Path(folder) / "thalovant.db", PasswordHasher(CHEAP)
            database = await Database.open(path, SEALER, create=True)
            await ensure_first_start(database, admin_password=lambda: PASSWORD, hasher=hasher)
            await database.close()
            hasher.close()
            _made.append(path.read_bytes())
    return _made[0]


@contextlib.asynccontextmanager
async def open_world(folder: Path) -> AsyncIterator[World]:
    """A control plane over the database in ``folder``; signed in as the admin.

    A database that is not there begins as a copy of one after its first start, which is made once a process.
    """
    path = folder / "thalovant.db"
    clock = Clock()
    hasher = PasswordHasher(CHEAP)
    if not path.exists():
        path.write_bytes(await _after_first_start())
    database = await Database.open(path, SEALER, create=False)
    first = await ensure_first_start(database, admin_password=lambda: PASSWORD, hasher=hasher)
    directory = await open_directory(database, node_id=first.server.node_id, stretch=cheap_stretch, clock=clock.micros)
    presence = PresenceWatch(directory, LoopClock(), clock.micros)
    services = Services(
        database, directory, ENDPOINTS, lambda: AGENTS, "1.2.3", presence,
        hasher=hasher, throttle=LoginThrottle(lambda: clock.seconds), clock=clock.micros,
        usage=DailyUsage(clock.micros), device_logins=GuessThrottle(lambda: clock.seconds),
    )  # fmt: skip
    changes: list[Change] = []
    directory.subscribe(changes.append)
    services.start()
    app = create_app(services)
    transport = httpx2.ASGITransport(app, client=("192.0.2.1", 5000))
    try:
        async with httpx2.AsyncClient(transport=transport, base_url=ENDPOINTS.api_url) as http:
            world = World(http, app, services, changes, clock)
            world.token = await world.token_for()
            yield world
    finally:
        presence.stop()
        await services.stop()
        await database.close()
