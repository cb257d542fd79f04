# SPDX-License-Identifier: Apache-2.0
"""A database of an older version, with everything in it, opens with this one: nothing is lost, and it all works."""

from __future__ import annotations

import contextlib
import sqlite3
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import uvloop
from alembic import command
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine

from thalovant_server.audit_export import public_key
from thalovant_server.control import audit
from thalovant_server.directory import CredentialEntry
from thalovant_server.store import presence, usage
from thalovant_server.store.database import Transaction
from thalovant_server.store.migrating import configuration
from thalovant_server.store.migrations import NEWEST
from thalovant_server.store.presence import PresenceRow
from thalovant_server.testing.control import World, open_world

FIRST = ("server", "accounts", "tokens", "hubs", "clients", "credentials", "idempotency")
SECOND = (*FIRST, "former_credentials", "audit", "presence", "quota_usage", "invitations", "device_logins")
TABLES = {"0001": FIRST, "0002": SECOND}
OPENS = """
import asyncio, sys
from pathlib import Path
from thalovant_server.store.database import Database
from thalovant_server.store.sealing import Sealer

async def main(path):
    database = await Database.open(path, Sealer(bytes(32)), create=not path.exists())
    await database.close()

asyncio.run(main(Path(sys.argv[1])))
print("alembic" in sys.modules)
"""


def columns(database: sqlite3.Connection, table: str) -> list[str]:
    return [row[1] for row in database.execute(f"PRAGMA table_info({table})")]


def rows(path: Path, table: str, names: list[str]) -> list[Any]:
    with contextlib.closing(sqlite3.connect(path)) as database:
        return database.execute(f"SELECT {', '.join(names)} FROM {table} ORDER BY rowid").fetchall()


def as_that_version_wrote_it(path: Path, now: Path, version: str) -> dict[str, list[str]]:
    """Make the tables of a migration and fill them from a database of now; return their columns."""
    engine = create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        command.upgrade(configuration(connection), version)
    engine.dispose()
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        database.execute("ATTACH ? AS now", (str(now),))
        had = {table: columns(database, table) for table in TABLES[version]}
        for table, names in had.items():
            listed = ", ".join(names)
            database.execute(f"INSERT INTO {table} ({listed}) SELECT {listed} FROM now.{table}")
    return had


async def filled(folder: Path) -> dict[str, Any]:
    """A server with hubs, clients and tokens; what its people know of them."""
    async with open_world(folder) as world:
        ada = await world.add_account("ada")
        hub = await world.make_hub("kitchen", spec={"version": "1", "protocols": {"mqtt": {"enabled": True}}})
        body = {"hub_id": hub["id"], "name": "again"}
        first = await world.call("POST", "/v1/clients", body, idempotency_key="one-and-the-same")
        clients = [await world.make_client(hub["id"], name=name) for name in ("lamp", "door")]
        await world.call("DELETE", f"/v1/clients/{clients[1]['id']}", if_match=clients[1]["etag"])
        await world.call("POST", "/v1/users", {"email": "bob@example.test"})
        await world.call("POST", "/v1/auth/device/authorize", {"scopes": ["hubs:read"]}, token=None)
        await world.services.database.write(partial(seen_and_counted, client_id=clients[0]["id"]))
        return {"admin": world.token, "ada": ada, "hub": hub, "body": body, "first": first.content, "lamp": clients[0]}


async def seen_and_counted(transaction: Transaction, *, client_id: str) -> None:
    """Somebody was online and asked."""
    row = PresenceRow(client_id, "offline", 1, 2, "wss", "192.0.2.1", "disconnected")
    await presence.put(transaction.connection, [row])
    await usage.keep(transaction.connection, 20_000, {client_id: 3})


@pytest.fixture(params=sorted(TABLES))
def upgraded(tmp_path: Path, request: pytest.FixtureRequest) -> tuple[Path, dict[str, Any]]:
    """The folder of a database that an older version wrote, and what people know of what is in it."""
    folders = [tmp_path / name for name in ("now", "then")]
    for folder in folders:
        folder.mkdir()
    known = uvloop.run(filled(folders[0]))
    path = folders[1] / "thalovant.db"
    known["columns"] = as_that_version_wrote_it(path, folders[0] / "thalovant.db", request.param)
    known["rows"] = {table: rows(path, table, names) for table, names in known["columns"].items()}
    return folders[1], known


def test_the_newest_revision_is_the_last_migration(tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path / 'any.db'}")
    with engine.connect() as connection:
        assert ScriptDirectory.from_config(configuration(connection)).get_heads() == [NEWEST]
    engine.dispose()


def test_a_database_that_is_up_to_date_does_not_cost_loading_alembic(tmp_path: Path) -> None:
    for loaded in (True, False):  # it is made, then opened again
        said = subprocess.check_output([sys.executable, "-c", OPENS, str(tmp_path / "thalovant.db")], text=True)
        assert said == f"{loaded}\n"


def test_every_row_is_kept_as_it_was(upgraded: tuple[Path, dict[str, Any]]) -> None:
    folder, known = upgraded
    assert all(known["rows"].values())

    async def start() -> None:
        async with open_world(folder):
            pass

    uvloop.run(start())
    for table, names in known["columns"].items():  # the audit log and tokens may have more by now
        kept = rows(folder / "thalovant.db", table, names)
        assert kept[: len(known["rows"][table])] == known["rows"][table], table
    with contextlib.closing(sqlite3.connect(folder / "thalovant.db")) as database:
        assert database.execute("PRAGMA foreign_key_check").fetchall() == []
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert {row[0] for row in database.execute("SELECT kind FROM tokens")} == {"session"}
        assert database.execute("SELECT count(*) FROM operations").fetchone() == (0,)
        assert {row[0] for row in database.execute("SELECT sealed_mqtt_password FROM credentials")} == {None}


def test_who_was_signed_in_goes_on_and_what_was_made_works(upgraded: tuple[Path, dict[str, Any]]) -> None:
    folder, known = upgraded

    async def scenario(world: World) -> None:
        lamp, hub = known["lamp"], known["hub"]
        for token in (known["admin"], known["ada"]):
            assert (await world.call("GET", "/v1/users/profile", token=token)).status_code == 200
        shown = (await world.call("GET", f"/v1/clients/{lamp['id']}", token=known["admin"])).json()
        assert (shown["name"], shown["etag"], shown["created_at"]) == ("lamp", lamp["etag"], lamp["created_at"])
        assert (await world.call("GET", f"/v1/hubs/{hub['id']}")).json()["spec"] == hub["spec"]
        replayed = await world.call("POST", "/v1/clients", known["body"], idempotency_key="one-and-the-same")
        assert replayed.content == known["first"]
        await may_connect(world, lamp["initial_identify"])
        rotated = (await world.call("POST", f"/v1/clients/{lamp['id']}/rotate", {})).json()
        await may_connect(world, rotated["initial_identify"])
        await may_connect(world, lamp["initial_identify"])
        assert public_key(await audit.signing_key(world.services))

    async def start() -> None:
        async with open_world(folder) as world:
            await scenario(world)

    uvloop.run(start())


async def may_connect(world: World, identity: dict[str, Any]) -> None:
    """The data plane knows the identity: its key, its pre-shared key, its broker password."""
    directory = world.services.directory
    entry = directory.credential(identity["access_key"])
    hub = entry and directory.hub(entry.hub_id)
    assert hub is not None and hub.serves_mqtt("embedded")
    assert isinstance(entry, CredentialEntry)
    assert entry.topic_prefix == identity["mqtt"]["topic_prefix"]
    assert directory.check_mqtt_password(entry, identity["mqtt"]["password"].encode())
    assert len(await directory.psk(entry)) == 32
