# SPDX-License-Identifier: Apache-2.0
"""One file of the data directory: looked at before it is trusted, read whole, written whole or not at all.

Every fault names the file and what to do. It does not know which files there are or what they hold.
"""

from __future__ import annotations

import os
import secrets
import shlex
import stat
from collections.abc import Iterable
from pathlib import Path

from thalovant_server.errors import DataDamagedError, DataDirectoryError

PUBLIC_MODE = 0o644
PRIVATE_MODE = 0o600
_OTHERS = 0o077


def check_kind(path: Path, *, remade: bool) -> None:
    """Let a regular file pass, a link to one, and nothing at all.

    Args:
        path: of the file.
        remade: whether it is made anew when it is not there.

    Raises:
        DataDirectoryError: a directory, a pipe or a device is in its place, or it cannot be looked at.
        DataDamagedError: the same of a file that cannot be made anew.
    """
    found = _look(path, follow=True)
    if found is None or stat.S_ISREG(found.st_mode):
        return
    kind = "a directory" if stat.S_ISDIR(found.st_mode) else "no regular file"
    if not remade:
        raise DataDamagedError(path, f"it is {kind}")
    raise DataDirectoryError(path.parent, f"{path.name} is {kind}. Move it away: the server makes the file anew")


def check_private(paths: Iterable[Path]) -> None:
    """Let files pass that are for their owner alone; one that is missing passes.

    Raises:
        DataDirectoryError: one is a symbolic link, or others may read or write it: the text has the line to type.
    """
    open_to_others = []
    for path in paths:
        found = _look(path, follow=False)
        if found is not None and stat.S_ISLNK(found.st_mode):
            raise DataDirectoryError(
                path.parent, f"{path.name} is a symbolic link. Move the file itself there, a secret is not followed"
            )
        if found is not None and found.st_mode & _OTHERS:
            open_to_others.append(path)
    if open_to_others:
        names = ", ".join(path.name for path in open_to_others)
        line = shlex.join(["chmod", "600", *map(str, open_to_others)])
        raise DataDirectoryError(
            open_to_others[0].parent,
            f"others can read or change {names}. If nobody has, type `{line}` and start again; otherwise move the "
            "whole directory away to start afresh",
        )


def read_text(path: Path) -> str:
    """Return the text of a file.

    Raises:
        DataDamagedError: it is no ASCII text, or no file.
        DataDirectoryError: it cannot be read.
    """
    try:
        return path.read_text("ascii")
    except UnicodeDecodeError as error:
        raise DataDamagedError(path, "it is not text") from error
    except IsADirectoryError as error:
        raise DataDamagedError(path, "it is a directory") from error
    except OSError as error:
        raise _unusable(path, "read", error) from error


def write_text(path: Path, text: str, mode: int = PUBLIC_MODE) -> None:
    """Write a file whole or not at all: a new one is renamed over the old one once it is on the disk.

    Raises:
        DataDamagedError: a directory is in its place.
        DataDirectoryError: it cannot be written; the old file stays, and no half of the new one.
    """
    scratch = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        _write_scratch(scratch, text, mode)
        scratch.replace(path)
        _settle(path.parent)
    except IsADirectoryError as error:
        _drop(scratch)
        raise DataDamagedError(path, "it is a directory") from error
    except OSError as error:
        _drop(scratch)
        raise _unusable(path, "written", error) from error
    except BaseException:
        _drop(scratch)
        raise


def write_private_text(path: Path, text: str) -> None:
    """Write a file for its owner alone, as `write_text` does."""
    write_text(path, text, mode=PRIVATE_MODE)


def remove(path: Path) -> None:
    """Remove a file, if it is there.

    Raises:
        DataDirectoryError: it cannot be removed.
    """
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise _unusable(path, "removed", error) from error


def _look(path: Path, *, follow: bool) -> os.stat_result | None:
    try:
        return path.stat(follow_symlinks=follow)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unusable(path, "looked at", error) from error


def _write_scratch(scratch: Path, text: str, mode: int) -> None:
    descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _settle(folder: Path) -> None:
    """Have the new name on the disk, too."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _drop(scratch: Path) -> None:
    try:
        scratch.unlink(missing_ok=True)
    except OSError:  # the first fault is the one to tell
        return


def _unusable(path: Path, what: str, error: OSError) -> DataDirectoryError:
    why = error.strerror or type(error).__name__
    return DataDirectoryError(
        path.parent,
        f"{path.name} cannot be {what} ({why}). See that the disk has room and that the user who runs the server owns "
        "the directory and its files, then start again",
    )
