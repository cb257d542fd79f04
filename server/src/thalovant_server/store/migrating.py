# SPDX-License-Identifier: Apache-2.0
"""Brings a database's tables up to date at start, with the migrations packaged beside this file.

Runs inside the caller's transaction: a migration that fails leaves the database as it was. Alembic is loaded only for a
database that needs one.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, inspect, text
from sqlalchemy.ext.asyncio import AsyncConnection

from thalovant_server.errors import DatabaseTooNewError
from thalovant_server.store.migrations import NEWEST

if TYPE_CHECKING:
    from alembic.config import Config

_MIGRATIONS = Path(__file__).parent / "migrations"


async def upgrade(connection: AsyncConnection, path: Path) -> None:
    """Run the migrations that ``connection``'s database has not seen.

    Raises:
        DatabaseTooNewError: it has seen one that this version does not know.
    """
    await connection.run_sync(_upgrade, path)


def configuration(connection: Connection) -> Config:
    """Return Alembic's configuration for one open connection."""
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


def _upgrade(connection: Connection, path: Path) -> None:
    seen = _revisions(connection)
    if seen != {NEWEST}:
        _migrate(connection, path, seen)


def _revisions(connection: Connection) -> set[str]:
    """Return the revisions that the database is at: one, or none when it is new."""
    if not inspect(connection).has_table("alembic_version"):
        return set()
    return set(connection.scalars(text("SELECT version_num FROM alembic_version")))


def _migrate(connection: Connection, path: Path, seen: set[str]) -> None:
    from alembic import command
    from alembic.script import ScriptDirectory

    config = configuration(connection)
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    for revision in seen - known:
        raise DatabaseTooNewError(path, revision)
    command.upgrade(config, "head")
