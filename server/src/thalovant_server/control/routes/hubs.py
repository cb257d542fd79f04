# SPDX-License-Identifier: Apache-2.0
"""Routes of hubs, for their owners and for the public (contract 3.2, 3.3, 4.3)."""

from __future__ import annotations

from functools import partial
from typing import Annotated

from fastapi import APIRouter, Header, Path, Query, Response

from thalovant_server.control import hubs
from thalovant_server.control.answers import HEADERS, Json, page, rows_on_a_page, seq_of
from thalovant_server.control.callers import HubsReader, HubsWriter
from thalovant_server.control.openapi import told
from thalovant_server.control.replay import IdempotencyKey, repeatable
from thalovant_server.control.resources import Hub, Page, PublicHub
from thalovant_server.control.schemas import HubChange, NewHub
from thalovant_server.control.services import GivenServices
from thalovant_server.store import hubs as rows

router = APIRouter(tags=["hubs"])

PublicLimit = Annotated[int, Query(ge=1)]
Cursor = Annotated[str | None, Query(max_length=64)]
IfMatch = Annotated[str | None, Header()]


@router.get("/v1/public/hubs", responses=told(Page[PublicHub]))
async def list_public_hubs(services: GivenServices, limit: PublicLimit = 24, cursor: Cursor = None) -> Response:
    """List the hubs that are public and active, oldest first."""
    limit = rows_on_a_page(limit)
    async with services.database.read() as connection:
        found = await rows.public_page(connection, after=seq_of(cursor), limit=limit + 1)
    present = partial(hubs.publicly_shown, endpoints=services.endpoints)
    return page(found, limit, present, "/v1/public/hubs", {})


@router.get("/v1/public/hubs/{reference}", responses=told(PublicHub, 404))
async def get_public_hub(services: GivenServices, reference: str) -> Response:
    """Show a public, active hub by slug or id."""
    async with services.database.read() as connection:
        hub = await hubs.referred_hub(connection, reference, hubs.is_public)
    return Json(hubs.publicly_shown(hub, services.endpoints))


@router.get("/v1/hubs", responses=told(Page[Hub]))
async def list_hubs(
    services: GivenServices,
    caller: HubsReader,
    limit: PublicLimit = 100,
    cursor: Cursor = None,
    owner_id: str | None = None,
) -> Response:
    """List the caller's hubs, oldest first; an admin sees everybody's."""
    if owner_id is not None and not caller.speaks_for(owner_id):
        raise hubs.ownership_required()
    limit, owner = rows_on_a_page(limit), owner_id if caller.is_admin else caller.id
    async with services.database.read() as connection:
        found = await rows.page(connection, after=seq_of(cursor), limit=limit + 1, owner_id=owner, only=caller.hub_ids)
    present = partial(hubs.shown, endpoints=services.endpoints)
    return page(found, limit, present, "/v1/hubs", {"owner_id": owner_id})


@router.get("/v1/hubs/{hub_id}", responses=told(Hub, 404))
async def get_hub(
    services: GivenServices, caller: HubsReader, hub_id: Annotated[str, Path(description="Id or slug.")]
) -> Response:
    """Show one hub, by id or slug."""
    async with services.database.read() as connection:
        hub = await hubs.referred_hub(connection, hub_id, partial(hubs.may_see, caller))
    return Json(hubs.shown_to(caller, hub, services.endpoints))


@router.post("/v1/hubs", status_code=201, responses=told(Hub, 409))
async def create_hub(
    services: GivenServices, caller: HubsWriter, body: NewHub, idempotency_key: IdempotencyKey = None
) -> Response:
    """Make a hub."""
    request = repeatable(caller, "POST /v1/hubs", idempotency_key, body.model_dump())
    return Json(await hubs.create(services, caller, body, request), 201)


@router.patch("/v1/hubs/{hub_id}", responses=told(Hub, 400, 404, 409, 412))
async def change_hub(
    services: GivenServices, caller: HubsWriter, hub_id: str, body: HubChange, if_match: IfMatch = None
) -> Response:
    """Change a hub; `spec` is merged key by key. Needs the hub's etag as If-Match."""
    return Json(await hubs.change(services, caller, hub_id, body, if_match))


@router.delete("/v1/hubs/{hub_id}", status_code=204, responses=told(None, 404, 412))
async def remove_hub(services: GivenServices, caller: HubsWriter, hub_id: str, if_match: IfMatch = None) -> Response:
    """Remove a hub and its clients. Needs the hub's etag as If-Match."""
    await hubs.remove(services, caller, hub_id, if_match)
    return Response(status_code=204, headers=HEADERS)
