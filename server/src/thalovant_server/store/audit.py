# SPDX-License-Identifier: Apache-2.0
"""The audit log as rows: who did what to which hub or client, before and after, from where. Only ever added to.

Triggers of the database refuse a change and a removal. Holds no secret: whoever records an entry leaves them out.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

from sqlalchemy import ColumnElement, Select, and_, column, exists, func, insert, or_, select, union, values
from sqlalchemy.ext.asyncio import AsyncConnection

from thalovant_server.store.rows import records_of
from thalovant_server.store.tables import audit, hubs

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


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenEntry(AuditEntry):
    """An entry as it stands in the log. `seq` orders entries by when they were written."""

    seq: int

    @property
    def id(self) -> str:
        """What it is called."""
        return str(self.seq)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which entries somebody asks for; None asks for all. `since` and `until` are microseconds since 1970."""

    hub_id: str | None = None
    client_id: str | None = None
    action: str | None = None
    outcome: Outcome | None = None
    since: int | None = None
    until: int | None = None


@dataclass(frozen=True, slots=True)
class Reader:
    """Who reads: an account that sees what concerns it and its hubs, or (None) one that sees everything.

    `hub_ids`: it sees only what concerns these hubs; None when it is not limited to some.
    """

    account_id: str | None
    hub_ids: frozenset[str] | None = None


async def add(connection: AsyncConnection, entries: Iterable[AuditEntry]) -> None:
    """Write entries, in this order."""
    rows = [asdict(entry) for entry in entries]
    if rows:
        await connection.execute(insert(audit), rows)


async def newest_first(
    connection: AsyncConnection, reader: Reader, wanted: Wanted, *, before: int, limit: int
) -> list[WrittenEntry]:
    """Return up to ``limit`` entries with a `seq` below ``before`` (0: the newest), the newest first."""
    query = _visible(reader, _conditions(wanted) + ([audit.c.seq < before] if before else []), limit, newest=True)
    rows = await connection.execute(query.order_by(audit.c.seq.desc()).limit(limit))
    return records_of(WrittenEntry, list(rows.all()))


async def oldest_first(
    connection: AsyncConnection, reader: Reader, wanted: Wanted, *, after: int, limit: int
) -> list[WrittenEntry]:
    """Return up to ``limit`` entries with a `seq` above ``after``, the oldest first."""
    query = _visible(reader, [*_conditions(wanted), audit.c.seq > after], limit, newest=False)
    rows = await connection.execute(query.order_by(audit.c.seq).limit(limit))
    return records_of(WrittenEntry, list(rows.all()))


async def newest_seq(connection: AsyncConnection) -> int:
    """Return the `seq` of the newest entry, 0 when there is none."""
    return (await connection.execute(select(func.max(audit.c.seq)))).scalar() or 0


def _conditions(wanted: Wanted) -> list[ColumnElement[bool]]:
    same = [
        audit.c[name] == getattr(wanted, name)
        for name in ("hub_id", "client_id", "action", "outcome")
        if getattr(wanted, name) is not None
    ]
    if wanted.since is not None:
        same.append(audit.c.at >= wanted.since)
    if wanted.until is not None:
        same.append(audit.c.at < wanted.until)
    return same


def _visible(reader: Reader, conditions: list[ColumnElement[bool]], limit: int, *, newest: bool) -> Select[Any]:
    """Select the first entries that a reader sees: each way to be visible brings its own first ones, by its index.

    So a page costs as much in a log of millions as in one of a hundred.
    """
    if reader.account_id is None and reader.hub_ids is None:
        return select(audit).where(*conditions)
    order = audit.c.seq.desc() if newest else audit.c.seq.asc()
    if reader.hub_ids is not None:
        ids = [(each,) for each in sorted(reader.hub_ids)] or [("",)]  # no hub is named so
        named = values(column("id", audit.c.hub_id.type), name="named").data(ids).cte()
        return select(audit).where(
            audit.c.seq.in_(_of_hubs(named.c.id, [*conditions, *_owned(reader.account_id)], limit, order))
        )
    own = select(audit.c.seq).where(audit.c.owner_id == reader.account_id, *conditions).order_by(order).limit(limit)
    of_own_hubs = _of_hubs(hubs.c.id, conditions, limit, order).where(hubs.c.owner_id == reader.account_id)
    first = union(select(own.subquery().c.seq), of_own_hubs)
    return select(audit).where(audit.c.seq.in_(first))


def _of_hubs(
    hub_id: ColumnElement[str], conditions: list[ColumnElement[bool]], limit: int, order: ColumnElement[Any]
) -> Select[Any]:
    """Select the first entries of each hub of a table."""
    first = (
        select(audit.c.seq)
        .where(audit.c.hub_id == hub_id, *conditions)
        .order_by(order)
        .limit(limit)
        .correlate(hub_id.table)
    )
    entry = audit.alias("entry")
    return select(entry.c.seq).select_from(hub_id.table).join(entry, entry.c.seq.in_(first))


def _owned(account_id: str | None) -> list[ColumnElement[bool]]:
    """A token that is limited to hubs sees of them what its account does."""
    if account_id is None:
        return []
    owns_hub = exists().where(and_(hubs.c.id == audit.c.hub_id, hubs.c.owner_id == account_id))
    return [or_(audit.c.owner_id == account_id, owns_hub)]
