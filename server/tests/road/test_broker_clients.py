# SPDX-License-Identifier: Apache-2.0
"""Clients of a hub behind a real Mosquitto, as typed: made, waited for, rotated, moved there and back."""

from __future__ import annotations

import shlex
import socket
import ssl
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from thalovant import ThalovantAdmissionFailedError, ThalovantControlPlane, ThalovantIdentity
from thalovant.cli import admission, main
from thalovant_server.testing import ServerProcess
from thalovant_server.testing.mosquitto import MosquittoProcess


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MosquittoProcess]:
    with MosquittoProcess(tmp_path_factory.mktemp("broker") / "mosquitto") as running:
        yield running


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, broker: MosquittoProcess) -> Iterator[ServerProcess]:
    options = (*broker.options, "--broker-root", "home/thalovant")
    with ServerProcess(tmp_path_factory.mktemp("server") / "data", options=options, strict=True) as running:
        yield running


@pytest.fixture(scope="module")
def api(server: ServerProcess) -> Iterator[ThalovantControlPlane]:
    ca_pem = Path(server.ready["ca_file"]).read_text()
    with ThalovantControlPlane(server.ready["api_url"], ca_pem=ca_pem) as signed_in:
        signed_in.login(*server.admin)
        yield signed_in


class Shell:
    """Types commands in this process, signed in, in a directory of one's own."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch, self._capsys = monkeypatch, capsys

    def __call__(self, line: str) -> tuple[str, str]:
        """Type what works; returns what it prints, and what it says beside."""
        self._monkeypatch.setattr(sys, "argv", ["thalovant", *shlex.split(line)])
        with pytest.raises(SystemExit) as left:
            main()
        out, err = self._capsys.readouterr()
        assert left.value.code == 0, err
        return out, err


@pytest.fixture
def shell(
    server: ServerProcess,
    api: ThalovantControlPlane,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Shell:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("THALOVANT_API_URL", server.ready["api_url"])
    monkeypatch.setenv("THALOVANT_API_TOKEN", str(api.access_token))
    monkeypatch.setenv("THALOVANT_CA_FILE", server.ready["ca_file"])
    return Shell(monkeypatch, capsys)


def mqtt_of(file: str) -> Any:
    block = ThalovantIdentity.from_file(file).mqtt
    assert block is not None
    return block


def test_who_takes_one_bundle_trusts_the_broker_too_and_who_signs_in_does_not(
    server: ServerProcess, broker: MosquittoProcess
) -> None:
    of_the_broker = broker.ca_file.read_text()
    context = ssl.create_default_context(cafile=server.ready["ca_bundle"])
    with (
        socket.create_connection(("127.0.0.1", broker.port), 10) as dialled,
        context.wrap_socket(dialled, server_hostname="localhost") as secure,
    ):
        assert secure.getpeercert()
    assert of_the_broker not in Path(server.ready["ca_file"]).read_text()


def test_a_new_identity_names_the_broker_and_is_let_in_when_the_command_ends(
    shell: Shell, broker: MosquittoProcess
) -> None:
    shell("identity create demo --name lamp")
    assert mqtt_of("lamp.identity.json").endpoint == broker.url
    assert mqtt_of("lamp.identity.json").topic_prefix.startswith("home/thalovant/hubs/")
    assert shell("ask hello --identity lamp.identity.json --protocol mqtt") == ("hello\n", "")
    shell("clients rotate lamp")
    assert mqtt_of("lamp.new.identity.json").topic_prefix == mqtt_of("lamp.identity.json").topic_prefix + ".2"
    for file in ("lamp.new.identity.json", "lamp.identity.json"):
        assert shell(f"ask hello --identity {file} --protocol mqtt") == ("hello\n", "")


def test_the_identity_that_a_machine_uses_is_rotated_at_the_broker(shell: Shell) -> None:
    shell("identity create demo --name own")
    before = mqtt_of("own.identity.json")
    shell("identity rotate")
    assert mqtt_of("own.identity.json").topic_prefix == f"{before.topic_prefix}.2"
    assert shell("ask hello --protocol mqtt") == ("hello\n", "")


def test_a_broker_that_stands_still_is_told_of_and_lets_the_client_in_later(
    shell: Shell, broker: MosquittoProcess, api: ThalovantControlPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admission, "PATIENCE", 0.5)
    broker.freeze()
    try:
        out, err = shell("identity create demo --name slow")
        assert "slow.identity.json" in out and "has not taken the client up yet" in err
        waited = api.create_client_identity(api.get_hub("demo"), name="waited")
        assert waited.operation is not None and waited.operation.status == "requested"
    finally:
        broker.thaw()
    api.wait_for_admission(waited, timeout=30, poll_interval=0.1)
    assert api.get_operation(waited.operation.id).is_ready
    assert shell("ask hello --identity slow.identity.json --protocol mqtt") == ("hello\n", "")


def test_a_client_that_goes_before_the_broker_had_it_is_the_end_of_its_operation(
    broker: MosquittoProcess, api: ThalovantControlPlane
) -> None:
    broker.freeze()
    try:
        made = api.create_client_identity(api.get_hub("demo"), name="gone")
        api.delete_client(str(made.client_id))
    finally:
        broker.thaw()
    with pytest.raises(ThalovantAdmissionFailedError, match="removed") as failed:
        api.wait_for_admission(made, timeout=30, poll_interval=0.1)
    assert failed.value.error_code == "credential_ended"


def test_a_hub_moves_here_and_back(shell: Shell, server: ServerProcess, broker: MosquittoProcess) -> None:
    assert "mqtt(link)" in shell("hubs")[0]
    shell("hubs create garden --mqtt embedded --agent default")
    try:
        shell("identity create garden --name hose")
        assert mqtt_of("hose.identity.json").endpoint == server.ready["mqtt_endpoint"]
        assert shell("ask hello --identity hose.identity.json --protocol mqtt") == ("hello\n", "")
        assert "MQTT moved" in shell("hubs set garden --mqtt link")[0]
        shell("clients rotate hose --grace 0 --out there.json")
        assert mqtt_of("there.json").endpoint == broker.url
        assert shell("ask hello --identity there.json --protocol mqtt") == ("hello\n", "")
        assert "MQTT moved" in shell("hubs set garden --mqtt embedded")[0]
        shell("clients rotate hose --grace 0 --out back.json")
        assert shell("ask hello --identity back.json --protocol mqtt") == ("hello\n", "")
    finally:
        shell("hubs remove garden --yes")


def test_a_start_without_the_broker_says_which_hub_misses_it(tmp_path: Path, broker: MosquittoProcess) -> None:
    options = (*broker.options, "--broker-root", "other")
    with ServerProcess(tmp_path / "data", options=options):
        pass
    with ServerProcess(tmp_path / "data") as alone:
        line = alone.wait_for_line("hub_without_its_broker")
        assert "hub=demo" in line and "thalovant hubs set demo --mqtt embedded" in line
