# SPDX-License-Identifier: Apache-2.0
"""The database: durable settings, one writer, callbacks after the commit, and damage that is named."""

from __future__ import annotations

import asyncio
import sqlite3
import stat
from pathlib import Path

import pytest
import uvloop
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, func, select, text

from thalovant_server.errors import DatabaseTooNewError, DataDamagedError, SettingsError, StorageError
from thalovant_server.store import accounts
from thalovant_server.store.accounts import AccountRecord
from thalovant_server.store.database import Database, Transaction
from thalovant_server.store.sealing import Sealer
from thalovant_server.store.tables import accounts as accounts_table
from thalovant_server.store.tables import metadata

SEALER = Sealer(bytes(range(32)))


def account(name: str) -> AccountRecord:
    return AccountRecord(name, f"{name}@example.test", "phc", name, "user", True, 1)


async def open_new(path: Path) -> Database:
    return await Database.open(path, SEALER, create=True)


async def count(database: Database) -> int:
    async with database.read() as connection:
        return (await connection.execute(select(func.count()).select_from(accounts_table))).scalar_one()


async def add(database: Database, name: str) -> None:
    await database.write(lambda transaction: accounts.add(transaction.connection, account(name)))


def test_the_migrations_make_the_tables_that_the_code_knows(tmp_path: Path) -> None:
    def differences(connection: Connection) -> list[object]:
        return list(compare_metadata(MigrationContext.configure(connection), metadata))

    async def main() -> None:
        database = await open_new(tmp_path / "t.db")
        async with database.read() as connection:
            assert await connection.run_sync(differences) == []
        await database.close()

    uvloop.run(main())


def test_what_is_acknowledged_is_on_the_disk(tmp_path: Path) -> None:
    async def main() -> None:
        database = await open_new(tmp_path / "t.db")
        async with database.read() as connection:
            for pragma, value in (("journal_mode", "wal"), ("synchronous", 2), ("foreign_keys", 1)):
                assert (await connection.execute(text(f"PRAGMA {pragma}"))).scalar() == value
        await database.close()

    uvloop.run(main())


def test_only_the_owner_may_read_the_file(tmp_path: Path) -> None:
    async def main() -> None:
        database = await open_new(tmp_path / "t.db")
        await add(database, "ada")
        for file in tmp_path.glob("t.db*"):
            assert stat.S_IMODE(file.stat().st_mode) == 0o600, file
        await database.close()

    uvloop.run(main())


def test_a_second_start_finds_what_the_first_wrote(tmp_path: Path) -> None:
    async def main() -> None:
        for name in ("ada", "bob"):
            database = await Database.open(tmp_path / "t.db", SEALER, create=name == "ada")
            await add(database, name)
            await database.close()
        database = await Database.open(tmp_path / "t.db", SEALER, create=False)
        assert await count(database) == 2
        await database.close()

    uvloop.run(main())


def test_nothing_stays_of_a_write_that_raises(tmp_path: Path) -> None:
    async def main() -> None:
        database = await open_new(tmp_path / "t.db")
        told: list[str] = []

        async def work(transaction: Transaction) -> None:
            transaction.after_commit(lambda: told.append("committed"))
            await accounts.add(transaction.connection, account("ada"))
            raise LookupError

        with pytest.raises(LookupError):
            await database.write(work)
        assert await count(database) == 0
        assert told == []
        await database.close()

    uvloop.run(main())


def test_callbacks_run_after_the_commit_and_before_the_next_write(tmp_path: Path) -> None:
    async def main() -> None:
        database = await open_new(tmp_path / "t.db")
        order: list[str] = []

        async def one(transaction: Transaction, name: str) -> None:
            order.append(f"begin {name}")
            transaction.after_commit(lambda: order.append(f"committed {name}"))
            await accounts.add(transaction.connection, account(name))

        await asyncio.gather(*(database.write(lambda t, n=name: one(t, n)) for name in "abc"))
        expected = [f"{what} {name}" for name in "abc" for what in ("begin", "committed")]
        assert order == expected
        await database.close()

    uvloop.run(main())


def test_a_caller_who_leaves_does_not_tear_a_write_in_two(tmp_path: Path) -> None:
    async def main() -> None:
        database = await open_new(tmp_path / "t.db")
        begun, told = asyncio.Event(), asyncio.Event()

        async def work(transaction: Transaction) -> None:
            transaction.after_commit(told.set)
            begun.set()
            await accounts.add(transaction.connection, account("ada"))

        caller = asyncio.create_task(database.write(work))
        await begun.wait()
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
        await told.wait()
        assert await count(database) == 1
        await database.close()

    uvloop.run(main())


def test_readers_do_not_wait_for_the_writer(tmp_path: Path) -> None:
    async def main() -> None:
        database = await open_new(tmp_path / "t.db")
        goes_on = asyncio.Event()

        async def work(transaction: Transaction) -> None:
            await accounts.add(transaction.connection, account("ada"))
            await goes_on.wait()

        writing = asyncio.create_task(database.write(work))
        assert await count(database) == 0
        goes_on.set()
        await writing
        assert await count(database) == 1
        await database.close()

    uvloop.run(main())


def test_a_contradiction_is_an_error_of_ours_without_the_values(tmp_path: Path) -> None:
    async def main() -> None:
        database = await open_new(tmp_path / "t.db")
        await add(database, "ada")
        with pytest.raises(StorageError) as caught:
            await add(database, "ada")
        assert "ada" not in str(caught.value) + str(caught.value.__cause__)
        await database.close()

    uvloop.run(main())


def make_whole(path: Path) -> None:
    async def main() -> None:
        database = await open_new(path)
        for number in range(50):
            await add(database, f"account-{number}")
        await database.close()

    uvloop.run(main())


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2 + 100])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def overwrite_head(path: Path) -> None:
    path.write_bytes(b"not a database at all" * 10 + path.read_bytes()[210:])


def overwrite_middle(path: Path) -> None:
    whole = bytearray(path.read_bytes())
    for page in range(1, len(whole) // 4096):
        whole[page * 4096 : page * 4096 + 64] = b"\xa5" * 64
    path.write_bytes(whole)


def drop_a_table(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("DROP TABLE alembic_version")
    connection.commit()
    connection.close()


@pytest.mark.parametrize("harm", [cut, empty, overwrite_head, overwrite_middle, Path.unlink, drop_a_table])
def test_damage_is_named_with_the_way_out(tmp_path: Path, harm: object) -> None:
    path = tmp_path / "t.db"
    make_whole(path)
    harm(path)  # type: ignore[operator]
    with pytest.raises((DataDamagedError, StorageError)) as caught:
        uvloop.run(Database.open(path, SEALER, create=False))
    assert str(path) in str(caught.value)


def test_the_way_out_of_damage_is_said(tmp_path: Path) -> None:
    path = tmp_path / "t.db"
    make_whole(path)
    cut(path)
    with pytest.raises(DataDamagedError, match="backup") as caught:
        uvloop.run(Database.open(path, SEALER, create=False))
    assert caught.value.code == "data_damaged"


def test_a_newer_servers_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "t.db"
    make_whole(path)
    connection = sqlite3.connect(path)
    connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.commit()
    connection.close()
    with pytest.raises(DatabaseTooNewError, match="9999"):
        uvloop.run(Database.open(path, SEALER, create=False))


def test_a_url_is_refused() -> None:
    with pytest.raises(SettingsError, match="SQLite"):
        uvloop.run(Database.open("postgresql://somewhere/else", SEALER, create=True))


def test_a_file_that_cannot_be_made_is_told_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match=r"t\.db cannot be made \(Not a directory\).*owns the directory"):
        uvloop.run(open_new(tmp_path / "file" / "t.db"))
