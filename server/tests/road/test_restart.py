# SPDX-License-Identifier: Apache-2.0
"""What was acknowledged survives a stop, a kill -9 and a restart; clients come back by themselves."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from thalovant import AsyncThalovantClient, ThalovantClient, ThalovantControlPlane, ThalovantIdentity
from thalovant.errors import ThalovantError
from thalovant_server.testing import ServerProcess

CARRIERS = ("mqtt", "wss", "https")
AGENTS = Path(__file__).parent / "agents"


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


def test_an_identity_works_after_a_kill_right_after_its_creation(own_server: ServerProcess) -> None:
    identity = create(own_server, "just-in-time")
    own_server.kill()
    own_server.start()
    for carrier in CARRIERS:
        with ThalovantClient(identity, protocol=carrier) as client:
            assert client.ask(carrier).text == carrier


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


def ask_until_answered(client: ThalovantClient, text: str) -> str:
    """Ask again while the link is being redialled."""
    for _ in range(5):
        try:
            return client.ask(text).text
        except ThalovantError:
            continue
    return client.ask(text).text
