# SPDX-License-Identifier: Apache-2.0
"""Operations as a resource: begun with what they are about, shown, brought up to date (contract 1.6, 4.2)."""

from __future__ import annotations

from functools import partial
from typing import Any, Literal

import orjson
from sqlalchemy.ext.asyncio import AsyncConnection

from thalovant_server.control.answers import time_text
from thalovant_server.control.callers import Caller
from thalovant_server.control.hubs import owns_client_or_hub
from thalovant_server.control.operation_keeper import ALLOWED_MICROSECONDS
from thalovant_server.control.services import Services
from thalovant_server.errors import ApiError
from thalovant_server.identifiers import new_id
from thalovant_server.store import operations
from thalovant_server.store.clients import ClientRecord
from thalovant_server.store.database import Transaction
from thalovant_server.store.operations import OperationRecord

WAIT_SECONDS = 0.25
"""How long an answer waits for a broker that has nothing else to do; people do not notice it."""
Kind = Literal["client.admission", "credential.admission"]


def shown(operation: OperationRecord) -> dict[str, Any]:
    """Return an operation, all sixteen members."""
    ended = None if operation.terminal_at is None else time_text(operation.terminal_at)
    ready = ended if operation.status == "ready" else None
    return {
        "id": operation.id,
        "kind": operation.kind,
        "aggregate_type": "client",
        "aggregate_id": operation.client_id,
        "status": operation.status,
        "details": {"hub_id": operation.hub_id, "client_id": operation.client_id, "credential": operation.number},
        "git_commit_sha": None,
        "error_code": operation.error_code,
        "error_message": operation.error_message,
        "created_at": time_text(operation.created_at),
        "updated_at": time_text(operation.updated_at),
        "committed_at": time_text(operation.created_at),
        "applied_at": ready,
        "ready_at": ready,
        "terminal_at": ended,
        "links": {"self": f"/v1/operations/{operation.id}", "client": f"/v1/clients/{operation.client_id}"},
    }


async def begin(
    services: Services, transaction: Transaction, client: ClientRecord, credential_id: int, now: int
) -> OperationRecord:
    """Begin to have the credential that was just made taken up by the outside broker."""
    kind: Kind = "client.admission" if client.credentials_made == 1 else "credential.admission"
    record = OperationRecord(
        id=new_id("op"),
        kind=kind,
        status="requested",
        owner_id=client.owner_id,
        hub_id=client.hub_id,
        client_id=client.id,
        credential_id=credential_id,
        number=client.credentials_made,
        error_code=None,
        error_message=None,
        created_at=now,
        updated_at=now,
        deadline_at=now + ALLOWED_MICROSECONDS,
        terminal_at=None,
    )
    await operations.add(transaction.connection, record)
    transaction.after_commit(partial(services.operations.watch, record))
    return record


async def visible(connection: AsyncConnection, caller: Caller, operation_id: str) -> OperationRecord:
    """Return an operation on a client that the caller, or the owner of its hub, may see.

    Raises:
        ApiError: 404.
    """
    found = await operations.by_id(connection, operation_id)
    if found is None or not await owns_client_or_hub(connection, caller, found.owner_id, found.hub_id):
        raise ApiError(404, "Operation not found", "operation_not_found")
    return found


async def up_to_date(services: Services, answer: bytes, *, is_quiet: bool) -> bytes:
    """Return an answer that was just committed, or is repeated, with its operation, if it has one, as it is now.

    Args:
        services: the parts behind the API.
        answer: JSON.
        is_quiet: the broker had nothing else to do before: it is waited for, for a moment.
    """
    told = orjson.loads(answer)
    operation_id = told["operation"]["id"] if "operation" in told else None
    found = await _read(services, operation_id)
    if found is None:
        return answer
    if is_quiet and found.status == "requested":
        await services.operations.wait_for(found.credential_id, WAIT_SECONDS)
        found = await _read(services, operation_id) or found
    return orjson.dumps({**told, "operation": shown(found)})


async def _read(services: Services, operation_id: str | None) -> OperationRecord | None:
    if operation_id is None:
        return None
    async with services.database.read() as connection:
        return await operations.by_id(connection, operation_id)
