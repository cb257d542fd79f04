# SPDX-License-Identifier: Apache-2.0
"""The audit log as the API shows it: to an admin all of it, to everybody else what concerns them and their hubs."""

from __future__ import annotations

import contextlib
from typing import Any

from thalovant_server.control.answers import time_text
from thalovant_server.control.callers import Caller
from thalovant_server.control.services import Services
from thalovant_server.errors import StorageError
from thalovant_server.store.audit import Reader, WrittenEntry


async def catch_up(services: Services) -> None:
    """Write what was denied a moment ago: whoever reads the log looks for it."""
    with contextlib.suppress(StorageError):  # what is there can be read all the same
        await services.denied.flush()


def reader(caller: Caller) -> Reader:
    """Return what a caller may read."""
    return Reader(None if caller.is_admin else caller.id, caller.hub_ids)


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
