# SPDX-License-Identifier: Apache-2.0
"""What the control plane writes into the audit log: each change, in the transaction that makes it.

So there is an entry for a change exactly when there is the change. Holds no secret: `before` and `after` are made of
what the API shows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from sqlalchemy.ext.asyncio import AsyncConnection

from thalovant_server.control.answers import time_text
from thalovant_server.store import audit
from thalovant_server.store.accounts import AccountRecord
from thalovant_server.store.audit import AuditEntry, TargetKind
from thalovant_server.store.clients import ClientRecord
from thalovant_server.store.hubs import HubRecord
from thalovant_server.store.tokens import TokenRecord

if TYPE_CHECKING:
    from thalovant_server.control.callers import Caller

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


def account_target(account: AccountRecord) -> Target:
    """Return an account as the target of an action."""
    return Target("account", account.id, account.email, account.id)


def token_target(token: TokenRecord) -> Target:
    """Return a token as the target of an action; a session has no name of its own."""
    return Target("token", token.id, token.name or token.kind, token.account_id)


def audited_token(token: TokenRecord) -> dict[str, Any]:
    """Return what the audit log keeps of a token: all but the token."""
    good_for = {"hub_ids": token.hub_ids, "expires_at": time_text(token.expires_at) if token.expires_at else None}
    return {"kind": token.kind, "name": token.name, "scopes": token.scopes.split(), **good_for}


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
    actor = AuditEntry(
        at=at,
        action=action,
        outcome="done",
        actor_kind="account",
        actor_id=caller.id,
        actor_name=caller.account.email,
        token_id=caller.token_id or None,
        address=caller.address,
    )
    await audit.add(connection, [_about(actor, target, before, after)])


async def record_own(
    connection: AsyncConnection,
    action: str,
    target: Target,
    *,
    at: int,
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
) -> None:
    """Record what the server did by itself, such as the end of a grace; the arguments are those of `record`."""
    await audit.add(connection, [own_entry(action, target, at=at, before=before, after=after)])


def own_entry(
    action: str,
    target: Target,
    *,
    at: int,
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
) -> AuditEntry:
    """Return the entry of `record_own`, for those who write several at once."""
    actor = AuditEntry(at=at, action=action, outcome="done", actor_kind="server")
    return _about(actor, target, before, after)


def _about(
    actor: AuditEntry, target: Target, before: Mapping[str, Any] | None, after: Mapping[str, Any] | None
) -> AuditEntry:
    return replace(
        actor,
        target_kind=target.kind,
        target_id=target.id,
        target_name=target.name,
        hub_id=target.hub_id,
        client_id=target.client_id,
        owner_id=target.owner_id,
        before=None if before is None else dict(before),
        after=None if after is None else dict(after),
    )


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what two states of a resource do not have in common, of each; etag and time of change left out.

    Of an object within, such as a spec, only the members that differ; None stands for one that is not there.
    """
    old: dict[str, Any] = {}
    new: dict[str, Any] = {}
    for name in {**before, **after}:
        was, now = before.get(name), after.get(name)
        if name in _MOVES_ALWAYS or was == now:
            continue
        old[name], new[name] = changes(was, now) if isinstance(was, dict) and isinstance(now, dict) else (was, now)
    return old, new
