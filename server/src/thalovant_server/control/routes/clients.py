# SPDX-License-Identifier: Apache-2.0
"""Routes of clients (contract 3.4, 4.1)."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Response

from thalovant_server.control import clients, hubs, lookup, rotation
from thalovant_server.control.answers import HEADERS, Json, page, rows_on_a_page, seq_of
from thalovant_server.control.callers import ClientsReader, ClientsWriter
from thalovant_server.control.client_resource import read_whole, whole
from thalovant_server.control.openapi import told
from thalovant_server.control.replay import IdempotencyKey, repeatable
from thalovant_server.control.resources import Client, CredentialFate, NewClientAnswer, Page
from thalovant_server.control.schemas import AccessKey, ClientChange, NewClient, Rotation, RotationEnd
from thalovant_server.control.services import GivenServices
from thalovant_server.store import client_credentials
from thalovant_server.store import clients as rows
from thalovant_server.store.clients import ClientRecord

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
    limit, now = rows_on_a_page(limit), services.clock()
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
        live = await client_credentials.of_clients(connection, [each.id for each in found], now)

    def shown(client: ClientRecord) -> dict[str, Any]:
        return whole(client, live.get(client.id, []), services.uses, with_spec=include_spec)

    spec_left_out = None if include_spec else "false"
    filters = {"hub_id": hub_id, "owner_id": owner_id, "include_spec": spec_left_out}
    return page(found, limit, shown, "/v1/clients", filters)


@router.get("/v1/clients/{client_id}", responses=told(Client, 404))
async def get_client(services: GivenServices, caller: ClientsReader, client_id: str) -> Response:
    """Show one client and when its credentials were used last; no secret."""
    async with services.database.read() as connection:
        client = await clients.visible_client(connection, caller, client_id)
        return Json(await read_whole(connection, services, client))


@router.patch("/v1/clients/{client_id}", responses=told(Client, 400, 404, 412))
async def update_client(
    services: GivenServices,
    caller: ClientsWriter,
    client_id: str,
    body: ClientChange,
    if_match: Annotated[str | None, Header()] = None,
) -> Response:
    """Change a client, or pause and resume it; sessions follow at once. Needs the client's etag as If-Match."""
    return Json(await clients.change(services, caller, client_id, body, if_match))


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


@router.post("/v1/clients/{client_id}/rotate", status_code=201, responses=told(NewClientAnswer, 404, 409))
async def rotate_client(
    services: GivenServices,
    caller: ClientsWriter,
    client_id: str,
    body: Rotation | None = None,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Give a client a new credential; the old one works on for the grace. The answer holds the new one, this once."""
    body = body or Rotation()
    payload = {**body.model_dump(), "client_id": client_id, "spec": body.spec or {}}
    request = repeatable(caller, "POST /v1/clients/{id}/rotate", idempotency_key, payload)
    return Json(await rotation.rotate(services, caller, client_id, body, request), 201)


@router.post("/v1/clients/{client_id}/rotate/finish", responses=told(Client, 404, 409))
async def finish_rotation(
    services: GivenServices, caller: ClientsWriter, client_id: str, body: RotationEnd | None = None
) -> Response:
    """End a rotation's grace now. Refused while the new credential has never been used, unless forced."""
    return Json(await rotation.finish(services, caller, client_id, force=body is not None and body.force))


@router.post("/v1/clients/{client_id}/rotate/cancel", responses=told(Client, 404, 409))
async def cancel_rotation(services: GivenServices, caller: ClientsWriter, client_id: str) -> Response:
    """Drop the credential that a rotation made; the old one is good without an end again."""
    return Json(await rotation.cancel(services, caller, client_id))


@router.post("/v1/clients/lookup", responses=told(CredentialFate, 404))
async def look_up_credential(services: GivenServices, caller: ClientsReader, body: AccessKey) -> Response:
    """Say what became of a credential of one's own, by its access key; those that ended are known for 400 days."""
    return Json(await lookup.look_up(services, caller, body.access_key))


@router.post("/v1/clients/{client_id}/credentials/{number}/reset-key", status_code=204, responses=told(None, 404))
async def reset_key(services: GivenServices, caller: ClientsWriter, client_id: str, number: int) -> Response:
    """Forget the Noise key pinned for a credential, the first being 1: the next key is pinned anew. May be repeated."""
    await clients.reset_key(services, caller, client_id, number)
    return Response(status_code=204, headers=HEADERS)
