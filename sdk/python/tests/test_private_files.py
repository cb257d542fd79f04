# SPDX-License-Identifier: Apache-2.0
"""Private files: read only when nobody else can, written whole or not at all, content in no error."""

from __future__ import annotations

import fcntl
import os
import stat
from pathlib import Path

import pytest

from thalovant import private_files
from thalovant.private_files import (
    PrivateFileError,
    exclusively,
    make_private_folder,
    read_private_text,
    write_private_text,
)

SECRET = "the-secret"


def saved(folder: Path, mode: int = 0o600, content: bytes = SECRET.encode()) -> Path:
    path = folder / "file"
    path.write_bytes(content)
    path.chmod(mode)
    return path


def refused(path: Path) -> str:
    with pytest.raises(PrivateFileError) as caught:
        read_private_text(path)
    assert SECRET not in str(caught.value) and str(path) in str(caught.value)
    return caught.value.code


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o700])
def test_what_only_its_owner_may_open_is_read(tmp_path: Path, mode: int) -> None:
    assert read_private_text(saved(tmp_path, mode)) == SECRET


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601, 0o644])
def test_what_others_may_open_is_not(tmp_path: Path, mode: int) -> None:
    assert refused(saved(tmp_path, mode)) == "open_to_others"


def test_the_mode_that_counts_is_that_of_the_file_behind_a_symlink(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(saved(tmp_path, 0o644))
    assert refused(link) == "open_to_others"


def test_each_thing_that_cannot_be_read_has_its_code(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo", 0o600)  # opening it must not hang
    assert refused(tmp_path / "fifo") == "not_a_file"
    assert refused(tmp_path) == "not_a_file"
    assert refused(tmp_path / "nothing") == "missing"
    assert refused(saved(tmp_path, content=SECRET.encode() + b"\xff")) == "not_text"


@pytest.mark.parametrize(("size", "code"), [(100, None), (101, "too_large")])
def test_size_has_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, code: str | None) -> None:
    monkeypatch.setattr(private_files, "MAX_BYTES", 100)
    path = saved(tmp_path, content=b"x" * size)
    assert (read_private_text(path) == "x" * size) if code is None else (refused(path) == code)


def test_what_is_written_is_private_whole_and_read_back(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        path = write_private_text(tmp_path / "file", "ünï\n")
    finally:
        os.umask(old)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert read_private_text(path) == "ünï\n"
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


def test_an_existing_file_is_only_replaced_when_told(tmp_path: Path) -> None:
    path = saved(tmp_path, 0o644)
    with pytest.raises(PrivateFileError) as caught:
        write_private_text(path, "new")
    assert (caught.value.code, path.read_text()) == ("exists", SECRET)
    write_private_text(path, "new", overwrite=True)
    assert (path.read_text(), stat.S_IMODE(path.stat().st_mode)) == ("new", 0o600)


@pytest.mark.parametrize("overwrite", [True, False])
@pytest.mark.parametrize("dangling", [True, False])
def test_a_symlink_is_never_written_through(tmp_path: Path, overwrite: bool, dangling: bool) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    if not dangling:
        target.write_text("old")
    link.symlink_to(target)
    with pytest.raises(PrivateFileError) as caught:
        write_private_text(link, "new", overwrite=overwrite)
    assert caught.value.code == "symlink"
    assert link.is_symlink() and target.exists() is not dangling


@pytest.mark.parametrize("overwrite", [True, False])
def test_a_write_that_fails_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, overwrite: bool
) -> None:
    if overwrite:
        saved(tmp_path)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(private_files.os, "fsync", full)
    with pytest.raises(PrivateFileError, match="No space") as caught:
        write_private_text(tmp_path / "file", "new", overwrite=overwrite)
    assert caught.value.code == "unwritable"
    assert {each.name: each.read_text() for each in tmp_path.iterdir()} == ({"file": SECRET} if overwrite else {})


def test_a_folder_is_private_when_new_and_left_alone_when_old(tmp_path: Path) -> None:
    assert stat.S_IMODE(make_private_folder(tmp_path / "a" / "b").stat().st_mode) == 0o700
    (tmp_path / "c").mkdir(mode=0o755)
    assert stat.S_IMODE(make_private_folder(tmp_path / "c").stat().st_mode) == 0o755
    saved(tmp_path)
    with pytest.raises(PrivateFileError) as caught:
        make_private_folder(tmp_path / "file" / "below")
    assert caught.value.code == "unwritable"


def test_inside_the_lock_there_is_one(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    with exclusively(lock), lock.open() as other:
        assert stat.S_IMODE(lock.stat().st_mode) == 0o600
        with pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    with lock.open() as other:
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_lock_that_cannot_be_made_has_its_code(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    for lock, code in ((tmp_path / "link", "symlink"), (tmp_path / "no" / "lock", "unwritable")):
        with pytest.raises(PrivateFileError) as caught, exclusively(lock):
            raise AssertionError("must not be reached")
        assert caught.value.code == code
    assert not (tmp_path / "elsewhere").exists()


def test_a_name_that_leaves_no_room_for_the_file_beside_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(PrivateFileError) as caught:
        write_private_text(tmp_path / ("n" * 250), SECRET)
    assert caught.value.code == "unwritable"
    assert list(tmp_path.iterdir()) == []
