# SPDX-License-Identifier: Apache-2.0
"""Hubs as rows. Knows nothing of what a spec means."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, delete, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from thalovant_server.store.rows import record_of, records_of
from thalovant_server.store.tables import hubs

PUBLIC = "public"
PRIVATE = "private"


@dataclass(frozen=True, slots=True)
class HubRecord:
    """One hub. `revision` counts its changes from 1 and is its etag; `seq` orders hubs by age."""

    seq: int
    id: str
    slug: str
    name: str
    owner_id: str
    namespace: str
    active: bool
    visibility: str
    capacity_profile: str
    spec: dict[str, Any]
    revision: int
    created_at: int
    updated_at: int


async def add(connection: AsyncConnection, values: Mapping[str, Any]) -> HubRecord:
    """Write a new hub, with every field of the record but `seq`; return it."""
    result = await connection.execute(insert(hubs).values(dict(values)).returning(hubs))
    return HubRecord(**result.one()._asdict())


async def by_id(connection: AsyncConnection, hub_id: str) -> HubRecord | None:
    """Return the hub with this id."""
    return record_of(HubRecord, (await connection.execute(select(hubs).where(hubs.c.id == hub_id))).first())


async def by_reference(connection: AsyncConnection, reference: str) -> list[HubRecord]:
    """Return the hub with this id, then the one with this slug: none, one or both of them."""
    query = select(hubs).where(or_(hubs.c.id == reference, hubs.c.slug == reference))
    found = records_of(HubRecord, list((await connection.execute(query)).all()))
    return sorted(found, key=lambda hub: hub.id != reference)


async def slug_is_taken(connection: AsyncConnection, slug: str) -> bool:
    """Tell whether a hub has this slug."""
    return (await connection.execute(select(hubs.c.seq).where(hubs.c.slug == slug))).first() is not None


async def all_of_them(connection: AsyncConnection) -> list[HubRecord]:
    """Return every hub, oldest first."""
    return records_of(HubRecord, list((await connection.execute(select(hubs).order_by(hubs.c.seq))).all()))


async def page(
    connection: AsyncConnection,
    *,
    after: int,
    limit: int,
    owner_id: str | None = None,
    only: Collection[str] | None = None,
) -> list[HubRecord]:
    """Return up to ``limit`` hubs with a `seq` above ``after``, oldest first.

    Of one owner where one is named; ``only`` those with one of these ids where they are given.
    """
    query = select(hubs).where(hubs.c.seq > after)
    if only is not None:
        query = query.where(hubs.c.id.in_(only))
    if owner_id is not None:
        query = query.where(hubs.c.owner_id == owner_id)
    rows = await connection.execute(query.order_by(hubs.c.seq).limit(limit))
    return records_of(HubRecord, list(rows.all()))


async def public_page(connection: AsyncConnection, *, after: int, limit: int) -> list[HubRecord]:
    """Return up to ``limit`` public, active hubs with a `seq` above ``after``, oldest first."""
    query = _public(select(hubs).where(hubs.c.seq > after)).order_by(hubs.c.seq).limit(limit)
    return records_of(HubRecord, list((await connection.execute(query)).all()))


async def change(connection: AsyncConnection, hub_id: str, values: Mapping[str, Any]) -> HubRecord:
    """Write these fields of a hub that exists; return it as it is now."""
    result = await connection.execute(update(hubs).where(hubs.c.id == hub_id).values(dict(values)).returning(hubs))
    return HubRecord(**result.one()._asdict())


async def remove(connection: AsyncConnection, hub_id: str) -> None:
    """Remove a hub, its clients and their credentials."""
    await connection.execute(delete(hubs).where(hubs.c.id == hub_id))


def _public(query: Select[Any]) -> Select[Any]:
    return query.where(hubs.c.visibility == PUBLIC, hubs.c.active.is_(True))
