# SPDX-License-Identifier: Apache-2.0
"""`thalovant-server broker init`, typed: the lines that it prints work, and a mistake is a sentence."""

from __future__ import annotations

import re
import shlex
import socket
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from thalovant_server import cli_broker
from thalovant_server.brokers.mosquitto_files import ADMIN_PASSWORD, AUTHORITY, CONFIGURATION
from thalovant_server.brokers.mosquitto_installed import PLUGIN
from thalovant_server.cli import app
from thalovant_server.errors import SettingsError
from thalovant_server.testing import mosquitto

INIT = ("broker", "init", "mosquitto", "--dir")


@pytest.fixture(autouse=True)
def unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mosquitto is on this machine, wherever the tests have it from."""
    monkeypatch.setattr(cli_broker.mosquitto_installed, "find_installed", mosquitto.installed)


def typed(*words: object) -> str:
    """What a command writes."""
    run = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    assert run.exit_code == 0, run.output
    return run.output


def test_the_printed_lines_start_it_and_join_it(tmp_path: Path) -> None:
    folder, port = tmp_path / "a broker", mosquitto.free_port()
    said = typed(*INIT, folder, "--port", port)
    start = _line(said, CONFIGURATION)
    with subprocess.Popen(shlex.split(start), stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True) as broker:
        assert broker.stderr is not None
        while not _accepts(port):
            assert broker.poll() is None, broker.stderr.read()
        broker.terminate()
    up = shlex.split(_line(said, "thalovant-server up"))
    settings = typed("config", *up[2:])
    assert re.search(rf"broker-url\s+mqtts://localhost:{port}\s", settings)
    for path in (folder / AUTHORITY, folder / ADMIN_PASSWORD):
        assert str(path) in settings and path.exists()


def test_it_shows_no_secret(tmp_path: Path) -> None:
    said = typed(*INIT, tmp_path / "broker")
    secret = (tmp_path / "broker" / ADMIN_PASSWORD).read_text().strip()
    assert secret and secret not in said


def test_typed_again_it_says_what_stays(tmp_path: Path) -> None:
    words = (*INIT, tmp_path / "broker", "--host", "::", "--public-host", "NUC.lan.", "--public-host", "[2001:DB8::7]")
    first, second, third = typed(*words), typed(*words), typed(*words, "--renew")
    assert "now holds" in first and "made just now" in first
    assert "still holds" in second and "as it was" in second
    assert "still holds" in third and "made just now" in third
    for said in (first, second, third):
        assert "for localhost, nuc.lan, 2001:db8::7;" in said and "--broker-url mqtts://nuc.lan:8884" in said


@pytest.mark.parametrize("host", ["::", "127.0.0.1"])
def test_what_is_not_typed_again_stays(host: str, tmp_path: Path) -> None:
    folder, configuration = tmp_path / "broker", tmp_path / "broker" / CONFIGURATION
    typed(*INIT, folder, "--host", host, "--port", 8890, "--public-host", "nuc.lan", "--public-host", "2001:db8::7")
    before = configuration.read_text()
    again = typed(*INIT, folder, "--renew")
    assert configuration.read_text() == before
    assert "for localhost, nuc.lan, 2001:db8::7;" in again and "--broker-url mqtts://nuc.lan:8890" in again
    other = typed(*INIT, folder, "--port", 8891, "--public-host", "pi.lan")
    assert "for localhost, pi.lan;" in other and "--broker-url mqtts://pi.lan:8891" in other


def test_it_writes_also_for_another_machine_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise SettingsError("not here")

    monkeypatch.setattr(cli_broker.mosquitto_installed, "find_installed", missing)
    said = typed(*INIT, tmp_path / "broker")
    assert "not installed on this machine" in said and "apt-get install mosquitto" in said
    assert re.search(rf"plugin /usr/lib/\w+-linux-gnu/{PLUGIN}\n", (tmp_path / "broker" / CONFIGURATION).read_text())


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--host", "::"), "no name is known by which they reach it: add --public-host NAME"),
        (("--host", "192.0.2.1"), "--host 192.0.2.1 is reachable from other machines"),
        (
            ("--public-host", "https://nuc.lan"),
            "--public-host: 'https://nuc.lan' is neither a host name",
        ),
        (("--public-host", "0.0.0.0"), "--public-host: 0.0.0.0 is where to listen"),
    ],
)
def test_a_mistake_is_a_sentence_and_writes_nothing(words: tuple[str, ...], sentence: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=re.escape(sentence)):
        typed(*INIT, tmp_path / "broker", *words)
    assert not (tmp_path / "broker").exists()


def test_a_directory_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("mine")
    with pytest.raises(SettingsError, match=rf"--dir {tmp_path} cannot be used: it holds something else .*\(notes\)"):
        typed(*INIT, tmp_path)
    with pytest.raises(SettingsError, match=r"notes is a file. Name a directory of its own"):
        typed(*INIT, tmp_path / "notes")
    with pytest.raises(SettingsError, match=r"--dir /proc/broker cannot be used: .*No such file"):
        typed(*INIT, "/proc/broker")
    typed(*INIT, tmp_path / "broker")
    (tmp_path / "broker" / ADMIN_PASSWORD).unlink()
    with pytest.raises(SettingsError, match=r"admin-password is damaged: .* Restore it, or move .* away"):
        typed(*INIT, tmp_path / "broker")


def test_a_broker_that_is_not_known_is_no_choice(tmp_path: Path) -> None:
    run = CliRunner().invoke(app, ["broker", "init", "rabbit", "--dir", str(tmp_path / "broker")])
    assert run.exit_code == 2 and "mosquitto" in run.output and not (tmp_path / "broker").exists()


def _accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except ConnectionRefusedError:
        return False
    return True


def _line(said: str, part: str) -> str:
    """The line to type that holds this."""
    return next(line.strip() for line in said.splitlines() if line.startswith("  ") and part in line)
