# SPDX-License-Identifier: Apache-2.0
"""The options that several commands have, described once, and how the text of one is read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from thalovant.config_file import ThalovantConfigError
from thalovant.hub_endpoints import DEFAULT_PROTOCOL_PREFERENCE, HubProtocol
from thalovant.paths import default_config_path
from thalovant.profiles import read_profiles

__all__ = [
    "AsJson",
    "Carriers",
    "ConfigFile",
    "IdentityFile",
    "Profile",
    "ProfileName",
    "carrier",
    "config_path",
    "roads",
]


def _profile_names(incomplete: str) -> list[str]:
    """For the shell's completion: of the user's own file, and quietly none when it cannot be read."""
    try:
        return [name for name in read_profiles(default_config_path()).identities if name.startswith(incomplete)]
    except ThalovantConfigError:
        return []


AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, errors too.")]
Carriers = Annotated[
    str | None,
    typer.Option(
        "--protocol",
        help="wss, https or mqtt; or several, like mqtt,wss: the first that gets there.",
        metavar="PROTOCOL",
    ),
]
IdentityFile = Annotated[Path | None, typer.Option("--identity", help="Identity file.", metavar="FILE")]
ConfigFile = Annotated[Path | None, typer.Option("--config", help="Configuration; your own else.", metavar="FILE")]
Profile = Annotated[
    str | None,
    typer.Option("--profile", help="Profile of the configuration.", metavar="NAME", autocompletion=_profile_names),
]
ProfileName = Annotated[
    str, typer.Argument(help="Name of the profile.", metavar="PROFILE", autocompletion=_profile_names)
]


def config_path(named: Path | None) -> Path:
    """The configuration that was named, else the user's own."""
    return default_config_path() if named is None else named.expanduser()


def roads(names: str | None) -> dict[str, Any]:
    """Read the names of carriers, with commas between, as the client's option `protocol` or `protocols`."""
    if names is None:
        return {}
    several = [carrier(name) for name in names.split(",")]
    return {"protocols": several} if len(several) > 1 else {"protocol": several[0]}


def carrier(name: str) -> HubProtocol:
    """Read the name of a carrier, in any case."""
    for known in DEFAULT_PROTOCOL_PREFERENCE:
        if name.strip().lower() == known:
            return known
    raise typer.BadParameter(f"{name!r} is no carrier; there are {', '.join(DEFAULT_PROTOCOL_PREFERENCE)}")
