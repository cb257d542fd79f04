# SPDX-License-Identifier: Apache-2.0
"""Bearer tokens of the control plane: only a keyed hash of each is kept. Mints and judges none."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from sqlalchemy import ColumnElement, bindparam, delete, func, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from thalovant_server.store.accounts import AccountRecord
from thalovant_server.store.rows import is_after, record_of, records_of
from thalovant_server.store.sealing import Sealer
from thalovant_server.store.tables import accounts, tokens

SESSION = "session"
API = "api"
DEVICE = "device"

_PURPOSE = "token"


@dataclass(frozen=True, slots=True)
class TokenRecord:
    """One token. `scopes` are separated by blanks.

    `expires_at` is None when it is good until it is revoked; `revoked_at` is None while it is good. `kind` is
    "session", "api" or "device"; `hub_ids` are the only hubs it is good for, None when it is not limited to some.
    """

    id: str
    account_id: str
    scopes: str
    created_at: int
    expires_at: int | None
    revoked_at: int | None = None
    kind: str = SESSION
    name: str | None = None
    hub_ids: list[str] | None = None
    last_used_at: int | None = None

    def is_good(self, now: int) -> bool:
        """Tell whether it is neither revoked nor expired."""
        return self.revoked_at is None and (self.expires_at is None or self.expires_at > now)


_COLUMNS = [tokens.c[name] for name in TokenRecord.__dataclass_fields__]


async def add(connection: AsyncConnection, sealer: Sealer, record: TokenRecord, token: str) -> None:
    """Write a new token, as its keyed hash."""
    values = {name: getattr(record, name) for name in TokenRecord.__dataclass_fields__}
    await connection.execute(insert(tokens).values(token_hash=sealer.keyed_hash(token, _PURPOSE), **values))


async def find(connection: AsyncConnection, sealer: Sealer, token: str) -> tuple[TokenRecord, AccountRecord] | None:
    """Return a token, good or not, and its account."""
    where = tokens.c.token_hash == sealer.keyed_hash(token, _PURPOSE)
    query = select(*_COLUMNS, *accounts.c).join_from(tokens, accounts).where(where)
    row = (await connection.execute(query)).first()
    if row is None:
        return None
    own = len(_COLUMNS)
    return TokenRecord(*row[:own]), AccountRecord(*row[own:])


async def by_id(connection: AsyncConnection, token_id: str) -> TokenRecord | None:
    """Return the token with this id, good or not."""
    query = select(*_COLUMNS).where(tokens.c.id == token_id)
    return record_of(TokenRecord, (await connection.execute(query)).first())


def _good(now: int) -> ColumnElement[bool]:
    return tokens.c.revoked_at.is_(None) & or_(tokens.c.expires_at.is_(None), tokens.c.expires_at > now)


async def count_good(connection: AsyncConnection, account_id: str, kinds: Collection[str], now: int) -> int:
    """Return how many tokens of these kinds an account has that are good."""
    query = select(func.count()).where(tokens.c.account_id == account_id, tokens.c.kind.in_(kinds), _good(now))
    return int((await connection.execute(query)).scalar_one())


async def page(
    connection: AsyncConnection,
    account_id: str,
    kinds: Collection[str],
    *,
    now: int,
    after: tuple[int, str],
    limit: int,
    within: Collection[str] | None = None,
) -> list[TokenRecord]:
    """Return up to ``limit`` good tokens of an account, oldest first.

    Args:
        connection: to read with.
        account_id: whose.
        kinds: only tokens of these kinds.
        now: microseconds since 1970.
        after: time of creation and id of the last one on the page before.
        limit: how many at most.
        within: only tokens that are limited to some of these hubs; None for all.
    """
    query = select(*_COLUMNS).where(tokens.c.account_id == account_id, tokens.c.kind.in_(kinds), _good(now))
    if within is not None:
        hub = func.json_each(tokens.c.hub_ids).table_valued("value")
        outside = select(hub.c.value).where(hub.c.value.not_in(list(within)))
        query = query.where(tokens.c.hub_ids.is_not(None), ~outside.exists())
    query = query.where(is_after(tokens, *after)).order_by(tokens.c.created_at, tokens.c.id)
    rows = await connection.execute(query.limit(limit))
    return records_of(TokenRecord, list(rows.all()))


async def set_last_used(connection: AsyncConnection, times: Mapping[str, int]) -> None:
    """Write when each of these tokens was last used."""
    change = update(tokens).where(tokens.c.id == bindparam("token_id")).values(last_used_at=bindparam("at"))
    await connection.execute(change, [{"token_id": token_id, "at": at} for token_id, at in times.items()])


async def revoke_all(
    connection: AsyncConnection, account_id: str, now: int, *, kinds: Collection[str], but: str = ""
) -> None:
    """Make the tokens of an account that are of these kinds good for nothing, but for the one with this id."""
    mine = (tokens.c.account_id == account_id, tokens.c.kind.in_(kinds), tokens.c.id != but)
    await connection.execute(update(tokens).where(*mine, tokens.c.revoked_at.is_(None)).values(revoked_at=now))


async def revoke(connection: AsyncConnection, token_id: str, now: int) -> None:
    """Make a token good for nothing from now on."""
    change = update(tokens).where(tokens.c.id == token_id, tokens.c.revoked_at.is_(None))
    await connection.execute(change.values(revoked_at=now))


async def forget_expired(connection: AsyncConnection, before: int) -> None:
    """Remove the tokens that expired before this time."""
    await connection.execute(delete(tokens).where(tokens.c.expires_at < before))
