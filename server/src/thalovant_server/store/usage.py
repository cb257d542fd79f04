# SPDX-License-Identifier: Apache-2.0
"""How many asks each client made on its last day, as rows: written in batches, read at start. Counts nothing."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import select
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from thalovant_server.store.tables import clients, quota_usage


async def of_day(connection: AsyncConnection, day: int) -> dict[str, int]:
    """Return the asks of a day, in days since 1970, by client."""
    query = select(quota_usage.c.client_id, quota_usage.c.used).where(quota_usage.c.day == day)
    return {row.client_id: row.used for row in await connection.execute(query)}


async def keep(connection: AsyncConnection, day: int, used: Mapping[str, int]) -> None:
    """Write the asks of a day in place of what there was; clients that are gone are left out."""
    living = await connection.execute(select(clients.c.id).where(clients.c.id.in_(list(used))))
    rows = [{"client_id": client_id, "day": day, "used": used[client_id]} for client_id in living.scalars()]
    if rows:
        new = insert(quota_usage)
        values = {"day": new.excluded.day, "used": new.excluded.used}
        await connection.execute(new.on_conflict_do_update(index_elements=["client_id"], set_=values), rows)
