# SPDX-License-Identifier: Apache-2.0
"""Brings a database's tables up to date at start, with the migrations packaged beside this file.

Runs inside the caller's transaction: a migration that fails leaves the database as it was.
"""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import AsyncConnection

from thalovant_server.errors import DatabaseTooNewError

_MIGRATIONS = Path(__file__).parent / "migrations"


async def upgrade(connection: AsyncConnection, path: Path) -> None:
    """Run the migrations that ``connection``'s database has not seen.

    Raises:
        DatabaseTooNewError: it has seen one that this version does not know.
    """
    await connection.run_sync(_upgrade, path)


def configuration(connection: Connection) -> Config:
    """Return Alembic's configuration for one open connection."""
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


def _upgrade(connection: Connection, path: Path) -> None:
    config = configuration(connection)
    scripts = ScriptDirectory.from_config(config)
    known = {script.revision for script in scripts.walk_revisions()}
    current = MigrationContext.configure(connection).get_current_heads()
    for revision in current:
        if revision not in known:
            raise DatabaseTooNewError(path, revision)
    if set(current) != set(scripts.get_heads()):
        command.upgrade(config, "head")
