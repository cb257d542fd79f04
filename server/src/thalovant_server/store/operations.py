# SPDX-License-Identifier: Apache-2.0
"""Operations as rows: what was accepted and takes longer than its request (contract 1.6).

One begins as ``requested`` and ends once, for good. Decides nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal

from sqlalchemy import delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from thalovant_server.store.rows import record_of, records_of
from thalovant_server.store.tables import operations

Status = Literal["requested", "ready", "failed", "timed_out"]


@dataclass(frozen=True, slots=True)
class OperationRecord:
    """One operation: that an outside broker takes up the ``number``-th credential of a client.

    Times are microseconds since 1970. `owner_id` is the client's; client, hub and credential may be gone. `error_*`:
    of one that failed or took too long. `terminal_at` None: it goes on, until `deadline_at` at the latest.
    """

    id: str
    kind: str
    status: Status
    owner_id: str
    hub_id: str
    client_id: str
    credential_id: int
    number: int
    error_code: str | None
    error_message: str | None
    created_at: int
    updated_at: int
    deadline_at: int
    terminal_at: int | None


@dataclass(frozen=True, slots=True)
class End:
    """How an operation ends; code and sentence are None when it is ready."""

    operation_id: str
    status: Status
    code: str | None = None
    sentence: str | None = None


async def add(connection: AsyncConnection, record: OperationRecord) -> None:
    """Write a new operation."""
    await connection.execute(insert(operations).values(asdict(record)))


async def by_id(connection: AsyncConnection, operation_id: str) -> OperationRecord | None:
    """Return the operation with this id."""
    query = select(operations).where(operations.c.id == operation_id)
    return record_of(OperationRecord, (await connection.execute(query)).first())


async def latest_of(connection: AsyncConnection, credential_id: int) -> OperationRecord | None:
    """Return the newest operation of a credential; none is kept for ever."""
    of_it = select(operations).where(operations.c.credential_id == credential_id)
    query = of_it.order_by(operations.c.created_at.desc(), operations.c.id).limit(1)
    return record_of(OperationRecord, (await connection.execute(query)).first())


async def open_ones(connection: AsyncConnection) -> list[OperationRecord]:
    """Return the operations that go on, oldest first."""
    query = select(operations).where(operations.c.status == "requested").order_by(operations.c.created_at)
    return records_of(OperationRecord, list((await connection.execute(query)).all()))


async def end(connection: AsyncConnection, ends: Sequence[End], now: int) -> None:
    """End operations; one that has ended before stays as it was."""
    for each in ends:
        goes_on = (operations.c.id == each.operation_id, operations.c.status == "requested")
        how = {"status": each.status, "error_code": each.code, "error_message": each.sentence}
        await connection.execute(update(operations).where(*goes_on).values(**how, updated_at=now, terminal_at=now))


async def prune(connection: AsyncConnection, before: int) -> None:
    """Remove the operations that ended before a time."""
    await connection.execute(delete(operations).where(operations.c.terminal_at < before))
