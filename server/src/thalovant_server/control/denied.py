# SPDX-License-Identifier: Apache-2.0
"""Denied attempts on their way into the audit log: taken at once, written in batches, beside the changes.

Whoever is denied may try again as often as it likes, so nobody waits for these entries and they hold no change up: one
task writes one bounded batch a second. What waits is bounded, and so is what strangers add in a day (see `strangers`);
beyond that it is counted, and written as a number once a minute.

A name that was typed is kept only when there is such a thing: people type passwords into the wrong field.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections import Counter, deque
from collections.abc import Collection
from functools import partial

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from thalovant_server.control.strangers import StrangersShare
from thalovant_server.denials import MORE, Denial, TargetKind
from thalovant_server.errors import ThalovantServerError
from thalovant_server.repeats import Line
from thalovant_server.store import audit, owners
from thalovant_server.store.audit import ActorKind, AuditEntry
from thalovant_server.store.database import Database, Transaction
from thalovant_server.store.owners import Owned
from thalovant_server.wall_clock import SECOND, Clock

log = structlog.get_logger("thalovant.audit")

MOST_WAITING = 5_000
BATCH = 200
PAUSE_SECONDS = 1.0
NUMBER_SECONDS = 60

Waiting = tuple[int, Line[Denial]]
Found = dict[TargetKind, dict[str, Owned]]


class DenialWriter:
    """Writes lines of denials into the audit log.

    Args:
        database: open, until `stop` has ended.
        clock: of the entries.
        most_waiting: lines; beyond that they are only counted.
        pause: seconds between two batches.
        strangers: bounds what they add.
    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        *,
        most_waiting: int = MOST_WAITING,
        pause: float = PAUSE_SECONDS,
        strangers: StrangersShare | None = None,
    ) -> None:
        self._database = database
        self._clock = clock
        self._most = most_waiting
        self._pause = pause
        self._waiting: deque[Waiting] = deque()
        self._strangers = StrangersShare() if strangers is None else strangers
        self._uncounted: Counter[str] = Counter()  # by action: those that get no entry of their own
        self._counted_at: int | None = None
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to write; call on the running loop."""
        self._task = asyncio.create_task(self._run(), name="denial-writer")

    def put(self, line: Line[Denial]) -> None:
        """Take a line; it is written soon."""
        if len(self._waiting) >= self._most:
            self._uncounted[line.item.action] += line.times
        else:
            self._waiting.append((self._clock(), line))
        self._news.set()

    async def flush(self) -> None:
        """Write all that waits: whoever reads the log now sees what was denied before.

        Raises:
            StorageError, DataDamagedError: it could not be written; it waits on.
        """
        while self._waiting or self._uncounted:
            await self._database.write(partial(self._write_batch, to_the_end=True))

    async def stop(self) -> None:
        """End the task and write what waits."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        try:
            await self.flush()
        except ThalovantServerError as error:
            log.warning("denials_not_written", lines=len(self._waiting), code=error.code)

    async def _run(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(NUMBER_SECONDS if self._uncounted else None):
                    await self._news.wait()
            self._news.clear()
            try:
                await self._database.write(self._write_batch)
            except ThalovantServerError as error:
                log.warning("denials_wait", lines=len(self._waiting), code=error.code)
            if self._waiting:
                self._news.set()
            await asyncio.sleep(self._pause)

    async def _write_batch(self, transaction: Transaction, *, to_the_end: bool = False) -> None:
        """Write the oldest ones. They leave with the commit: only one transaction looks at them at a time."""
        now, batch = self._clock(), list(itertools.islice(self._waiting, BATCH))
        found = await _entries(transaction.connection, batch)
        entries, strangers, over = self._strangers.divided(found, now)
        told = Counter[str]()
        if self._is_time_to_count(now) or (to_the_end and len(batch) == len(self._waiting)):
            told = self._uncounted + over
            entries += [_number(now, *each) for each in told.items()]
        await audit.add(transaction.connection, entries)
        transaction.after_commit(lambda: self._written(len(batch), strangers, over, told, now))

    def _is_time_to_count(self, now: int) -> bool:
        return self._counted_at is None or abs(now - self._counted_at) >= NUMBER_SECONDS * SECOND

    def _written(self, lines: int, strangers: int, over: Counter[str], told: Counter[str], now: int) -> None:
        for _ in range(lines):
            self._waiting.popleft()
        self._strangers.take(strangers, now)
        self._uncounted = self._uncounted + over - told
        if told:
            self._counted_at = now


def _number(at: int, action: str, times: int) -> AuditEntry:
    return AuditEntry(at=at, action=action, outcome="denied", actor_kind="nobody", code=MORE, times=times)


async def _entries(connection: AsyncConnection, batch: Collection[Waiting]) -> list[AuditEntry]:
    denials = [line.item for _, line in batch]
    client_ids = {each.client_id for each in denials if each.client_id} | _targets(denials, "client")
    clients = await owners.clients_named(connection, client_ids)
    hubs = _targets(denials, "hub") | {each.hub_id for each in denials if each.hub_id}
    hubs |= {each.hub_id for each in clients.values() if each.hub_id}
    found: Found = {
        "hub": await owners.hubs_named(connection, hubs),
        "client": clients,
        "token": await owners.tokens_named(connection, _targets(denials, "token")),
        "account": await owners.accounts_with(connection, _targets(denials, "account")),
    }
    made = [_entry(at, line, found) for at, line in batch]
    return [entry for entry in made if entry is not None]


def _targets(denials: Collection[Denial], kind: str) -> set[str]:
    return {each.target[1] for each in denials if each.target is not None and each.target[0] == kind}


def _entry(at: int, line: Line[Denial], found: Found) -> AuditEntry | None:
    """The entry of a line; None when what it would tell of does not exist."""
    denial = line.item
    kind, target = _target(denial, found)
    if target is None and denial.hides:
        return None
    hub = found["hub"].get((target.hub_id if target else None) or denial.hub_id or "")
    whose = target or hub
    said = {"carrier": denial.carrier, "key": denial.fingerprint, "what": denial.what}
    actor_kind, actor_id, actor_name = _actor(denial)
    return AuditEntry(
        at=at,
        action=denial.action,
        outcome="denied",
        actor_kind=actor_kind,
        actor_id=actor_id,
        actor_name=actor_name,
        token_id=denial.token_id,
        target_kind=kind if target else None,
        target_id=target.id if target else None,
        target_name=target.name if target else None,
        hub_id=hub.id if hub else None,
        client_id=target.id if target and kind == "client" else None,
        owner_id=whose.owner_id if whose else denial.account_id,
        address=denial.address[:64] or None,
        code=denial.code[:80],
        times=line.times,
        after={name: value for name, value in said.items() if value} or None,
    )


def _target(denial: Denial, found: Found) -> tuple[TargetKind | None, Owned | None]:
    if denial.client_id is not None:
        return "client", found["client"].get(denial.client_id) or _gone(denial, denial.client_id, found)
    if denial.target is None:
        return None, None
    kind, name = denial.target
    return kind, found[kind].get(name)


def _gone(denial: Denial, client_id: str, found: Found) -> Owned:
    """A client that was removed since: the hub's owner may still see what it was denied."""
    hub = found["hub"].get(denial.hub_id or "")
    return Owned(client_id, denial.client_name or "", hub.owner_id if hub else None, denial.hub_id)


def _actor(denial: Denial) -> tuple[ActorKind, str | None, str | None]:
    if denial.account_id is not None:
        return "account", denial.account_id, denial.account_name
    if denial.proven:
        return "client", denial.client_id, denial.client_name
    return "nobody", None, None
