# SPDX-License-Identifier: Apache-2.0
"""The systemd unit as text (systemd.service(5), systemd.exec(5)). Writes no file and asks nobody.

A system unit is shut in as far as a server of this kind can be: it sees no home, writes to its own directory only,
has no capability (one, for ports below 1024), and the kernel refuses it what it has no use for.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

MARK = "# Written by `thalovant-server install-service`."
OPEN_FILES = 65536  # two ports of 20,000 connections, and room
STOP_GRACE_SECONDS = 20  # after the asks under way are drained: to close what is open
_PLAIN = re.compile(r"[A-Za-z0-9_./:=,@+\-\[\]]+\Z")

# What works without root's help, and so in a user's unit, too.
_SHUT_IN = """\
NoNewPrivileges=yes
UMask=0077
LockPersonality=yes
MemoryDenyWriteExecute=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
SystemCallErrorNumber=EPERM"""

_SHUT_IN_BY_ROOT = """\
ProtectSystem=strict
PrivateMounts=yes
PrivateTmp=yes
PrivateDevices=yes
DevicePolicy=closed
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
ProcSubset=pid
RemoveIPC=yes"""


@dataclass(frozen=True, slots=True)
class Unit:
    """What a unit is made from.

    Args:
        name: of the service, without `.service`.
        command: words of the command line; `%d` in one is the directory of `credentials`.
        stop_seconds: how long the asks under way may take at a stop.
        is_users: a user's unit: run by that user's own service manager.
        run_as: the user of a system unit; None has systemd make one up that exists while the service runs.
        state: name below /var/lib that belongs to the service; None for a directory elsewhere.
        writable: directories besides that one that it writes to.
        home: whether it reads something below a home directory.
        folder: where it runs; None for the root directory.
        low_ports: whether it listens on a port below 1024.
        credentials: files that root reads for it at the start, by name.
    """

    name: str
    command: tuple[str, ...]
    stop_seconds: float
    is_users: bool = False
    run_as: str | None = None
    state: str | None = None
    writable: tuple[Path, ...] = ()
    home: bool = False
    folder: Path | None = None
    low_ports: bool = False
    credentials: dict[str, Path] = field(default_factory=dict)


def unit_text(unit: Unit) -> str:
    """Return the unit file.

    Raises:
        ValueError: a word of the command cannot be written in a unit file.
    """
    target = "default.target" if unit.is_users else "multi-user.target"
    parts = [
        [f"{MARK} Your own changes: systemctl {'--user ' if unit.is_users else ''}edit {unit.name}"],
        _about(unit),
        ["[Service]", *_how_it_runs(unit)],
        [f"# {line}" for line in _ADVICE],
        _SHUT_IN.splitlines(),
        [] if unit.is_users else [*_SHUT_IN_BY_ROOT.splitlines(), *_of_this_one(unit)],
        ["[Install]", f"WantedBy={target}"],
    ]
    return "\n\n".join("\n".join(part) for part in parts if part) + "\n"


_ADVICE = (
    "An agent that is stopped by one of these may have it back: for one that compiles while it runs,",
    "MemoryDenyWriteExecute=no; for one that writes elsewhere, ReadWritePaths=; by systemctl edit.",
)


def _about(unit: Unit) -> list[str]:
    lines = ["[Unit]", "Description=Thalovant server: hubs over MQTT, WebSocket and HTTPS"]
    if not unit.is_users:  # a user's manager knows nothing of the network
        lines += ["Wants=network-online.target", "After=network-online.target"]
    return lines


def _how_it_runs(unit: Unit) -> list[str]:
    lines = [
        "Type=notify",
        "NotifyAccess=main",
        f"ExecStart={' '.join(quoted(word) for word in unit.command)}",
        "ExecReload=/bin/kill -HUP $MAINPID",
        "Restart=on-failure",
        "RestartSec=2",
        "KillMode=mixed",
        f"TimeoutStopSec={round(unit.stop_seconds) + STOP_GRACE_SECONDS}",
        f"LimitNOFILE={OPEN_FILES}",
    ]
    if unit.folder is not None:
        lines.append(f"WorkingDirectory={path_text(unit.folder)}")
    return lines


def _of_this_one(unit: Unit) -> list[str]:
    """What depends on where it keeps its files, who it is and which ports it has."""
    capability = "CAP_NET_BIND_SERVICE" if unit.low_ports else ""
    return [
        f"User={unit.run_as}" if unit.run_as else "DynamicUser=yes",
        *([f"StateDirectory={path_text(Path(unit.state))}", "StateDirectoryMode=0700"] if unit.state else []),
        *_lists("ReadWritePaths", map(path_text, unit.writable)),
        *_lists("LoadCredential", (f"{name}:{path_text(path)}" for name, path in unit.credentials.items())),
        f"ProtectHome={'read-only' if unit.home else 'yes'}",
        f"CapabilityBoundingSet={capability}",
        f"AmbientCapabilities={capability}",
        # A capability would be one of the unit's own user namespace only.
        *([] if unit.low_ports else ["PrivateUsers=yes"]),
    ]


def _lists(key: str, values: Iterable[str]) -> list[str]:
    return [f"{key}={value}" for value in values]


def quoted(word: str) -> str:
    """Return a word of a command line as a unit file has it (systemd.service(5), "Command lines").

    Raises:
        ValueError: it holds a control character.
    """
    _check(word)
    if word.startswith("%d/"):
        return f"%d/{quoted(word.removeprefix('%d/'))}"
    text = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return text if _PLAIN.match(text) else f'"{text}"'


def path_text(path: Path) -> str:
    """Return a path as a setting that takes one has it: nothing but `%` is special there.

    Raises:
        ValueError: it holds what such a setting cannot hold.
    """
    text = str(path)
    _check(text)
    if re.search(r"[\s\"'\\:]", text):
        raise ValueError(f"{text!r} cannot be named in a unit file: move it to a path of plain letters")
    return text.replace("%", "%%")


def _check(text: str) -> None:
    if not text or any(ord(each) < 32 or ord(each) == 127 for each in text):
        raise ValueError(f"{text!r} cannot be written in a unit file: leave out what is no letter")
