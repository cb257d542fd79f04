# SPDX-License-Identifier: Apache-2.0
"""How Alembic runs: on the connection it is given, inside that connection's transaction. Never on its own."""

from __future__ import annotations

from alembic import context

from thalovant_server.store.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,  # SQLite changes a table by copying it
)
context.run_migrations()
