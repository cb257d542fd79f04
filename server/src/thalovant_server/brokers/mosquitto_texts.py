# SPDX-License-Identifier: Apache-2.0
"""What Mosquitto 2.0 is configured with, as text: `mosquitto.conf` and the dynamic-security plugin's first file.

Nothing is allowed to anybody but to the one who says who may what. It writes no file.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thalovant_server.settings import BROKER_USER

MARK = "# Written by thalovant-server, anew at each `broker init` and each start with --broker mosquitto."
NAMES = "# Dialled as"
_PLACED = re.compile(rf"^{NAMES}(?P<names>( \S+)*)\nlistener (?P<port>[0-9]{{1,5}})( (?P<host>\S+))?$", re.MULTILINE)
ITERATIONS = 101  # of PBKDF2: enough for a secret of 256 random bits, and cheap at each login
PACKET_BYTES = 262_144  # as the embedded endpoint has it (architecture decision 11)
# On the way to one client that does not read. The hubs' own link says itself how many messages it takes at once
# (`broker_link`), and has what neighbours flood it with in these bytes: more of them are dropped, whoever sent them.
# The number is also what the broker takes at once of one client, so no less than the hubs have under way (`keeper`).
UNDER_WAY_MESSAGES = 1024
UNDER_WAY_BYTES = 32 * 1024 * 1024
QUEUED_MESSAGES = 1000  # for one client that does not read; newer ones are dropped
QUEUED_BYTES = 4 * 1024 * 1024
CONNECTIONS = 20_000  # as one port of the server has it

ADMINISTRATIVE = "$CONTROL/dynamic-security/#"
KINDS = ("publishClientSend", "publishClientReceive", "subscribe", "unsubscribe")


@dataclass(frozen=True, slots=True)
class Files:
    """Where each file is, absolute."""

    authority: Path
    certificate: Path
    key: Path
    plugin: Path
    security: Path
    data: Path


def configuration(
    files: Files, listen_host: str, port: int, names: Sequence[str] = (), *, says_all: bool = False
) -> str:
    """Return the text of `mosquitto.conf`.

    Args:
        files: where they are.
        listen_host: the address to listen on.
        port: to listen on.
        names: by which it is dialled, for `placed` to find again.
        says_all: log every command of an administrator, too, with the access keys in it, for whoever reads the log
            and keeps those to itself.
    """
    return f"""\
{MARK}
# A line of your own would be lost: put it into another file, with this one's lines, and start Mosquitto with that.
{" ".join([NAMES, *names])}
listener {port}{_host(listen_host)}
cafile {files.authority}
certfile {files.certificate}
keyfile {files.key}
tls_version tlsv1.2
allow_anonymous false
max_connections {CONNECTIONS}

# Who may what: told by thalovant-server, which logs in as {BROKER_USER}. Whatever is not granted is denied.
plugin {files.plugin}
plugin_opt_config_file {files.security}
# One connection a credential, whatever its client calls itself: nobody can take the place of another one.
use_username_as_clientid true

# Two small packets in a row would wait 40 ms for each other.
set_tcp_nodelay true
max_packet_size {PACKET_BYTES}
max_inflight_messages {UNDER_WAY_MESSAGES}
max_inflight_bytes {UNDER_WAY_BYTES}
max_queued_messages {QUEUED_MESSAGES}
max_queued_bytes {QUEUED_BYTES}
persistent_client_expiration 1d

persistence true
persistence_location {files.data}/
autosave_interval 300
{_user()}log_dest stderr
log_timestamp_format %Y-%m-%dT%H:%M:%S
log_type error
log_type warning
{_chatter() if says_all else "# No `notice`, no `information`: they name access keys."}
connection_messages false
"""


def placed(text: str) -> tuple[str, int, tuple[str, ...]] | None:
    """Find the address, the port and the names that a text of `configuration` was made with; None in any other text."""
    found = _PLACED.search(text) if text.startswith(MARK) else None
    return (found["host"] or "::", int(found["port"]), tuple(found["names"].split())) if found else None


def _host(listen_host: str) -> str:
    """Mosquitto takes `::` for every address of IPv6 alone, and nothing at all for those of IPv4, too."""
    return "" if listen_host == "::" else f" {listen_host}"


def _chatter() -> str:
    return "log_type notice\nlog_type information"


def _user() -> str:
    """Started by root it would become the user `mosquitto`, to whom these files are shut."""
    return "user root\n" if os.geteuid() == 0 else ""


def security(password: str) -> str:
    """Return what the plugin starts with: everything denied by default, and one user who may administer it."""
    salt = secrets.token_bytes(12)
    stretched = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, ITERATIONS)
    client = {
        "username": BROKER_USER,
        "textName": "thalovant-server, who says which clients there are",
        "password": base64.b64encode(stretched).decode(),
        "salt": base64.b64encode(salt).decode(),
        "iterations": ITERATIONS,
        "roles": [{"rolename": BROKER_USER}],
    }
    role = {"rolename": BROKER_USER, "acls": _administrator()}
    content = {"defaultACLAccess": dict.fromkeys(KINDS, False), "clients": [client], "roles": [role]}
    return json.dumps(content, indent=2) + "\n"


def _administrator() -> list[dict[str, Any]]:
    """It tells who may what, and hears everything: it looks whether another server is there already."""
    kinds = {
        "publishClientSend": (ADMINISTRATIVE,),
        "publishClientReceive": (ADMINISTRATIVE, "$SYS/#", "#"),
        "subscribePattern": (ADMINISTRATIVE, "$SYS/#", "#"),
        "unsubscribePattern": (ADMINISTRATIVE, "$SYS/#", "#"),
    }
    return [{"acltype": kind, "topic": topic, "allow": True} for kind, topics in kinds.items() for topic in topics]
