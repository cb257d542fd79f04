# SPDX-License-Identifier: Apache-2.0
"""Accounts: the people who own hubs and clients. Checks no password."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field

from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from thalovant_server.store.rows import record_of
from thalovant_server.store.tables import accounts

ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class AccountRecord:
    """One account. `email` is folded (see `fold_email`); `password_phc` is an argon2id PHC string."""

    id: str
    email: str
    password_phc: str = field(repr=False)
    display_name: str
    role: str
    active: bool
    created_at: int


def fold_email(email: str) -> str:
    """Return the form in which an e-mail address is stored and looked up: trimmed, in small letters."""
    return email.strip().lower()


async def add(connection: AsyncConnection, account: AccountRecord) -> None:
    """Write a new account."""
    await connection.execute(insert(accounts).values(asdict(account)))


async def by_id(connection: AsyncConnection, account_id: str) -> AccountRecord | None:
    """Return the account with this id."""
    query = select(accounts).where(accounts.c.id == account_id)
    return record_of(AccountRecord, (await connection.execute(query)).first())


async def by_email(connection: AsyncConnection, email: str) -> AccountRecord | None:
    """Return the account with this e-mail address, in whatever case it was typed."""
    query = select(accounts).where(accounts.c.email == fold_email(email))
    return record_of(AccountRecord, (await connection.execute(query)).first())
