# SPDX-License-Identifier: Apache-2.0
"""`thalovant-server up --broker mosquitto`: a real server with a Mosquitto of its own, from start to end."""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from prometheus_client.parser import text_string_to_metric_families

from thalovant import ThalovantClient, ThalovantControlPlane, ThalovantIdentity
from thalovant.transports.tls import client_context
from thalovant_server.data_directory import DATABASE
from thalovant_server.health import check_health
from thalovant_server.settings import Settings
from thalovant_server.testing import ServerProcess, mosquitto
from thalovant_server.testing.canary import Canary

PATIENCE = 15.0
OPTIONS = ("--broker", "mosquitto", "--broker-port", "0")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """One that runs its own broker."""
    data = tmp_path_factory.mktemp("own") / "data"
    with ServerProcess(data, options=OPTIONS, environment=mosquitto.environment(), strict=True) as running:
        yield running


def test_it_says_where_the_broker_is_and_where_its_files_are(server: ServerProcess) -> None:
    folder = server.data / "broker"
    assert server.ready["broker_folder"] == str(folder) and (folder / "mosquitto.conf").exists()
    assert re.fullmatch(r"mqtts://localhost:\d+", server.ready["broker_endpoint"])
    line = server.wait_for_line("  broker           ")
    assert server.ready["broker_endpoint"] in line and str(folder) in line


def test_the_bundle_for_other_programs_has_the_brokers_authority(server: ServerProcess) -> None:
    authority = (server.data / "broker/ca.pem").read_text().strip()
    assert authority in Path(server.ready["ca_bundle"]).read_text()


def test_its_log_is_in_ours_and_holds_no_secret(server: ServerProcess) -> None:
    server.wait_for_line("running")
    said = "".join(server.output)
    assert re.search(r'level=info event=broker_said text="mosquitto version \S+ running"', said)
    assert (server.data / "broker/admin-password").read_text().strip() not in said


def test_nothing_secret_of_a_client_is_in_the_log_in_the_numbers_or_in_a_file(
    server: ServerProcess, api: ThalovantControlPlane
) -> None:
    """Mosquitto's own log names the access key with each command about it."""
    identity = api.create_client_identity(server.ready["hub_id"], name="lamp").identity
    with ThalovantClient(identity, protocol="mqtt") as client:
        assert client.ask("Is anybody there?").text == "Is anybody there?"
    numbers = _numbers(server)
    assert identity.mqtt is not None
    for secret in (identity.access_key, identity.password, identity.mqtt.username, identity.mqtt.password):
        assert secret and secret not in "".join(server.output) and secret not in numbers
    _check_files(server, identity)
    samples = {sample.name: sample for family in text_string_to_metric_families(numbers) for sample in family.samples}
    assert samples["thalovant_broker_up"].value == 1
    assert samples["thalovant_broker_accounts"].value == samples["thalovant_broker_accounts_wished"].value == 2
    assert samples["thalovant_asks_total"].value == 1


def test_health_says_how_the_broker_is(server: ServerProcess) -> None:
    settings = Settings(data=server.data, api_port=int(server.ready["api_url"].rpartition(":")[2]))
    assert check_health(settings).broker == "connected"


def test_a_broker_that_dies_comes_back_while_the_server_goes_on(server: ServerProcess) -> None:
    before, pid = len(server.output), _broker_of(server)
    os.kill(pid, signal.SIGKILL)
    server.wait_for_line("broker_is_down", PATIENCE, after=before)
    server.wait_for_line("broker_is_up", PATIENCE, after=before)
    assert _broker_of(server) != pid


def test_it_ends_with_the_server(tmp_path: Path) -> None:
    server = ServerProcess(tmp_path / "data", options=OPTIONS, environment=mosquitto.environment(), strict=True)
    with server:
        watch = os.pidfd_open(_broker_of(server))
    gone, _, _ = select.select([watch], [], [], 0)  # not one moment later than the server
    os.close(watch)
    assert gone
    said = "".join(server.output)
    assert said.index("event=stopping") < said.index("terminating") < said.index("event=stopped")


def test_it_starts_again_after_a_power_cut(tmp_path: Path) -> None:
    """Mosquitto has on its disk that a server was there, and nobody will ever tell it that this one has gone."""
    server = ServerProcess(tmp_path / "data", options=OPTIONS, environment=mosquitto.environment(), strict=True)
    server.start()
    pid, database = _broker_of(server), server.data / "broker/data/mosquitto.db"
    watch = os.pidfd_open(pid)
    while not (database.exists() and b"server/status" in database.read_bytes()):
        os.kill(pid, signal.SIGUSR1)  # it writes what it knows, as it does every few minutes
    os.kill(pid, signal.SIGKILL)
    server.kill()
    select.select([watch], [], [], PATIENCE)
    os.close(watch)
    with server:
        server.wait_for_line("broker_link_up")


def test_its_files_that_are_damaged_keep_the_server_from_starting(tmp_path: Path) -> None:
    folder = tmp_path / "data/broker"
    folder.mkdir(parents=True)
    (folder / "mosquitto.conf").write_text("listener 1883\n")
    up = [sys.executable, "-m", "thalovant_server", "up", "--data", str(tmp_path / "data"), *OPTIONS]
    run = subprocess.run(up, capture_output=True, text=True, env={**os.environ, **mosquitto.environment()}, timeout=60)
    assert run.returncode == 1 and "holds something else already (mosquitto.conf)" in run.stderr


def _numbers(server: ServerProcess) -> str:
    """What Prometheus is told."""
    email, password = server.admin
    with httpx2.Client(base_url=server.ready["api_url"], verify=client_context()) as http:
        token = http.post("/v1/auth/token", json={"email": email, "password": password}).json()["access_token"]
        return http.get("/v1/metrics", headers={"authorization": f"Bearer {token}"}).text


def _check_files(server: ServerProcess, identity: ThalovantIdentity) -> None:
    """A broker has to be told of a password again, so the server keeps it: sealed, and nowhere else."""
    assert identity.mqtt is not None
    canary, folder = Canary(), server.data / "broker"
    canary.plant("the client's password", identity.password)
    canary.plant("its password at the broker", identity.mqtt.password)
    named = (DATABASE, f"{DATABASE}-wal", "broker/security.json", "broker/data/mosquitto.db")
    canary.plant("its access key", identity.access_key, allowed=named)
    administrator = (folder / "admin-password").read_text().strip()
    canary.plant("the administrator's password", administrator, allowed=("broker/admin-password",))
    canary.look_around(server)
    canary.look("the broker's cmdline", Path(f"/proc/{_broker_of(server)}/cmdline").read_bytes())
    assert {DATABASE, "broker/security.json", "server cmdline", "server environ"} <= set(canary.places)
    canary.check()


def _broker_of(server: ServerProcess) -> int:
    """The process id of the Mosquitto that a server runs."""
    [found] = [
        int(path.parent.name)
        for path in Path("/proc").glob("[0-9]*/cmdline")
        if f"{server.data}/broker/mosquitto.conf" in path.read_text("utf-8", "replace")
    ]
    return found
