# SPDX-License-Identifier: Apache-2.0
"""How often a login may be tried: per source address and per account, without locking its owner out for good.

Each try takes a token out of a bucket that refills; a login that works puts it back. Guessing at one
account from everywhere empties that account's bucket, but an address from which its owner has signed in
before has a bucket of its own. Memory is bounded: what was not used for longest is forgotten. Knows no
account and no password.
"""

from __future__ import annotations

import ipaddress
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass

from thalovant_server.errors import ApiError

MOST_REMEMBERED = 10_000
_ROUNDING = 1e-6  # of a token: what sums of floats may lack


@dataclass(frozen=True, slots=True)
class Rate:
    """A bucket: how many tries at once, and how many seconds until one more is allowed."""

    burst: int
    seconds_each: float


PER_ADDRESS = Rate(burst=20, seconds_each=6.0)
PER_ACCOUNT = Rate(burst=20, seconds_each=6.0)


class LoginThrottle:
    """Counts login attempts in memory.

    Args:
        clock: returns seconds that never go back.
        per_address: for each source address (IPv6: each /64).
        per_account: for each e-mail address, known or not.
        most_remembered: buckets of a kind that are kept.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        *,
        per_address: Rate = PER_ADDRESS,
        per_account: Rate = PER_ACCOUNT,
        most_remembered: int = MOST_REMEMBERED,
    ) -> None:
        self._clock = clock
        self._addresses = _Buckets(per_address, most_remembered)
        self._accounts = _Buckets(per_account, most_remembered)
        self._owners = _Buckets(per_address, most_remembered)  # (address, account) that worked before

    def admit(self, address: str, email: str) -> None:
        """Take note of an attempt, before the password is looked at.

        Raises:
            ApiError: 429 `login_rate_limited`, with how long to wait.
        """
        now = self._clock()
        mine = self._concerning(address, email)
        wait = max(buckets.wait(key, now) for buckets, key in mine)
        if wait > 0:
            seconds = math.ceil(wait)
            raise ApiError(
                429,
                f"Too many login attempts. Try again in {seconds} s.",
                "login_rate_limited",
                retry_after_seconds=seconds,
            )
        for buckets, key in mine:
            buckets.take(key, now)

    def forgive(self, address: str, email: str) -> None:
        """Undo `admit`: the attempt was not judged, or was right."""
        now = self._clock()
        for buckets, key in self._concerning(address, email):
            buckets.give_back(key, now)

    def succeeded(self, address: str, email: str) -> None:
        """Take note that the password was right."""
        self.forgive(address, email)
        self._owners.remember((_source(address), email), self._clock())

    def _concerning(self, address: str, email: str) -> list[tuple[_Buckets, Hashable]]:
        source = _source(address)
        if self._owners.knows((source, email)):
            return [(self._owners, (source, email))]
        return [(self._addresses, source), (self._accounts, email)]


class _Buckets:
    """Token buckets by key; a bucket that nobody has used is full."""

    def __init__(self, rate: Rate, most: int) -> None:
        self._rate = rate
        self._most = most
        self._levels: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()  # tokens, at what time

    def knows(self, key: Hashable) -> bool:
        return key in self._levels

    def wait(self, key: Hashable, now: float) -> float:
        """Return the seconds until a token is there, 0 when one is."""
        missing = 1.0 - self._level(key, now)
        return missing * self._rate.seconds_each if missing > _ROUNDING else 0.0

    def take(self, key: Hashable, now: float) -> None:
        self._set(key, self._level(key, now) - 1.0, now)

    def give_back(self, key: Hashable, now: float) -> None:
        if key in self._levels:
            self._set(key, self._level(key, now) + 1.0, now)

    def remember(self, key: Hashable, now: float) -> None:
        self._set(key, self._level(key, now), now)

    def _level(self, key: Hashable, now: float) -> float:
        tokens, at = self._levels.get(key, (float(self._rate.burst), now))
        return min(float(self._rate.burst), tokens + (now - at) / self._rate.seconds_each)

    def _set(self, key: Hashable, tokens: float, now: float) -> None:
        self._levels[key] = (min(float(self._rate.burst), tokens), now)
        self._levels.move_to_end(key)
        if len(self._levels) > self._most:
            self._levels.popitem(last=False)


def _source(address: str) -> str:
    """Return what counts as one source: an IPv4 address, or the /64 that one IPv6 customer has."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv4Address):
        return address
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.ip_network((parsed, 64), strict=False))
