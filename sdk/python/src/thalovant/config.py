# SPDX-License-Identifier: Apache-2.0
"""The login that `thalovant login` leaves behind: the `control_plane` section of the user's config file.

It reads and writes that section and nothing else of the file; the identities' part belongs to profiles.py.
Nothing of a login is ever shown in an error or a `repr`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from thalovant.api_address import normalized_root
from thalovant.config_file import ThalovantConfigError, change_config, read_config
from thalovant.errors import ThalovantAPIError
from thalovant.paths import default_config_path

__all__ = ["SECTION", "Login", "ThalovantConfigError", "read_login", "save_login"]

SECTION = "control_plane"
_OPTIONAL = ("ca_pem", "access_token", "token_id", "email")


@dataclass(frozen=True)
class Login:
    """Where the user is signed in: API root, certificates trusted for it (PEM), token and the token's id."""

    api_url: str
    ca_pem: str | None = None
    access_token: str | None = field(default=None, repr=False)
    token_id: str | None = None
    email: str | None = None


def read_login(path: Path | None = None) -> Login | None:
    """The login in the config file; None when there is no file or no such section.

    Raises ThalovantConfigError when the file is there and cannot be used: open to others, no YAML, no
    address.
    """
    target = path or default_config_path()
    section = read_config(target).get(SECTION)
    if section is None:
        return None
    if not isinstance(section, dict) or not isinstance(section.get("api_url"), str):
        raise ThalovantConfigError(f"The section {SECTION} of {target} has no api_url. Type: thalovant login URL")
    return Login(_address(section["api_url"], target), *(_optional(section, name) for name in _OPTIONAL))


def save_login(login: Login, path: Path | None = None) -> Path:
    """Write the login into the config file (mode 0600); every other line of the file stays as it is.

    Raises ThalovantConfigError when the file cannot be read or written.
    """
    section = {name: value for name in ("api_url", *_OPTIONAL) if (value := getattr(login, name))}
    return change_config(path or default_config_path(), lambda _: [((SECTION,), section)])


def _address(api_url: str, target: Path) -> str:
    try:
        return normalized_root(api_url)
    except ThalovantAPIError as error:
        raise ThalovantConfigError(f"{error} (api_url in {target})") from None


def _optional(section: dict[str, Any], name: str) -> str | None:
    value = section.get(name)
    return value if isinstance(value, str) and value else None
