# SPDX-License-Identifier: Apache-2.0
"""The ready file is there exactly while the server is ready."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from thalovant_server.errors import SettingsError
from thalovant_server.ready_file import ReadyFile
from thalovant_server.testing import ServerProcess


def test_it_is_whole_private_and_withdrawn(tmp_path: Path) -> None:
    path = tmp_path / "ready.json"
    file = ReadyFile(path)
    file.publish({"api_url": "https://localhost:1"})
    assert json.loads(path.read_text()) == {"api_url": "https://localhost:1"}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]
    file.withdraw()
    file.withdraw()
    assert not path.exists()


def test_one_of_a_server_that_died_is_withdrawn_by_the_next_start(tmp_path: Path) -> None:
    server = ServerProcess(tmp_path / "data")
    server.start()
    server.kill()
    old = server.ready_file.read_text()
    server.data.joinpath("tls.key").write_text("damaged")
    with pytest.raises(RuntimeError, match=r"tls\.key"):
        server.start()
    assert old
    assert not server.ready_file.exists()


def test_a_second_up_leaves_the_running_servers_file_alone(tmp_path: Path) -> None:
    with ServerProcess(tmp_path / "data") as server:
        with pytest.raises(RuntimeError, match=f"process {server.pid}"):
            ServerProcess(tmp_path / "data").start()
        assert server.ready_file.exists()


def test_none_is_nothing() -> None:
    file = ReadyFile(None)
    file.publish({})
    file.withdraw()


@pytest.mark.parametrize("name", ["missing/ready.json", "folder"])
def test_a_place_that_cannot_be_used_is_told(name: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(SettingsError, match="--ready-file"):
        ReadyFile(tmp_path / name).publish({})


def test_a_server_that_stops_takes_it_away(tmp_path: Path) -> None:
    server = ServerProcess(tmp_path / "data", strict=True)
    with server:
        assert server.ready_file.exists()
    assert not server.ready_file.exists()
