# SPDX-License-Identifier: Apache-2.0
"""From a row of the database to a frozen record. Queries nothing."""

from __future__ import annotations

from typing import Any, TypeVar

from sqlalchemy import Row

Record = TypeVar("Record")


def record_of(kind: type[Record], row: Row[Any] | None) -> Record | None:
    """Return the row as a record whose fields are named as the columns; None stays None."""
    return None if row is None else kind(**row._asdict())


def records_of(kind: type[Record], rows: list[Row[Any]]) -> list[Record]:
    """Return each row as a record whose fields are named as the columns."""
    return [kind(**row._asdict()) for row in rows]
