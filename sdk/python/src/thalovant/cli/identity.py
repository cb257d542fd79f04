# SPDX-License-Identifier: Apache-2.0
"""Which identity a command uses when it may be named in several places; the first of these that says one:

1. `--identity FILE`
2. `--profile NAME`, `--config FILE`, or both
3. the environment: THALOVANT_IDENTITY (a file), THALOVANT_PROFILE (a name), THALOVANT_ACCESS_KEY (with the others
   that `thalovant config env` prints)
4. the only file `*.identity.json` in this directory
5. the profile in use of the user's own configuration

Where none does, the error says where it looked and what to type.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import typer

from thalovant.api_discovery import LOCAL_URL
from thalovant.cli.errors import CommandError
from thalovant.config import Login, ThalovantConfigError, read_login
from thalovant.errors import ThalovantIdentityError
from thalovant.identity import ThalovantIdentity
from thalovant.paths import default_config_path
from thalovant.profiles import read_profiles

__all__ = ["ORDER", "SUFFIX", "IdentityPlace", "chosen_identity", "chosen_place"]

SUFFIX = ".identity.json"

ORDER = (
    "The identity is the first of: --identity; --profile or --config; THALOVANT_IDENTITY, THALOVANT_PROFILE or "
    f"THALOVANT_ACCESS_KEY in the environment; the only *{SUFFIX} in this directory; the profile in use."
)


@dataclass(frozen=True)
class IdentityPlace:
    """Where an identity is kept: a file, or a profile of a configuration (None: the one in use, of the user's own)."""

    file: Path | None = None
    profile: str | None = None
    config: Path | None = None

    def read(self) -> ThalovantIdentity:
        """Read it. Raises CommandError when there is none, ThalovantIdentityError when it cannot be read."""
        if self.file is not None:
            return ThalovantIdentity.from_file(self.file)
        if self.profile is None and self.config is None:
            return _configured()
        return ThalovantIdentity.from_config(self.config, profile=self.profile)


def chosen_identity(
    file: Path | None = None, profile: str | None = None, config: Path | None = None
) -> ThalovantIdentity:
    """Return the identity that was named, or else is to be found.

    Raises `typer.BadParameter` for two names at once, CommandError when none or several are found, and
    ThalovantIdentityError when the one that is meant cannot be read.
    """
    place = chosen_place(file, profile, config)
    return ThalovantIdentity.from_env() if place is None else place.read()


def chosen_place(
    file: Path | None = None, profile: str | None = None, config: Path | None = None
) -> IdentityPlace | None:
    """Return where the identity is that was named, or else is to be found; None: the variables hold all of it.

    Raises `typer.BadParameter` for two names at once and CommandError when several are found.
    """
    if file is not None and (profile is not None or config is not None):
        raise typer.BadParameter("give --identity or --profile (with --config), not both")
    if file is not None or profile is not None or config is not None:
        return IdentityPlace(file, profile, config)
    if variable := os.environ.get("THALOVANT_IDENTITY", "").strip():
        return IdentityPlace(file=Path(variable))
    if variable := os.environ.get("THALOVANT_PROFILE", "").strip():
        return IdentityPlace(profile=variable)
    if os.environ.get("THALOVANT_ACCESS_KEY", "").strip():
        return None
    return IdentityPlace(file=_of_this_directory())


def _of_this_directory() -> Path | None:
    here = sorted(Path.cwd().glob(f"*{SUFFIX}"))
    if len(here) > 1:
        names = ", ".join(path.name for path in here)
        raise CommandError(f"Say which identity with --identity; here are: {names}.", code="which_identity")
    return here[0] if here else None


def _configured() -> ThalovantIdentity:
    try:
        return ThalovantIdentity.from_config()
    except ThalovantIdentityError as error:
        raise CommandError(
            "Found no identity. Looked at: --identity, --profile (not given); THALOVANT_IDENTITY, THALOVANT_PROFILE, "
            f"THALOVANT_ACCESS_KEY (not set); *{SUFFIX} in {Path.cwd()} (none); {_said_of_config(error)}. "
            f"Type: {_way_out()}",
            code="no_identity",
        ) from error


def _said_of_config(error: ThalovantIdentityError) -> str:
    path = default_config_path()
    if not path.exists():
        return f"{path} (no such file)"
    if _profiles():
        return f"{path} (no profile in use)"
    missing = str(error).startswith("Missing required identity field")
    return (
        f"{path} (holds {'a login' if _login() else 'settings'} but no identity)" if missing else str(error).rstrip(".")
    )


def _way_out() -> str:
    if names := _profiles():
        return f"thalovant config use NAME (there are: {', '.join(names)})"
    create = "thalovant identity create --name NAME"
    if _login() or os.environ.get("THALOVANT_API_TOKEN"):
        return create
    return f"thalovant login {LOCAL_URL} --ca DIR/ca.pem (DIR: the server's data directory), then {create}"


def _login() -> Login | None:
    """The login that is kept; a configuration that cannot be read is told of elsewhere."""
    try:
        return read_login()
    except ThalovantConfigError:
        return None


def _profiles() -> list[str]:
    """The profiles to choose from, when none is in use."""
    try:
        found = read_profiles(default_config_path())
    except ThalovantConfigError:
        return []
    return [] if found.in_use else sorted(found.identities)
