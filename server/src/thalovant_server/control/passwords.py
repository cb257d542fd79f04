# SPDX-License-Identifier: Apache-2.0
"""People's passwords: argon2id, off the event loop, few at a time. Knows no account."""

from __future__ import annotations

import asyncio
import base64
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from cryptography.exceptions import InvalidKey
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from thalovant_server.errors import Overloaded

AT_ONCE = 2
MOST_WAITING = 16
SALT_BYTES = 16
HASH_BYTES = 32
RETRY_AFTER_SECONDS = 3

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Cost:
    """What one check costs: passes, lanes, and memory in KiB (RFC 9106's second choice: 3 passes of 64 MiB)."""

    iterations: int = 3
    lanes: int = 1
    memory_kib: int = 65_536


DEFAULT_COST = Cost()


class PasswordHasher:
    """Makes and checks PHC strings in two threads; past a short queue it refuses rather than piling up.

    Args:
        cost: of new strings, and of a check against no account.
    """

    def __init__(self, cost: Cost = DEFAULT_COST) -> None:
        self._cost = cost
        self._threads = ThreadPoolExecutor(max_workers=AT_ONCE, thread_name_prefix="password")
        self._under_way = 0
        self._nobody = _phc_of_nobody(cost)

    async def verify(self, password: str, phc: str | None) -> bool:
        """Tell whether ``phc`` was made of ``password``; None costs the same and is never right.

        Raises:
            Overloaded: too many are waiting.
        """
        right = await self._run(lambda: _verify(password, self._nobody if phc is None else phc))
        return right and phc is not None

    async def make(self, password: str) -> str:
        """Return the PHC string to keep for a password.

        Raises:
            Overloaded: too many are waiting.
        """
        return await self._run(lambda: self.derive(password))

    def derive(self, password: str) -> str:
        """Return the PHC string to keep for a password; blocking."""
        cost = self._cost
        kdf = Argon2id(
            salt=os.urandom(SALT_BYTES),
            length=HASH_BYTES,
            iterations=cost.iterations,
            lanes=cost.lanes,
            memory_cost=cost.memory_kib,
        )
        return kdf.derive_phc_encoded(password.encode())

    def close(self) -> None:
        """End the threads once what they do is done."""
        self._threads.shutdown(wait=True, cancel_futures=True)

    async def _run(self, work: Callable[[], Result]) -> Result:
        if self._under_way >= AT_ONCE + MOST_WAITING:
            raise Overloaded("Too many logins at this moment. Try again in a few seconds.", RETRY_AFTER_SECONDS)
        self._under_way += 1
        running = asyncio.get_running_loop().run_in_executor(self._threads, work)
        running.add_done_callback(self._done)
        return await asyncio.shield(running)

    def _done(self, running: asyncio.Future[Result]) -> None:
        """Count the thread's work, not the caller's patience: one who left still keeps a thread busy."""
        self._under_way -= 1
        if not running.cancelled():
            running.exception()


def _verify(password: str, phc: str) -> bool:
    try:
        Argon2id.verify_phc_encoded(password.encode(), phc)
    except InvalidKey:
        return False
    return True


def _phc_of_nobody(cost: Cost) -> str:
    """Return a string that no password fits, as costly to check as a real one."""
    salt, digest = (base64.b64encode(os.urandom(size)).decode().rstrip("=") for size in (SALT_BYTES, HASH_BYTES))
    return f"$argon2id$v=19$m={cost.memory_kib},t={cost.iterations},p={cost.lanes}${salt}${digest}"
