# SPDX-License-Identifier: Apache-2.0
"""The unit is one that systemd takes, and that shuts the server in; the words of its command survive its quoting."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalovant_server.service_unit import STOP_GRACE_SECONDS, Unit, path_text, quoted, unit_text

MOST_EXPOSED = 15  # tenths: systemd calls up to 1.9 "OK" at its best
COMMAND = ("/bin/sh", "-c", "true")

UNITS = {
    "system": Unit("thalovant-server", COMMAND, 10, state="thalovant"),
    "users": Unit("thalovant-server", COMMAND, 10, is_users=True),
    "named user": Unit("hub-2", COMMAND, 2.5, run_as="daemon", writable=(Path("/srv"), Path("/mnt")), home=True),
    "low ports": Unit("thalovant-server", COMMAND, 10, state="thalovant", low_ports=True),
    "certificate": Unit(
        "thalovant-server",
        (*COMMAND, "--certificate", "%d/certificate.pem"),
        10,
        state="thalovant",
        credentials={"certificate.pem": Path("/etc/hub.pem"), "certificate.key": Path("/etc/hub%.key")},
        folder=Path("/opt/agents"),
    ),
}


@pytest.fixture(params=UNITS)
def unit(request: pytest.FixtureRequest) -> Unit:
    return UNITS[request.param]


def analyze(*words: str) -> subprocess.CompletedProcess[str]:
    """Run systemd-analyze: only systemd itself can say whether it takes a unit."""
    if shutil.which("systemd-analyze") is None:
        pytest.fail(
            "This test needs systemd-analyze, which judges the unit file; nothing of it needs to run. `make test` "
            "installs it where it may; else install systemd (Debian: apt-get install systemd)"
        )
    with tempfile.TemporaryDirectory() as runtime:  # a user's manager looks for its own there
        environ = {**os.environ, "XDG_RUNTIME_DIR": runtime}
        return subprocess.run(["systemd-analyze", *words], capture_output=True, text=True, timeout=60, env=environ)


def settings_of(text: str) -> dict[str, list[str]]:
    """The settings of a unit file, each with all its values."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        if "=" in line and not line.startswith("#"):
            name, _, value = line.partition("=")
            found.setdefault(name, []).append(value)
    return found


def test_systemd_takes_it_without_a_word(unit: Unit, tmp_path: Path) -> None:
    file = tmp_path / f"{unit.name}.service"
    file.write_text(unit_text(unit))
    run = analyze("verify", "--man=no", *(["--user"] if unit.is_users else []), str(file))
    assert (run.returncode, run.stderr, run.stdout) == (0, "", "")


def test_systemd_does_say_something_when_a_line_is_wrong(tmp_path: Path) -> None:
    file = tmp_path / "broken.service"
    file.write_text(unit_text(UNITS["system"]).replace("Type=notify", "Tipe=notify"))
    assert "Tipe" in analyze("verify", "--man=no", str(file)).stderr


@pytest.mark.parametrize("name", ["system", "low ports", "certificate", "named user"])
def test_systemd_calls_it_well_shut_in(name: str, tmp_path: Path) -> None:
    file = tmp_path / f"{UNITS[name].name}.service"
    file.write_text(unit_text(UNITS[name]))
    words = ("security", "--offline=true", "--no-pager", f"--threshold={MOST_EXPOSED}", str(file))
    run = analyze(*words)
    assert run.returncode == 0, run.stdout
    file.write_text(unit_text(UNITS[name]).replace("CapabilityBoundingSet=", "#"))
    assert analyze(*words).returncode != 0


def test_a_system_unit_sees_no_home_and_has_no_capability() -> None:
    said = settings_of(unit_text(UNITS["system"]))
    assert said["ProtectHome"] == ["yes"]
    assert said["ProtectSystem"] == ["strict"]
    assert said["CapabilityBoundingSet"] == said["AmbientCapabilities"] == [""]
    assert (said["DynamicUser"], said["StateDirectory"], said["StateDirectoryMode"]) == (
        ["yes"],
        ["thalovant"],
        ["0700"],
    )
    assert "User" not in said and "ReadWritePaths" not in said


def test_ports_below_1024_need_one_capability_and_get_no_other() -> None:
    said = settings_of(unit_text(UNITS["low ports"]))
    assert said["CapabilityBoundingSet"] == said["AmbientCapabilities"] == ["CAP_NET_BIND_SERVICE"]
    assert "PrivateUsers" not in said, "the capability would not count there"


def test_a_named_user_writes_where_it_may() -> None:
    said = settings_of(unit_text(UNITS["named user"]))
    assert (said["User"], said["ReadWritePaths"], said["ProtectHome"]) == (["daemon"], ["/srv", "/mnt"], ["read-only"])
    assert "DynamicUser" not in said and "StateDirectory" not in said


def test_a_users_unit_asks_for_nothing_that_needs_root() -> None:
    said = settings_of(unit_text(UNITS["users"]))
    assert said["WantedBy"] == ["default.target"]
    assert said["NoNewPrivileges"] == ["yes"] and said["SystemCallFilter"]
    assert not {"User", "DynamicUser", "ProtectSystem", "PrivateDevices", "CapabilityBoundingSet"} & set(said)


def test_root_hands_over_a_certificate(tmp_path: Path) -> None:
    said = settings_of(unit_text(UNITS["certificate"]))
    assert said["LoadCredential"] == ["certificate.pem:/etc/hub.pem", "certificate.key:/etc/hub%%.key"]
    assert said["ExecStart"][0].endswith("--certificate %d/certificate.pem")
    assert said["WorkingDirectory"] == ["/opt/agents"]


def test_a_stop_may_take_longer_than_the_drain(unit: Unit) -> None:
    said = settings_of(unit_text(unit))
    assert float(said["TimeoutStopSec"][0]) > unit.stop_seconds + STOP_GRACE_SECONDS - 1
    assert said["Restart"] == ["on-failure"]
    assert said["Type"] == ["notify"]


def words_of(line: str) -> list[str]:
    """The words of a command line of a unit file, as systemd.service(5) reads it."""
    return [word.replace("%%", "%").replace("$$", "$") for word in shlex.split(line)]


PRINTABLE = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1)


@given(st.lists(PRINTABLE.filter(lambda word: not word.startswith("%d/"))))
def test_words_survive_the_quoting(words: list[str]) -> None:
    assert words_of(" ".join(map(quoted, words))) == words


@pytest.mark.parametrize("word", ["", "two\nlines", "\x00", "\x1b[31m", "del\x7f"])
def test_a_word_that_no_unit_file_can_hold_is_refused(word: str) -> None:
    with pytest.raises(ValueError, match="unit file"):
        quoted(word)


@pytest.mark.parametrize("path", ["/with space", '/with"quote', "/with\\backslash", "/a:b", "/line\nbreak"])
def test_a_path_that_no_setting_can_hold_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match="unit file"):
        path_text(Path(path))


def test_systemd_reads_odd_words_as_they_were(tmp_path: Path) -> None:
    """What it cannot find, it names: so it can be asked how it read a word."""
    odd = tmp_path / "a b%n;c"
    file = tmp_path / "odd.service"
    file.write_text(unit_text(Unit("odd", (str(odd), "x"), 10, is_users=True)))
    run = analyze("verify", "--man=no", "--user", str(file))
    assert str(odd) in run.stderr
