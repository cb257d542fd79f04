# SPDX-License-Identifier: Apache-2.0
"""The one row about this server: its keys and node id, made once and never changed (decision 5).

It also holds the canary by which a wrong server key is noticed at start.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from thalovant_server.errors import WrongServerKeyError
from thalovant_server.store.sealing import SealBrokenError, Sealer
from thalovant_server.store.tables import SERVER_ROW, server

_KEY_CONTEXT = "server static key"
_AUDIT_CONTEXT = "server audit key"
_CANARY_CONTEXT = "server canary"
_CANARY = b"thalovant"


@dataclass(frozen=True, slots=True)
class ServerIdentity:
    """Who this server is to its clients: `static_private` is the 32-byte X25519 key they pin."""

    node_id: str
    static_private: bytes = field(repr=False)


async def find(connection: AsyncConnection, sealer: Sealer, path: Path) -> ServerIdentity | None:
    """Return the server's identity, None before the first start.

    Raises:
        WrongServerKeyError: the server key is not the one this database was sealed with.
    """
    row = (await connection.execute(select(server).where(server.c.id == SERVER_ROW))).first()
    if row is None:
        return None
    try:
        sealer.open(row.sealed_canary, _CANARY_CONTEXT)
        return ServerIdentity(row.node_id, sealer.open(row.sealed_static_key, _KEY_CONTEXT))
    except SealBrokenError:
        raise WrongServerKeyError(sealer.key_file, path) from None


async def add(connection: AsyncConnection, sealer: Sealer, identity: ServerIdentity, now: int) -> None:
    """Write the server's identity, once."""
    values = {
        "id": SERVER_ROW,
        "node_id": identity.node_id,
        "sealed_static_key": sealer.seal(identity.static_private, _KEY_CONTEXT),
        "sealed_canary": sealer.seal(_CANARY, _CANARY_CONTEXT),
        "created_at": now,
    }
    await connection.execute(insert(server).values(values))


async def audit_key(connection: AsyncConnection, sealer: Sealer) -> bytes | None:
    """Return the private key that signs exports of the audit log; None before the start that makes it."""
    sealed = (await connection.execute(select(server.c.sealed_audit_key).where(server.c.id == SERVER_ROW))).scalar()
    return None if sealed is None else sealer.open(sealed, _AUDIT_CONTEXT)


async def set_audit_key(connection: AsyncConnection, sealer: Sealer, key: bytes) -> None:
    """Write the key that signs exports of the audit log, once."""
    change = update(server).where(server.c.id == SERVER_ROW, server.c.sealed_audit_key.is_(None))
    await connection.execute(change.values(sealed_audit_key=sealer.seal(key, _AUDIT_CONTEXT)))
