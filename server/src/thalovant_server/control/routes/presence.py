# SPDX-License-Identifier: Apache-2.0
"""Routes of presence: who is online."""

from __future__ import annotations

from functools import partial
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response

from thalovant_server.control import clients, presence, scopes
from thalovant_server.control.answers import Json, page, rows_on_a_page, seq_of
from thalovant_server.control.callers import ClientsReader, call_again
from thalovant_server.control.openapi import told
from thalovant_server.control.resources import ClientPresence, Page
from thalovant_server.control.services import GivenServices
from thalovant_server.errors import ApiError, StorageError
from thalovant_server.store import clients as rows

router = APIRouter(tags=["presence"])

HubReference = Annotated[str, Path(description="Id or slug.")]

_STREAM = {
    "content": {
        "text/event-stream": {
            "schema": {
                "type": "string",
                "description": "Server-sent events. `presence`: the data is a ClientPresence; `ready`: every client "
                "was told once, what follows are changes; `overflow`: read too slowly, the stream ends.",
            }
        }
    }
}


@router.get("/v1/hubs/{hub_id}/presence", responses=told(Page[ClientPresence], 404))
async def list_presence(
    services: GivenServices,
    caller: ClientsReader,
    hub_id: HubReference,
    limit: Annotated[int, Query(ge=1)] = 100,
    cursor: Annotated[str | None, Query(max_length=64)] = None,
) -> Response:
    """Tell of each client of a hub whether it is online, oldest client first. For the hub's owner."""
    limit, after = rows_on_a_page(limit), seq_of(cursor)
    async with services.database.read() as connection:
        hub = await presence.own_hub(connection, caller, hub_id)
        found = await rows.page(connection, after=after, limit=limit + 1, hub_id=hub.id)
    return page(found, limit, partial(_shown, services), f"/v1/hubs/{hub.id}/presence", {})


@router.get(
    "/v1/hubs/{hub_id}/presence/events",
    status_code=200,
    response_class=presence.EventStream,
    responses={200: _STREAM, 404: {}, 429: {}},
)
async def watch_presence(
    request: Request, services: GivenServices, caller: ClientsReader, hub_id: HubReference
) -> Response:
    """Tell of each client of a hub whether it is online, then of each change, as server-sent events.

    The stream ends when the server goes down, the hub is removed, or the caller may no longer see it.
    """
    async with services.database.read() as connection:
        hub = await presence.own_hub(connection, caller, hub_id)

    async def still_good() -> bool:
        try:
            again = await call_again(request, services, scopes.CLIENTS_READ)
            async with services.database.read() as connection:
                await presence.own_hub(connection, again, hub.id)
        except ApiError:
            return False
        except StorageError:  # nothing can be revoked now either: it is asked again at the next comment
            return True
        return True

    return presence.EventStream(services, presence.watch(services, caller, hub.id), still_good)


@router.get("/v1/clients/{client_id}/presence", responses=told(ClientPresence, 404))
async def get_presence(services: GivenServices, caller: ClientsReader, client_id: str) -> Response:
    """Tell whether a client is online."""
    async with services.database.read() as connection:
        client = await clients.visible_client(connection, caller, client_id)
    return Json(_shown(services, client))


def _shown(services: GivenServices, client: rows.ClientRecord) -> dict[str, object]:
    return presence.shown(presence.of(services, client))
