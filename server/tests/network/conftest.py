# SPDX-License-Identifier: Apache-2.0
"""A small internet: a hub's host and an edge host on networks of their own, a router between them, a cabin behind NAT.

hub 10.9.1.1 ── 10.9.1.254 router 10.9.2.254 ── 10.9.2.1 edge
                            router 192.168.7.1 ── 192.168.7.10 cabin   (seen by the hub as 10.9.1.200)
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from thalovant_server.testing import ServerProcess
from thalovant_server.testing.network import Cable, Host, Network

HERE = Path(__file__).parent
HUB, EDGE, CABIN, CABIN_SEEN_AS = "10.9.1.1", "10.9.2.1", "192.168.7.10", "10.9.1.200"
COMMAND = (sys.executable, "-m", "thalovant")


@dataclass(frozen=True)
class Land:
    """The hosts, and the cables from the router to two of them."""

    hub: Host
    router: Host
    edge: Host
    cabin: Host
    to_edge: Cable
    to_hub: Cable

    def masquerade_as(self, address: str, swallowed_port: str = "0") -> None:
        """What the cabin begins from now on is seen as coming from `address`; what it has begun is still mapped.

        Whatever is for `swallowed_port` vanishes in the router, without a word.
        """
        self.router.firewall(f"""
            table ip cabin {{
                chain through {{
                    type filter hook forward priority filter
                    tcp dport {swallowed_port} drop
                }}
                chain out {{
                    type nat hook postrouting priority srcnat
                    ip saddr 192.168.7.0/24 snat to {address}
                }}
            }}
        """)


@pytest.fixture(scope="module")
def land() -> Iterator[Land]:
    """The small internet."""
    with Network() as network:
        hub, router, edge, cabin = (network.host(name) for name in ("hub", "router", "edge", "cabin"))
        to_hub = network.cable(router, "10.9.1.254/24", hub, f"{HUB}/24")
        to_edge = network.cable(router, "10.9.2.254/24", edge, f"{EDGE}/24")
        network.cable(router, "192.168.7.1/24", cabin, f"{CABIN}/24")
        router.forward()
        router.run("ip", "address", "add", f"{CABIN_SEEN_AS}/24", "dev", to_hub.near)
        for host, neighbour in ((hub, "10.9.1.254"), (edge, "10.9.2.254"), (cabin, "192.168.7.1")):
            host.route("default", neighbour)
        land = Land(hub, router, edge, cabin, to_edge, to_hub)
        land.masquerade_as(CABIN_SEEN_AS)
        yield land


@pytest.fixture(scope="module")
def server(land: Land, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server on the hub's host, told the address by which others reach it."""
    with ServerProcess(
        tmp_path_factory.mktemp("hub") / "data",
        agents=["default=python:network_agents:counted", "runs=python:network_agents:runs_of"],
        options=["--host", "0.0.0.0", "--public-host", HUB],
        environment={"PYTHONPATH": os.pathsep.join((str(HERE / "agents"), os.environ.get("PYTHONPATH", "")))},
        strict=True,
        inside=land.hub.inside,
    ) as running:
        yield running


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    """The environment of a machine that knows nothing of the server."""
    left_out = ("THALOVANT_", "SSL_", "REQUESTS_", "CURL_", "XDG_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(left_out)}
    return {**kept, "HOME": str(tmp_path)}


Typed = Callable[..., str]


@pytest.fixture
def typed(server: ServerProcess, home: dict[str, str], tmp_path: Path) -> Typed:
    """Type a command of `thalovant` on a host; what it wrote."""

    def run(host: Host, *words: str) -> str:
        done = subprocess.run(
            [*host.inside, *COMMAND, *words], capture_output=True, text=True, env=home, cwd=tmp_path, timeout=60,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


@pytest.fixture
def make_identity(typed: Typed, server: ServerProcess, tmp_path: Path) -> Callable[[Host, str], Path]:
    """Log in on a host and make an identity there; where it is."""

    def make(host: Host, name: str) -> Path:
        ready = server.ready
        typed(
            host, "login", ready["api_url"], "--ca-fingerprint", fingerprint(Path(ready["ca_file"])), "--email",
            ready["admin_email"], "--password-file", ready["admin_password_file"],
        )  # fmt: skip
        file = tmp_path / f"{name}.identity.json"
        typed(host, "identity", "create", "demo", "--name", name, "--out", str(file))
        return file

    return make


def fingerprint(certificate: Path) -> str:
    """What the operator reads out to whoever signs in from another machine."""
    return x509.load_pem_x509_certificate(certificate.read_bytes()).fingerprint(hashes.SHA256()).hex()


class FarClient:
    """`far_client.py` on a host."""

    def __init__(self, host: Host, environment: dict[str, str]) -> None:
        self._process = host.start(
            [sys.executable, "-X", "dev", str(HERE / "far_client.py")],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment,
        )  # fmt: skip

    def tell(self, do: str, **arguments: Any) -> None:
        """Give it a command; its answer comes with `hear`."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
        self._process.stdin.flush()

    def hear(self, what: str) -> dict[str, Any]:
        """Its next answer, which is to be of that kind."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the far client died"
        answer: dict[str, Any] = json.loads(line)
        assert answer["what"] == what, answer
        return answer

    def __call__(self, do: str, what: str, **arguments: Any) -> dict[str, Any]:
        """A command and its answer."""
        self.tell(do, **arguments)
        return self.hear(what)

    def close(self) -> None:
        """End it in good order."""
        self._process.communicate(timeout=60)
        assert self._process.returncode == 0


@pytest.fixture
def far_client(home: dict[str, str], tmp_path: Path) -> Iterator[Callable[..., FarClient]]:
    """Start our SDK on a host, with an identity and arguments of the client."""
    started: list[FarClient] = []

    def start(host: Host, identity: Path, **arguments: Any) -> FarClient:
        client = FarClient(host, home)
        started.append(client)
        client("open", "open", identity=str(identity), noise_state_dir=str(tmp_path / identity.stem), **arguments)
        return client

    yield start
    for client in started:
        client.close()
