# SPDX-License-Identifier: Apache-2.0
"""Every row of a list that the control plane gives page by page (contract 1.6)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

__all__ = ["every_row"]


def every_row(page_after: Callable[[str | None], dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield the rows of the page after each cursor; the first has none."""
    cursor: str | None = None
    while True:
        page = page_after(cursor)
        rows, meta = page.get("data"), page.get("meta")
        yield from (row for row in rows if isinstance(row, dict)) if isinstance(rows, list) else ()
        following = meta.get("next") if isinstance(meta, dict) else None
        if not isinstance(following, str) or following == cursor:
            return
        cursor = following
