# SPDX-License-Identifier: Apache-2.0
"""Makes a systemd service of the settings: looks at this machine, says what would not work, writes the unit file.

It never starts or enables anything: what to type for that is printed.
"""

from __future__ import annotations

import os
import pwd
import re
import shlex
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from thalovant_server.brokers.mosquitto_installed import find_installed
from thalovant_server.errors import SettingsError
from thalovant_server.reachable import first_shut
from thalovant_server.service_unit import MARK, Unit, unit_text
from thalovant_server.settings import Settings, option_name
from thalovant_server.settings_sources import DEFAULT, ReadSettings

NAME = "thalovant-server"
SYSTEM_FOLDER = Path("/etc/systemd/system")
STATE_FOLDER = Path("/var/lib")
DATA = STATE_FOLDER / "thalovant"
FIRST_OPEN_PORT = 1024
_HOMES = (Path("/home"), Path("/root"), Path("/run/user"))
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}\Z")
_CREDENTIALS = {
    "certificate": "certificate.pem",
    "certificate_key": "certificate.key",
    "broker_ca": "broker-ca.pem",  # no secret, and beside one in the directory that `broker init` makes
    "broker_certificate": "broker.pem",
    "broker_certificate_key": "broker.key",
    "broker_password_file": "broker-password",
}


@dataclass(frozen=True, slots=True)
class Wanted:
    """What was asked for besides the settings.

    Args:
        is_users: a unit of the user who types, not of the system.
        run_as: user of a system unit; None has systemd make one up.
        name: of the service.
    """

    is_users: bool = False
    run_as: str | None = None
    name: str = NAME


def default_data(is_users: bool) -> Path:
    """Where a service keeps its files when nothing else is said."""
    if not is_users:
        return DATA
    home = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local/share"
    return Path(home) / NAME


def make_unit(read: ReadSettings, wanted: Wanted) -> str:
    """Return the text of the unit that starts the server with these settings.

    Raises:
        SettingsError: it could not run so on this machine; says what to do instead.
    """
    _check_wanted(read, wanted)
    try:
        return unit_text(_unit(read, wanted))
    except ValueError as error:
        raise SettingsError(str(error)) from error


def unit_folder(is_users: bool) -> Path:
    """Where units of that kind belong."""
    if not is_users:
        return SYSTEM_FOLDER
    home = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(home) / "systemd/user"


def install(text: str, wanted: Wanted, folder: Path) -> bool:
    """Write the unit file; False when it is there with this text already (blocking).

    Raises:
        SettingsError: somebody else's file is in its place, or it cannot be written: has the line to type.
    """
    path = folder / f"{wanted.name}.service"
    try:
        before = path.read_text() if path.exists() else ""
        if before == text:
            return False
        if before and not before.startswith(MARK):
            raise SettingsError(f"{path} is not of this command: move it away, or choose another --name")
        folder.mkdir(parents=True, exist_ok=True)
        scratch = path.with_suffix(".new")
        scratch.write_text(text)
        scratch.chmod(0o644)
        scratch.replace(path)
    except OSError as error:
        raise SettingsError(f"{path} cannot be written ({error.strerror}). Type: {_as_root()}") from error
    return True


def next_lines(read: ReadSettings, wanted: Wanted, *, is_new: bool, path: Path) -> str:
    """Return what to tell whoever installed the service."""
    ctl = f"{_sudo(wanted)}systemctl{' --user' if wanted.is_users else ''}"
    lines = [
        f"{path} is {'written' if is_new else 'as it should be already'}. Next:",
        "",
        f"  {ctl} daemon-reload",
        f"  {ctl} enable --now {wanted.name}",
        f"  journalctl {'--user ' if wanted.is_users else ''}-u {wanted.name}    # its fingerprint and its addresses",
        f"  {_sudo(wanted)}cat {read.settings.data.absolute() / 'admin-password'}",
        "",
        f"{ctl} reload {wanted.name} reads certificates again; restart after an upgrade.",
    ]
    if _credentials(read.settings) and not (wanted.is_users or wanted.run_as):
        lines.append(
            "A renewed certificate, or another password for the broker, is taken at a restart; to have a certificate "
            "taken at once, install with --run-as USER, who may read it"
        )
    if wanted.is_users:
        lines.append("It runs while you are signed in; to let it run always: loginctl enable-linger")
    return "\n".join(lines)


def _unit(read: ReadSettings, wanted: Wanted) -> Unit:
    settings = read.settings
    data = settings.data.absolute()
    is_state = not wanted.is_users and _state_name(data) is not None
    credentials = {} if wanted.is_users or wanted.run_as else _credentials(settings)
    folder = Path.cwd() if settings.agent else None
    return Unit(
        name=wanted.name,
        command=_command(read, credentials),
        stop_seconds=settings.drain_seconds,
        is_users=wanted.is_users,
        run_as=wanted.run_as,
        state=_state_name(data) if is_state else None,
        writable=() if is_state else (data,),
        home=any(_is_in_home(path) for path in (*_read_paths(read, wanted), data)),
        folder=folder,
        low_ports=has_low_port(settings),
        credentials=credentials,
    )


def _command(read: ReadSettings, credentials: Mapping[str, Path]) -> tuple[str, ...]:
    """The command line: what was typed or in the environment as options; what is in a file by that file."""
    words = [sys.executable, "-m", "thalovant_server", "up"]
    if read.file is not None:
        words += ["--config", str(read.file.absolute())]
    for name, origin in read.origins.items():
        option, value = f"--{option_name(name)}", getattr(read.settings, name)
        if _CREDENTIALS.get(name) in credentials:
            words += [option, f"%d/{_CREDENTIALS[name]}"]
        elif origin != DEFAULT and not _is_of_file(origin, read.file):  # a file may be changed later: it stays a file
            for each in value if isinstance(value, tuple) else (value,):
                words += [option, str(each.absolute() if isinstance(each, Path) else each)]
    return tuple(words)


def _is_of_file(origin: str, file: Path | None) -> bool:
    return file is not None and origin.startswith(str(file))


def _credentials(settings: Settings) -> dict[str, Path]:
    """A user that systemd makes up may read nobody's secrets: root hands them over at the start."""
    given = {name: getattr(settings, setting) for setting, name in _CREDENTIALS.items()}
    return {name: path.absolute() for name, path in given.items() if path is not None}


def _check_wanted(read: ReadSettings, wanted: Wanted) -> None:
    settings, data = read.settings, read.settings.data.absolute()
    if not _NAME.match(wanted.name):
        raise SettingsError(f"--name {wanted.name!r} is no name of a service: letters, digits and dashes")
    if settings.api_port == 0 or settings.mqtt_port == 0:
        raise SettingsError("A service keeps its ports: name --api-port and --mqtt-port, not 0")
    if settings.broker is not None and settings.broker_port == 0:
        raise SettingsError("A service keeps its ports: name --broker-port, not 0")
    if wanted.is_users:
        _check_users(settings, wanted)
        return
    user = _check_user(wanted.run_as) if wanted.run_as else None
    if _state_name(data) is None and wanted.run_as is None:
        raise SettingsError(
            f"--data {data} is not below {STATE_FOLDER}, where systemd gives a service a directory of its own: leave "
            f"--data out ({DATA}), or name the user who owns it with --run-as USER"
        )
    _check_reachable(_read_paths(read, wanted), user)
    if settings.ready_file is not None and not settings.ready_file.absolute().is_relative_to(data):
        raise SettingsError(f"A service writes below {data} alone: put the --ready-file there")
    if wanted.run_as and _state_name(data) is None and not data.is_dir():
        line = shlex.join(["sudo", "install", "-d", "-m", "700", "-o", wanted.run_as, str(data)])
        raise SettingsError(f"There is no directory {data} yet, and the service may not make it. Type: {line}")


def _check_users(settings: Settings, wanted: Wanted) -> None:
    if wanted.run_as:
        raise SettingsError("--user is a service of your own: leave --run-as out")
    if has_low_port(settings):
        raise SettingsError(
            f"Ports below {FIRST_OPEN_PORT} are for services of the system: choose others, or leave --user out"
        )


def has_low_port(settings: Settings) -> bool:
    """Whether it listens where only root may, or who has the capability for it."""
    ports = [settings.api_port, settings.mqtt_port]
    ports += [settings.broker_port] if settings.broker is not None else []
    return any(0 < port < FIRST_OPEN_PORT for port in ports)


def _check_user(name: str) -> pwd.struct_passwd:
    try:
        found = pwd.getpwnam(name)
    except KeyError:
        line = shlex.join(["sudo", "useradd", "--system", "--shell", "/usr/sbin/nologin", name])
        raise SettingsError(f"There is no user {name}. Type: {line}") from None
    if found.pw_uid == 0:
        raise SettingsError("The server needs nothing that only root may do: leave --run-as out, or name another user")
    return found


def _check_reachable(paths: Iterable[Path], user: pwd.struct_passwd | None) -> None:
    who = user.pw_name if user else "A user that systemd makes up"
    for path in paths:
        shut = first_shut(path, user)
        if shut is not None:
            raise SettingsError(
                f"{who} cannot read {path}: {shut} is not open to others. Put it where every user may read it (as "
                "below /opt), name its owner with --run-as USER, or make it a service of your own with --user"
            )


def _read_paths(read: ReadSettings, wanted: Wanted) -> list[Path]:
    """What the service reads besides its own directory."""
    settings = read.settings
    paths = [read.file.absolute()] if read.file is not None else []
    paths += [Path(sys.executable), Path(__file__).parent]
    if settings.agent:
        paths.append(Path.cwd())
    if settings.certificate_authority is not None:
        paths.append(settings.certificate_authority.absolute())
    if settings.broker is not None:
        installed = find_installed()
        paths += [installed.program, installed.plugin]
    if wanted.run_as is not None:
        paths += _credentials(settings).values()
    return paths


def _is_in_home(path: Path) -> bool:
    return any(place.is_relative_to(home) for home in _HOMES for place in (path, path.resolve()))


def _state_name(data: Path) -> str | None:
    plain = ".." not in data.parts and data != STATE_FOLDER
    return str(data.relative_to(STATE_FOLDER)) if plain and data.is_relative_to(STATE_FOLDER) else None


def _sudo(wanted: Wanted) -> str:
    return "" if wanted.is_users or os.geteuid() == 0 else "sudo "


def _as_root() -> str:
    return shlex.join(["sudo", sys.executable, "-m", "thalovant_server", *sys.argv[1:]])
