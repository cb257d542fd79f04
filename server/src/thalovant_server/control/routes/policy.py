# SPDX-License-Identifier: Apache-2.0
"""Routes of what a client may do: types, grants, block-lists, limits (data-plane contract 11)."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header, Response

from thalovant_server.control import clients, policy
from thalovant_server.control.answers import Json
from thalovant_server.control.callers import ClientsReader, ClientsWriter
from thalovant_server.control.openapi import told
from thalovant_server.control.resources import Policy
from thalovant_server.control.schemas import PolicyChange
from thalovant_server.control.services import GivenServices

router = APIRouter(tags=["clients"])


@router.get("/v1/clients/{client_id}/policy", responses=told(Policy, 404))
async def get_policy(services: GivenServices, caller: ClientsReader, client_id: str) -> Response:
    """Show what a client may do, and how many asks it made today."""
    async with services.database.read() as connection:
        client = await clients.visible_client(connection, caller, client_id)
    return Json(policy.shown(client, services.usage))


@router.patch("/v1/clients/{client_id}/policy", responses=told(Policy, 404, 412))
async def change_policy(
    services: GivenServices,
    caller: ClientsWriter,
    client_id: str,
    body: PolicyChange,
    if_match: Annotated[str | None, Header()] = None,
) -> Response:
    """Change what a client may do; its sessions follow at once. Needs the client's etag as If-Match.

    It is the hub's owner's to change. What the body leaves out stays as it is; null goes back to the preset of the
    client's `connection_type`.
    """
    return Json(await policy.change(services, caller, client_id, body, if_match))
