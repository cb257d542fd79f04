# SPDX-License-Identifier: Apache-2.0
"""The credentials of clients as their owners see them: numbered, one or two alive, used last when and from where.

A credential without an end is the current one; an older one beside it has its grace. Opens no secret.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from sqlalchemy import Select, bindparam, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from thalovant_server.store.rows import record_of, records_of
from thalovant_server.store.tables import clients, credentials


@dataclass(frozen=True, slots=True)
class CredentialRecord:
    """One credential. `expires_at`: the end of its grace, in microseconds since 1970; None: it has no end."""

    id: int
    client_id: str
    number: int
    access_key: str = field(repr=False)
    topic_prefix: str
    has_mqtt: bool
    key_pinned: bool
    created_at: int
    expires_at: int | None
    last_used_at: int | None
    last_used_carrier: str | None
    last_used_address: str | None

    def is_over(self, now: int) -> bool:
        """Tell whether its grace is over."""
        return self.expires_at is not None and self.expires_at <= now


@dataclass(frozen=True, slots=True)
class Use:
    """When a credential was used last, over which carrier, and from which address."""

    at: int
    carrier: str
    address: str


async def last_places(connection: AsyncConnection, most: int) -> list[tuple[str, str]]:
    """Return the access key and the address of up to ``most`` credentials that were used, the longest ago first."""
    used = credentials.c.last_used_address.is_not(None)
    query = select(credentials.c.access_key, credentials.c.last_used_address).where(used)
    rows = (await connection.execute(query.order_by(credentials.c.last_used_at.desc()).limit(most))).all()
    return [(row.access_key, row.last_used_address) for row in reversed(rows)]


async def of_client(connection: AsyncConnection, client_id: str, now: int) -> list[CredentialRecord]:
    """Return the live credentials of a client, oldest first."""
    return (await of_clients(connection, [client_id], now)).get(client_id, [])


async def of_clients(
    connection: AsyncConnection, client_ids: Sequence[str], now: int
) -> dict[str, list[CredentialRecord]]:
    """Return the live credentials of each of these clients (at most 1,000), oldest first."""
    query = _records().where(credentials.c.client_id.in_(client_ids)).order_by(credentials.c.id)
    found: dict[str, list[CredentialRecord]] = {}
    for record in records_of(CredentialRecord, list((await connection.execute(query)).all())):
        if not record.is_over(now):
            found.setdefault(record.client_id, []).append(record)
    return found


async def by_access_key(connection: AsyncConnection, access_key: str) -> CredentialRecord | None:
    """Return the credential with this access key, one whose grace is over too."""
    query = _records().where(credentials.c.access_key == access_key)
    return record_of(CredentialRecord, (await connection.execute(query)).first())


async def ids_of_client(connection: AsyncConnection, client_id: str) -> list[int]:
    """Return the ids of a client's credentials."""
    query = select(credentials.c.id).where(credentials.c.client_id == client_id)
    return list((await connection.execute(query)).scalars().all())


async def ids_of_hub(connection: AsyncConnection, hub_id: str) -> list[int]:
    """Return the ids of all credentials of a hub's clients."""
    query = select(credentials.c.id).join(clients, clients.c.id == credentials.c.client_id)
    return list((await connection.execute(query.where(clients.c.hub_id == hub_id))).scalars().all())


async def ids_over(connection: AsyncConnection, now: int, limit: int) -> list[int]:
    """Return the ids of up to ``limit`` credentials whose grace is over."""
    query = select(credentials.c.id).where(credentials.c.expires_at <= now).order_by(credentials.c.expires_at)
    return list((await connection.execute(query.limit(limit))).scalars().all())


async def next_end(connection: AsyncConnection) -> int | None:
    """Return when the next grace ends, None when none is under way."""
    found = (await connection.execute(select(func.min(credentials.c.expires_at)))).scalar()
    return None if found is None else int(found)


async def set_end(connection: AsyncConnection, credential_id: int, expires_at: int | None) -> None:
    """Give a credential an end, or take it away."""
    change = update(credentials).where(credentials.c.id == credential_id).values(expires_at=expires_at)
    await connection.execute(change)


async def keep_uses(connection: AsyncConnection, uses: Iterable[tuple[int, Use]]) -> None:
    """Write when credentials were used last; those that are gone by now are passed over."""
    rows = [{"of": of, "at": use.at, "by": use.carrier, "from_": use.address} for of, use in uses]
    if rows:
        change = update(credentials).where(credentials.c.id == bindparam("of"))
        values = {"last_used_at": "at", "last_used_carrier": "by", "last_used_address": "from_"}
        await connection.execute(change.values({name: bindparam(given) for name, given in values.items()}), rows)


def _records() -> Select[tuple[object, ...]]:
    return select(
        credentials.c.id, credentials.c.client_id, credentials.c.number, credentials.c.access_key,
        credentials.c.topic_prefix, credentials.c.mqtt_password_hash.is_not(None).label("has_mqtt"),
        credentials.c.pinned_key.is_not(None).label("key_pinned"), credentials.c.created_at, credentials.c.expires_at,
        credentials.c.last_used_at, credentials.c.last_used_carrier, credentials.c.last_used_address,
    )  # fmt: skip
