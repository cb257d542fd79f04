# SPDX-License-Identifier: Apache-2.0
"""Presence tells the truth: real clients over each carrier that come, go, are killed, frozen, paused and removed."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from thalovant import (
    AsyncThalovantClient,
    AsyncThalovantControlPlane,
    ThalovantClient,
    ThalovantControlPlane,
    ThalovantIdentity,
)
from thalovant.presence import ClientPresence
from thalovant.protocol import noise
from thalovant_server.testing import ServerProcess
from thalovant_server.testing.directory import cheap_stretch
from thalovant_server.testing.held_time import HeldLoop
from thalovant_server.testing.in_process import InProcessServer

CARRIERS = ("mqtt", "wss", "https")
TRUE_STRETCH = noise.stretch
# A client in a process of its own, which says when it is connected.
PROGRAM = """
import sys
from thalovant import ThalovantClient, ThalovantIdentity
from thalovant.protocol import noise
from thalovant_server.testing.directory import cheap_stretch
noise.stretch = cheap_stretch
with ThalovantClient(ThalovantIdentity.from_file(sys.argv[1]), protocol=sys.argv[2]) as client:
    print(client.ask("here").text, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(scope="module", autouse=True)
def cheap() -> Iterator[None]:
    """Passwords are stretched cheaply, and servers log nothing to our output."""
    logging = structlog.get_config()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(noise, "stretch", cheap_stretch)
        structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
        yield
    structlog.configure(**logging)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcessServer]:
    """One server for the file, which tests may restart."""
    with InProcessServer(tmp_path_factory.mktemp("presence")) as running:
        yield running


@pytest.fixture(scope="module")
def time() -> HeldLoop:
    """The time of the server below, which a test may move."""
    return HeldLoop()


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory, time: HeldLoop) -> Iterator[InProcessServer]:
    """A server that waits as long as any for a sign of life, in no time."""
    with InProcessServer(tmp_path_factory.mktemp("watched"), loop=lambda: time) as running:
        yield running


def sign_in(server: InProcessServer | ServerProcess) -> ThalovantControlPlane:
    plane = ThalovantControlPlane(server.ready["api_url"], ca_pem=Path(server.ready["ca_file"]).read_text())
    plane.login(*server.admin)
    return plane


class News:
    """What a watch tells, client by client, taken as it comes."""

    def __init__(self) -> None:
        self._told: dict[str, list[ClientPresence]] = {}
        self._news = asyncio.Event()

    async def follow(self, changes: AsyncIterator[ClientPresence]) -> None:
        async for one in changes:
            self._told.setdefault(one.client_id, []).append(one)
            self._news.set()

    async def until(self, client_id: str | None, *states: str) -> list[ClientPresence]:
        """What is told of a client from the last call to one of these states."""
        told = self._told.setdefault(client_id or "", [])
        async with asyncio.timeout(20):
            while not any(one.state in states for one in told):
                self._news.clear()
                await self._news.wait()
        end = next(at for at, one in enumerate(told) if one.state in states) + 1
        taken, told[:end] = told[:end], []
        return taken


@contextlib.asynccontextmanager
async def watching(server: InProcessServer, token: str | None) -> AsyncIterator[News]:
    """Watch the demo hub with the SDK."""
    news, ca = News(), Path(server.ready["ca_file"]).read_text()
    async with AsyncThalovantControlPlane(server.ready["api_url"], access_token=token, ca_pem=ca) as plane:
        changes = plane.watch_presence("demo")
        following = asyncio.create_task(news.follow(changes))
        try:
            yield news
        finally:
            following.cancel()
            await asyncio.wait([following])
            await changes.aclose()


@pytest.mark.parametrize("carrier", CARRIERS)
def test_a_client_is_online_while_it_is_connected(carrier: str, server: InProcessServer) -> None:
    with sign_in(server) as api:
        made = api.create_client_identity("demo", name=f"road-{carrier}")

        async def main() -> None:
            async with watching(server, api.access_token) as news:
                await news.until(made.client_id, "never_seen")
                client = AsyncThalovantClient(made.identity, protocol=carrier)
                await client.connect()
                online = (await news.until(made.client_id, "online"))[-1]
                assert (online.carrier, online.address, online.sessions) == (carrier, "127.0.0.1", 1)
                assert await client.ask("here")
                await client.close()
                offline = (await news.until(made.client_id, "offline"))[-1]
                assert (offline.why, offline.carrier, offline.sessions) == ("disconnected", carrier, 0)

        asyncio.run(main())
        listed = [one for one in api.presence("demo") if one.client_id == made.client_id]
        assert [(one.state, one.why) for one in listed] == [("offline", "disconnected")]


@pytest.mark.parametrize("carrier", CARRIERS)
def test_a_client_that_is_killed_is_offline_and_why(
    carrier: str, watched: InProcessServer, time: HeldLoop, tmp_path: Path
) -> None:
    """Over HTTPS nothing tells that a client has died but its silence."""
    with sign_in(watched) as api:
        made = api.create_client_identity("demo", name=f"killed-{carrier}")
        made.identity.save(tmp_path / "identity.json")

        async def main() -> None:
            async with watching(watched, api.access_token) as news:
                program = await asyncio.create_subprocess_exec(
                    sys.executable, "-c", PROGRAM, str(tmp_path / "identity.json"), carrier,
                    stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                )  # fmt: skip
                assert program.stdout is not None
                assert await program.stdout.readline() == b"here\n"
                assert (await news.until(made.client_id, "online"))[-1].carrier == carrier
                program.kill()
                await program.wait()
                if carrier == "https":
                    (stale,) = await time.pass_until(news.until(made.client_id, "stale", "offline"))
                    assert stale.state == "stale"
                    (offline,) = await time.pass_until(news.until(made.client_id, "offline"))
                else:
                    (offline,) = await news.until(made.client_id, "offline")
                assert offline.why == ("no_sign_of_life" if carrier == "https" else "connection_lost")

        asyncio.run(main())


@pytest.mark.parametrize("carrier", CARRIERS)
def test_a_client_behind_a_dead_link_is_stale_and_then_offline(
    carrier: str, watched: InProcessServer, time: HeldLoop, proxied: Callable[[ThalovantIdentity], Any]
) -> None:
    with sign_in(watched) as api:
        made = api.create_client_identity("demo", name=f"frozen-{carrier}")

        async def main() -> None:
            async with watching(watched, api.access_token) as news:
                way = proxied(made.identity)
                client = AsyncThalovantClient(way.identity, protocol=carrier, auto_reconnect=False)
                await client.connect()
                await news.until(made.client_id, "online")
                way.proxies[carrier].freeze()
                (stale,) = await time.pass_until(news.until(made.client_id, "stale", "offline"))
                assert (stale.state, stale.sessions, stale.carrier) == ("stale", 1, carrier)
                (offline,) = await time.pass_until(news.until(made.client_id, "offline"))
                assert (offline.sessions, offline.why) == (0, "no_sign_of_life")
                way.proxies[carrier].cut()
                await client.close()

        asyncio.run(main())


@pytest.mark.parametrize("carrier", CARRIERS)
def test_a_client_whose_carrier_is_turned_off_is_offline_for_that(carrier: str, server: InProcessServer) -> None:
    spelled = "http" if carrier == "https" else carrier
    with sign_in(server) as api:
        on = {each: {"enabled": True} for each in ("wss", "http", "mqtt")}
        hub = api.create_hub({"name": f"without {carrier}", "spec": {"version": "1", "protocols": on}})
        made = api.create_client_identity(hub["id"], name="cut off")
        with ThalovantClient(made.identity, protocol=carrier, auto_reconnect=False) as client:
            client.ask("here")
            api.update_hub(hub["id"], {"spec": {"protocols": {spelled: {"enabled": False}}}}, etag=hub["etag"])
            (found,) = api.presence(hub["id"])
            assert (found.state, found.why, found.carrier) == ("offline", "protocol_off", carrier)


def test_a_client_that_is_paused_and_resumed_and_removed(server: InProcessServer) -> None:
    with sign_in(server) as api:
        made = api.create_client_identity("demo", name="held")
        client_id = made.client_id or ""

        async def main() -> None:
            async with watching(server, api.access_token) as news:
                client = AsyncThalovantClient(made.identity, protocol="wss", auto_reconnect=False)
                await client.connect()
                await news.until(client_id, "online")
                await asyncio.to_thread(api.pause_client, client_id)
                paused = (await news.until(client_id, "revoked"))[-1]
                assert (paused.why, paused.sessions) == ("paused", 0)
                await asyncio.to_thread(api.resume_client, client_id)
                assert (await news.until(client_id, "offline"))[-1].why == "resumed"
                await client.close()
                async with AsyncThalovantClient(made.identity, protocol="mqtt"):
                    await news.until(client_id, "online")
                    await asyncio.to_thread(api.delete_client, client_id)
                    gone = await news.until(client_id, "revoked")
                    assert [(one.state, one.why) for one in gone] == [("revoked", "removed")]
            assert client_id not in [one.client_id for one in await asyncio.to_thread(api.presence, "demo")]

        asyncio.run(main())


def test_a_watch_outlives_a_restart_and_hears_that_the_server_stopped(server: InProcessServer) -> None:
    with sign_in(server) as api:
        made = api.create_client_identity("demo", name="faithful")

        async def main() -> None:
            async with watching(server, api.access_token) as news:
                client = AsyncThalovantClient(made.identity, protocol="wss", auto_reconnect=False)
                await client.connect()
                await news.until(made.client_id, "online")
                await asyncio.to_thread(server.stop)
                await asyncio.to_thread(server.start)
                offline = (await news.until(made.client_id, "offline"))[-1]
                assert (offline.why, offline.carrier, offline.sessions) == ("server_stopped", "wss", 0)
                await client.close()

        asyncio.run(main())


def test_after_a_kill_of_the_server_who_was_online_is_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with ServerProcess(tmp_path / "data") as server:
        with sign_in(server) as api:
            made = api.create_client_identity("demo", name="orphan")
        monkeypatch.setattr(noise, "stretch", TRUE_STRETCH)
        with ThalovantClient(made.identity, protocol="mqtt", auto_reconnect=False) as client:
            client.ask("here")
            wait_until_written(server.data / "thalovant.db", made.client_id or "")
            server.kill()
        server.start()
        with sign_in(server) as api:
            (found,) = [one for one in api.presence("demo") if one.client_id == made.client_id]
            assert (found.state, found.why, found.carrier) == ("offline", "server_lost", "mqtt")
            assert found.since == found.last_seen_at


def wait_until_written(database: Path, client_id: str) -> None:
    """Until the server's database has it that this client is online; it is written right after it is."""
    for _ in range(100):
        with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
            if connection.execute("SELECT state FROM presence WHERE client_id = ?", (client_id,)).fetchone():
                return
        threading.Event().wait(0.05)
    pytest.fail("it was never written")
