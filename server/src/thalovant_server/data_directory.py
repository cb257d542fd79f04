# SPDX-License-Identifier: Apache-2.0
"""The data directory: which files a server keeps, who may read them, and which process owns them.

One process owns a directory at a time (architecture decision 12). Secret files are 0600, and refused when others
can read them. A file that is damaged, or missing beside others that are there, is an error that names it: a start
never silently forgets.
"""

from __future__ import annotations

import fcntl
import os
import secrets
from pathlib import Path

from thalovant_server.certificate_files import (
    AUTHORITY_CERTIFICATE,
    AUTHORITY_KEY,
    BUNDLE,
    EARLIER_AUTHORITIES,
    SERVER_CERTIFICATE,
    SERVER_KEY,
    CertificateFiles,
)
from thalovant_server.data_files import check_kind, check_private, read_text, remove, write_private_text, write_text
from thalovant_server.errors import DataDamagedError, DataDirectoryError, DataDirectoryInUseError

SEAL_KEY_BYTES = 32
PASSWORD_CHARACTERS = 24  # of 64 each: 144 bits, typed at most once

DATABASE = "thalovant.db"
SEAL_KEY = "seal.key"
ADMIN_PASSWORD = "admin-password"  # noqa: S105 - the name of a file
LOCK = "lock"
FIRST_START = "first-start"  # there while the first start is under way: what it made so far may be incomplete

REMADE_FILES = (SERVER_CERTIFICATE, SERVER_KEY, BUNDLE, FIRST_START)
PUBLIC_FILES = (AUTHORITY_CERTIFICATE, EARLIER_AUTHORITIES, SERVER_CERTIFICATE, BUNDLE)
PRIVATE_FILES = (
    SEAL_KEY, AUTHORITY_KEY, SERVER_KEY, ADMIN_PASSWORD, DATABASE, f"{DATABASE}-wal", f"{DATABASE}-shm"
)  # fmt: skip
_PAIR = (DATABASE, SEAL_KEY)  # one is worth nothing without the other


class DataDirectory:
    """The files below one directory, opened by at most one process.

    Raises:
        DataDirectoryError: the directory cannot be made or used, or others can read a secret in it.
        DataDamagedError: a file is missing beside others, or is no file.
        DataDirectoryInUseError: another process owns it; names its pid.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.expanduser().absolute()
        try:
            self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise DataDirectoryError(self.path, f"it cannot be made ({error.strerror})") from error
        self._lock = self._take_lock()
        try:
            self._check_files()
            self.is_new = self._begin()
            self.certificates = CertificateFiles(self.path, is_new=self.is_new)
        except BaseException:
            self.close()
            raise

    def finish_first_start(self) -> None:
        """Say that all of the first start is on the disk; from now on a missing file is damage."""
        remove(self.file(FIRST_START))

    def close(self) -> None:
        """Give the directory free for another process."""
        os.close(self._lock)

    def file(self, name: str) -> Path:
        """Return the path of one file of the directory."""
        return self.path / name

    def seal_key(self) -> bytes:
        """Return the 32-byte key under which secrets in the database are sealed, made at the first start."""
        path = self.file(SEAL_KEY)
        if self._may_make(path):
            write_private_text(path, secrets.token_hex(SEAL_KEY_BYTES) + "\n")
        try:
            key = bytes.fromhex(read_text(path).strip())
        except ValueError:
            key = b""
        if len(key) != SEAL_KEY_BYTES:
            raise DataDamagedError(path, "it is not 64 hex digits")
        return key

    def admin_password(self) -> str:
        """Return the first admin's password, made at the first start; "" when its owner has taken the file away."""
        path = self.file(ADMIN_PASSWORD)
        if self._may_make(path):
            write_private_text(path, secrets.token_urlsafe(PASSWORD_CHARACTERS * 3 // 4) + "\n")
        if not path.exists():
            return ""
        password = read_text(path).strip()
        if not password:
            raise DataDamagedError(path, "it is empty; remove it if the password is known")
        return password

    def _begin(self) -> bool:
        """Tell whether this is the first start, or one that was cut off and goes on now."""
        marker = self.file(FIRST_START)
        if marker.exists():
            return True
        there = [name for name in (*PRIVATE_FILES, *PUBLIC_FILES) if self.file(name).exists()]
        if not there:
            write_text(marker, "")
            return True
        for name in _PAIR:
            if name not in there:
                raise DataDamagedError(self.file(name), f"it is missing, while {there[0]} is there")
        return False

    def _check_files(self) -> None:
        for name in (*PRIVATE_FILES, *PUBLIC_FILES, FIRST_START):
            check_kind(self.file(name), remade=name in REMADE_FILES)
        check_private(map(self.file, PRIVATE_FILES))

    def _may_make(self, path: Path) -> bool:
        return self.is_new and not path.exists()

    def _take_lock(self) -> int:
        path = self.file(LOCK)
        try:
            lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise DataDirectoryError(self.path, f"{path.name} cannot be opened ({error.strerror})") from error
        try:
            self._own(lock)
        except OSError as error:
            os.close(lock)
            raise DataDirectoryError(self.path, f"{path.name} cannot be taken ({error.strerror})") from error
        except DataDirectoryInUseError:
            os.close(lock)
            raise
        return lock

    def _own(self, lock: int) -> None:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            owner = os.pread(lock, 32, 0).decode("ascii", "replace").strip()
            raise DataDirectoryInUseError(self.path, owner) from error
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
