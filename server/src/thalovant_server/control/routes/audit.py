# SPDX-License-Identifier: Apache-2.0
"""Routes of the audit log."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response

from thalovant_server.control import audit
from thalovant_server.control.answers import page, rows_on_a_page, seq_of
from thalovant_server.control.callers import AuditReader
from thalovant_server.control.openapi import told
from thalovant_server.control.resources import AuditEntry, Page
from thalovant_server.control.services import GivenServices
from thalovant_server.store import audit as rows
from thalovant_server.store.audit import Outcome, Wanted

router = APIRouter(tags=["audit"])

Id = Annotated[str | None, Query(max_length=64)]


@router.get("/v1/audit", responses=told(Page[AuditEntry]))
async def list_audit_entries(
    services: GivenServices,
    caller: AuditReader,
    limit: Annotated[int, Query(ge=1)] = 100,
    cursor: Annotated[str | None, Query(max_length=64)] = None,
    hub_id: Id = None,
    client_id: Id = None,
    action: Id = None,
    outcome: Outcome | None = None,
) -> Response:
    """List who did what, and what was denied, newest first: of the caller's account and hubs; an admin sees all."""
    await audit.catch_up(services)
    limit, wanted = rows_on_a_page(limit), Wanted(hub_id=hub_id, client_id=client_id, action=action, outcome=outcome)
    async with services.database.read() as connection:
        found = await rows.newest_first(
            connection, audit.reader(caller), wanted, before=seq_of(cursor), limit=limit + 1
        )
    filters = {"hub_id": hub_id, "client_id": client_id, "action": action, "outcome": outcome}
    return page(found, limit, audit.shown, "/v1/audit", filters)
