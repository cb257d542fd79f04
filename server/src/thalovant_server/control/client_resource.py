# SPDX-License-Identifier: Apache-2.0
"""A client as its owner sees it, with its credentials and when each was used last; never a secret (contract 4.1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from thalovant_server.control.answers import etag, time_text
from thalovant_server.control.services import Services
from thalovant_server.last_use import LastUses
from thalovant_server.store import client_credentials
from thalovant_server.store.client_credentials import CredentialRecord, Use
from thalovant_server.store.clients import ClientRecord


def shown(client: ClientRecord, *, with_spec: bool = True) -> dict[str, Any]:
    """Return a client without its credentials, as the audit log keeps it."""
    resource = {
        "id": client.id,
        "hub_id": client.hub_id,
        "name": client.name,
        "active": client.active,
        "owner_id": client.owner_id,
        "etag": etag(client.revision),
        "created_at": time_text(client.created_at),
        "updated_at": time_text(client.updated_at),
    }
    return {**resource, "spec": client.spec} if with_spec else resource


def whole(
    client: ClientRecord, credentials: Sequence[CredentialRecord], uses: LastUses, *, with_spec: bool = True
) -> dict[str, Any]:
    """Return a client with its live credentials, the newest last."""
    shown_credentials = [credential_shown(each, uses) for each in credentials]
    return {**shown(client, with_spec=with_spec), "credentials": shown_credentials}


async def read_whole(connection: AsyncConnection, services: Services, client: ClientRecord) -> dict[str, Any]:
    """Return a client with the credentials that it has now."""
    live = await client_credentials.of_client(connection, client.id, services.clock())
    return whole(client, live, services.uses)


def credential_shown(credential: CredentialRecord, uses: LastUses) -> dict[str, Any]:
    """Return a live credential, without its secrets."""
    return {
        **life_shown(credential),
        "created_at": time_text(credential.created_at),
        "mqtt": credential.has_mqtt,
        "key_pinned": credential.key_pinned,
        "topic_prefix": credential.topic_prefix,
        "last_used": use_shown(uses.last(credential)),
    }


def life_shown(credential: CredentialRecord) -> dict[str, Any]:
    """Return which credential of its client this is, and whether and when it ends."""
    end = credential.expires_at
    return {
        "number": credential.number,
        "state": "current" if end is None else "grace",
        "expires_at": None if end is None else time_text(end),
    }


def use_shown(use: Use | None) -> dict[str, Any] | None:
    """Return when, over which carrier and from where a credential was used last; None: never."""
    return None if use is None else {"at": time_text(use.at), "carrier": use.carrier, "address": use.address}
