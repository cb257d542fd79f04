# SPDX-License-Identifier: Apache-2.0
"""When each credential was used last, over which carrier and from where: told by the hub, kept by the database.

Told in memory at once, written every few seconds and at the end; a kill loses those seconds. Holds one entry a
credential at most. It decides nothing.
"""

from __future__ import annotations

import asyncio
from functools import partial

import structlog

from thalovant_server.errors import ThalovantServerError
from thalovant_server.store import client_credentials
from thalovant_server.store.client_credentials import CredentialRecord, Use
from thalovant_server.store.database import Database, Transaction
from thalovant_server.wall_clock import Clock, now

WRITE_SECONDS = 5.0
MOST_PLACES = 10_000
AT_ONCE = 500  # rows in one transaction: nobody waits long behind it

log = structlog.get_logger("thalovant.last_use")


class LastUses:
    """Notes uses, and writes them in a task of its own between `start` and `stop`.

    Args:
        database: where they are kept.
        clock: of stored times.
        write_seconds: how long the first of a batch waits at most.
    """

    def __init__(self, database: Database, clock: Clock = now, *, write_seconds: float = WRITE_SECONDS) -> None:
        self._database = database
        self._clock = clock
        self._write_seconds = write_seconds
        self._noted: dict[int, Use] = {}
        self._writing: dict[int, Use] = {}
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def note(self, credential_id: int, carrier: str, address: str) -> None:
        """Note that a credential was used just now."""
        self._noted[credential_id] = Use(self._clock(), carrier, address)
        self._news.set()

    def last(self, credential: CredentialRecord) -> Use | None:
        """Return when a credential was used last: what is in memory is newer than what its row says."""
        in_memory = self._noted.get(credential.id) or self._writing.get(credential.id)
        if in_memory is not None or credential.last_used_at is None:
            return in_memory
        return Use(credential.last_used_at, credential.last_used_carrier or "", credential.last_used_address or "")

    async def places(self) -> list[tuple[str, str]]:
        """Return the access key and the address of the uses that were written last, the oldest of them first."""
        async with self._database.read() as connection:
            return await client_credentials.last_places(connection, MOST_PLACES)

    def start(self) -> None:
        """Begin to write; call on the running loop."""
        self._task = asyncio.create_task(self._run(), name="last-uses")

    async def stop(self) -> None:
        """Write what is left, then end."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None
        await self.write()

    async def write(self) -> None:
        """Write what was noted so far; what the database does not take is kept for the next time."""
        self._news.clear()
        while self._noted:
            self._writing = {each: self._noted.pop(each) for each in list(self._noted)[:AT_ONCE]}
            try:
                await self._database.write(partial(self._keep, tuple(self._writing.items())))
            except ThalovantServerError as error:
                log.warning("last_uses_wait", code=error.code)
                self._take_back()
                return
            except BaseException:
                self._take_back()
                raise
            self._writing = {}

    def _take_back(self) -> None:
        self._noted, self._writing = {**self._writing, **self._noted}, {}
        self._news.set()

    async def _keep(self, uses: tuple[tuple[int, Use], ...], transaction: Transaction) -> None:
        await client_credentials.keep_uses(transaction.connection, uses)

    async def _run(self) -> None:
        while True:
            await self._news.wait()
            await asyncio.sleep(self._write_seconds)
            await self.write()
