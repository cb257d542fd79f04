# SPDX-License-Identifier: Apache-2.0
"""The shape of every answer: JSON objects, pages, times and etags (contract 1.4 and 1.6). Decides nothing."""

from __future__ import annotations

import base64
import datetime
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar
from urllib.parse import urlencode

import orjson
from fastapi import Response

from thalovant_server.errors import ApiError

MOST_ROWS = 1000
HEADERS = {"cache-control": "no-store", "x-content-type-options": "nosniff"}

_CURSOR = re.compile(r"[1-9][0-9]{0,17}", re.ASCII)


_log = logging.getLogger(__name__)


class Json(Response):
    """A JSON object, never kept by a cache: some answers hold secrets."""

    media_type = "application/json"

    def __init__(self, content: Mapping[str, Any] | bytes, status_code: int = 200) -> None:
        super().__init__(content, status_code, headers=HEADERS)

    def render(self, content: Any) -> bytes:
        """Return the body; bytes are JSON already."""
        return content if isinstance(content, bytes) else orjson.dumps(content)


class HasId(Protocol):
    """A row of a list."""

    @property
    def id(self) -> str:
        """What it is called in the log."""


Row = TypeVar("Row", bound=HasId)


def _after_seq(row: Any) -> str:
    return cursor_after(row.seq)


def page(
    rows: Sequence[Row],
    limit: int,
    present: Callable[[Row], dict[str, Any]],
    path: str,
    filters: Mapping[str, str | None],
    cursor_of: Callable[[Row], str] = _after_seq,
) -> Json:
    """Return one page of ``rows``, which holds one more than ``limit`` when another page follows.

    A row that cannot be shown is left out, with an error in the log: it must not hide the others.
    """
    shown = rows[:limit]
    following = cursor_of(shown[-1]) if len(rows) > limit else None
    data = [written for written in (_written(row, present) for row in shown) if written is not None]
    link = None
    if following is not None:
        query = {"limit": limit, **{key: value for key, value in filters.items() if value}, "cursor": following}
        link = f"{path}?{urlencode(query)}"
    return Json({"data": data, "meta": {"count": len(data), "next": following}, "links": {"next": link}})


def _written(row: Row, present: Callable[[Row], dict[str, Any]]) -> orjson.Fragment | None:
    try:
        return orjson.Fragment(orjson.dumps(present(row)))
    except (TypeError, ValueError, LookupError, AttributeError) as error:
        _log.error("%s cannot be shown and is left out of lists: %s", row.id, type(error).__name__)
        return None


def rows_on_a_page(limit: int) -> int:
    """Return how many rows a page may have when ``limit`` were asked for."""
    return min(limit, MOST_ROWS)


def cursor_after(seq: int) -> str:
    """Return the cursor of the page that begins after a row."""
    return base64.urlsafe_b64encode(str(seq).encode()).decode().rstrip("=")


def seq_of(cursor: str | None) -> int:
    """Return the row after which a page begins, 0 for the first page.

    Raises:
        ApiError: 422, not a cursor of ours.
    """
    if cursor is None:
        return 0
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode("ascii")
    except ValueError:
        text = ""
    if not _CURSOR.fullmatch(text) or cursor_after(int(text)) != cursor:
        raise ApiError(422, "cursor is not one that this server gave out", "invalid_cursor")
    return int(text)


def time_text(microseconds: int) -> str:
    """Return a stored time in ISO 8601, UTC, with milliseconds."""
    moment = datetime.datetime.fromtimestamp(microseconds / 1_000_000, datetime.UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def etag(revision: int) -> str:
    """Return the etag of a resource's revision."""
    return f'W/"{revision}"'


def check_etag(if_match: str | None, revision: int) -> None:
    """Let a change pass that was made of the present revision.

    Raises:
        ApiError: 412, `If-Match` is missing or names another revision.
    """
    if if_match is None:
        raise ApiError(412, "ETag mismatch: none was sent. Send the resource's etag as If-Match", "etag_mismatch")
    if if_match != etag(revision):
        said = "ETag mismatch: this is not the present one. Read the resource again, and repeat with its new etag"
        raise ApiError(412, said, "etag_mismatch")
