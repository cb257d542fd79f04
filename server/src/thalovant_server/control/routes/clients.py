# SPDX-License-Identifier: Apache-2.0
"""Routes of clients (contract 3.4, 4.1)."""

from __future__ import annotations

from functools import partial
from typing import Annotated

from fastapi import APIRouter, Header, Query, Response

from thalovant_server.control import clients, hubs
from thalovant_server.control.answers import HEADERS, Json, page, rows_on_a_page, seq_of
from thalovant_server.control.callers import ClientsReader, ClientsWriter
from thalovant_server.control.openapi import told
from thalovant_server.control.replay import IdempotencyKey, repeatable
from thalovant_server.control.resources import Client, NewClientAnswer, Page
from thalovant_server.control.schemas import NewClient
from thalovant_server.control.services import GivenServices
from thalovant_server.store import clients as rows

router = APIRouter(tags=["clients"])


@router.post("/v1/clients", status_code=201, responses=told(NewClientAnswer, 404, 409))
async def create_client(
    services: GivenServices, caller: ClientsWriter, body: NewClient, idempotency_key: IdempotencyKey = None
) -> Response:
    """Make a client; the answer holds its credentials, this once (and for a replay of the same key)."""
    request = repeatable(caller, "POST /v1/clients", idempotency_key, body.model_dump())
    return Json(await clients.create(services, caller, body, request), 201)


@router.get("/v1/clients", responses=told(Page[Client]))
async def list_clients(
    services: GivenServices,
    caller: ClientsReader,
    limit: Annotated[int, Query(ge=1)] = 100,
    cursor: Annotated[str | None, Query(max_length=64)] = None,
    hub_id: str | None = None,
    owner_id: str | None = None,
    include_spec: bool = True,
) -> Response:
    """List the caller's clients and those of the caller's hubs, oldest first; an admin sees everybody's."""
    if owner_id is not None and not caller.speaks_for(owner_id):
        raise hubs.ownership_required()
    limit = rows_on_a_page(limit)
    async with services.database.read() as connection:
        found = await rows.page(
            connection,
            after=seq_of(cursor),
            limit=limit + 1,
            hub_id=hub_id,
            owner_id=owner_id,
            visible_to=None if caller.is_admin else caller.id,
            only_hubs=caller.hub_ids,
        )
    spec_left_out = None if include_spec else "false"
    filters = {"hub_id": hub_id, "owner_id": owner_id, "include_spec": spec_left_out}
    return page(found, limit, partial(clients.shown, with_spec=include_spec), "/v1/clients", filters)


@router.get("/v1/clients/{client_id}", responses=told(Client, 404))
async def get_client(services: GivenServices, caller: ClientsReader, client_id: str) -> Response:
    """Show one client, without its credentials."""
    async with services.database.read() as connection:
        client = await clients.visible_client(connection, caller, client_id)
    return Json(clients.shown(client))


@router.delete("/v1/clients/{client_id}", status_code=204, responses=told(None, 404, 412))
async def remove_client(
    services: GivenServices,
    caller: ClientsWriter,
    client_id: str,
    if_match: Annotated[str | None, Header()] = None,
) -> Response:
    """Remove a client; it is cut off at once. Needs the client's etag as If-Match."""
    await clients.remove(services, caller, client_id, if_match)
    return Response(status_code=204, headers=HEADERS)


@router.post("/v1/clients/{client_id}/credentials/{number}/reset-key", status_code=204, responses=told(None, 404))
async def reset_key(services: GivenServices, caller: ClientsWriter, client_id: str, number: int) -> Response:
    """Forget the Noise key pinned for a credential, the first being 1: the next key is pinned anew. May be repeated."""
    await clients.reset_key(services, caller, client_id, number)
    return Response(status_code=204, headers=HEADERS)
