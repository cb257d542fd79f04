# SPDX-License-Identifier: Apache-2.0
"""The audit log as the API shows it: to an admin all of it, to everybody else what concerns them and their hubs."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

from thalovant_server.audit_export import ExportWriter
from thalovant_server.control.answers import time_text
from thalovant_server.control.callers import Caller
from thalovant_server.control.services import Services
from thalovant_server.errors import StorageError
from thalovant_server.store import audit as rows
from thalovant_server.store import server_row
from thalovant_server.store.audit import Reader, Wanted, WrittenEntry

BATCH = 200  # entries of an export in memory at once


async def catch_up(services: Services) -> None:
    """Write what was denied a moment ago: whoever reads the log looks for it."""
    with contextlib.suppress(StorageError):  # what is there can be read all the same
        await services.denied.flush()


async def signing_key(services: Services) -> bytes:
    """Return the private key that signs exports; every start sees that there is one."""
    database = services.database
    async with database.read() as connection:
        key = await server_row.audit_key(connection, database.sealer)
    assert key is not None  # noqa: S101 - as the start left it
    return key


async def export(services: Services, caller: Caller, wanted: Wanted, writer: ExportWriter) -> AsyncIterator[bytes]:
    """Yield the lines of an export, oldest first, some at a time; what is written meanwhile is in the next export."""
    last = 0
    async with services.database.read() as connection:
        newest = await rows.newest_seq(connection)
    while last < newest:
        async with services.database.read() as connection:
            found = await rows.oldest_first(connection, reader(caller), wanted, after=last, limit=BATCH)
        found = [entry for entry in found if entry.seq <= newest]
        if not found:
            break
        last = found[-1].seq
        yield b"".join([writer.entry(shown(entry)) for entry in found])
    yield writer.end(time_text(services.clock()))


def reader(caller: Caller) -> Reader:
    """Return what a caller may read."""
    return Reader(None if caller.is_admin else caller.id, caller.hub_ids)


def bounds(caller: Caller) -> dict[str, str | None]:
    """Return what keeps a caller from reading all of it, to be signed with an export: it is not taken for the whole."""
    hubs = None if caller.hub_ids is None else " ".join(sorted(caller.hub_ids))
    return {"seen_by": None if caller.is_admin else caller.id, "limited_to_hubs": hubs}


def shown(entry: WrittenEntry) -> dict[str, Any]:
    """Return an entry as the API and the export show it."""
    return {
        "id": entry.id,
        "at": time_text(entry.at),
        "action": entry.action,
        "outcome": entry.outcome,
        "actor": {
            "kind": entry.actor_kind,
            "id": entry.actor_id,
            "name": entry.actor_name,
            "token_id": entry.token_id,
        },
        "target": _target(entry),
        "hub_id": entry.hub_id,
        "client_id": entry.client_id,
        "address": entry.address,
        "code": entry.code,
        "times": entry.times,
        "before": entry.before,
        "after": entry.after,
    }


def _target(entry: WrittenEntry) -> dict[str, Any] | None:
    if entry.target_kind is None:
        return None
    return {"kind": entry.target_kind, "id": entry.target_id, "name": entry.target_name}
