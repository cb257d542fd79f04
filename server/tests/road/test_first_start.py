# SPDX-License-Identifier: Apache-2.0
"""What an operator sees: the first start, a second `up`, damage, a port in use, a mistyped option."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import socket
import ssl
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from thalovant import ThalovantControlPlane
from thalovant_server.testing import ServerProcess

READY_KEYS = {
    "api_url", "ca_file", "ca_bundle", "wss_endpoint", "https_endpoint", "mqtt_endpoint", "mqtt_websocket_endpoint",
    "hub_id", "hub_slug", "admin_email", "admin_password_file", "ca_fingerprint",
}  # fmt: skip


def fingerprint_of(ca_file: Path) -> str:
    """The SHA-256 of the DER of a PEM certificate, as anybody would count it."""
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(ca_file.read_text())).hexdigest()


def up(*options: str) -> subprocess.CompletedProcess[str]:
    """Run `thalovant-server up` that is expected to end by itself."""
    command = [sys.executable, "-m", "thalovant_server", "up", *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_the_first_start_says_where_things_are_and_what_to_type_next(tmp_path: Path) -> None:
    with ServerProcess(tmp_path / "data", strict=True) as server:
        said = "".join(server.output)
        assert set(server.ready) >= READY_KEYS
        assert stat.S_IMODE(server.ready_file.stat().st_mode) & 0o077 == 0
        for line in (f"thalovant login {server.ready['api_url']} --ca {server.ready['ca_file']}", "thalovant ask"):
            assert line in said
        assert server.ready["ca_fingerprint"] == fingerprint_of(Path(server.ready["ca_file"]))
        assert server.ready["ca_fingerprint"] in said
        assert server.ready["mqtt_websocket_endpoint"] in said
        assert server.admin[1] not in said
        assert server.ready["hub_slug"] == "demo"
        for key in ("api_url", "wss_endpoint", "https_endpoint", "mqtt_endpoint", "mqtt_websocket_endpoint"):
            assert re.search(r":\d+", server.ready[key].removeprefix("https://")), "the port is always written"


def test_no_secret_file_is_readable_by_others(tmp_path: Path) -> None:
    with ServerProcess(tmp_path / "data", strict=True) as server:
        public = {"ca.pem", "ca-bundle.pem", "tls.crt"}
        for path in server.data.rglob("*"):
            if path.is_file() and path.name not in public:
                assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path.name


def test_a_second_up_names_the_process_that_runs(tmp_path: Path) -> None:
    with ServerProcess(tmp_path / "data", strict=True) as server:
        second = up("--data", str(server.data), "--api-port", "0", "--mqtt-port", "0")
        assert second.returncode == 1
        assert f"process {server.pid}" in second.stderr


@pytest.mark.parametrize(
    "name", ["thalovant.db", "seal.key", "ca.pem", "ca.key", "tls.crt", "tls.key", "admin-password"]
)
@pytest.mark.parametrize("damage", [b"\xffrubbish\x00" * 40, b""], ids=["rubbish", "empty"])
def test_damage_to_a_file_is_named_with_the_way_out(name: str, damage: bytes, damaged: Path) -> None:
    (damaged / name).write_bytes(damage)
    run = up("--data", str(damaged), "--api-port", "0", "--mqtt-port", "0")
    assert run.returncode == 1, run.stdout
    assert name in run.stderr
    assert "backup" in run.stderr
    assert "Traceback" not in run.stderr


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory that a server made and left in order."""
    server = ServerProcess(tmp_path_factory.mktemp("whole") / "data")
    server.start()
    assert server.stop() == 0
    return server.data


@pytest.fixture
def damaged(whole: Path, tmp_path: Path) -> Path:
    """A copy that the test may damage."""
    copy = tmp_path / "copy"
    subprocess.run(["cp", "-a", str(whole), str(copy)], check=True)
    return copy


def test_a_seal_key_of_another_directory_is_noticed(damaged: Path) -> None:
    (damaged / "seal.key").write_text("ab" * 32 + "\n")
    run = up("--data", str(damaged), "--api-port", "0", "--mqtt-port", "0")
    assert run.returncode == 1
    assert "seal.key" in run.stderr
    assert "Traceback" not in run.stderr


def test_a_port_in_use_is_told_with_its_option(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        for option, other in (("--api-port", "--mqtt-port"), ("--mqtt-port", "--api-port")):
            run = up("--data", str(tmp_path / "data"), option, port, other, "0")
            assert run.returncode == 1
            assert port in run.stderr
            assert option in run.stderr


@pytest.mark.parametrize(
    ("agent", "told"),
    [
        ("no-scheme", "name=python:module:function"),
        ("a=python:no_such_module:f", "no_such_module"),
        ("a=python:json:no_such_function", "no_such_function"),
        ("a/b=python:json:dumps", "a/b"),
        ("a=shell:rm", "python:"),
    ],
)
def test_an_agent_that_cannot_be_loaded_is_told(agent: str, told: str, tmp_path: Path) -> None:
    run = up("--data", str(tmp_path / "data"), "--api-port", "0", "--mqtt-port", "0", "--agent", agent)
    assert run.returncode == 1, run.stdout
    assert told in run.stderr
    assert "Traceback" not in run.stderr


def test_listening_beyond_loopback_needs_a_public_host(tmp_path: Path) -> None:
    run = up("--data", str(tmp_path / "data"), "--host", "0.0.0.0")
    assert run.returncode == 1
    assert "--public-host NAME" in run.stderr
    assert not (tmp_path / "data").exists()


def test_a_ready_file_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    file = tmp_path / "missing" / "ready.json"
    run = up("--data", str(tmp_path / "data"), "--api-port", "0", "--mqtt-port", "0", "--ready-file", str(file))
    assert run.returncode == 1
    assert str(file) in run.stderr


def test_ctrl_c_ends_it_cleanly(tmp_path: Path) -> None:
    server = ServerProcess(tmp_path / "data").start()
    os.kill(server.pid, signal.SIGINT)
    server.wait_for_line("stopped")
    assert server.stop() == 0
    assert "Traceback" not in "".join(server.output)


def test_the_ready_file_is_json_of_addresses_and_names_no_secret(tmp_path: Path) -> None:
    with ServerProcess(tmp_path / "data", strict=True) as server:
        assert server.admin[1] not in json.dumps(server.ready)


def test_a_hub_whose_agent_is_not_declared_is_told_at_the_start(tmp_path: Path) -> None:
    agents = ["kitchen=python:road_agents:parts"]
    environment = {"PYTHONPATH": str(Path(__file__).parent / "agents")}
    first = ServerProcess(tmp_path / "data", agents=agents, environment=environment, strict=True)
    with first as server, pytest.MonkeyPatch.context() as patch:
        for name, value in server.environment.items():
            patch.setenv(name, value)
        with ThalovantControlPlane(server.ready["api_url"]) as api:
            api.login(*server.admin)
            hub = api.get_hub("demo")
            api.update_hub(hub["id"], {"spec": {"agent": "kitchen"}}, etag=hub["etag"])
    with ServerProcess(tmp_path / "data", strict=True) as server:
        line = server.wait_for_line("hub_names_an_absent_agent")
        assert "hub=demo" in line
        assert "--agent kitchen=" in line and "hubs set demo --no-agent" in line
