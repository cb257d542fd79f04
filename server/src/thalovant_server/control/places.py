# SPDX-License-Identifier: Apache-2.0
"""Cursors of lists whose rows have no number: they name the last row by the time of its making and its id."""

from __future__ import annotations

import base64
import re
from typing import Protocol

from thalovant_server.errors import ApiError

FIRST = (0, "")
_PLACE = re.compile(r"(0|[1-9][0-9]{0,16}):([A-Za-z0-9-]{1,64})", re.ASCII)


class HasPlace(Protocol):
    """A row that such a cursor can point at."""

    @property
    def created_at(self) -> int:
        """Microseconds since 1970."""

    @property
    def id(self) -> str:
        """What it is called."""


def place_after(row: HasPlace) -> str:
    """Return the cursor of the page that begins after a row."""
    return base64.urlsafe_b64encode(f"{row.created_at}:{row.id}".encode()).decode().rstrip("=")


def place_of(cursor: str | None) -> tuple[int, str]:
    """Return the time and id of the row after which a page begins; `FIRST` for the first page.

    Raises:
        ApiError: 422 `invalid_cursor`, not a cursor of ours.
    """
    if cursor is None:
        return FIRST
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode("ascii")
    except ValueError:
        text = ""
    found = _PLACE.fullmatch(text)
    if found is None:
        raise ApiError(422, "cursor is not one that this server gave out", "invalid_cursor")
    return int(found[1]), found[2]
