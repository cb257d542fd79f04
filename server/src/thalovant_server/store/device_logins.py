# SPDX-License-Identifier: Apache-2.0
"""Device logins under way (contract 4.4): the user code in the clear, it is typed; of the device code only a hash."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from thalovant_server.store.rows import record_of
from thalovant_server.store.sealing import Sealer
from thalovant_server.store.tables import device_logins

PENDING = "pending"
APPROVED = "approved"
DENIED = "denied"

_PURPOSE = "device-code"


@dataclass(frozen=True, slots=True)
class DeviceLogin:
    """One device login. `scopes`, separated by blanks: those asked for, once approved those granted.

    `address` is where it was asked for. `account_id`, `hub_ids` and `token_expires_at` are of the approval.
    """

    user_code: str
    scopes: str
    client_name: str | None
    address: str
    created_at: int
    expires_at: int
    client_id: str | None = None
    state: str = PENDING
    account_id: str | None = None
    hub_ids: list[str] | None = None
    token_expires_at: int | None = None
    polled_at: int | None = None


_COLUMNS = [device_logins.c[name] for name in DeviceLogin.__dataclass_fields__]


async def add(connection: AsyncConnection, sealer: Sealer, login: DeviceLogin, device_code: str) -> None:
    """Write a new one."""
    code_hash = sealer.keyed_hash(device_code, _PURPOSE)
    await connection.execute(insert(device_logins).values(device_code_hash=code_hash, **asdict(login)))


async def count(connection: AsyncConnection) -> int:
    """Return how many there are, in whatever state."""
    query = select(func.count()).select_from(device_logins)
    return int((await connection.execute(query)).scalar_one())


async def keep_newest_pending(connection: AsyncConnection, address: str, most: int) -> None:
    """Remove the oldest of one address that nobody has answered, beyond so many."""
    pending = select(device_logins.c.user_code).where(
        device_logins.c.address == address, device_logins.c.state == PENDING
    )
    newest_first = pending.order_by(device_logins.c.created_at.desc(), device_logins.c.user_code)
    beyond = newest_first.limit(-1).offset(most)  # SQLite: an offset takes a limit, -1 is none
    await connection.execute(delete(device_logins).where(device_logins.c.user_code.in_(beyond)))


async def by_user_code(connection: AsyncConnection, user_code: str) -> DeviceLogin | None:
    """Return the one with this user code, in whatever state."""
    query = select(*_COLUMNS).where(device_logins.c.user_code == user_code)
    return record_of(DeviceLogin, (await connection.execute(query)).first())


async def by_device_code(connection: AsyncConnection, sealer: Sealer, device_code: str) -> DeviceLogin | None:
    """Return the one with this device code, in whatever state."""
    query = select(*_COLUMNS).where(device_logins.c.device_code_hash == sealer.keyed_hash(device_code, _PURPOSE))
    return record_of(DeviceLogin, (await connection.execute(query)).first())


async def change(connection: AsyncConnection, user_code: str, values: Mapping[str, Any]) -> None:
    """Write these fields of the one with this user code."""
    await connection.execute(update(device_logins).where(device_logins.c.user_code == user_code).values(dict(values)))


async def remove(connection: AsyncConnection, user_code: str) -> None:
    """Remove the one with this user code."""
    await connection.execute(delete(device_logins).where(device_logins.c.user_code == user_code))


async def remove_of_account(connection: AsyncConnection, account_id: str) -> None:
    """Remove those that an account approved, or denied."""
    await connection.execute(delete(device_logins).where(device_logins.c.account_id == account_id))


async def forget_expired(connection: AsyncConnection, now: int) -> None:
    """Remove those that are over."""
    await connection.execute(delete(device_logins).where(device_logins.c.expires_at <= now))
