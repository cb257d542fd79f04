# SPDX-License-Identifier: Apache-2.0
"""The ready file: how the server is reached, there exactly while everything accepts.

A program that waits for it never reads half of it, and never the addresses of a server that has stopped.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import orjson

from thalovant_server.errors import SettingsError


class ReadyFile:
    """One file, or none when ``path`` is None. Whoever owns the data directory withdraws what an earlier start left."""

    def __init__(self, path: Path | None) -> None:
        self._path = path

    def publish(self, ready: Mapping[str, str]) -> None:
        """Write the file, 0600 and whole.

        Raises:
            SettingsError: it cannot be written.
        """
        if self._path is None:
            return
        scratch = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        try:
            scratch.touch(mode=0o600)
            scratch.write_bytes(orjson.dumps(dict(ready), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
            scratch.replace(self._path)
        except OSError as error:
            raise self._unusable(error) from error

    def withdraw(self) -> None:
        """Remove the file, if it is there.

        Raises:
            SettingsError: what stands in its place cannot be removed.
        """
        if self._path is None:
            return
        try:
            self._path.unlink(missing_ok=True)
        except OSError as error:
            raise self._unusable(error) from error

    def _unusable(self, error: OSError) -> SettingsError:
        return SettingsError(
            f"The ready file {self._path} cannot be written: {error.strerror}. Name another --ready-file"
        )
