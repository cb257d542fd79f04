# SPDX-License-Identifier: Apache-2.0
"""Bearer tokens of the control plane: only a keyed hash of each is kept. Mints and judges none."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from thalovant_server.store.accounts import AccountRecord
from thalovant_server.store.rows import record_of
from thalovant_server.store.sealing import Sealer
from thalovant_server.store.tables import accounts, tokens

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
    kind: str = "session"
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


async def revoke(connection: AsyncConnection, token_id: str, now: int) -> None:
    """Make a token good for nothing from now on."""
    change = update(tokens).where(tokens.c.id == token_id, tokens.c.revoked_at.is_(None))
    await connection.execute(change.values(revoked_at=now))


async def forget_expired(connection: AsyncConnection, before: int) -> None:
    """Remove the tokens that expired before this time."""
    await connection.execute(delete(tokens).where(tokens.c.expires_at < before))
