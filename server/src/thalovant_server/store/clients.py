# SPDX-License-Identifier: Apache-2.0
"""Clients as rows: what outlives a credential (architecture decision 4). Holds no secret."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from thalovant_server.store.rows import record_of, records_of
from thalovant_server.store.tables import clients, hubs


@dataclass(frozen=True, slots=True)
class ClientRecord:
    """One client. `spec` is what its maker sent, without secrets; `revision` is its etag."""

    seq: int
    id: str
    hub_id: str
    owner_id: str
    name: str
    site_id: str
    active: bool
    spec: dict[str, Any]
    credentials_made: int
    revision: int
    created_at: int
    updated_at: int


async def add(connection: AsyncConnection, values: Mapping[str, Any]) -> ClientRecord:
    """Write a new client, with every field of the record but `seq`; return it."""
    result = await connection.execute(insert(clients).values(dict(values)).returning(clients))
    return ClientRecord(**result.one()._asdict())


async def by_id(connection: AsyncConnection, client_id: str) -> ClientRecord | None:
    """Return the client with this id."""
    query = select(clients).where(clients.c.id == client_id)
    return record_of(ClientRecord, (await connection.execute(query)).first())


async def page(
    connection: AsyncConnection,
    *,
    after: int,
    limit: int,
    hub_id: str | None = None,
    owner_id: str | None = None,
    visible_to: str | None = None,
    only_hubs: Collection[str] | None = None,
) -> list[ClientRecord]:
    """Return up to ``limit`` clients with a `seq` above ``after``, oldest first.

    Args:
        connection: to read with.
        after: the last `seq` of the page before, 0 for the first page.
        limit: how many at most.
        hub_id: only clients of this hub.
        owner_id: only clients of this owner.
        visible_to: only clients that this account owns, or whose hub it owns.
        only_hubs: only clients of these hubs.
    """
    query = select(clients).where(clients.c.seq > after)
    if hub_id is not None:
        query = query.where(clients.c.hub_id == hub_id)
    if only_hubs is not None:
        query = query.where(clients.c.hub_id.in_(only_hubs))
    if owner_id is not None:
        query = query.where(clients.c.owner_id == owner_id)
    if visible_to is not None:
        own_hubs = select(hubs.c.id).where(hubs.c.owner_id == visible_to)
        query = query.where(or_(clients.c.owner_id == visible_to, clients.c.hub_id.in_(own_hubs)))
    rows = await connection.execute(query.order_by(clients.c.seq).limit(limit))
    return records_of(ClientRecord, list(rows.all()))


async def change(connection: AsyncConnection, client_id: str, values: Mapping[str, Any]) -> ClientRecord:
    """Write these fields of a client that exists; return it as it is now."""
    statement = update(clients).where(clients.c.id == client_id).values(dict(values)).returning(clients)
    return ClientRecord(**(await connection.execute(statement)).one()._asdict())


async def remove(connection: AsyncConnection, client_id: str) -> None:
    """Remove a client and its credentials."""
    await connection.execute(delete(clients).where(clients.c.id == client_id))
