# SPDX-License-Identifier: Apache-2.0
"""Ends credentials when their grace is over: on the wall clock, after a restart or a jump of the clock too.

The directory refuses such a credential by itself from that microsecond on; here it is removed for good, its live
sessions are cut, and the audit log says so.
"""

from __future__ import annotations

import asyncio
from functools import partial

import structlog

from thalovant_server.control.auditing import Target, own_entry
from thalovant_server.control.directory_task import DirectoryTask
from thalovant_server.directory import Change, Directory
from thalovant_server.errors import ThalovantServerError
from thalovant_server.store import audit, client_credentials, former_credentials
from thalovant_server.store.audit import AuditEntry
from thalovant_server.store.database import Database, Transaction
from thalovant_server.store.former_credentials import Ended
from thalovant_server.wall_clock import SECOND, Clock

AT_ONCE = 500
LOOK_SECONDS = 1.0  # at the clock, while a grace runs: it may have been set
AGAIN_SECONDS = 5.0  # after the database failed

log = structlog.get_logger("thalovant.grace")


class GraceKeeper:
    """One task, between `start` and `stop`; it sleeps while no grace runs.

    Args:
        database: where credentials are.
        directory: tells of new graces, and is told of ended ones.
        clock: microseconds since 1970.
    """

    def __init__(self, database: Database, directory: Directory, clock: Clock) -> None:
        self._database, self._directory, self._clock = database, directory, clock
        self._due: int | None = None
        self._news = asyncio.Event()
        self._task = DirectoryTask(directory, self._changed)

    def start(self) -> None:
        """Begin; call on the running loop."""
        self._task.begin(self._run(), "grace-keeper")

    async def stop(self) -> None:
        """End; what is over by then is ended at the next start."""
        await self._task.end()

    async def end_expired(self) -> None:
        """End every credential whose grace is over.

        Raises:
            StorageError, DataDamagedError: it could not be written; nothing is lost by trying again.
        """
        while True:
            async with self._database.read() as connection:
                over = await client_credentials.ids_over(connection, self._clock(), AT_ONCE)
            if not over:
                return
            await self._database.write(self._end)

    async def _end(self, transaction: Transaction) -> None:
        connection, sealer, now = transaction.connection, self._database.sealer, self._clock()
        over = await client_credentials.ids_over(connection, now, AT_ONCE)
        ended = await former_credentials.end(connection, sealer, over, "rotated", now)
        await audit.add(connection, [_entry(each, now) for each in ended])
        for each in ended:
            transaction.after_commit(partial(self._directory.remove_credential, each.id))

    def _changed(self, change: Change) -> None:
        if change.kind == "credential" and change.client_id is not None and change.action == "changed":
            self._due_by([each.expires_at for each in self._directory.credentials_of(change.client_id)])
            self._news.set()

    def _due_by(self, ends: list[int | None]) -> None:
        self._due = min((each for each in [self._due, *ends] if each is not None), default=None)

    async def _run(self) -> None:
        while True:
            try:
                self._due = None
                await self.end_expired()
                async with self._database.read() as connection:
                    self._due_by([await client_credentials.next_end(connection)])
            except ThalovantServerError as error:
                log.warning("grace_waits", code=error.code, mend=error.sentence)
                await asyncio.sleep(AGAIN_SECONDS)
                continue
            await self._wait()

    async def _wait(self) -> None:
        """Return when something is due."""
        while self._due is None or self._clock() < self._due:
            self._news.clear()
            left = None if self._due is None else min(LOOK_SECONDS, (self._due - self._clock()) / SECOND)
            try:
                async with asyncio.timeout(left):
                    await self._news.wait()
            except TimeoutError:
                pass


def _entry(ended: Ended, now: int) -> AuditEntry:
    whose = ended.client_id, ended.client_name, ended.owner_id
    target = Target("client", *whose, hub_id=ended.hub_id, client_id=ended.client_id)
    return own_entry("credential.expired", target, at=now, before={"number": ended.number})
