# SPDX-License-Identifier: Apache-2.0
"""Ends operations: when the outside broker has a credential, when it will not take it, or when that took too long.

What goes on is in the database: after a restart of the server it is taken up again. It asks no broker by itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import structlog

from thalovant_server.control.directory_task import DirectoryTask
from thalovant_server.directory import Change, Directory
from thalovant_server.errors import ThalovantServerError
from thalovant_server.store import operations
from thalovant_server.store.database import Database, Transaction
from thalovant_server.store.operations import End, OperationRecord
from thalovant_server.wall_clock import SECOND, Clock

if TYPE_CHECKING:
    from thalovant_server.control.services import Admission

READY = "ready"
ALLOWED_MICROSECONDS = 15 * 60 * SECOND  # longer than an SDK waits, and than a broker takes to start anew
KEPT_MICROSECONDS = 7 * 24 * 3600 * SECOND
LOOK_SECONDS = 1.0  # while something goes on: nobody tells of time that passes
AGAIN_SECONDS = 5.0  # after the database failed

log = structlog.get_logger("thalovant.operations")


class OperationKeeper:
    """One task, between `start` and `stop`; it sleeps while nothing goes on.

    Args:
        database: where operations are.
        directory: tells what became of a credential meanwhile.
        clock: microseconds since 1970.
        admission: returns who knows which credentials the broker has; None while there is nobody.
    """

    def __init__(
        self, database: Database, directory: Directory, clock: Clock, admission: Callable[[], Admission | None]
    ) -> None:
        self._database, self._directory, self._clock, self._admission = database, directory, clock, admission
        self._open: dict[int, OperationRecord] = {}  # by credential
        self._outcomes: dict[int, str] = {}
        self._news: dict[int, None] = {}  # credentials to look at now, in order
        self._woken = asyncio.Event()
        self._task = DirectoryTask(directory, self._changed)

    def start(self) -> None:
        """Begin; call on the running loop."""
        self._task.begin(self._run(), "operation-keeper")

    async def stop(self) -> None:
        """End; what goes on is taken up at the next start."""
        await self._task.end()

    def watch(self, operation: OperationRecord) -> None:
        """Take in an operation that was committed just now."""
        self._open[operation.credential_id] = operation
        self._woken.set()

    def told(self, credential_id: int, outcome: str) -> None:
        """Hear of a credential: ``ready`` when the broker has it, else a sentence why it never will."""
        if credential_id in self._open:
            self._outcomes[credential_id] = outcome
            self._wake([credential_id])

    def is_quiet(self) -> bool:
        """Whether the broker has nothing else to do, so that it is worth waiting for it."""
        admission = self._admission()
        return admission is not None and admission.queued == 0

    async def wait_for(self, credential_id: int, seconds: float) -> None:
        """Give the broker so long; when it has the credential by then, its operation is ready.

        Raises:
            StorageError, DataDamagedError: that could not be written.
        """
        admission = self._admission()
        if admission is not None and await admission.has(credential_id, seconds):
            await self.look([credential_id])

    async def look(self, credential_ids: Iterable[int] | None = None) -> None:
        """End what is over, of these credentials, or of all.

        Raises:
            StorageError, DataDamagedError: it could not be written; nothing is lost by trying again.
        """
        wanted = list(self._open) if credential_ids is None else list(credential_ids)
        found = [self._open[each] for each in wanted if each in self._open]
        ends = {operation.credential_id: end for operation in found if (end := await self._end_of(operation))}
        if ends:
            await self._database.write(lambda transaction: self._write(transaction, list(ends.values())))
        for credential_id in ends:
            self._open.pop(credential_id, None)
            self._outcomes.pop(credential_id, None)

    async def _write(self, transaction: Transaction, ends: list[End]) -> None:
        now = self._clock()
        await operations.end(transaction.connection, ends, now)
        await operations.prune(transaction.connection, now - KEPT_MICROSECONDS)

    async def _end_of(self, operation: OperationRecord) -> End | None:
        outcome, admission = self._outcomes.get(operation.credential_id), self._admission()
        if outcome == READY or (admission is not None and await admission.has(operation.credential_id, 0)):
            return End(operation.id, "ready")
        if left := self._why_left(operation):
            return End(operation.id, "failed", *left)
        if outcome is not None:
            return End(operation.id, "failed", "broker_refused", outcome)
        return _timed_out(operation) if self._clock() >= operation.deadline_at else None

    def _why_left(self, operation: OperationRecord) -> tuple[str, str] | None:
        """Why the broker is not to have the credential any longer."""
        credential = self._directory.credential_by_id(operation.credential_id)
        if credential is None:
            return "credential_ended", "The client was removed or its credential replaced before the broker had it."
        hub = self._directory.hub(operation.hub_id)
        if hub is None or not hub.serves_mqtt("link"):
            return "hub_left_the_broker", "The hub was turned off, or meets its clients elsewhere now."
        if not credential.active:
            return "client_paused", "The client was paused before the broker had it. Resume it, and it is let in."
        return None

    def _changed(self, change: Change) -> None:
        if change.kind == "hub":
            self._wake(each.credential_id for each in self._open.values() if each.hub_id == change.hub_id)
        elif change.credential_id in self._open and change.action != "created":
            self._wake([change.credential_id])

    def _wake(self, credential_ids: Iterable[int]) -> None:
        self._news.update(dict.fromkeys(credential_ids))
        self._woken.set()

    async def _run(self) -> None:
        is_loaded, credential_ids = False, None
        while True:
            try:
                if not is_loaded:
                    await self._load()
                    is_loaded = True
                await self.look(credential_ids)
            except ThalovantServerError as error:
                log.warning("operations_wait", code=error.code, mend=error.sentence)
                await asyncio.sleep(AGAIN_SECONDS)
                credential_ids = None
            else:
                credential_ids = await self._next()

    async def _load(self) -> None:
        async with self._database.read() as connection:
            found = await operations.open_ones(connection)
        self._open = {each.credential_id: each for each in found} | self._open
        before = self._clock() - KEPT_MICROSECONDS
        await self._database.write(lambda transaction: operations.prune(transaction.connection, before))

    async def _next(self) -> list[int] | None:
        """Return which credentials to look at when there is reason to; None: at all of them, for time has passed."""
        try:
            async with asyncio.timeout(LOOK_SECONDS if self._open else None):
                await self._woken.wait()
        except TimeoutError:
            return None
        self._woken.clear()
        news, self._news = list(self._news), {}
        return news


def _timed_out(operation: OperationRecord) -> End:
    sentence = (
        "The outside broker did not take the client up in time. `thalovant-server health` says how the broker is; once "
        "it has the client, that may connect."
    )
    return End(operation.id, "timed_out", "admission_timed_out", sentence)
