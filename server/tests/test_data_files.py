# SPDX-License-Identifier: Apache-2.0
"""One file: written whole or not at all, every fault named; what is no plain, private file is refused."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from thalovant_server.data_files import check_private, read_text, remove, write_private_text, write_text
from thalovant_server.errors import DataDamagedError, DataDirectoryError


def test_what_is_written_is_read_again_with_its_mode(tmp_path: Path) -> None:
    file = tmp_path / "a"
    for write, mode in ((write_text, 0o644), (write_private_text, 0o600)):
        write(file, f"mode {mode}")
        assert read_text(file) == f"mode {mode}"
        assert stat.S_IMODE(file.stat().st_mode) & ~mode == 0
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("call", ["open", "fsync", "replace"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EIO])
def test_a_write_that_fails_anywhere_is_named_and_changes_nothing(
    call: str, number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "seal.key"
    write_text(file, "old")

    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(*((Path, "replace") if call == "replace" else (os, call)), fail)
        with pytest.raises(DataDirectoryError, match=rf"seal\.key cannot be written \({os.strerror(number)}\)"):
            write_text(file, "new")
    assert read_text(file) == "old"
    assert list(tmp_path.iterdir()) == [file]


def test_a_write_that_is_interrupted_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_text(tmp_path / "a", "text")
    assert list(tmp_path.iterdir()) == []


def test_a_directory_is_neither_read_nor_written_over(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(DataDamagedError, match="it is a directory"):
        read_text(tmp_path / "a")
    with pytest.raises(DataDamagedError, match="it is a directory"):
        write_text(tmp_path / "a", "text")
    with pytest.raises(DataDirectoryError, match="a cannot be removed"):
        remove(tmp_path / "a")
    assert list(tmp_path.iterdir()) == [tmp_path / "a"]


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    remove(tmp_path / "a")
    check_private([tmp_path / "a"])
    with pytest.raises(DataDirectoryError, match="a cannot be read"):
        read_text(tmp_path / "a")
    with pytest.raises(DataDirectoryError, match="a cannot be written"):
        write_text(tmp_path / "missing" / "a", "text")


def test_the_line_to_type_may_be_typed_whatever_the_folder_is_called(tmp_path: Path) -> None:
    file = tmp_path / "my data"
    file.touch(0o644)
    file.chmod(0o644)
    with pytest.raises(DataDirectoryError, match=rf"`chmod 600 '{file}'`"):
        check_private([file])
