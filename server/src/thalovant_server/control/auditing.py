# SPDX-License-Identifier: Apache-2.0
"""What the control plane writes into the audit log: each change, in the transaction that makes it.

So there is an entry for a change exactly when there is the change. Holds no secret: `before` and `after` are made of
what the API shows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from thalovant_server.control.callers import Caller
from thalovant_server.store import audit
from thalovant_server.store.audit import AuditEntry, TargetKind
from thalovant_server.store.clients import ClientRecord
from thalovant_server.store.hubs import HubRecord

_MOVES_ALWAYS = ("etag", "updated_at")


@dataclass(frozen=True, slots=True)
class Target:
    """What an action was done to. `owner_id`: of the hub, the client or the account; it may read the entry."""

    kind: TargetKind
    id: str
    name: str
    owner_id: str | None
    hub_id: str | None = None
    client_id: str | None = None


def hub_target(hub: HubRecord) -> Target:
    """Return a hub as the target of an action."""
    return Target("hub", hub.id, hub.name, hub.owner_id, hub_id=hub.id)


def client_target(client: ClientRecord) -> Target:
    """Return a client as the target of an action."""
    return Target("client", client.id, client.name, client.owner_id, hub_id=client.hub_id, client_id=client.id)


async def record(
    connection: AsyncConnection,
    caller: Caller,
    action: str,
    target: Target,
    *,
    at: int,
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
) -> None:
    """Record that the caller did ``action``, such as ``client.removed``, in the transaction that did it.

    Args:
        connection: of that transaction.
        caller: who did it.
        action: the kind of target, a dot, and what happened to it.
        target: what it was done to.
        at: microseconds since 1970.
        before: the resource as the API showed it before; of a change, `changes` keeps what differs.
        after: the same after.
    """
    entry = AuditEntry(
        at=at,
        action=action,
        outcome="done",
        actor_kind="account",
        actor_id=caller.id,
        actor_name=caller.account.email,
        token_id=caller.token_id,
        target_kind=target.kind,
        target_id=target.id,
        target_name=target.name,
        hub_id=target.hub_id,
        client_id=target.client_id,
        owner_id=target.owner_id,
        address=caller.address,
        before=None if before is None else dict(before),
        after=None if after is None else dict(after),
    )
    await audit.add(connection, [entry])


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what two states of a resource do not have in common, of each; etag and time of change left out."""
    names = [name for name in {**before, **after} if name not in _MOVES_ALWAYS and before.get(name) != after.get(name)]
    return {name: before.get(name) for name in names}, {name: after.get(name) for name in names}
