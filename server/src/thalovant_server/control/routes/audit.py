# SPDX-License-Identifier: Apache-2.0
"""Routes of the audit log."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated

from fastapi import APIRouter, Query, Response
from pydantic import BeforeValidator
from starlette.responses import StreamingResponse

from thalovant_server.audit_export import ExportWriter, public_key
from thalovant_server.control import audit
from thalovant_server.control.answers import HEADERS, Json, page, rows_on_a_page, seq_of, time_text
from thalovant_server.control.callers import AuditReader
from thalovant_server.control.openapi import told
from thalovant_server.control.resources import AuditEntry, AuditKey, Page
from thalovant_server.control.services import GivenServices
from thalovant_server.store import audit as rows
from thalovant_server.store.audit import Outcome, Wanted

router = APIRouter(tags=["audit"])

JSON_LINES = "application/x-ndjson"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LAST_MICROS = (datetime.max.replace(tzinfo=UTC) - EPOCH) // timedelta(microseconds=1) - 86_400_000_000
_LINES = {
    "description": "Entries, one a line; the last line has the signature",
    "content": {JSON_LINES: {"schema": {"type": "string"}}},
}


def _written_out(value: object) -> object:
    """A date or a time as ISO 8601 has it. The library would take a number, too, for seconds since 1970."""
    if isinstance(value, str) and value[4:5] != "-":
        raise ValueError("must be a date or a time such as 2026-11-01T00:00:00Z")
    return value


Id = Annotated[str | None, Query(max_length=64)]
Moment = Annotated[datetime, BeforeValidator(_written_out)]


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


@router.get("/v1/audit/export", status_code=200, response_class=StreamingResponse, responses={200: _LINES})
async def export_audit_log(
    services: GivenServices,
    caller: AuditReader,
    since: Annotated[Moment | None, Query(description="Entries of this moment and later.")] = None,
    until: Annotated[Moment | None, Query(description="Entries before this moment.")] = None,
    hub_id: Id = None,
    client_id: Id = None,
    action: Id = None,
    outcome: Outcome | None = None,
) -> Response:
    """Export what the caller may see as JSON lines, oldest first; the last line signs the others.

    Check the file offline with `thalovant-server verify-audit`.
    """
    await audit.catch_up(services)
    same = {"hub_id": hub_id, "client_id": client_id, "action": action, "outcome": outcome}
    moments = {"since": micros(since), "until": micros(until)}
    asked = {**same, **{name: None if at is None else time_text(at) for name, at in moments.items()}}
    writer = ExportWriter(await audit.signing_key(services), {**asked, **audit.bounds(caller)})
    wanted = Wanted(hub_id=hub_id, client_id=client_id, action=action, outcome=outcome, **moments)
    lines = audit.export(services, caller, wanted, writer)
    return StreamingResponse(lines, media_type=JSON_LINES, headers=HEADERS)


@router.get("/v1/audit/key", responses=told(AuditKey))
async def audit_key(services: GivenServices) -> Response:
    """Give the public key that exports of this server's audit log are signed with. It is no secret."""
    return Json({"algorithm": "Ed25519", "public_key": public_key(await audit.signing_key(services))})


def micros(moment: datetime | None) -> int | None:
    """Return a moment as it is stored; one without a time zone is UTC, one that no entry can have the nearest."""
    if moment is None:
        return None
    aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return max(0, min((aware - EPOCH) // timedelta(microseconds=1), LAST_MICROS))
