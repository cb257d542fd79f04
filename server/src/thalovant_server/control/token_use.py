# SPDX-License-Identifier: Apache-2.0
"""When each token was last used: noted in memory on each request, written to the database once a minute.

A crash loses at most the last minute of it; a stop loses nothing. Judges no token.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging

from thalovant_server.errors import ThalovantServerError
from thalovant_server.store import tokens
from thalovant_server.store.database import Database

SECONDS_BETWEEN_WRITES = 60.0
MOST_NOTED = 10_000

_log = logging.getLogger(__name__)


class TokenUse:
    """Remembers until the next write who was used when.

    Args:
        database: where it is written.
        most_noted: tokens between two writes; what comes beyond them is not noted until then.
    """

    def __init__(self, database: Database, *, most_noted: int = MOST_NOTED) -> None:
        self._database = database
        self._most_noted = most_noted
        self._noted: dict[str, int] = {}
        self._writer: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to write once a minute; call on the running loop."""
        self._writer = asyncio.create_task(self._write_on(), name="token-use")

    async def stop(self) -> None:
        """Write what is noted, and no more after that."""
        if self._writer is not None:
            self._writer.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._writer
            self._writer = None
        await self.write()

    def note(self, token_id: str, at: int) -> None:
        """Take note that a token was used at this time, in microseconds."""
        if token_id in self._noted or len(self._noted) < self._most_noted:
            self._noted[token_id] = at

    def last(self, token_id: str, written: int | None) -> int | None:
        """Return when a token was last used: what is noted, else what was ``written``."""
        return self._noted.get(token_id, written)

    async def write(self) -> None:
        """Write what is noted. When the database cannot be written just now, it stays noted."""
        noted = dict(self._noted)
        if not noted:
            return
        try:
            await self._database.write(lambda transaction: tokens.set_last_used(transaction.connection, noted))
        except ThalovantServerError as error:
            _log.warning("when tokens were last used could not be written: %s", error)
            return
        self._noted = {token_id: at for token_id, at in self._noted.items() if noted.get(token_id) != at}

    async def _write_on(self) -> None:
        while True:
            await asyncio.sleep(SECONDS_BETWEEN_WRITES)
            await self.write()
