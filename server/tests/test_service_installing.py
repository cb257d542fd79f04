# SPDX-License-Identifier: Apache-2.0
"""A service is made of the settings as they were said; what would not run on this machine is told beforehand."""

from __future__ import annotations

import os
import pwd
from pathlib import Path
from typing import Any

import pytest

from thalovant_server import service_installing
from thalovant_server.brokers.mosquitto_installed import Installed
from thalovant_server.errors import SettingsError
from thalovant_server.service_installing import Wanted, default_data, install, make_unit, next_lines, unit_folder
from thalovant_server.settings_sources import ReadSettings, read_settings

SYSTEM, USERS = Wanted(), Wanted(is_users=True)
ANYBODY = next(each.pw_name for each in pwd.getpwall() if each.pw_uid != 0)


@pytest.fixture(autouse=True)
def program(monkeypatch: pytest.MonkeyPatch) -> None:
    """The program lies where every user may read it, wherever the tests run."""
    monkeypatch.setattr("sys.executable", "/opt/thalovant/bin/python")
    monkeypatch.setattr(service_installing, "first_shut", lambda path, user: None)
    monkeypatch.setattr(service_installing, "_HOMES", (Path("/home"), Path("/root")))
    monkeypatch.setattr(service_installing, "__file__", "/opt/thalovant/lib/thalovant_server/service_installing.py")


def read(wanted: Wanted = SYSTEM, environ: dict[str, str] | None = None, **options: Any) -> ReadSettings:
    config = options.pop("config", None)
    defaults = {"data": default_data(wanted.is_users)}
    return read_settings(options, {"XDG_CONFIG_HOME": "/nowhere", **(environ or {})}, config, defaults=defaults)


def line(text: str, name: str) -> str:
    [found] = [each.partition("=")[2] for each in text.splitlines() if each.startswith(f"{name}=")]
    return found


def test_without_a_word_it_keeps_its_files_where_services_do() -> None:
    text = make_unit(read(), SYSTEM)
    command = "/opt/thalovant/bin/python -m thalovant_server up --data /var/lib/thalovant"
    assert line(text, "ExecStart") == command
    assert line(text, "StateDirectory") == "thalovant"
    assert line(text, "ProtectHome") == "yes"


def test_what_was_typed_or_in_the_environment_is_in_its_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    said = read(
        environ={"THALOVANT_SERVER_MQTT_PORT": "9883"},
        host="::",
        public_host=["hub.example", "2001:db8::1"],
        agent=["default=python:answers:reply"],
        data="/var/lib/hubs/one",
    )
    text = make_unit(said, SYSTEM)
    assert line(text, "ExecStart").endswith(
        "up --data /var/lib/hubs/one --host :: --public-host hub.example --public-host 2001:db8::1 --mqtt-port 9883 "
        "--agent default=python:answers:reply"
    )
    assert line(text, "StateDirectory") == "hubs/one"
    assert line(text, "WorkingDirectory") == str(tmp_path), "agents are looked for where this is typed"


def test_what_a_file_says_stays_in_the_file(tmp_path: Path) -> None:
    file = tmp_path / "server.toml"
    file.write_text('host = "::"\npublic-host = "hub.example"\napi-port = 443\n')
    text = make_unit(read(config=file), SYSTEM)
    assert line(text, "ExecStart").endswith(f"up --config {file} --data /var/lib/thalovant")
    assert line(text, "CapabilityBoundingSet") == "CAP_NET_BIND_SERVICE"


def test_a_made_up_user_is_handed_the_certificate_by_root() -> None:
    files = {"certificate": "hub.pem", "certificate_key": "/etc/hub.key", "public_host": ["hub.example"]}
    text = make_unit(read(**files), SYSTEM)
    assert "--certificate %d/certificate.pem --certificate-key %d/certificate.key" in line(text, "ExecStart")
    assert f"LoadCredential=certificate.pem:{Path.cwd()}/hub.pem" in text
    assert "LoadCredential=certificate.key:/etc/hub.key" in text
    told = next_lines(read(**files), SYSTEM, is_new=True, path=Path("x"))
    assert "taken at a restart" in told
    named = Wanted(run_as=ANYBODY)
    text = make_unit(read(**files), named)
    assert "LoadCredential" not in text and "--certificate-key /etc/hub.key" in line(text, "ExecStart")


def test_a_stop_waits_for_the_drain() -> None:
    assert int(line(make_unit(read(drain_seconds="100"), SYSTEM), "TimeoutStopSec")) > 100


def test_a_users_service_keeps_its_files_at_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    text = make_unit(read(USERS), USERS)
    assert line(text, "ExecStart").endswith(f"up --data {tmp_path}/thalovant-server")
    assert "StateDirectory" not in text


def test_a_directory_elsewhere_needs_its_owner(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"not below /var/lib.*--run-as USER"):
        make_unit(read(data=str(tmp_path)), SYSTEM)
    text = make_unit(read(data=str(tmp_path)), Wanted(run_as=ANYBODY))
    assert (line(text, "ReadWritePaths"), line(text, "User")) == (str(tmp_path), ANYBODY)
    with pytest.raises(SettingsError, match=f"sudo install -d -m 700 -o {ANYBODY} {tmp_path}/none"):
        make_unit(read(data=f"{tmp_path}/none"), Wanted(run_as=ANYBODY))


@pytest.mark.parametrize(
    ("wanted", "options", "told"),
    [
        (Wanted(run_as="root"), {}, "nothing that only root may do"),
        (Wanted(run_as="nobody-of-that-name"), {}, "sudo useradd --system"),
        (Wanted(is_users=True, run_as="daemon"), {}, "leave --run-as out"),
        (Wanted(is_users=True), {"api_port": "443"}, "Ports below 1024"),
        (Wanted(name="../evil"), {}, "no name of a service"),
        (Wanted(name=""), {}, "no name of a service"),
        (SYSTEM, {"api_port": "0"}, "A service keeps its ports"),
        (SYSTEM, {"ready_file": "/tmp/ready.json"}, "put the --ready-file there"),
        (SYSTEM, {"data": "/var/lib"}, "not below /var/lib"),
        (SYSTEM, {"data": "/var/lib/../elsewhere"}, "not below /var/lib"),
        (SYSTEM, {"data": "/var/lib/a b"}, "unit file"),
    ],
)
def test_what_would_not_run_is_told(wanted: Wanted, options: dict[str, str], told: str) -> None:
    with pytest.raises(SettingsError, match=told):
        make_unit(read(wanted, **options), wanted)


def test_what_the_service_could_not_read_is_told_with_three_ways_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service_installing, "first_shut", lambda path, user: Path("/root"))
    with pytest.raises(SettingsError, match=r"/root is not open to others.*below /opt.*--run-as USER.*--user"):
        make_unit(read(), SYSTEM)
    make_unit(read(USERS), USERS)


@pytest.mark.parametrize("where", ["/home/me/venv/bin/python", "/root/venv/bin/python"])
def test_a_program_below_a_home_is_seen(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", where)
    assert line(make_unit(read(), SYSTEM), "ProtectHome") == "read-only"


def test_it_is_written_once_and_again_only_when_it_changes(tmp_path: Path) -> None:
    folder = tmp_path / "systemd" / "user"
    one, two = make_unit(read(), SYSTEM), make_unit(read(host="::1"), SYSTEM)
    assert install(one, SYSTEM, folder)
    assert not install(one, SYSTEM, folder)
    assert install(two, SYSTEM, folder)
    assert (folder / "thalovant-server.service").read_text() == two
    assert [path.name for path in folder.iterdir()] == ["thalovant-server.service"]


def test_somebody_elses_unit_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thalovant-server.service").write_text("[Service]\nExecStart=/bin/true\n")
    with pytest.raises(SettingsError, match="choose another --name"):
        install(make_unit(read(), SYSTEM), SYSTEM, tmp_path)
    install(make_unit(read(), Wanted(name="other")), Wanted(name="other"), tmp_path)


def test_a_folder_that_may_not_be_written_is_told_with_the_line_for_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr("sys.argv", ["thalovant-server", "install-service", "--host", "a b"])
    with pytest.raises(SettingsError) as caught:
        install(make_unit(read(), SYSTEM), SYSTEM, tmp_path / "file")
    line = "sudo /opt/thalovant/bin/python -m thalovant_server install-service --host 'a b'"
    assert line in str(caught.value)


def test_the_next_lines_are_those_of_its_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    told = next_lines(read(), SYSTEM, is_new=True, path=Path("/etc/systemd/system/thalovant-server.service"))
    for each in ("sudo systemctl daemon-reload", "sudo systemctl enable --now thalovant-server", "admin-password"):
        assert each in told
    told = next_lines(read(USERS), USERS, is_new=False, path=Path("x"))
    assert "systemctl --user enable --now thalovant-server" in told and "sudo" not in told
    assert "as it should be already" in told and "enable-linger" in told


def test_units_belong_where_systemd_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    assert unit_folder(False) == Path("/etc/systemd/system")
    monkeypatch.setenv("XDG_CONFIG_HOME", "/conf")
    assert unit_folder(True) == Path("/conf/systemd/user")


BROKER = {
    "broker_url": "mqtts://broker.example",
    "broker_ca": "/root/broker/ca.pem",
    "broker_password_file": "/root/broker/admin-password",
    "broker_certificate": "/root/broker/mine.pem",
    "broker_certificate_key": "/root/broker/mine.key",
}


def test_a_made_up_user_is_handed_what_it_needs_for_the_broker_by_root() -> None:
    text = make_unit(read(**BROKER), SYSTEM)
    handed = {
        "broker-ca.pem": "ca.pem", "broker-password": "admin-password", "broker.pem": "mine.pem",
        "broker.key": "mine.key",
    }  # fmt: skip
    command = line(text, "ExecStart")
    for name, file in handed.items():
        assert f"LoadCredential={name}:/root/broker/{file}\n" in text and f" %d/{name}" in command
    assert "--broker-password-file %d/broker-password" in command and "/root/broker" not in command
    assert "password for the broker" in next_lines(read(**BROKER), SYSTEM, is_new=True, path=Path("/x"))


def test_a_user_who_is_named_reads_the_brokers_files_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = Wanted(run_as=ANYBODY)
    looked_at: list[Path] = []
    monkeypatch.setattr(service_installing, "first_shut", lambda path, user: looked_at.append(path))
    text = make_unit(read(wanted, **BROKER), wanted)
    assert set(map(Path, list(BROKER.values())[1:])) <= set(looked_at)
    assert "LoadCredential" not in text and "--broker-ca /root/broker/ca.pem" in text
    assert line(text, "ProtectHome") == "read-only"


def test_a_broker_of_its_own_keeps_to_the_services_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    found = Installed(Path("/usr/sbin/mosquitto"), Path("/usr/lib/plugin.so"))
    monkeypatch.setattr(service_installing, "find_installed", lambda: found)
    text = make_unit(read(broker="mosquitto", broker_port="883"), SYSTEM)
    assert "--broker mosquitto --broker-port 883" in line(text, "ExecStart")
    assert "\nReadWritePaths=" not in text and line(text, "StateDirectory") == "thalovant"
    assert line(text, "CapabilityBoundingSet") == "CAP_NET_BIND_SERVICE"
    assert line(make_unit(read(broker="mosquitto"), SYSTEM), "CapabilityBoundingSet") == ""
    with pytest.raises(SettingsError, match="name --broker-port, not 0"):
        make_unit(read(broker="mosquitto", broker_port="0"), SYSTEM)


def test_a_broker_that_is_not_installed_is_told_before_the_service_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise SettingsError("Mosquitto is not installed")

    monkeypatch.setattr(service_installing, "find_installed", missing)
    with pytest.raises(SettingsError, match="Mosquitto is not installed"):
        make_unit(read(broker="mosquitto"), SYSTEM)
