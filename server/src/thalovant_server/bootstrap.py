# SPDX-License-Identifier: Apache-2.0
"""What the first start makes in the database, in one transaction: the server's keys, an admin, a hub to try.

Later starts find it again. Writes no file and prints nothing.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from thalovant.protocol.noise import generate_private_key
from thalovant_server import audit_export, hub_spec
from thalovant_server.control import auditing
from thalovant_server.control.hubs import audited
from thalovant_server.control.passwords import PasswordHasher
from thalovant_server.directory import MqttVia
from thalovant_server.identifiers import new_id
from thalovant_server.store import accounts, hubs, server_row
from thalovant_server.store.accounts import ADMIN, AccountRecord
from thalovant_server.store.database import Database, Transaction
from thalovant_server.store.server_row import ServerIdentity
from thalovant_server.wall_clock import now

ADMIN_EMAIL = "admin@thalovant.local"
DEMO_SLUG = "demo"
NODE_ID_BYTES = 16


@dataclass(frozen=True, slots=True)
class FirstStart:
    """What a start found or made. `is_new` tells whether it was made just now."""

    server: ServerIdentity
    is_new: bool


async def ensure_first_start(
    database: Database,
    *,
    admin_password: Callable[[], str],
    hasher: PasswordHasher,
    mqtt_via: MqttVia = "embedded",
) -> FirstStart:
    """Return the server's identity; at the first start make it, the admin account and the hub `demo` first.

    Args:
        database: an open database.
        admin_password: returns the admin's password, already on the disk where its owner finds it; called at the
            first start only.
        hasher: for the admin's password.
        mqtt_via: where the MQTT of the hub `demo` is.

    Raises:
        WrongServerKeyError: the server key is not the one this database was sealed with.
        StorageError, DataDamagedError: it could not be read or written.
    """
    async with database.read() as connection:
        found = await server_row.find(connection, database.sealer, database.path)
        has_audit_key = found is not None and await server_row.audit_key(connection, database.sealer) is not None
    if found is not None:
        if not has_audit_key:  # a version before this one made the database
            await database.write(partial(_make_audit_key, database=database))
        return FirstStart(found, is_new=False)
    phc = await asyncio.to_thread(hasher.derive, admin_password())
    identity = ServerIdentity(secrets.token_urlsafe(NODE_ID_BYTES), generate_private_key())
    await database.write(partial(_make, database=database, identity=identity, phc=phc, via=mqtt_via))
    return FirstStart(identity, is_new=True)


async def _make(
    transaction: Transaction, *, database: Database, identity: ServerIdentity, phc: str, via: MqttVia
) -> None:
    connection, time = transaction.connection, now()
    admin = AccountRecord(new_id("user"), ADMIN_EMAIL, phc, "Administrator", ADMIN, True, time)
    await server_row.add(connection, database.sealer, identity, time)
    await _make_audit_key(transaction, database=database)
    await accounts.add(connection, admin)
    hub = await hubs.add(connection, _demo_hub(admin.id, time, via))
    made = auditing.account_target(admin), {"email": admin.email, "role": admin.role}
    await auditing.record_own(connection, "account.created", made[0], at=time, after=made[1])
    await auditing.record_own(connection, "hub.created", auditing.hub_target(hub), at=time, after=audited(hub))


async def _make_audit_key(transaction: Transaction, *, database: Database) -> None:
    await server_row.set_audit_key(transaction.connection, database.sealer, audit_export.new_key())


def _demo_hub(owner_id: str, time: int, via: MqttVia) -> dict[str, object]:
    everything_on = {name: {"enabled": True} for name in ("wss", "http", "mqtt")}
    spec = {"version": "1", "catalog": {"title": "Demo"}, "protocols": everything_on}
    return {
        "id": new_id("hub"),
        "slug": DEMO_SLUG,
        "name": DEMO_SLUG,
        "owner_id": owner_id,
        "namespace": "default",
        "active": True,
        "visibility": hubs.PUBLIC,
        "capacity_profile": "standard",
        "spec": hub_spec.checked_spec(spec, lambda: (), via=via),
        "revision": 1,
        "created_at": time,
        "updated_at": time,
    }
