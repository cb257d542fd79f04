# SPDX-License-Identifier: Apache-2.0
"""One real server for a file of tests, and our own SDK signed in to it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from thalovant import HubDataPlaneEndpoints, ThalovantControlPlane, ThalovantIdentity
from thalovant_server.testing import ServerProcess
from thalovant_server.testing.proxy import Proxy

AGENTS = Path(__file__).parent / "agents"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server with the agents of the tests."""
    folder = tmp_path_factory.mktemp("road")
    names = ("sleepy", "parts", "raises", "forever")
    agents = [f"{name}=python:road_agents:{name}" for name in names]
    agents += [f"{name}=python:talking_agents:{name}" for name in ("mute", "session", "gated", "blocked")]
    with ServerProcess(folder / "data", agents=agents, environment={"PYTHONPATH": str(AGENTS)}, strict=True) as running:
        yield running


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees the configuration of whoever runs it."""
    for name in ("HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    for name in ("THALOVANT_API_URL", "THALOVANT_API_TOKEN", "THALOVANT_CA_FILE", "THALOVANT_IDENTITY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def api(server: ServerProcess) -> Iterator[ThalovantControlPlane]:
    """The control plane client, signed in as the admin; this process trusts the server meanwhile."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in server.environment.items():
            patch.setenv(name, value)
        with ThalovantControlPlane(server.ready["api_url"]) as plane:
            plane.login(*server.admin)
            yield plane


@pytest.fixture
def make_hub(api: ThalovantControlPlane) -> Callable[..., str]:
    """Make a hub; answers its id."""

    def make(name: str, agent: str = "echo", carriers: tuple[str, ...] = ("wss", "http", "mqtt")) -> str:
        protocols = {carrier: {"enabled": carrier in carriers} for carrier in ("wss", "http", "mqtt")}
        spec = {"version": "1", "agent": agent, "protocols": protocols}
        return str(api.create_hub({"name": name, "spec": spec})["id"])

    return make


@pytest.fixture
def identity(api: ThalovantControlPlane, server: ServerProcess) -> ThalovantIdentity:
    """A fresh identity of the demo hub."""
    return api.create_client_identity(server.ready["hub_id"], name="road").identity


@dataclass(frozen=True)
class Way:
    """An identity whose every carrier goes through a proxy of its own."""

    identity: ThalovantIdentity
    proxies: dict[str, Proxy]

    def cut(self, carrier: str) -> None:
        """Reset every connection of that carrier."""
        self.proxies[carrier].cut()


@pytest.fixture
def proxied() -> Iterator[Callable[[ThalovantIdentity], Way]]:
    """Put proxies between an identity's client and the server."""
    with contextlib.ExitStack() as stack:

        def put(identity: ThalovantIdentity) -> Way:
            assert identity.mqtt is not None
            addresses = {"mqtt": identity.mqtt.endpoint, **identity.data_plane_endpoints.as_dict()}
            proxies = {}
            for carrier, address in addresses.items():
                port = urlsplit(address).port
                assert port is not None
                proxies[carrier] = stack.enter_context(Proxy("localhost", port))
                addresses[carrier] = address.replace(f":{port}", f":{proxies[carrier].port}")
            mqtt = replace(identity.mqtt, endpoint=addresses["mqtt"])
            endpoints = HubDataPlaneEndpoints(**addresses)
            return Way(replace(identity, mqtt=mqtt, data_plane_endpoints=endpoints), proxies)

        yield put
