# SPDX-License-Identifier: Apache-2.0
"""A whole configuration of Mosquitto 2.0, in a directory: TLS, the dynamic-security plugin, nothing allowed to anybody
but to the one who says who may what.

What is there already is kept: secrets, certificates still good, everything the broker has written itself.
"""

from __future__ import annotations

import base64
import getpass
import hashlib
import json
import os
import secrets
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thalovant_server import certificates, data_files
from thalovant_server.certificates import KeyPair
from thalovant_server.errors import SettingsError
from thalovant_server.identifiers import new_secret
from thalovant_server.settings import BROKER_USER

PLUGIN = "mosquitto_dynamic_security.so"
ITERATIONS = 101  # of PBKDF2: enough for a secret of 256 random bits, and cheap at each login
PACKET_BYTES = 262_144  # as the embedded endpoint has it (architecture decision 11)
QUEUED_MESSAGES = 1000  # for one client that does not read; the newer ones are dropped

CONFIGURATION, SECURITY, ADMIN_PASSWORD, AUTHORITY = "mosquitto.conf", "security.json", "admin-password", "ca.crt"
_PLUGIN_FOLDERS = ("/usr/lib", "/usr/lib64", "/usr/local/lib", "/opt/homebrew/lib", "/opt/local/lib")
_PROGRAM_FOLDERS = ("/usr/sbin", "/usr/local/sbin", "/opt/homebrew/sbin")
_KINDS = ("publishClientSend", "publishClientReceive", "subscribe", "unsubscribe")


@dataclass(frozen=True, slots=True)
class Wanted:
    """Where it listens, and by which names it is dialled."""

    directory: Path
    listen_host: str
    port: int
    public_hosts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Installed:
    """Where Mosquitto is on this machine."""

    program: Path
    plugin: Path


def find_installed(program: str | None = None) -> Installed:
    """Find Mosquitto and its plugin.

    Raises:
        SettingsError: one of them is not there; says how to install it.
    """
    path = os.pathsep.join([os.environ.get("PATH", ""), *_PROGRAM_FOLDERS])
    found = program or shutil.which("mosquitto", path=path)
    if found is None:
        raise SettingsError(
            "Mosquitto is not installed. Type: apt-get install mosquitto (Debian, Ubuntu), dnf install mosquitto "
            "(Fedora), brew install mosquitto (macOS)"
        )
    plugin = _find_plugin(Path(found))
    if plugin is None:
        raise SettingsError(
            f"{found} is there, and its dynamic-security plugin ({PLUGIN}) is not: install Mosquitto 2.0 or newer"
        )
    return Installed(Path(found), plugin)


def _find_plugin(program: Path) -> Path | None:
    beside = program.resolve().parent.parent / "lib"
    for folder in (beside, *map(Path, _PLUGIN_FOLDERS)):
        for candidate in (folder / PLUGIN, *sorted(folder.glob(f"*/{PLUGIN}"))):
            if candidate.exists():
                return candidate
    return None


def write(wanted: Wanted, plugin: Path) -> None:
    """Write what is missing, and the configuration itself anew (blocking).

    Raises:
        DataDirectoryError: a file cannot be written, or is not what it should be.
    """
    folder = wanted.directory
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    (folder / "data").mkdir(mode=0o700, exist_ok=True)
    _write_certificates(folder, wanted.public_hosts)
    if not (folder / SECURITY).exists():
        write_security(folder, new_secret())
    data_files.write_private_text(folder / CONFIGURATION, configuration(wanted, plugin))


def write_security(folder: Path, password: str) -> None:
    """Write the plugin's file as it starts with, and the administrator's password beside it."""
    data_files.write_private_text(folder / ADMIN_PASSWORD, password + "\n")
    data_files.write_private_text(folder / SECURITY, json.dumps(security(password), indent=2) + "\n")


def _write_certificates(folder: Path, public_hosts: tuple[str, ...]) -> None:
    if not (folder / AUTHORITY).exists():
        made = certificates.make_authority(public_hosts)
        data_files.write_private_text(folder / "ca.key", made.private_key)
        data_files.write_text(folder / AUTHORITY, made.certificate)
    authority = KeyPair((folder / AUTHORITY).read_text(), (folder / "ca.key").read_text())
    leaf = certificates.make_server_certificate(authority, public_hosts)
    data_files.write_private_text(folder / "server.key", leaf.private_key)
    data_files.write_text(folder / "server.crt", leaf.certificate)


def configuration(wanted: Wanted, plugin: Path) -> str:
    """Return the text of `mosquitto.conf`."""
    folder = wanted.directory.absolute()
    return f"""\
# Written by `thalovant-server broker init mosquitto`, and again whenever that is typed.
per_listener_settings false
listener {wanted.port} {wanted.listen_host}
cafile {folder / AUTHORITY}
certfile {folder / "server.crt"}
keyfile {folder / "server.key"}
tls_version tlsv1.2
allow_anonymous false

# Who may what: told by thalovant-server, which logs in as {BROKER_USER}.
plugin {plugin}
plugin_opt_config_file {folder / SECURITY}
# One connection a credential, whatever its client calls itself: nobody can take the place of another one.
use_username_as_clientid true

# Two small packets in a row would wait 40 ms for each other.
set_tcp_nodelay true
max_packet_size {PACKET_BYTES}
max_inflight_messages 0
max_queued_messages {QUEUED_MESSAGES}
memory_limit 0

persistence true
persistence_location {folder / "data"}/
user {getpass.getuser()}
log_dest stderr
log_type error
log_type warning
log_type notice
log_type information
connection_messages false
"""


def security(password: str) -> dict[str, Any]:
    """Return what the plugin starts with: everything denied by default, and one user who may administer it."""
    salt = secrets.token_bytes(12)
    stretched = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, ITERATIONS)
    return {
        "defaultACLAccess": dict.fromkeys(_KINDS, False),
        "clients": [
            {
                "username": BROKER_USER,
                "textName": "thalovant-server, who says which clients there are",
                "password": base64.b64encode(stretched).decode(),
                "salt": base64.b64encode(salt).decode(),
                "iterations": ITERATIONS,
                "roles": [{"rolename": BROKER_USER}],
            }
        ],
        "roles": [{"rolename": BROKER_USER, "acls": _administrative()}],
    }


def _administrative() -> list[dict[str, Any]]:
    kinds = {
        "publishClientSend": ("$CONTROL/dynamic-security/#",),
        "publishClientReceive": ("$CONTROL/dynamic-security/#", "$SYS/#", "#"),
        "subscribePattern": ("$CONTROL/dynamic-security/#", "$SYS/#", "#"),
        "unsubscribePattern": ("#", "$SYS/#", "$CONTROL/dynamic-security/#"),
    }
    return [{"acltype": kind, "topic": topic, "allow": True} for kind, topics in kinds.items() for topic in topics]
