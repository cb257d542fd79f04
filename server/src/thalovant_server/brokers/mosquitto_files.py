# SPDX-License-Identifier: Apache-2.0
"""A directory that holds a whole Mosquitto: its configuration, an authority and a certificate, who may administer it.

What is there already is kept: secrets, the authority, a certificate still good, everything the broker has written
itself. A directory that holds anything else is refused.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from thalovant_server import certificates, data_files
from thalovant_server.brokers import mosquitto_texts
from thalovant_server.brokers.mosquitto_installed import Installed, find_installed
from thalovant_server.brokers.mosquitto_texts import Files
from thalovant_server.certificate_files import (
    AUTHORITY_CERTIFICATE,
    AUTHORITY_KEY,
    SERVER_CERTIFICATE,
    SERVER_KEY,
    CertificateFiles,
)
from thalovant_server.errors import DataDamagedError, DataDirectoryError
from thalovant_server.generations import generations
from thalovant_server.identifiers import new_secret
from thalovant_server.server_tls import Leaf

__all__ = ["ADMIN_PASSWORD", "AUTHORITY", "CONFIGURATION", "SECURITY", "Installed", "Wanted", "find_installed", "write"]

CONFIGURATION = "mosquitto.conf"
SECURITY = "security.json"
ADMIN_PASSWORD = "admin-password"  # noqa: S105 - the name of a file
AUTHORITY = AUTHORITY_CERTIFICATE
DATA = "data"
_PRIVATE = (ADMIN_PASSWORD, SECURITY, AUTHORITY_KEY, SERVER_KEY)
_OTHERS = 0o077


@dataclass(frozen=True, slots=True)
class Wanted:
    """Where it listens, and by which names it is dialled; the first of them is the one that clients are given.

    `says_all`: see `mosquitto_texts.configuration`.
    """

    directory: Path
    listen_host: str
    port: int
    public_hosts: tuple[str, ...] = ()
    says_all: bool = False

    @classmethod
    def before(cls, directory: Path) -> Wanted | None:
        """What the configuration there says was wanted; None where there is none of ours, or it cannot be read."""
        try:
            text = (directory / CONFIGURATION).read_text("utf-8", "replace")
        except OSError:
            return None
        placed = mosquitto_texts.placed(text)
        return cls(directory, *placed) if placed else None


@dataclass(frozen=True, slots=True)
class Written:
    """What became of it.

    Args:
        is_new: whether there was nothing before.
        renewed: whether the certificate was made just now.
        names: in the certificate, besides loopback's.
        ends: when the certificate is no longer valid.
        due: when it, or its authority's, is to be made anew.
    """

    is_new: bool
    renewed: bool
    names: tuple[str, ...]
    ends: datetime.datetime
    due: datetime.datetime


def write(wanted: Wanted, plugin: Path, *, renew: bool = False, at: datetime.datetime | None = None) -> Written:
    """Write what is missing or due, and the configuration itself anew (blocking).

    Args:
        wanted: where and what.
        plugin: path of the dynamic-security plugin.
        renew: make a certificate also where there is a good one.
        at: the time; None is now.

    Raises:
        DataDirectoryError: the directory cannot be used, or a file in it cannot be written.
        DataDamagedError: a file is missing beside others, or is not what it should be.
    """
    folder = wanted.directory.absolute()
    is_new = _open_folder(folder)
    data_files.check_private(folder / name for name in _PRIVATE)
    _write_secrets(folder)
    leaf, names, renewed = _certificate(folder, wanted.public_hosts, renew, at or _now(), is_new=is_new)
    files = Files(folder / AUTHORITY, leaf.certificate, leaf.key, plugin, folder / SECURITY, folder / DATA)
    text = _configuration(wanted, files)
    data_files.write_private_text(folder / CONFIGURATION, text)  # the last one: it says that all others are there
    shown, authority = data_files.read_text(leaf.certificate), data_files.read_text(folder / AUTHORITY)
    due = min(map(certificates.due, (shown, authority)))
    return Written(is_new, renewed, names, certificates.ends(shown), due)


def _configuration(wanted: Wanted, files: Files) -> str:
    place = (wanted.listen_host, wanted.port, wanted.public_hosts)
    return mosquitto_texts.configuration(files, *place, says_all=wanted.says_all)


def _open_folder(folder: Path) -> bool:
    """Make the directory, or see that it is one of ours; return whether nothing is in it yet."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        is_new = not (folder / CONFIGURATION).exists()
        _check_ours(folder, is_new=is_new)
        if folder.stat().st_mode & _OTHERS:
            folder.chmod(0o700)
        (folder / DATA).mkdir(mode=0o700, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise DataDirectoryError(folder, f"{error.filename} is a file. Name a directory of its own") from error
    except OSError as error:
        raise DataDirectoryError(folder, f"{error.filename or folder}: {error.strerror}") from error
    return is_new


def _check_ours(folder: Path, *, is_new: bool) -> None:
    """Mosquitto's own directory, or somebody's home, is not to be changed by mistake."""
    text = "" if is_new else (folder / CONFIGURATION).read_text("utf-8", "replace")
    ours = {AUTHORITY, AUTHORITY_KEY, SERVER_CERTIFICATE, SERVER_KEY, ADMIN_PASSWORD, SECURITY, DATA}
    foreign = sorted(path.name for path in folder.iterdir() if path.name not in ours and not path.name.startswith("."))
    if (is_new and foreign) or (text and not text.startswith(mosquitto_texts.MARK)):
        raise DataDirectoryError(
            folder,
            f"it holds something else already ({foreign[0]}), which is left as it is. Name a directory of its own",
        )


def _write_secrets(folder: Path) -> None:
    """The plugin's file holds a hash of the administrator's password alone: the two belong together."""
    password, security = folder / ADMIN_PASSWORD, folder / SECURITY
    if not password.exists() and security.exists():
        raise DataDamagedError(
            password, f"it is missing, while {SECURITY} is there, which holds a hash of what was in it"
        )
    if not password.exists():
        data_files.write_private_text(password, new_secret() + "\n")
    secret = data_files.read_text(password).strip()
    if not secret:
        raise DataDamagedError(password, "it is empty")
    if not _is_whole(security):  # also where somebody wiped what the broker knew: it keeps its administrator
        data_files.write_private_text(security, mosquitto_texts.security(secret))


def _is_whole(security: Path) -> bool:
    """Whether the plugin can read its file. On a full disk Mosquitto 2.0 leaves half of it, and then lets in nobody."""
    try:
        return isinstance(json.loads(security.read_bytes()), dict)
    except (FileNotFoundError, ValueError):
        return False
    except OSError as error:
        raise DataDirectoryError(security, f"it cannot be read: {error.strerror}") from error


def _certificate(
    folder: Path, hosts: Sequence[str], renew: bool, at: datetime.datetime, *, is_new: bool
) -> tuple[Leaf, tuple[str, ...], bool]:
    """A listener of Mosquitto shows one certificate: the one for the name that clients are given.

    Where the authority came to vouch for more names, the earliest certificate that has that name is trusted by all.
    """
    files = CertificateFiles(folder, is_new=is_new)
    authority = files.authority(tuple(hosts), at)
    before = {path: path.read_bytes() for path in folder.glob("tls*.crt")}
    if renew:
        for path in before:
            data_files.remove(path)
    leaves = files.leaves(authority, tuple(hosts), at)
    given = hosts[0] if hosts else "localhost"
    number = next(index for index, leaf in enumerate(leaves) if given in leaf.hosts)
    names = generations(authority.all_certificates, hosts)[number].names
    leaf = leaves[number]
    return leaf, names, before.get(leaf.certificate) != leaf.certificate.read_bytes()


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)
