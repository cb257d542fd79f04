# SPDX-License-Identifier: Apache-2.0
"""The user's configuration file: read, and changed by one program at a time, place by place.

It knows YAML and the file; what a login or a profile is, its callers know. Nothing of the file's content is ever
shown in an error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import yaml

from thalovant.errors import ThalovantError
from thalovant.private_files import (
    PrivateFileError,
    exclusively,
    make_private_folder,
    read_private_text,
    write_private_text,
)
from thalovant.yaml_text import Place, edited

__all__ = ["Edit", "ThalovantConfigError", "change_config", "read_config"]

Edit = tuple[Place, Any]
"""A place of the file and its new value, or `yaml_text.REMOVED`."""


class ThalovantConfigError(ThalovantError):
    """The user's configuration file cannot be read or written."""

    code = "config_invalid"


def read_config(target: Path, *, required: bool = False) -> dict[Any, Any]:
    """Return what the file holds; nothing when there is no file, unless that is `required`.

    Raises ThalovantConfigError: missing, open to others, not YAML, no mapping.
    """
    return _parsed(_text(target, required=required), target)


def change_config(target: Path, change: Callable[[dict[Any, Any]], Iterable[Edit]]) -> Path:
    """Hand what the file holds to `change` and carry out the edits that it returns; return the file's path.

    Of several programs one at a time reads and writes, so none loses what another wrote. The file (mode 0600) is
    written whole or not at all; what no edit names stays as it is. Raises ThalovantConfigError as `read_config`,
    also when the file cannot be written, and whatever `change` raises.
    """
    try:
        make_private_folder(target.parent)
        with exclusively(target.with_name(f".{target.name}.lock")):
            text = _text(target)
            written = _with_edits(text, change(_parsed(text, target)), target)
            return target if written == text else write_private_text(target, written, overwrite=True)
    except PrivateFileError as error:
        raise ThalovantConfigError(f"The configuration was not saved: {error}") from error


def _with_edits(text: str, edits: Iterable[Edit], target: Path) -> str:
    try:
        for place, value in edits:
            text = edited(text, place, value)
    except (yaml.YAMLError, RecursionError):
        raise ThalovantConfigError(f"The configuration {target} is too unusual to be changed; edit it.") from None
    return text


def _text(target: Path, *, required: bool = False) -> str:
    try:
        return read_private_text(target)
    except PrivateFileError as error:
        if error.code == "missing" and not required:
            return ""
        raise ThalovantConfigError(str(error)) from error


def _parsed(text: str, target: Path) -> dict[Any, Any]:
    try:
        values = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError):
        # `from None`: the parser's error quotes the file. (ValueError: a date that is none.)
        raise ThalovantConfigError(f"The configuration {target} is not YAML.") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ThalovantConfigError(f"The configuration {target} does not hold a mapping.")
    return values
