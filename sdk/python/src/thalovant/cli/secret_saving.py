# SPDX-License-Identifier: Apache-2.0
"""Where a command keeps a secret that the server tells only once: a new file (mode 0600), there before it is made."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from thalovant.cli.errors import CommandError
from thalovant.private_files import PrivateFileError, private_file

__all__ = ["kept_in"]


def kept_in(out: Path, name: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Call `make`, write what its answer has under `name` into a new file, and return the answer.

    No file is left when `make` fails. Raises CommandError, before anything is made, for a file that cannot be.
    """
    try:
        with private_file(out) as stream:
            made = make()
            stream.write(f"{made[name]}\n".encode())
    except PrivateFileError as error:
        raise CommandError(str(error), code=error.code) from error
    return made
