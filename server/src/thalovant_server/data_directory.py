# SPDX-License-Identifier: Apache-2.0
"""The data directory: which files a server keeps, who may read them, and which process owns them.

One process owns a directory at a time (architecture decision 12). Secret files are 0600 and are written whole or
not at all. A file that is damaged, or missing beside others that are there, is an error that names it: a start
never silently forgets.
"""

from __future__ import annotations

import datetime
import fcntl
import os
import secrets
import ssl
from pathlib import Path

from thalovant_server import certificates
from thalovant_server.certificates import KeyPair
from thalovant_server.errors import DataDamagedError, DataDirectoryError, DataDirectoryInUseError

SEAL_KEY_BYTES = 32
PASSWORD_CHARACTERS = 24  # of 64 each: 144 bits, typed at most once

DATABASE = "thalovant.db"
SEAL_KEY = "seal.key"
AUTHORITY_CERTIFICATE = "ca.pem"
AUTHORITY_KEY = "ca.key"
BUNDLE = "ca-bundle.pem"
SERVER_CERTIFICATE = "tls.crt"
SERVER_KEY = "tls.key"
ADMIN_PASSWORD = "admin-password"  # noqa: S105 - the name of a file
LOCK = "lock"
FIRST_START = "first-start"  # there while the first start is under way: what it made so far may be incomplete

_SYSTEM_BUNDLES = (  # where distributions keep their certificates, should OpenSSL not know
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
)


class DataDirectory:
    """The files below one directory, opened by at most one process.

    Raises:
        DataDirectoryError: the directory cannot be made or used.
        DataDirectoryInUseError: another process owns it; names its pid.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.expanduser().absolute()
        try:
            self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise DataDirectoryError(self.path, f"it cannot be made ({error.strerror})") from error
        self._lock = self._take_lock()
        self.is_new = self._begin()

    def finish_first_start(self) -> None:
        """Say that all of the first start is on the disk; from now on a missing file is damage."""
        self.file(FIRST_START).unlink(missing_ok=True)

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
            _write_secret(path, secrets.token_hex(SEAL_KEY_BYTES) + "\n")
        try:
            key = bytes.fromhex(_read(path).strip())
        except ValueError:
            key = b""
        if len(key) != SEAL_KEY_BYTES:
            raise DataDamagedError(path, "it is not 64 hex digits")
        return key

    def authority(self, public_hosts: tuple[str, ...]) -> KeyPair:
        """Return the local certificate authority, made at the first start."""
        certificate, key = self.file(AUTHORITY_CERTIFICATE), self.file(AUTHORITY_KEY)
        if not certificate.exists() and not key.exists():
            made = certificates.make_authority(public_hosts)
            _write_secret(key, made.private_key)
            _write(certificate, made.certificate)
        for path in (certificate, key):
            if not path.exists():
                raise DataDamagedError(path, "it is missing, while its other half is there")
        pair = KeyPair(_read(certificate), _read(key))
        self._check_authority(pair)
        return pair

    def server_certificate(self, authority: KeyPair, public_hosts: tuple[str, ...]) -> tuple[Path, Path]:
        """Return the paths of the server's certificate and key, made anew when they do not fit ``public_hosts``."""
        certificate, key = self.file(SERVER_CERTIFICATE), self.file(SERVER_KEY)
        if not (certificate.exists() and key.exists() and self._serves(certificate, authority, public_hosts)):
            try:
                made = certificates.make_server_certificate(authority, public_hosts)
            except ValueError as error:
                raise DataDirectoryError(
                    self.path,
                    f"its certificate authority does not fit: {error}. Move {AUTHORITY_CERTIFICATE} and "
                    f"{AUTHORITY_KEY} away to have a new authority made; identities created before need the new ca_pem",
                ) from error
            _write_secret(key, made.private_key)
            _write(certificate, made.certificate)
        self._check_loads(certificate, key)
        return certificate, key

    def bundle(self, authority: KeyPair) -> Path:
        """Write the system's certificates and ours into one file, for programs that take a single bundle."""
        path = self.file(BUNDLE)
        _write(path, _system_certificates() + authority.certificate)
        return path

    def admin_password(self) -> str:
        """Return the first admin's password, made at the first start; "" when its owner has taken the file away."""
        path = self.file(ADMIN_PASSWORD)
        if self._may_make(path):
            _write_secret(path, secrets.token_urlsafe(PASSWORD_CHARACTERS * 3 // 4) + "\n")
        if not path.exists():
            return ""
        password = _read(path).strip()
        if not password:
            raise DataDamagedError(path, "it is empty; remove it if the password is known")
        return password

    def _begin(self) -> bool:
        """Tell whether this is the first start, or one that was cut off and goes on now."""
        marker = self.file(FIRST_START)
        if marker.exists():
            return True
        there = [name for name in (DATABASE, SEAL_KEY) if self.file(name).exists()]
        if not there:
            _write(marker, "")
            return True
        for name in (DATABASE, SEAL_KEY):
            if name not in there:
                raise DataDamagedError(self.file(name), f"it is missing, while {there[0]} is there")
        return False

    def _may_make(self, path: Path) -> bool:
        return self.is_new and not path.exists()

    def _take_lock(self) -> int:
        path = self.file(LOCK)
        try:
            lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise DataDirectoryError(self.path, f"{path.name} cannot be opened ({error.strerror})") from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            owner = os.pread(lock, 32, 0).decode("ascii", "replace").strip()
            os.close(lock)
            raise DataDirectoryInUseError(self.path, owner) from error
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
        return lock

    def _check_authority(self, pair: KeyPair) -> None:
        for path, check in (
            (self.file(AUTHORITY_CERTIFICATE), lambda: certificates.fingerprint(pair.certificate)),
            (self.file(AUTHORITY_KEY), lambda: certificates.public_key_of(pair.private_key)),
        ):
            try:
                check()
            except ValueError as error:
                raise DataDamagedError(path, "it is not the PEM text that was written") from error

    def _serves(self, certificate: Path, authority: KeyPair, public_hosts: tuple[str, ...]) -> bool:
        hosts = (*certificates.LOOPBACK_HOSTS, *public_hosts)
        now = datetime.datetime.now(datetime.UTC)
        try:
            return certificates.serves(_read(certificate), authority.certificate, hosts, now)
        except ValueError as error:
            raise DataDamagedError(certificate, "it is not a PEM certificate") from error

    def _check_loads(self, certificate: Path, key: Path) -> None:
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key)
        except ssl.SSLError as error:
            raise DataDamagedError(key, f"it does not fit {certificate.name}, or is no PEM key") from error


def _read(path: Path) -> str:
    try:
        return path.read_text("ascii")
    except UnicodeDecodeError as error:
        raise DataDamagedError(path, "it is not text") from error
    except OSError as error:
        raise DataDirectoryError(path.parent, f"{path.name} cannot be read ({error.strerror})") from error


def _write(path: Path, text: str, mode: int = 0o644) -> None:
    """Write a file whole or not at all: a new one is renamed over the old one once it is on the disk."""
    scratch = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    scratch.replace(path)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _write_secret(path: Path, text: str) -> None:
    _write(path, text, mode=0o600)


def _system_certificates() -> str:
    """Return the certificates the system trusts; a distribution's bundle may hold comments in any script."""
    named = ssl.get_default_verify_paths()
    for name in (os.environ.get("SSL_CERT_FILE"), named.cafile, named.openssl_cafile, *_SYSTEM_BUNDLES):
        if name and Path(name).is_file() and Path(name).name != BUNDLE:
            text = Path(name).read_text("utf-8", "replace").encode("ascii", "replace").decode()
            return text if text.endswith("\n") else text + "\n"
    return ""
