# SPDX-License-Identifier: Apache-2.0
"""What ends a server: a wish, at once when it is said twice; and no agent."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from thalovant import AsyncThalovantClient, ThalovantClient, ThalovantControlPlane, ThalovantIdentity
from thalovant.errors import ThalovantError
from thalovant_server.settings import DRAIN_SECONDS
from thalovant_server.testing import ServerProcess

AGENTS = Path(__file__).parent / "agents"
NAMES = {"forever": "road_agents", "interrupts": "fatal_agents", "interrupts_later": "fatal_agents"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server of this file's own: its last test ends it."""
    folder = tmp_path_factory.mktemp("drain")
    agents = [f"{name}=python:{module}:{name}" for name, module in NAMES.items()]
    environment = {"PYTHONPATH": str(AGENTS)}
    with ServerProcess(folder / "data", agents=agents, environment=environment, strict=True) as running:
        yield running


def create(api: ThalovantControlPlane, agent: str) -> ThalovantIdentity:
    protocols = {"mqtt": {"enabled": True}}
    hub = api.create_hub({"name": agent, "spec": {"version": "1", "agent": agent, "protocols": protocols}})
    return api.create_client_identity(hub["id"], name=agent).identity


@pytest.mark.parametrize("agent", ["interrupts", "interrupts_later"])
def test_an_agent_that_raises_keyboard_interrupt_ends_its_own_ask_only(api: ThalovantControlPlane, agent: str) -> None:
    with ThalovantClient(create(api, agent), protocol="mqtt") as client:
        try:
            assert client.ask("end").handled is False
        except ThalovantError as error:
            assert "failed to answer" in str(error)
        assert client.ask("go on").text == "go on"


def test_a_second_sigterm_ends_the_drain_of_the_first(api: ThalovantControlPlane, server: ServerProcess) -> None:
    identity = create(api, "forever")

    async def main() -> float:
        async with AsyncThalovantClient(identity, protocol="mqtt") as client:
            heard = asyncio.Event()
            client.on("speak", lambda _: heard.set())
            asked = asyncio.create_task(client.ask("are you done?", timeout=60.0))
            await heard.wait()
            os.kill(server.pid, signal.SIGTERM)
            await asyncio.to_thread(server.wait_for_line, "stopping")
            began = time.monotonic()
            assert await asyncio.to_thread(server.stop) == 0  # the second one
            took = time.monotonic() - began
            asked.cancel()
            await asyncio.wait([asked])
            return took

    assert asyncio.run(main()) < DRAIN_SECONDS - 4
