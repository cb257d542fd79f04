# SPDX-License-Identifier: Apache-2.0
"""The audit log as rows: who did what to which hub or client, before and after, from where. Only ever added to.

Triggers of the database refuse a change and a removal. Holds no secret: whoever records an entry leaves them out.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from thalovant_server.store.tables import audit

Outcome = Literal["done", "denied"]
ActorKind = Literal["account", "client", "server", "nobody"]
TargetKind = Literal["hub", "client", "credential", "account", "token"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry:
    """One entry. `owner_id` is whose hub or account it is about: that account may read it, as admins may.

    `times`: of a denial, how often it came since the entry before.
    """

    at: int
    action: str
    outcome: Outcome
    actor_kind: ActorKind
    actor_id: str | None = None
    actor_name: str | None = None
    token_id: str | None = None
    target_kind: TargetKind | None = None
    target_id: str | None = None
    target_name: str | None = None
    hub_id: str | None = None
    client_id: str | None = None
    owner_id: str | None = None
    address: str | None = None
    code: str | None = None
    times: int = 1
    before: dict[str, Any] | None = None
    after: dict[str, Any] | None = None


async def add(connection: AsyncConnection, entries: Iterable[AuditEntry]) -> None:
    """Write entries, in this order."""
    rows = [asdict(entry) for entry in entries]
    if rows:
        await connection.execute(insert(audit), rows)
