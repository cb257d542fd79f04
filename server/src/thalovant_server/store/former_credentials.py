# SPDX-License-Identifier: Apache-2.0
"""Credentials that are over: ended with their secrets, and remembered by a keyed hash of the access key.

So whoever still comes with one can be told why. Remembered for 400 days: each end drops what is older.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from sqlalchemy import Select, delete, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from thalovant_server.store import idempotency
from thalovant_server.store.credentials import answer_about, former_key_hash
from thalovant_server.store.rows import record_of, records_of
from thalovant_server.store.sealing import Sealer
from thalovant_server.store.tables import clients, credentials, former_credentials
from thalovant_server.wall_clock import SECOND

KEPT_MICROSECONDS = 400 * 24 * 60 * 60 * SECOND
Why = Literal["rotated", "replaced", "cancelled", "removed", "hub_removed"]

_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Ended:
    """A credential that ends in this transaction, and whose it is."""

    id: int
    number: int
    access_key: str = field(repr=False)
    expires_at: int | None
    client_id: str
    client_name: str
    hub_id: str
    owner_id: str


@dataclass(frozen=True, slots=True)
class FormerCredential:
    """A credential that is over. `owner_id` owned its client; the client and the hub may be gone."""

    client_id: str
    client_name: str
    hub_id: str
    owner_id: str
    number: int
    why: Why
    ended_at: int


async def end(
    connection: AsyncConnection, sealer: Sealer, credential_ids: Sequence[int], why: Why, now: int
) -> list[Ended]:
    """Remove credentials and the kept answers that hold their secrets; remember them as over since ``now``.

    One whose grace was over before is over since then. Returns those that there were.
    """
    ended: list[Ended] = []
    for start in range(0, len(credential_ids), _AT_ONCE):
        some = await _found(connection, credential_ids[start : start + _AT_ONCE])
        await _remember(connection, [_former(sealer, each, why, now) for each in some])
        await idempotency.forget_answers_about(connection, [answer_about(e.client_id, e.number) for e in some])
        await connection.execute(delete(credentials).where(credentials.c.id.in_([each.id for each in some])))
        ended += some
    await connection.execute(delete(former_credentials).where(former_credentials.c.ended_at < now - KEPT_MICROSECONDS))
    return ended


async def newest(connection: AsyncConnection, limit: int) -> list[tuple[bytes, FormerCredential]]:
    """Return the credentials that ended last with the hashes of their access keys, oldest first."""
    columns = [former_credentials.c[name] for name in FormerCredential.__dataclass_fields__]
    query = select(former_credentials.c.access_key_hash, *columns).order_by(former_credentials.c.ended_at.desc())
    rows = (await connection.execute(query.limit(limit))).all()
    return [(row[0], FormerCredential(*row[1:])) for row in reversed(rows)]


async def find(connection: AsyncConnection, sealer: Sealer, access_key: str) -> FormerCredential | None:
    """Return what is remembered of the credential that had this access key last."""
    query = select(former_credentials).where(
        former_credentials.c.access_key_hash == former_key_hash(sealer, access_key)
    )
    columns = [former_credentials.c[name] for name in FormerCredential.__dataclass_fields__]
    return record_of(FormerCredential, (await connection.execute(query.with_only_columns(*columns))).first())


async def _found(connection: AsyncConnection, ids: Sequence[int]) -> list[Ended]:
    query: Select[Any] = select(
        credentials.c.id, credentials.c.number, credentials.c.access_key, credentials.c.expires_at,
        credentials.c.client_id, clients.c.name.label("client_name"), clients.c.hub_id, clients.c.owner_id,
    ).join(clients, clients.c.id == credentials.c.client_id)  # fmt: skip
    rows = await connection.execute(query.where(credentials.c.id.in_(ids)).order_by(credentials.c.id))
    return records_of(Ended, list(rows.all()))


async def _remember(connection: AsyncConnection, rows: list[dict[str, Any]]) -> None:
    """A key may have been given out again since it ended the first time: its last end counts."""
    if rows:
        hashes = [row["access_key_hash"] for row in rows]
        await connection.execute(delete(former_credentials).where(former_credentials.c.access_key_hash.in_(hashes)))
        await connection.execute(insert(former_credentials), rows)


def _former(sealer: Sealer, ended: Ended, why: Why, now: int) -> dict[str, Any]:
    return {
        "access_key_hash": former_key_hash(sealer, ended.access_key),
        "client_id": ended.client_id,
        "client_name": ended.client_name,
        "hub_id": ended.hub_id,
        "owner_id": ended.owner_id,
        "number": ended.number,
        "why": why,
        "ended_at": now if ended.expires_at is None else min(now, ended.expires_at),
    }
