# SPDX-License-Identifier: Apache-2.0
"""Whose a hub, client, account or token is: for entries about what somebody was denied. Changes nothing."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Null, null, select
from sqlalchemy.ext.asyncio import AsyncConnection

from thalovant_server.store.tables import accounts, clients, hubs, tokens


@dataclass(frozen=True, slots=True)
class Owned:
    """A thing that exists: its id, its name, whose it is, and of a client its hub."""

    id: str
    name: str
    owner_id: str | None
    hub_id: str | None


async def hubs_named(connection: AsyncConnection, references: Collection[str]) -> dict[str, Owned]:
    """Return the hubs with these ids or slugs, by id and by slug; an id wins."""
    by_slug = await _found(connection, hubs.c.slug, references, hubs.c.id, hubs.c.name, hubs.c.owner_id, hubs.c.id)
    by_id = await _found(connection, hubs.c.id, references, hubs.c.id, hubs.c.name, hubs.c.owner_id, hubs.c.id)
    return by_slug | by_id


async def clients_named(connection: AsyncConnection, ids: Collection[str]) -> dict[str, Owned]:
    """Return the clients with these ids."""
    columns = clients.c.id, clients.c.name, clients.c.owner_id, clients.c.hub_id
    return await _found(connection, clients.c.id, ids, *columns)


async def tokens_named(connection: AsyncConnection, ids: Collection[str]) -> dict[str, Owned]:
    """Return the tokens with these ids."""
    return await _found(connection, tokens.c.id, ids, tokens.c.id, tokens.c.kind, tokens.c.account_id, null())


async def accounts_with(connection: AsyncConnection, emails: Collection[str]) -> dict[str, Owned]:
    """Return the accounts with these e-mail addresses (as `accounts.fold_email` folds them), by address."""
    return await _found(connection, accounts.c.email, emails, accounts.c.id, accounts.c.email, accounts.c.id, null())


async def _found(
    connection: AsyncConnection, key: ColumnElement[Any], values: Collection[str], *columns: ColumnElement[Any] | Null
) -> dict[str, Owned]:
    if not values:
        return {}
    rows = await connection.execute(select(key, *columns).where(key.in_(sorted(values))))
    return {row[0]: Owned(*row[1:]) for row in rows.all()}
