# SPDX-License-Identifier: Apache-2.0
"""Alembic's migrations of the tables; run by `thalovant_server.store.migrating`."""

NEWEST = "0003"
"""The revision of the last of them: a database that has it needs none of them."""
