# SPDX-License-Identifier: Apache-2.0
"""What became of a credential, found by its access key: for whoever holds an identity that is refused.

Answers only the owner of the client or of its hub; of anybody else's it says no more than of one that never was.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from thalovant_server import hub_spec
from thalovant_server.control import operations
from thalovant_server.control.answers import time_text
from thalovant_server.control.callers import Caller
from thalovant_server.control.client_resource import credential_shown, read_whole
from thalovant_server.control.services import Services
from thalovant_server.errors import ApiError
from thalovant_server.store import client_credentials, clients, former_credentials, hubs
from thalovant_server.store import operations as rows
from thalovant_server.store.client_credentials import CredentialRecord
from thalovant_server.store.former_credentials import FormerCredential
from thalovant_server.store.hubs import HubRecord


async def look_up(services: Services, caller: Caller, access_key: str) -> dict[str, Any]:
    """Return whether a credential is live, in its grace or ended and why, with its client and hub as they are now.

    Raises:
        ApiError: 404 `credential_not_found`: never seen here, or not the caller's.
    """
    async with services.database.read() as connection:
        live = await client_credentials.by_access_key(connection, access_key)
        if live is not None:
            return await _of_row(connection, services, caller, live)
        former = await former_credentials.find(connection, services.database.sealer, access_key)
        if former is None:
            raise _not_found()
        return await _of_former(connection, services, caller, former)


async def _of_row(
    connection: AsyncConnection, services: Services, caller: Caller, live: CredentialRecord
) -> dict[str, Any]:
    client = await clients.by_id(connection, live.client_id)
    hub = None if client is None else await hubs.by_id(connection, client.hub_id)
    if client is None or hub is None:  # removed since the row was read
        raise _not_found()
    _check(caller, client.owner_id, client.hub_id, hub)
    over = live.is_over(services.clock())
    status = "ended" if over else "live" if live.expires_at is None else "grace"
    return {
        "status": status,
        "why": "rotated" if over else None,
        "ended_at": time_text(live.expires_at) if over and live.expires_at is not None else None,
        "client": await read_whole(connection, services, client),
        "credential": None if over else credential_shown(live, services.uses),
        "hub": _hub_shown(hub),
        "broker": None if over else await _at_broker(connection, services, live, hub),
    }


async def _at_broker(
    connection: AsyncConnection, services: Services, live: CredentialRecord, hub: HubRecord
) -> dict[str, Any] | None:
    """How far the outside broker is with the credential; None where the hub has no MQTT there."""
    if "mqtt" not in hub_spec.carriers(hub.spec) or hub_spec.mqtt_via(hub.spec) != "link":
        return None
    begun = await rows.latest_of(connection, live.id)
    return {
        "admitted": None if services.admission is None else await services.admission.has(live.id, 0.0),
        "operation": None if begun is None else operations.shown(begun),
    }


async def _of_former(
    connection: AsyncConnection, services: Services, caller: Caller, former: FormerCredential
) -> dict[str, Any]:
    client = await clients.by_id(connection, former.client_id)
    hub = await hubs.by_id(connection, former.hub_id)
    _check(caller, former.owner_id, former.hub_id, hub)
    return {
        "status": "ended",
        "why": former.why,
        "ended_at": time_text(former.ended_at),
        "client": None if client is None else await read_whole(connection, services, client),
        "credential": None,
        "hub": None if hub is None else _hub_shown(hub),
        "broker": None,
    }


def _check(caller: Caller, owner_id: str, hub_id: str, hub: HubRecord | None) -> None:
    owns_hub = hub is not None and caller.owns(hub.owner_id, hub.id)
    if not owns_hub and not caller.owns(owner_id, hub_id):
        raise _not_found()


def _hub_shown(hub: HubRecord) -> dict[str, Any]:
    protocols = sorted(hub_spec.carriers(hub.spec))
    return {"id": hub.id, "slug": hub.slug, "name": hub.name, "active": hub.active, "protocols": protocols}


def _not_found() -> ApiError:
    return ApiError(404, "This access key was never seen here, or is not yours", "credential_not_found")
