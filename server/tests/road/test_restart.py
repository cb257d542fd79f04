# SPDX-License-Identifier: Apache-2.0
"""What was acknowledged survives a stop, a kill -9 and a restart; clients come back by themselves."""

from __future__ import annotations

import asyncio
import contextlib
import re
import shutil
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from thalovant import AsyncThalovantClient, ThalovantClient, ThalovantControlPlane, ThalovantIdentity
from thalovant.errors import ThalovantConnectionError, ThalovantError
from thalovant_server.testing import ServerProcess

CARRIERS = ("mqtt", "wss", "https")
AGENTS = Path(__file__).parent / "agents"


def without_mqtt(api: ThalovantControlPlane, client_id: str) -> None:
    hub = api.get_hub(api.get_client(client_id)["hub_id"])
    api.update_hub(hub["id"], {"spec": {"protocols": {"mqtt": {"enabled": False}}}}, etag=hub["etag"])


def committed(data: Path, copy: Path) -> str:
    """What the audit log says last in a copy of the database files as they are: what a kill would leave of them."""
    copy.mkdir()
    for file in ("thalovant.db", "thalovant.db-wal"):
        shutil.copy(data / file, copy)
    with contextlib.closing(sqlite3.connect(copy / "thalovant.db")) as database:
        return str(database.execute("SELECT action FROM audit ORDER BY seq DESC").fetchone()[0])


Change = Callable[[ThalovantControlPlane, str], object]
LIFE: dict[str, tuple[Change, str]] = {
    "rotate": (lambda api, client_id: api.rotate_client_identity(client_id), "credential.rotated"),
    "replace": (lambda api, client_id: api.rotate_client_identity(client_id, grace_seconds=0), "credential.rotated"),
    "finish": (lambda api, client_id: api.finish_rotation(client_id, force=True), "credential.finished"),
    "cancel": (lambda api, client_id: api.cancel_rotation(client_id), "credential.cancelled"),
    "move": (lambda api, client_id: api.update_client(client_id, {"spec": {"siteId": "hall"}}), "client.changed"),
    "limit": (lambda api, client_id: api.update_client_policy(client_id, {"daily_quota": 9}), "policy.changed"),
    "pause": (lambda api, client_id: api.pause_client(client_id), "client.paused"),
    "delete": (lambda api, client_id: api.delete_client(client_id), "client.removed"),
    "protocol off": (without_mqtt, "hub.changed"),
}


@pytest.fixture
def own_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ServerProcess]:
    """A server that the test may kill."""
    agents = ("sleepy=python:road_agents:sleepy",)
    with ServerProcess(
        tmp_path / "data", agents=agents, environment={"PYTHONPATH": str(AGENTS)}, strict=True
    ) as running:
        for name, value in running.environment.items():
            monkeypatch.setenv(name, value)
        yield running


def create(server: ServerProcess, name: str) -> ThalovantIdentity:
    with ThalovantControlPlane(server.ready["api_url"]) as api:
        api.login(*server.admin)
        return api.create_client_identity(server.ready["hub_id"], name=name).identity


def test_each_change_of_a_life_survives_a_kill_right_after_it(own_server: ServerProcess, tmp_path: Path) -> None:
    with ThalovantControlPlane(own_server.ready["api_url"]) as api:
        api.login(*own_server.admin)
        on = {name: {"enabled": True} for name in ("wss", "http", "mqtt")}
        hub = api.create_hub({"name": "life", "spec": {"version": "1", "protocols": on}})
        made = {how: api.create_client_identity(hub["id"], name=how) for how in LIFE}
        ids = {how: each.client_id or "" for how, each in made.items()}
        for how in ("finish", "cancel"):
            api.rotate_client_identity(ids[how])
        for number, (how, (change, action)) in enumerate(LIFE.items()):
            change(api, ids[how])
            assert committed(own_server.data, tmp_path / f"{number}") == action
        just_in_time = api.create_client_identity(own_server.ready["hub_id"], name="just-in-time").identity
    own_server.kill()
    own_server.start()
    for carrier in CARRIERS:
        with ThalovantClient(just_in_time, protocol=carrier) as client:
            assert client.ask(carrier).text == carrier
    with ThalovantControlPlane(own_server.ready["api_url"], access_token=api.access_token) as again:
        left = {each["name"]: each for each in again.list_clients(hub_id=hub["id"])["data"]}
        numbers = {how: [each["number"] for each in client["credentials"]] for how, client in left.items()}
        assert numbers == {"rotate": [1, 2], "replace": [2], "finish": [2], "cancel": [1], "move": [1], "limit": [1],
                           "pause": [1], "protocol off": [1]}  # fmt: skip
        assert left["move"]["spec"]["siteId"] == "hall" and left["limit"]["spec"]["daily_quota"] == 9
        assert [how for how, client in left.items() if not client["active"]] == ["pause"]
        fates = {how: again.lookup_credential(each.identity.access_key) for how, each in made.items()}
        assert [fates[how]["why"] for how in ("replace", "finish", "delete")] == ["replaced", "rotated", "removed"]
        assert "mqtt" not in again.get_hub(hub["id"])["data_plane_endpoints"]
        told = Counter(each["action"] for each in again.list_audit(hub_id=hub["id"], outcome="done")["data"])
    assert told == {"hub.created": 1, "client.created": 9, "credential.rotated": 4, "credential.finished": 1,
                    "credential.cancelled": 1, "client.changed": 1, "policy.changed": 1, "client.paused": 1,
                    "client.removed": 1, "hub.changed": 1}  # fmt: skip
    welcome = [how for how, each in made.items() if is_let_in(each.identity)]
    assert welcome == ["rotate", "cancel", "move", "limit", "protocol off"]


def test_a_second_start_finds_all_of_it_again(own_server: ServerProcess) -> None:
    first, files = own_server.ready, {p.name: p.read_bytes() for p in own_server.data.glob("*.pem")}
    assert own_server.stop() == 0
    own_server.start()
    assert own_server.ready == first
    assert {p.name: p.read_bytes() for p in own_server.data.glob("*.pem")} == files
    create(own_server, "afterwards")


@pytest.mark.parametrize("carrier", CARRIERS)
def test_a_client_comes_back_after_a_restart_and_its_session_is_kk(carrier: str, own_server: ServerProcess) -> None:
    identity = create(own_server, "faithful")
    with ThalovantClient(identity, protocol=carrier) as client:
        assert client.ask("before").text == "before"
        assert own_server.stop() == 0
        own_server.start()
        assert ask_until_answered(client, "after") == "after"
    assert set(re.findall(r"session_ready.*?pattern=['\"]?(\w+)", "".join(own_server.output))) == {"KKpsk0"}


def test_sigterm_lets_an_ask_under_way_finish(own_server: ServerProcess) -> None:
    with ThalovantControlPlane(own_server.ready["api_url"]) as api:
        api.login(*own_server.admin)
        protocols = {"mqtt": {"enabled": True}}
        hub = api.create_hub({"name": "slow", "spec": {"version": "1", "agent": "sleepy", "protocols": protocols}})
        identity = api.create_client_identity(hub["id"], name="in-time").identity

    async def main() -> str:
        async with AsyncThalovantClient(identity, protocol="mqtt") as client:
            await client.ask("warm")
            asleep = asyncio.create_task(client.ask("sleep"))
            await client.ask("the one before has arrived")
            stopping = asyncio.create_task(asyncio.to_thread(own_server.stop))
            reply = await asleep
            assert await stopping == 0
            return reply.text

    assert asyncio.run(main()) == "woke for sleep"


def is_let_in(identity: ThalovantIdentity) -> bool:
    try:
        with ThalovantClient(identity, protocol="wss", auto_reconnect=False) as client:
            return client.ask("hello").text == "hello"
    except ThalovantConnectionError:
        return False


def ask_until_answered(client: ThalovantClient, text: str) -> str:
    """Ask again while the link is being redialled."""
    for _ in range(5):
        try:
            return client.ask(text).text
        except ThalovantError:
            continue
    return client.ask(text).text
