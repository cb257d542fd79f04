# SPDX-License-Identifier: Apache-2.0
"""Mosquitto is found where it is, with the plugin that is its own; where it is not, the line to type is said."""

from __future__ import annotations

from pathlib import Path

import pytest

from thalovant_server.brokers import mosquitto_installed
from thalovant_server.brokers.mosquitto_installed import PLUGIN, Installed, find_installed, usual_plugin
from thalovant_server.errors import SettingsError
from thalovant_server.testing import mosquitto


@pytest.fixture(autouse=True)
def nothing_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without Mosquitto."""
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(mosquitto_installed, "_PROGRAM_FOLDERS", ())
    monkeypatch.setattr(mosquitto_installed, "_PLUGIN_FOLDERS", ())


def test_the_program_on_the_path_is_found_with_the_plugin_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program, plugin = _install(tmp_path / "usr")
    assert program.exists()
    monkeypatch.setenv("PATH", str(tmp_path / "usr/sbin"))
    assert find_installed() == Installed(program, plugin)


def test_a_program_that_is_no_ones_path_is_looked_for_where_systems_put_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program, plugin = _install(tmp_path / "usr")
    monkeypatch.setattr(mosquitto_installed, "_PROGRAM_FOLDERS", (str(program.parent),))
    assert find_installed() == Installed(program, plugin)


def test_a_link_has_the_plugin_of_what_it_leads_to(tmp_path: Path) -> None:
    program, plugin = _install(tmp_path / "cellar")
    link = tmp_path / "bin/mosquitto"
    link.parent.mkdir()
    link.symlink_to(program)
    assert find_installed(str(link)) == Installed(link, plugin)


def test_a_plugin_elsewhere_is_looked_for_where_systems_put_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program, plugin = _install(tmp_path / "usr")
    alone = tmp_path / "opt/sbin/mosquitto"
    alone.parent.mkdir(parents=True)
    program.rename(alone)
    monkeypatch.setattr(mosquitto_installed, "_PLUGIN_FOLDERS", (str(tmp_path / "usr/lib"),))
    assert find_installed(str(alone)) == Installed(alone, plugin)


def test_without_the_program_it_says_how_to_install_it() -> None:
    with pytest.raises(SettingsError, match=r"not installed. Type: apt-get install mosquitto .*brew install mosquitto"):
        find_installed()


def test_a_program_without_the_plugin_is_too_old(tmp_path: Path) -> None:
    program, plugin = _install(tmp_path)
    plugin.unlink()
    with pytest.raises(SettingsError, match=f"{program} is there, .*{PLUGIN}.* is not: install Mosquitto 2.0 or newer"):
        find_installed(str(program))


def test_the_tests_find_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    found = mosquitto.installed()
    assert found.program.is_file() and found.plugin.name == usual_plugin().name == PLUGIN


def _install(root: Path) -> tuple[Path, Path]:
    """Mosquitto as a distribution lays it out."""
    program, plugin = root / "sbin/mosquitto", root / "lib/x86_64-linux-gnu" / PLUGIN
    for path in (program, plugin):
        path.parent.mkdir(parents=True)
        path.touch(mode=0o755)
    return program, plugin
