# SPDX-License-Identifier: Apache-2.0
"""What is kept of who was online, so that a restart does not forget it. Never acknowledged to anybody."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from sqlalchemy import select
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from thalovant_server.store.rows import records_of
from thalovant_server.store.tables import clients, presence


@dataclass(frozen=True, slots=True)
class PresenceRow:
    """How one client was when it was written last; `state` is ``online`` or ``offline``."""

    client_id: str
    state: str
    since: int
    last_seen_at: int
    carrier: str | None
    address: str | None
    why: str | None


@dataclass(frozen=True, slots=True)
class LastPresence:
    """A client, and how it was when it was written last; `state` is None when it never was."""

    client_id: str
    hub_id: str
    name: str
    active: bool
    state: str | None
    since: int | None
    last_seen_at: int | None
    carrier: str | None
    address: str | None
    why: str | None


async def of_every_client(connection: AsyncConnection) -> list[LastPresence]:
    """Return every client with what is kept of it."""
    kept = [column for column in presence.c if column.name != "client_id"]
    query = select(clients.c.id.label("client_id"), clients.c.hub_id, clients.c.name, clients.c.active, *kept)
    rows = await connection.execute(query.outerjoin_from(clients, presence))
    return records_of(LastPresence, list(rows.all()))


async def put(connection: AsyncConnection, rows: Sequence[PresenceRow]) -> None:
    """Keep these in place of what was kept of their clients; those of clients that are gone are left out."""
    wanted = [row.client_id for row in rows]
    there = set((await connection.execute(select(clients.c.id).where(clients.c.id.in_(wanted)))).scalars())
    values = [asdict(row) for row in rows if row.client_id in there]
    if values:
        statement = insert(presence)
        changed = {column.name: statement.excluded[column.name] for column in presence.c if not column.primary_key}
        await connection.execute(statement.on_conflict_do_update(index_elements=["client_id"], set_=changed), values)
