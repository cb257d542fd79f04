# SPDX-License-Identifier: Apache-2.0
"""What another user may read is told by the modes on the way there."""

from __future__ import annotations

import os
import pwd
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from thalovant_server.reachable import first_shut

ME = pwd.getpwuid(os.getuid())


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that everybody reaches (pytest's own is for its owner alone)."""
    with tempfile.TemporaryDirectory(dir="/tmp") as path:
        Path(path).chmod(0o755)
        yield Path(path)


@pytest.mark.parametrize(("mode", "is_shut"), [(0o644, False), (0o604, False), (0o640, True), (0o600, True)])
def test_a_file_is_read_by_its_mode(mode: int, is_shut: bool, folder: Path) -> None:
    file = folder / "file"
    file.touch()
    file.chmod(mode)
    assert first_shut(file, None) == (file if is_shut else None)
    assert first_shut(file, ME) is None, "its owner may"


def test_the_owner_counts_before_the_others(folder: Path) -> None:
    file = folder / "file"
    file.touch()
    file.chmod(0o044)
    assert first_shut(file, ME) == file
    assert first_shut(file, None) is None


def test_a_group_counts_for_its_members(folder: Path) -> None:
    file = folder / "file"
    file.touch()
    file.chmod(0o040)
    stranger = pwd.struct_passwd((ME.pw_name, "x", ME.pw_uid + 1, file.stat().st_gid, "", "/", "/bin/sh"))
    assert first_shut(file, stranger) is None
    assert first_shut(file, None) == file


def test_the_first_folder_on_the_way_that_is_shut_is_named(folder: Path) -> None:
    inner = folder / "one" / "two"
    inner.mkdir(parents=True)
    (inner / "file").touch(0o644)
    inner.chmod(0o700)
    assert first_shut(inner / "file", None) == inner
    (folder / "one").chmod(0o700)
    assert first_shut(inner / "file", None) == folder / "one"
    assert first_shut(inner / "file", ME) is None


def test_a_link_is_followed(folder: Path) -> None:
    (folder / "file").touch()
    (folder / "file").chmod(0o600)
    (folder / "link").symlink_to(folder / "file")
    assert first_shut(folder / "link", None) is not None


def test_a_folder_has_to_be_readable_itself(folder: Path) -> None:
    folder.chmod(0o711)
    assert first_shut(folder, None) == folder
    assert first_shut(folder / "what-is-not-there-yet", None) is None
