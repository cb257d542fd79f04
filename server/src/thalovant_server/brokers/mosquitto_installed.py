# SPDX-License-Identifier: Apache-2.0
"""Where Mosquitto is on this machine: the broker, and its dynamic-security plugin. Starts nothing."""

from __future__ import annotations

import os
import platform
import shutil
from dataclasses import dataclass
from pathlib import Path

from thalovant_server.errors import SettingsError

PLUGIN = "mosquitto_dynamic_security.so"
INSTALL = (
    "apt-get install mosquitto (Debian, Ubuntu), dnf install mosquitto (Fedora), brew install mosquitto (macOS). "
    "Debian's package also starts a broker of its own on port 1883: systemctl disable --now mosquitto"
)
_PLUGIN_FOLDERS = ("/usr/lib", "/usr/lib64", "/usr/local/lib", "/opt/homebrew/lib", "/opt/local/lib")
_PROGRAM_FOLDERS = ("/usr/sbin", "/usr/local/sbin", "/opt/homebrew/sbin", "/opt/local/sbin")


@dataclass(frozen=True, slots=True)
class Installed:
    """Where Mosquitto is on this machine."""

    program: Path
    plugin: Path


def find_installed(program: str | None = None) -> Installed:
    """Find Mosquitto and its plugin: ``program``, or what is on the PATH or where systems put such programs.

    Raises:
        SettingsError: one of them is not there; says how to install it.
    """
    path = os.pathsep.join([os.environ.get("PATH", ""), *_PROGRAM_FOLDERS])
    found = program or shutil.which("mosquitto", path=path)
    if found is None:
        raise SettingsError(f"Mosquitto is not installed. Type: {INSTALL}")
    plugin = _find_plugin(Path(found))
    if plugin is None:
        raise SettingsError(
            f"{found} is there, and its dynamic-security plugin ({PLUGIN}) is not: install Mosquitto 2.0 or newer"
        )
    return Installed(Path(found), plugin)


def usual_plugin() -> Path:
    """Where the plugin is on Debian with this machine's processor: a guess for a machine that has none yet."""
    return Path(f"/usr/lib/{platform.machine() or 'x86_64'}-linux-gnu") / PLUGIN


def _find_plugin(program: Path) -> Path | None:
    beside = program.resolve().parent.parent / "lib"
    for folder in (beside, *map(Path, _PLUGIN_FOLDERS)):
        for candidate in (folder / PLUGIN, *sorted(folder.glob(f"*/{PLUGIN}"))):
            if candidate.exists():
                return candidate
    return None
