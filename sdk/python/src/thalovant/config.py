# SPDX-License-Identifier: Apache-2.0
"""The login that `thalovant login` leaves behind: the `control_plane` section of the user's config file.

It reads and writes that section and nothing else of the file; the identity's part belongs to identity.py.
Nothing of a login is ever shown in an error or a `repr`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from thalovant.api_address import normalized_root
from thalovant.errors import ThalovantAPIError, ThalovantError
from thalovant.paths import default_config_path
from thalovant.private_files import PrivateFileError, make_private_folder, read_private_text, write_private_text

SECTION = "control_plane"
_OPTIONAL = ("ca_pem", "access_token", "token_id", "email")
_SECTION_LINES = re.compile(rf"^{SECTION}:.*\n?(?:(?:[ \t].*|[ \t]*)(?:\n|\Z))*", re.MULTILINE)


class ThalovantConfigError(ThalovantError):
    """The user's configuration file cannot be read or written."""

    code = "config_invalid"


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
    section = _parsed(_text(target), target).get(SECTION)
    if section is None:
        return None
    if not isinstance(section, dict) or not isinstance(section.get("api_url"), str):
        raise ThalovantConfigError(f"The section {SECTION} of {target} has no api_url. Type: thalovant login URL")
    return Login(_address(section["api_url"], target), *(_optional(section, name) for name in _OPTIONAL))


def save_login(login: Login, path: Path | None = None) -> Path:
    """Write the login into the config file (mode 0600); every other line of the file stays as it is.

    Raises ThalovantConfigError when the file cannot be read or written.
    """
    target = path or default_config_path()
    text = _text(target)
    before = _parsed(text, target)
    section = {name: value for name in ("api_url", *_OPTIONAL) if (value := getattr(login, name))}
    written = _with_section(text, before, section)
    try:
        make_private_folder(target.parent)
        return write_private_text(target, written, overwrite=True)
    except PrivateFileError as error:
        raise ThalovantConfigError(f"The login was not saved: {error}") from error


def _address(api_url: str, target: Path) -> str:
    try:
        return normalized_root(api_url)
    except ThalovantAPIError as error:
        raise ThalovantConfigError(f"{error} (api_url in {target})") from None


def _optional(section: dict[str, Any], name: str) -> str | None:
    value = section.get(name)
    return value if isinstance(value, str) and value else None


def _text(target: Path) -> str:
    try:
        return read_private_text(target)
    except PrivateFileError as error:
        if error.code == "missing":
            return ""
        raise ThalovantConfigError(str(error)) from error


def _parsed(text: str, target: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError):
        # `from None`: the parser's error quotes the file.
        raise ThalovantConfigError(f"The configuration {target} is not YAML.") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ThalovantConfigError(f"The configuration {target} does not hold a mapping.")
    return values


def _with_section(text: str, before: dict[str, Any], section: dict[str, str]) -> str:
    """`text` with the section put in; comments and order of the rest are kept where that is safe."""
    rest = {name: value for name, value in before.items() if name != SECTION}
    added = yaml.safe_dump({SECTION: section}, sort_keys=False, allow_unicode=True)
    kept = _SECTION_LINES.sub("", text)
    edited = kept + ("" if not kept or kept.endswith("\n") else "\n") + added
    try:
        safe = yaml.safe_load(edited) == {**rest, SECTION: section}
    except yaml.YAMLError:
        safe = False
    return edited if safe else yaml.safe_dump({**rest, SECTION: section}, sort_keys=False, allow_unicode=True)
