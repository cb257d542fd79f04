# SPDX-License-Identifier: Apache-2.0
"""Where this user's configuration lives (contract 3.6). Names places; it makes and reads none of them."""

from __future__ import annotations

import os
from pathlib import Path


def config_home() -> Path:
    """The folder of our configuration.

    `$XDG_CONFIG_HOME/thalovant`, else `%APPDATA%\\Thalovant` on Windows, else `~/.config/thalovant`.
    """
    chosen = os.environ.get("XDG_CONFIG_HOME", "").strip()
    # The XDG base directory specification: a relative path there is to be ignored.
    if chosen and Path(chosen).is_absolute():
        return Path(chosen) / "thalovant"
    roaming = os.environ.get("APPDATA", "").strip()
    if os.name == "nt" and roaming:
        return Path(roaming) / "Thalovant"
    return Path.home() / ".config" / "thalovant"


def default_config_path() -> Path:
    """The file `ThalovantIdentity.from_config()` reads and `thalovant login` writes."""
    return config_home() / "config.yaml"
