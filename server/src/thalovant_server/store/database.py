# SPDX-License-Identifier: Apache-2.0
"""The database file: opened and checked once, read by many, written by one transaction at a time.

WAL with `synchronous=FULL`: what is acknowledged is on the disk (architecture decision 12). Knows no table.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Self, TypeVar

from sqlalchemy import Connection, event
from sqlalchemy.exc import DatabaseError, IntegrityError, InterfaceError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

from thalovant_server.errors import DataDamagedError, SettingsError, StorageError
from thalovant_server.store.migrating import upgrade
from thalovant_server.store.sealing import Sealer

BUSY_MILLISECONDS = 5_000
CONNECTIONS = 5

_PRAGMAS = (
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=FULL",
    "PRAGMA foreign_keys=ON",
    f"PRAGMA busy_timeout={BUSY_MILLISECONDS}",
)
_DAMAGE = (
    "malformed",
    "not a database",
    "corrupt",
    "could not decode",
    "no such table",
    "no such column",
    "already exists",
)

Result = TypeVar("Result")


class Transaction:
    """One write transaction: a connection, and what happens once it is committed."""

    def __init__(self, connection: AsyncConnection) -> None:
        self.connection = connection
        self._callbacks: list[Callable[[], None]] = []

    def after_commit(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` on the loop right after the commit, before the next transaction begins."""
        self._callbacks.append(callback)

    def committed(self) -> None:
        """Run the callbacks, in order."""
        for callback in self._callbacks:
            callback()


class Database:
    """An open database. Made by `Database.open`."""

    def __init__(self, path: Path, engine: AsyncEngine, sealer: Sealer) -> None:
        self.path = path
        self.sealer = sealer
        self._engine = engine
        self._one_writer = asyncio.Lock()
        self._writes: set[asyncio.Task[Any]] = set()

    @classmethod
    async def open(cls, location: Path | str, sealer: Sealer, *, create: bool) -> Self:
        """Open the database file, check that it is whole, and bring its tables up to date.

        Args:
            location: the file. (A URL is refused: only SQLite so far.)
            sealer: for what is sealed in it.
            create: make the file when there is none; only a first start may.

        Raises:
            DataDamagedError: the file is missing, empty or damaged.
            DatabaseTooNewError: a newer version of the server wrote it.
            StorageError: it cannot be read or written just now.
            SettingsError: the location is a URL.
        """
        path = _path_of(location)
        await asyncio.to_thread(_make_or_check, path, create)
        database = cls(path, _engine(path), sealer)
        try:
            await database.write(lambda transaction: upgrade(transaction.connection, path))
        except BaseException:
            await database.close()
            raise
        return database

    async def close(self) -> None:
        """Finish the writes under way, then close every connection."""
        while self._writes:
            await asyncio.gather(*self._writes, return_exceptions=True)
        await self._engine.dispose()

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """Give a connection to read with: each statement sees all that is committed, and nothing may be written.

        Raises:
            StorageError, DataDamagedError: it could not be read.
        """
        with self._named_faults():
            async with self._engine.connect() as connection:
                yield connection

    async def write(self, work: Callable[[Transaction], Awaitable[Result]]) -> Result:
        """Run ``work`` in the one write transaction and commit it; nothing of it stays when it raises.

        The transaction runs in a task of its own: a caller that is cancelled cannot tear it in two, and
        callbacks given to `Transaction.after_commit` run exactly when it was committed.

        Raises:
            StorageError, DataDamagedError: it could not be written; and whatever ``work`` raises.
        """
        task = asyncio.create_task(self._write(work), name="database-write")
        self._writes.add(task)
        task.add_done_callback(self._written)
        return await asyncio.shield(task)

    async def _write(self, work: Callable[[Transaction], Awaitable[Result]]) -> Result:
        async with self._one_writer:
            with self._named_faults():
                async with self._engine.connect() as connection:
                    await connection.execution_options(thalovant_writes=True)
                    async with connection.begin():
                        transaction = Transaction(connection)
                        result = await work(transaction)
                    transaction.committed()
            return result

    def _written(self, task: asyncio.Task[Any]) -> None:
        self._writes.discard(task)
        if not task.cancelled():
            task.exception()  # the caller may be gone: then nobody else looks at it

    @contextmanager
    def _named_faults(self) -> Iterator[None]:
        """Turn what the database library raises into an error that says what to do."""
        try:
            yield
        except IntegrityError as error:
            raise StorageError("The change contradicts another one made at the same time. Try again.") from error
        except (DatabaseError, InterfaceError) as error:
            fault = str(error.orig)
            if any(mark in fault.lower() for mark in _DAMAGE):
                raise DataDamagedError(self.path, fault) from error
            raise StorageError(f"The database {self.path} cannot be used just now: {fault}.") from error
        except PoolTimeoutError as error:
            raise StorageError("The database is busy. Try again in a moment.") from error


def _path_of(location: Path | str) -> Path:
    if isinstance(location, str) and "://" in location:
        raise SettingsError("This version keeps its data in SQLite only: give the path of a file, not a URL.")
    return Path(location).absolute()


def _make_or_check(path: Path, create: bool) -> None:
    if create and (not path.exists() or path.stat().st_size == 0):
        _make(path)
    elif not path.exists():
        raise DataDamagedError(path, "it is missing")
    elif path.stat().st_size == 0:
        raise DataDamagedError(path, "it is empty")
    else:
        _check_whole(path)


def _make(path: Path) -> None:
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise StorageError(
            f"The database {path} cannot be made ({error.strerror}). See that the disk has room and that the user who "
            "runs the server owns the directory, then start again."
        ) from error


def _check_whole(path: Path) -> None:
    """Read the whole file once; damage is found at the start and not in the middle of a night."""
    try:
        connection = sqlite3.connect(path, timeout=BUSY_MILLISECONDS / 1000)
        try:
            verdict = connection.execute("PRAGMA quick_check(1)").fetchone()
        finally:
            connection.close()
    except sqlite3.OperationalError as error:
        raise StorageError(f"The database {path} cannot be opened: {error}.") from error
    except sqlite3.DatabaseError as error:
        raise DataDamagedError(path, str(error)) from error
    if verdict != ("ok",):
        raise DataDamagedError(path, "its pages do not fit together")


def _engine(path: Path) -> AsyncEngine:
    engine = create_async_engine(
        f"sqlite+aiosqlite:///{path}",
        pool_size=CONNECTIONS,
        max_overflow=0,
        hide_parameters=True,
        pool_reset_on_return=None,
    )
    event.listen(engine.sync_engine, "connect", _prepare)
    event.listen(engine.sync_engine, "begin", _begin)
    return engine


def _prepare(connection: Any, _entry: ConnectionPoolEntry) -> None:
    connection.isolation_level = None  # the driver begins nothing by itself: `_begin` does
    cursor = connection.cursor()
    for pragma in _PRAGMAS:
        cursor.execute(pragma)
    cursor.close()


def _begin(connection: Connection) -> None:
    if connection.get_execution_options().get("thalovant_writes", False):
        connection.exec_driver_sql("BEGIN IMMEDIATE")
