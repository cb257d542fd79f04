# SPDX-License-Identifier: Apache-2.0
"""What `thalovant doctor` says of an identity whose hub is behind an outside broker: a real one, and a real server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from thalovant import ThalovantControlPlane, ThalovantDoctorReport, ThalovantIdentity
from thalovant.examining import examine
from thalovant_server.testing import ServerProcess
from thalovant_server.testing.mosquitto import MosquittoProcess

Examine = Callable[[ThalovantIdentity], ThalovantDoctorReport]


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MosquittoProcess]:
    """A broker for the whole file."""
    with MosquittoProcess(tmp_path_factory.mktemp("broker") / "broker") as running:
        yield running


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, broker: MosquittoProcess) -> Iterator[ServerProcess]:
    """A server whose demo hub is at that broker."""
    with ServerProcess(tmp_path_factory.mktemp("server") / "data", options=broker.options) as running:
        yield running


@pytest.fixture
def examined(
    server: ServerProcess, api: ThalovantControlPlane, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Examine:
    """Examine the MQTT road of an identity, signed in."""
    monkeypatch.setenv("THALOVANT_API_URL", server.ready["api_url"])
    monkeypatch.setenv("THALOVANT_API_TOKEN", str(api.access_token))
    monkeypatch.setenv("THALOVANT_CA_FILE", server.ready["ca_file"])
    state = str(tmp_path / "noise")
    return lambda identity: asyncio.run(examine(identity, ["mqtt"], noise_state_dir=state))


def test_all_is_well(identity: ThalovantIdentity, examined: Examine, broker: MosquittoProcess) -> None:
    report = examined(identity)
    assert report.ok, report.format()
    assert [check.name for check in report.checks if check.protocol] == [
        f"mqtt {step}" for step in ("address", "name", "tcp", "tls", "credential", "topics", "handshake", "ask")
    ]
    assert report.checks[1].detail == f"mqtts://localhost:{broker.port}"
    assert report.checks[-1].detail.endswith("; the hub's broker has it")
    assert report.control_plane is not None and report.control_plane["broker"]["admitted"] is True


def test_another_broker_password(identity: ThalovantIdentity, examined: Examine) -> None:
    assert identity.mqtt is not None
    report = examined(replace(identity, mqtt=replace(identity.mqtt, password="of-yesterday")))
    assert report.finding is not None and report.finding.code == "broker_login_of_another"
    assert report.summary.startswith("The hub's broker was told of this credential, and does not accept this login.")
    assert "of-yesterday" not in report.format()


def test_a_paused_client_is_told_so(identity: ThalovantIdentity, examined: Examine, api: ThalovantControlPlane) -> None:
    client = api.lookup_credential(identity.access_key)["client"]["id"]
    api.pause_client(client)
    report = examined(identity)
    assert report.finding is not None and report.finding.code == "client_paused"


def test_a_credential_that_the_broker_has_not_been_told_of(
    api: ThalovantControlPlane, server: ServerProcess, broker: MosquittoProcess, examined: Examine
) -> None:
    """The broker is away while the client is made."""
    before = len(server.output)
    broker.kill()
    made = api.create_client_identity(server.ready["hub_id"], name="early")
    assert made.operation is not None and made.operation.status == "requested"
    told = api.lookup_credential(made.identity.access_key)["broker"]
    assert (told["admitted"], told["operation"]["id"]) == (False, made.operation.id)
    broker.start()
    api.wait_for_admission(made.operation, timeout=60, poll_interval=0.2)
    server.wait_for_line("broker_link_up", 60, after=before)
    assert examined(made.identity).ok


def test_a_hub_that_is_not_connected_to_its_broker(
    identity: ThalovantIdentity, examined: Examine, server: ServerProcess
) -> None:
    """Last in this file: the server is gone."""
    assert server.stop() == 0
    report = examined(identity)
    assert report.finding is not None and report.finding.code == "server_down"
    assert report.summary.startswith("The broker is there, and the hub is not connected to it. Nor does the control")
    assert [check.code for check in report.checks if not check.ok] == ["hub_away"]
