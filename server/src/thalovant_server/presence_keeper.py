# SPDX-License-Identifier: Apache-2.0
"""Who was online, kept over a restart: read at the start, written in batches while the server runs and at its end.

Nothing here is acknowledged to anybody: a kill loses the last moments, and a client that was online then is offline
since the last sign of life that was written. It will not decide what a state is.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import cast

import structlog

from thalovant_server.errors import ThalovantServerError
from thalovant_server.hub.presence import Presence, State
from thalovant_server.hub.presence_watch import PresenceWatch
from thalovant_server.store import presence
from thalovant_server.store.database import Database, Transaction
from thalovant_server.store.presence import LastPresence, PresenceRow

# The first change is written at once, those that follow wait so long for each other.
WRITE_SECONDS = 2.0
# So often the last sign of life of whoever is online is written: what a crash makes wrong at most.
SIGN_SECONDS = 60.0
AT_ONCE = 500  # rows in one transaction: nobody waits long behind it

log = structlog.get_logger("thalovant.presence")


class PresenceKeeper:
    """Keeps the states of one watch. `load`, then `run` in a task, and `write` at the end.

    Holds a change of each client at most.
    """

    def __init__(
        self,
        watch: PresenceWatch,
        database: Database,
        *,
        write_seconds: float = WRITE_SECONDS,
        sign_seconds: float = SIGN_SECONDS,
    ) -> None:
        self._watch = watch
        self._database = database
        self._write_seconds = write_seconds
        self._sign_seconds = sign_seconds
        self._noted: dict[str, Presence] = {}
        self._news = asyncio.Event()
        watch.listen(self._note)

    async def load(self) -> None:
        """Tell the watch how every client was when the server stopped."""
        async with self._database.read() as connection:
            rows = await presence.of_every_client(connection)
        self._watch.load(map(_presence, rows), frozenset(row.client_id for row in rows if not row.active))

    async def run(self) -> None:
        """Write what changes, and from time to time who is still there."""
        loop = asyncio.get_running_loop()
        due = loop.time() + self._sign_seconds
        while True:
            if await self._nothing_until(due):
                self._note_signs()
                due = loop.time() + self._sign_seconds
            await self.write()
            await asyncio.sleep(self._write_seconds)

    async def write(self) -> None:
        """Write what was noted so far; what the database does not take is kept for the next time."""
        self._news.clear()
        while self._noted:
            batch = {each: self._noted.pop(each) for each in list(self._noted)[:AT_ONCE]}
            try:
                await self._database.write(partial(_put, list(batch.values())))
            except ThalovantServerError as error:
                log.warning("presence_waits", code=error.code)
                self._take_back(batch)
                return
            except BaseException:
                self._take_back(batch)
                raise

    def _note(self, changed: Presence) -> None:
        if changed.why == "removed":
            self._noted.pop(changed.client_id, None)
            return
        self._noted[changed.client_id] = changed
        self._news.set()

    def _note_signs(self) -> None:
        """Of each client that is there, its last sign of life."""
        self._noted |= {each.client_id: each for each in self._watch.live()}

    def _take_back(self, batch: dict[str, Presence]) -> None:
        self._noted = {**batch, **self._noted}

    async def _nothing_until(self, due: float) -> bool:
        """Wait for a change until then; whether it is then."""
        try:
            async with asyncio.timeout_at(due):
                await self._news.wait()
        except TimeoutError:
            return True
        return False


async def _put(changed: list[Presence], transaction: Transaction) -> None:
    await presence.put(transaction.connection, [row for each in changed if (row := _row(each)) is not None])


def _row(of: Presence) -> PresenceRow | None:
    """What is kept of a state; nothing of a client that was never seen."""
    if of.last_seen_at is None:
        return None
    state = "online" if of.state in ("online", "stale") else "offline"
    since = of.last_seen_at if of.since is None else of.since
    return PresenceRow(of.client_id, state, since, of.last_seen_at, of.carrier, of.address, of.why)


def _presence(row: LastPresence) -> Presence:
    return Presence(
        client_id=row.client_id,
        hub_id=row.hub_id,
        name=row.name,
        state=cast("State", row.state or "never_seen"),
        since=row.since,
        carrier=row.carrier,
        address=row.address,
        why=row.why,
        last_seen_at=row.last_seen_at,
    )
