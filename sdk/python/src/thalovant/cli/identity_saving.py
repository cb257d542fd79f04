# SPDX-License-Identifier: Apache-2.0
"""Where a command keeps a new identity: a file of its own (0600) or a profile. Looked at before anything is made."""

from __future__ import annotations

import os
import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from thalovant.cli.errors import CommandError
from thalovant.cli.identity import SUFFIX
from thalovant.cli.options import config_path
from thalovant.identity import ThalovantIdentity
from thalovant.profiles import read_profiles

__all__ = ["Keeping", "file_for", "usable_carriers"]


def file_for(name: str) -> Path:
    """The file, in this directory, of a client with that name."""
    return Path(re.sub(r"[^\w.-]+", "-", name).strip("-.") + SUFFIX)


def usable_carriers(identity: ThalovantIdentity) -> list[str]:
    """The carriers that an identity can connect over."""
    return [one for one in identity.enabled_protocols() if one != "mqtt" or identity.mqtt is not None]


@dataclass(frozen=True)
class Keeping:
    """A file, or a profile of a configuration."""

    file: Path
    profile: str | None
    config: Path | None

    @classmethod
    def chosen(cls, out: Path | None, default: Path, profile: str | None, config: Path | None) -> Keeping:
        """Return where to keep it. Raises `typer.BadParameter` for two places, CommandError for one that is taken."""
        if out is not None and profile is not None:
            raise typer.BadParameter("give --out or --profile, not both")
        keeping = cls(default if out is None else out.expanduser(), profile, config)
        keeping._refuse_taken()
        return keeping

    def save(self, identity: ThalovantIdentity) -> None:
        """Write the identity; nothing that is there already is overwritten."""
        if self.profile is None:
            identity.save(self.file)
        else:
            identity.save_to_config(self.config, profile=self.profile)

    @property
    def place(self) -> str:
        """The place in words."""
        return f"the profile {self.profile}" if self.profile else str(self.file)

    @property
    def options(self) -> str:
        """The options that name it, ready to type."""
        words = ["--profile", self.profile] if self.profile else ["--identity", str(self.file)]
        return shlex.join([*words, *(["--config", str(self.config)] if self.profile and self.config else [])])

    def as_dict(self) -> dict[str, Any]:
        """The place for programs."""
        if self.profile is None:
            return {"file": str(self.file)}
        return {"profile": self.profile, "config": str(config_path(self.config))}

    def _refuse_taken(self) -> None:
        if self.profile is not None:
            if self.profile in read_profiles(config_path(self.config)).identities:
                raise CommandError(f"There is a profile {self.profile!r} already; choose another name.", code="exists")
        elif self.file.exists() or self.file.is_symlink():
            raise CommandError(f"{self.file} exists already; choose another --out (or --name).", code="exists")
        elif not os.access(self.file.parent, os.W_OK | os.X_OK):
            raise CommandError(
                f"{self.file} cannot be made: nobody may write in {self.file.parent}.", code="unwritable"
            )
