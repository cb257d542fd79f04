# SPDX-License-Identifier: Apache-2.0
"""A real server for a whole file of tests, and the published SDK beside it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from rig import AGENTS, Published
from thalovant import ThalovantControlPlane
from thalovant_server.testing import ServerProcess


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server with the agents of the tests."""
    names = {"late": "late_part", "sleepy": "sleepy", "words": "words", "mute": "mute", "inputs": "inputs"}
    agents = [f"{name}=python:interop_agents:{function}" for name, function in names.items()]
    folder = tmp_path_factory.mktemp("server")
    with ServerProcess(folder / "data", agents=agents, environment={"PYTHONPATH": str(AGENTS)}, strict=True) as running:
        yield running


@pytest.fixture
def published(server: ServerProcess, tmp_path: Path) -> Iterator[Published]:
    """The published SDK with a home of its own."""
    driver = Published(server, tmp_path / "published-home")
    yield driver
    driver.close()


@pytest.fixture(scope="module")
def api(server: ServerProcess) -> Iterator[ThalovantControlPlane]:
    """The control plane client, signed in as the admin; this process trusts the server meanwhile."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in server.environment.items():
            patch.setenv(name, value)
        with ThalovantControlPlane(server.ready["api_url"]) as plane:
            plane.login(*server.admin)
            yield plane
