# SPDX-License-Identifier: Apache-2.0
"""Keeps the asks of the day across restarts: reads them at start, writes what changed every two seconds and at the end.

So no message waits for the disk, and a server that is killed has forgotten the asks of its last two seconds at most.
"""

from __future__ import annotations

import asyncio

import structlog

from thalovant_server.daily_usage import DailyUsage
from thalovant_server.errors import ThalovantServerError
from thalovant_server.store import usage as rows
from thalovant_server.store.database import Database, Transaction

WRITE_SECONDS = 2.0
# Clients written in one transaction: others want to write as well.
BATCH = 500

log = structlog.get_logger("thalovant.usage")


class UsageKeeper:
    """The road between `DailyUsage` and the database."""

    def __init__(self, usage: DailyUsage, database: Database) -> None:
        self._usage = usage
        self._database = database

    async def load(self) -> None:
        """Take in what was written of this day."""
        day = self._usage.day
        async with self._database.read() as connection:
            self._usage.load(day, await rows.of_day(connection, day))

    async def run(self) -> None:
        """Write, for ever."""
        while True:
            await asyncio.sleep(WRITE_SECONDS)
            await self.write()

    async def write(self) -> None:
        """Write what changed. What cannot be written stays to be written, with an error in the log."""
        while self._usage.is_unwritten:
            day, used = self._usage.take_unwritten(BATCH)

            async def work(transaction: Transaction, day: int = day, used: dict[str, int] = used) -> None:
                await rows.keep(transaction.connection, day, used)

            try:
                await self._database.write(work)
            except ThalovantServerError as error:
                self._usage.give_back(used)
                log.error("usage_not_written", why=error.sentence)  # noqa: TRY400 - a sentence
                return
