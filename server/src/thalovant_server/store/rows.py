# SPDX-License-Identifier: Apache-2.0
"""From a row of the database to a frozen record, and where a page of rows begins. Queries nothing."""

from __future__ import annotations

from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Row, Table

Record = TypeVar("Record")


def record_of(kind: type[Record], row: Row[Any] | None) -> Record | None:
    """Return the row as a record whose fields are named as the columns; None stays None."""
    return None if row is None else kind(**row._asdict())


def records_of(kind: type[Record], rows: list[Row[Any]]) -> list[Record]:
    """Return each row as a record whose fields are named as the columns."""
    return [kind(**row._asdict()) for row in rows]


def is_after(table: Table, created_at: int, row_id: str) -> ColumnElement[bool]:
    """Return the condition on rows, ordered by time of making and id, to come after this one."""
    made = table.c.created_at
    return (made > created_at) | ((made == created_at) & (table.c.id > row_id))
