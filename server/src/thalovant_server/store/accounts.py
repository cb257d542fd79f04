# SPDX-License-Identifier: Apache-2.0
"""Accounts: the people who own hubs and clients. Checks no password."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from sqlalchemy import func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from thalovant_server.store.rows import is_after, record_of, records_of
from thalovant_server.store.tables import accounts

ADMIN = "admin"
USER = "user"


@dataclass(frozen=True, slots=True)
class AccountRecord:
    """One account. `email` is folded (see `fold_email`).

    `password_phc` is an argon2id PHC string, empty until an invitation was accepted.
    """

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


async def page(connection: AsyncConnection, *, after: tuple[int, str], limit: int) -> list[AccountRecord]:
    """Return up to ``limit`` accounts, oldest first; ``after`` is time of creation and id of the one before."""
    query = select(accounts).where(is_after(accounts, *after)).order_by(accounts.c.created_at, accounts.c.id)
    return records_of(AccountRecord, list((await connection.execute(query.limit(limit))).all()))


async def change(connection: AsyncConnection, account_id: str, values: Mapping[str, Any]) -> AccountRecord:
    """Write these fields of an account that exists; return it as it is now."""
    changed = update(accounts).where(accounts.c.id == account_id).values(dict(values)).returning(accounts)
    return AccountRecord(**(await connection.execute(changed)).one()._asdict())


async def count_working_admins(connection: AsyncConnection) -> int:
    """Return how many admins there are who can sign in."""
    working = (accounts.c.role == ADMIN, accounts.c.active.is_(True), accounts.c.password_phc != "")
    return int((await connection.execute(select(func.count()).select_from(accounts).where(*working))).scalar_one())
