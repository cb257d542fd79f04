# SPDX-License-Identifier: Apache-2.0
"""How often a login may be tried: per source address and per account, without locking its owner out.

Each try takes a token out of a bucket that refills; a login that works puts it back. An address whose bucket is
empty is refused. An account's bucket refuses nobody, for anybody can empty it: it only makes logins wait a little,
and an address from which its owner has signed in before, or has called with a good token, has a bucket of its own.
Neighbours may share that address, and empty that bucket as well: then its logins wait in a short line, one at a time.
The machine itself is made to wait as well, never refused: its owner signs in there. Memory and the number of those
who wait are bounded. Knows no account and no password.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable
from dataclasses import dataclass, field

from thalovant_server.attempt_buckets import MOST_REMEMBERED, AttemptBuckets, Rate
from thalovant_server.errors import ApiError, Overloaded
from thalovant_server.source_address import is_this_machine, source_of

MOST_WAITING = 64
MOST_IN_LINE = 4
WAIT_SECONDS = 1.0
RETRY_AFTER_SECONDS = 3


PER_ADDRESS = Rate(burst=20, seconds_each=6.0)
PER_ACCOUNT = Rate(burst=20, seconds_each=6.0)


@dataclass(frozen=True, slots=True)
class Attempt:
    """A login that was admitted.

    `slow`: it is to `slow_down` first; `in_line`: after all others of this owner that do. `taken`: what it cost, and
    can get back.
    """

    slow: bool
    in_line: bool
    owner: tuple[str, str]  # source and account
    taken: tuple[tuple[AttemptBuckets, Hashable], ...]


@dataclass(slots=True)
class _Line:
    """Logins of one owner that wait for each other, in the order in which they came."""

    first: asyncio.Lock = field(default_factory=asyncio.Lock)
    length: int = 0


class LoginThrottle:
    """Counts login attempts in memory.

    Args:
        clock: returns seconds that never go back.
        per_address: for each source address (IPv6: each /64).
        per_account: for each e-mail address, known or not.
        most_remembered: buckets of a kind that are kept.
        most_waiting: logins that wait at once.
        pause: waits that many seconds.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        *,
        per_address: Rate = PER_ADDRESS,
        per_account: Rate = PER_ACCOUNT,
        most_remembered: int = MOST_REMEMBERED,
        most_waiting: int = MOST_WAITING,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._clock = clock
        self._pause = pause
        self._room = most_waiting
        self._addresses = AttemptBuckets(per_address, most_remembered)
        self._accounts = AttemptBuckets(per_account, most_remembered)
        self._owners = AttemptBuckets(per_address, most_remembered)  # (address, account) that worked before
        self._lines: dict[tuple[str, str], _Line] = {}  # of owners; as many as wait, at most

    def admit(self, address: str, email: str) -> Attempt:
        """Take note of an attempt, before the password is looked at.

        Raises:
            ApiError: 429 `login_rate_limited`, this address has tried too often; with how long to wait.
        """
        now = self._clock()
        mine = self._concerning(address, email)
        waits = [buckets.wait(key, now) for buckets, key in mine]
        elsewhere, by_owner = not is_this_machine(address), mine[0][0] is self._owners
        if waits[0] > 0 and elsewhere and not by_owner:
            raise _refusal(math.ceil(waits[0]))
        # An empty bucket goes no deeper: nobody could wait until it is paid back.
        taken = tuple(one for one, wait in zip(mine, waits, strict=True) if wait == 0)
        for buckets, key in taken:
            buckets.take(key, now)
        return Attempt(any(waits), any(waits) and elsewhere and by_owner, (source_of(address), email), taken)

    async def slow_down(self, attempt: Attempt) -> None:
        """Let an attempt wait a little, if it is to stand in line until it is the first there.

        Raises:
            ApiError: 429 `login_rate_limited`, its line is full.
            Overloaded: too many wait already.
        """
        if self._room == 0:
            raise Overloaded("Too many logins at this moment. Try again in a few seconds.", RETRY_AFTER_SECONDS)
        self._room -= 1
        try:
            async with self._turn(attempt):
                await self._pause(WAIT_SECONDS)
        finally:
            self._room += 1

    @contextlib.asynccontextmanager
    async def _turn(self, attempt: Attempt) -> AsyncIterator[None]:
        if not attempt.in_line:
            yield
            return
        line = self._lines.setdefault(attempt.owner, _Line())
        if line.length >= MOST_IN_LINE:
            raise _refusal(math.ceil(WAIT_SECONDS))
        line.length += 1
        try:
            async with line.first:
                yield
        finally:
            line.length -= 1
            if not line.length:
                del self._lines[attempt.owner]

    def forgive(self, attempt: Attempt) -> None:
        """Give back, once, what the attempt took: it was not judged, or was right.

        Where it found nothing to take it gives nothing, or it would buy the next one a way round the wait. A bucket
        never holds more than its burst.
        """
        now = self._clock()
        for buckets, key in attempt.taken:
            buckets.give_back(key, now)

    def succeeded(self, attempt: Attempt) -> None:
        """Take note that the password was right."""
        self.forgive(attempt)
        self._owners.remember(attempt.owner, self._clock())

    def recognise(self, address: str, email: str) -> None:
        """Take note that somebody with a good token of this account calls from there: so its owner is there."""
        owner = (source_of(address), email)
        if not self._owners.knows(owner):
            self._owners.remember(owner, self._clock())

    def _concerning(self, address: str, email: str) -> list[tuple[AttemptBuckets, Hashable]]:
        """Return the buckets of an attempt, the one that belongs to its address first."""
        source = source_of(address)
        if self._owners.knows((source, email)):
            return [(self._owners, (source, email))]
        return [(self._addresses, source), (self._accounts, email)]


class GuessThrottle:
    """Bounds wrong guesses of one kind of secret, for each one who guesses; right ones cost nothing.

    Args:
        clock: returns seconds that never go back.
        rate: of wrong guesses of one who guesses.
        most_remembered: of those who guess; the oldest is forgotten.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        *,
        rate: Rate = PER_ADDRESS,
        most_remembered: int = MOST_REMEMBERED,
    ) -> None:
        self._clock = clock
        self._buckets = AttemptBuckets(rate, most_remembered)

    def check(self, who: Hashable) -> None:
        """Let pass who has not guessed wrong too often of late.

        Raises:
            ApiError: 429 `login_rate_limited`, with how long to wait.
        """
        wait = self._buckets.wait(who, self._clock())
        if wait > 0:
            raise _refusal(math.ceil(wait))

    def wrong(self, who: Hashable) -> None:
        """Take note of a wrong guess."""
        now = self._clock()
        if self._buckets.wait(who, now) == 0:
            self._buckets.take(who, now)

    def forgive(self, who: Hashable) -> None:
        """Take one guess back: it was right, or was not judged."""
        self._buckets.give_back(who, self._clock())


def _refusal(seconds: int) -> ApiError:
    detail = f"Too many login attempts. Try again in {seconds} s."
    return ApiError(429, detail, "login_rate_limited", retry_after_seconds=seconds)
