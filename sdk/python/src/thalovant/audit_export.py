# SPDX-License-Identifier: Apache-2.0
"""Where an export of the audit log goes, and whether all of it came: its last line is the server's signature."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO

from thalovant.errors import ThalovantAPIError
from thalovant.private_files import PrivateFileError, private_file

__all__ = ["AuditExport", "ExportTarget", "export_target"]

ExportTarget = str | Path | IO[bytes]
_LONGEST_LINE = 1 << 20


class AuditExport:
    """Counts the lines of an export as its bytes go by, and keeps the last one."""

    def __init__(self) -> None:
        self._lines = 0
        self._last = b""
        self._rest = b""

    def feed(self, part: bytes) -> None:
        """Take the next bytes. Raises ThalovantAPIError when they are no lines."""
        *whole, self._rest = (self._rest + part).split(b"\n")
        self._lines += len(whole)
        self._last = whole[-1] if whole else self._last
        if len(self._rest) > _LONGEST_LINE:
            raise ThalovantAPIError("The Thalovant API answered the export with something that is no JSON lines.")

    def entries(self) -> int:
        """The number of entries, at the end. Raises ThalovantAPIError when the signature did not come."""
        try:
            last = json.loads(self._last)
        except (ValueError, RecursionError):
            last = None
        if self._rest or not isinstance(last, Mapping) or "signature" not in last:
            raise ThalovantAPIError("The export of the audit log ended before its signature; export it again.")
        return self._lines - 1


@contextlib.contextmanager
def export_target(target: ExportTarget) -> Iterator[IO[bytes]]:
    """What to write to: the stream that was given, or a new file that only its owner may read.

    The file is there once all was written, and not at all when something is raised. Raises ThalovantAPIError with code
    `exists`, `symlink` or `unwritable` for a file that cannot be made.
    """
    if not isinstance(target, (str, Path)):
        yield target
        return
    try:
        with private_file(target) as stream:
            yield stream
    except PrivateFileError as error:
        raise ThalovantAPIError(str(error), code=error.code) from error
