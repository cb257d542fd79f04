# SPDX-License-Identifier: Apache-2.0
"""Invitations: who holds the token may choose an account's password, once. Only a keyed hash of each is kept."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import delete, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from thalovant_server.store.accounts import AccountRecord
from thalovant_server.store.sealing import Sealer
from thalovant_server.store.tables import accounts, invitations

_PURPOSE = "invitation"


@dataclass(frozen=True, slots=True)
class Invitation:
    """An invitation that was found, and the account that it is for."""

    account: AccountRecord
    expires_at: int


async def put(
    connection: AsyncConnection, sealer: Sealer, account_id: str, token: str, *, now: int, expires_at: int
) -> None:
    """Write an invitation; an earlier one of the same account is good for nothing from now on."""
    await remove(connection, account_id)
    values = {"account_id": account_id, "created_at": now, "expires_at": expires_at}
    await connection.execute(insert(invitations).values(token_hash=sealer.keyed_hash(token, _PURPOSE), **values))


async def find(connection: AsyncConnection, sealer: Sealer, token: str) -> Invitation | None:
    """Return the invitation with this token, expired or not."""
    where = invitations.c.token_hash == sealer.keyed_hash(token, _PURPOSE)
    query = select(*accounts.c, invitations.c.expires_at).join_from(invitations, accounts).where(where)
    row = (await connection.execute(query)).first()
    return None if row is None else Invitation(AccountRecord(*row[:-1]), row[-1])


async def remove(connection: AsyncConnection, account_id: str) -> None:
    """Remove the invitation of an account, if there is one."""
    await connection.execute(delete(invitations).where(invitations.c.account_id == account_id))
