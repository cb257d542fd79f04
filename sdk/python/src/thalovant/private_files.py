# SPDX-License-Identifier: Apache-2.0
"""Files that hold secrets: read only when nobody else can, written whole or not at all.

Contract 3.6 (permissions). This module knows bytes and modes; it does not know what an identity or a login
is, and it never puts the content of a file into an error.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

MAX_BYTES = 1 << 20
"""No file of ours comes near this; a larger one is a mistake (or a device)."""

PRIVATE_FILE_MODE = 0o600
PRIVATE_FOLDER_MODE = 0o700


class PrivateFileError(Exception):
    """A private file cannot be read or written. `code` is stable, the text says what to do."""

    def __init__(self, text: str, *, code: str) -> None:
        super().__init__(text)
        self.code = code


def read_private_text(path: str | Path) -> str:
    """Return the UTF-8 text of `path`.

    The permissions are those of the file that was really opened, so it cannot be swapped between the look and
    the read. Raises PrivateFileError: missing, not a regular file, open to others (contract 3.6), too large,
    not UTF-8.
    """
    target = Path(path).expanduser()
    with _opened(target) as descriptor:
        _refuse_unless_private(descriptor, target)
        raw = _read_all(descriptor, target)
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        raise PrivateFileError(f"{target} is not UTF-8 text.", code="not_text") from None


def write_private_text(path: str | Path, text: str, *, overwrite: bool = False) -> Path:
    """Write `text` to `path` with mode 0600: a reader sees the old file or the new one, never a part.

    Without `overwrite` an existing file is left alone. A symlink is never written through or replaced.
    Raises PrivateFileError with code `exists`, `symlink` or `unwritable`.
    """
    with private_file(path, overwrite=overwrite) as stream:
        stream.write(text.encode("utf-8"))
    return Path(path).expanduser()


@contextlib.contextmanager
def private_file(path: str | Path, *, overwrite: bool = False) -> Iterator[IO[bytes]]:
    """A file to write bytes to, as `write_private_text` does: it is there when the block is left, all of it.

    When the block raises, nothing is. Raises as `write_private_text`.
    """
    target = Path(path).expanduser()
    if target.is_symlink():
        raise PrivateFileError(f"{target} is a symlink; name the real file instead.", code="symlink")
    try:
        _reserve(target, overwrite=overwrite)
        with _replacing(target) as stream:
            yield stream
    except FileExistsError:
        raise PrivateFileError(f"{target} exists already; it was not changed.", code="exists") from None
    except OSError as error:
        raise PrivateFileError(f"Unable to write {target}: {error.strerror}.", code="unwritable") from error


def make_private_folder(path: str | Path) -> Path:
    """Make `path` (mode 0700) with its parents when it is not there; an existing folder keeps its mode."""
    folder = Path(path).expanduser()
    try:
        folder.mkdir(mode=PRIVATE_FOLDER_MODE, parents=True, exist_ok=True)
    except OSError as error:
        raise PrivateFileError(f"Unable to make the folder {folder}: {error.strerror}.", code="unwritable") from error
    return folder


@contextlib.contextmanager
def exclusively(lock: Path) -> Iterator[None]:
    """Hold the lock file `lock` (0600, made when it is not there): of all programs one at a time is inside.

    The file stays, empty: removing it would let two in. Raises PrivateFileError with code `symlink` or
    `unwritable`.
    """
    descriptor = _opened_lock(lock)
    try:
        _wait_for_lock(descriptor)
        yield
    finally:
        os.close(descriptor)  # which also gives the lock back


@contextlib.contextmanager
def _opened(target: Path) -> Iterator[int]:
    # O_NONBLOCK: opening a FIFO by mistake must not hang.
    flags = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        descriptor = os.open(target, flags)
    except OSError as error:
        code = "missing" if isinstance(error, FileNotFoundError) else "unreadable"
        raise PrivateFileError(f"Unable to read {target}: {error.strerror}.", code=code) from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _opened_lock(lock: Path) -> int:
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
    try:
        return os.open(lock, flags, PRIVATE_FILE_MODE)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise PrivateFileError(f"{lock} is a symlink; name the real file instead.", code="symlink") from None
        raise PrivateFileError(f"Unable to write {lock}: {error.strerror}.", code="unwritable") from error


if sys.platform == "win32":  # pragma: no cover

    def _wait_for_lock(descriptor: int) -> None:
        import msvcrt

        msvcrt.locking(descriptor, msvcrt.LK_LOCK, 1)

else:

    def _wait_for_lock(descriptor: int) -> None:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX)


def _refuse_unless_private(descriptor: int, target: Path) -> None:
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        raise PrivateFileError(f"{target} is not a regular file.", code="not_a_file")
    if os.name == "nt" or _is_projected_secret(target):
        return
    if stat.S_IMODE(status.st_mode) & 0o077:
        mode = f"{stat.S_IMODE(status.st_mode):04o}"
        raise PrivateFileError(
            f"{target} holds secrets but others may open it (mode {mode}). Type: chmod 600 {target}",
            code="open_to_others",
        )


def _is_projected_secret(target: Path) -> bool:
    """Kubernetes mounts secrets as `file -> ..data/file`, with modes that the pod does not choose."""
    in_cluster = bool(os.environ.get("KUBERNETES_SERVICE_HOST"))
    return in_cluster and target.is_symlink() and (target.parent / "..data").is_symlink()


def _read_all(descriptor: int, target: Path) -> bytes:
    parts: list[bytes] = []
    size = 0
    try:
        while part := os.read(descriptor, 65_536):
            parts.append(part)
            size += len(part)
            if size > MAX_BYTES:
                raise PrivateFileError(f"{target} is larger than {MAX_BYTES} bytes.", code="too_large")
    except OSError as error:
        raise PrivateFileError(f"Unable to read {target}: {error.strerror}.", code="unreadable") from error
    return b"".join(parts)


def _reserve(target: Path, *, overwrite: bool) -> None:
    """Take the name, so that of two writers without `overwrite` only one goes on."""
    if not overwrite:
        os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE_FILE_MODE))


@contextlib.contextmanager
def _replacing(target: Path) -> Iterator[IO[bytes]]:
    beside = target.with_name(f".{target.name}.{secrets.token_hex(6)}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    try:
        with os.fdopen(os.open(beside, flags, PRIVATE_FILE_MODE), "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        beside.replace(target)
    except BaseException:
        _drop_if_empty(target)
        with contextlib.suppress(OSError):
            beside.unlink()
        raise
    _sync_folder(target.parent)


def _drop_if_empty(target: Path) -> None:
    """Give a reserved name back when the content could not be written."""
    with contextlib.suppress(OSError):
        if target.stat().st_size == 0:
            target.unlink()


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
