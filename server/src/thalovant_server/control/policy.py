# SPDX-License-Identifier: Apache-2.0
"""What a client may do: shown, and changed for its live sessions too.

It is kept in the client's `spec`, which is the one place that says it; what the spec does not say is the preset's
(`client_presets`). A change ends no session: the next message of each is judged by it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import orjson
from sqlalchemy.ext.asyncio import AsyncConnection

from thalovant_server import client_spec
from thalovant_server.client_presets import preset_of
from thalovant_server.control.answers import check_etag, etag
from thalovant_server.control.auditing import changes, client_target, record
from thalovant_server.control.callers import Caller
from thalovant_server.control.clients import visible_client
from thalovant_server.control.hubs import ownership_required
from thalovant_server.control.schemas import PolicyChange
from thalovant_server.control.services import Services
from thalovant_server.daily_usage import DailyUsage, day_text
from thalovant_server.directory import Directory, Permissions
from thalovant_server.spec_bounds import check_bounds
from thalovant_server.store import clients, hubs
from thalovant_server.store.clients import ClientRecord
from thalovant_server.store.database import Transaction

_KEYS = ("connection_type", *client_spec.POLICY_KEYS)


def shown(client: ClientRecord, usage: DailyUsage) -> dict[str, Any]:
    """Return a client's policy as it is in force, and what it used of it today."""
    day, used = usage.day, usage.used(client.id)
    return {
        "client_id": client.id,
        "etag": etag(client.revision),
        **policy_of(client.spec),
        "usage": {"day": day_text(day), "used": used},
    }


def policy_of(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a spec comes to, as the API writes it."""
    permissions, kind = client_spec.permissions(spec), spec.get("connection_type")
    rate = permissions.rate_limit
    return {
        "connection_type": kind,
        "preset": preset_of(kind),
        **{key: sorted(getattr(permissions, key)) for key in client_spec.LISTS},
        **{key: getattr(permissions, key) for key in client_spec.GRANTS},
        "rate_limit": None if rate is None else {"messages": rate.messages, "per_seconds": rate.per_seconds},
        "daily_quota": permissions.daily_quota,
    }


async def change(services: Services, caller: Caller, client_id: str, body: PolicyChange, if_match: str | None) -> bytes:
    """Change a client's policy; return it as it is now, as the JSON answer. What changes nothing moves no etag.

    Raises:
        ApiError: 403, the hub is somebody else's; 404; 412.
        ForbiddenTextError: a part of it is not usable.
    """
    wanted = body.model_dump(include=body.model_fields_set & set(_KEYS))
    client_spec.check_permissions(wanted, where="")

    async def work(transaction: Transaction) -> bytes:
        connection = transaction.connection
        client = await _changeable(connection, caller, client_id)
        check_etag(if_match, client.revision)
        spec = _laid_over(client.spec, wanted)
        if spec != client.spec:
            client = await _write(services, transaction, caller, client, spec)
        return orjson.dumps(shown(client, services.usage))

    return await services.database.write(work)


def follow(directory: Directory, client_id: str, permissions: Permissions) -> None:
    """Have a client's credentials, and so its live sessions, do what these permissions say from now on."""
    for entry in directory.credentials_of(client_id):
        directory.put_credential(replace(entry, permissions=permissions))


async def _changeable(connection: AsyncConnection, caller: Caller, client_id: str) -> ClientRecord:
    """A client whose policy is the caller's to change: it owns the hub, and not just the client."""
    client = await visible_client(connection, caller, client_id)
    hub = await hubs.by_id(connection, client.hub_id)
    if hub is None or not caller.owns(hub.owner_id, hub.id):
        raise ownership_required()
    return client


def _laid_over(spec: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    """The spec with what is wanted; null takes a key away, so that the preset's holds again."""
    result = {**spec, **wanted}
    result = {key: value for key, value in result.items() if value is not None or key not in wanted}
    check_bounds(result)
    return result


async def _write(
    services: Services, transaction: Transaction, caller: Caller, client: ClientRecord, spec: dict[str, Any]
) -> ClientRecord:
    connection, now = transaction.connection, services.clock()
    values = {"spec": spec, "revision": client.revision + 1, "updated_at": now}
    changed = await clients.change(connection, client.id, values)
    before, after = changes(policy_of(client.spec), policy_of(spec))
    target = client_target(client)
    await record(connection, caller, "policy.changed", target, at=now, before=before, after=after)
    permissions = client_spec.permissions(spec)
    transaction.after_commit(partial(follow, services.directory, client.id, permissions))
    return changed
