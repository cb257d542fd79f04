# SPDX-License-Identifier: Apache-2.0
"""How often a client may fail to get in: per source address and per access key, without locking its owner out.

Only failures count. Each address may fail with some access keys and with each of them some times; then it is refused
without a look, for as long as its bucket takes to fill. A key that a client has is looked at there all the same, as
long as it does not fail too often itself; who has got in with it from there always is. The machine itself is never
refused either: all its programs share one address. Whom nobody refuses waits a little for the next no. An access key's
own bucket, over all addresses, refuses nobody, for anybody can empty it: it only makes the noes slower.

So neither a device with a revoked key nor a stranger shuts out the clients behind the same router, also after a
restart, when nobody is known, and with a credential that was just made.

Sans-I/O: the time, of a monotonic clock in seconds, is passed in. What is remembered is bounded, the longest unused is
forgotten first; successes are kept apart, so no flood of failures makes anybody unknown. Keeps no access key, only
what cannot be turned back into one.
"""

from __future__ import annotations

import hashlib
import secrets
from collections import OrderedDict
from collections.abc import Hashable

from thalovant_server.attempt_buckets import MOST_REMEMBERED, AttemptBuckets, Rate
from thalovant_server.source_address import is_this_machine, source_of

HOLD_BACK_SECONDS = 0.5


PER_SOURCE = Rate(burst=20, seconds_each=6.0)  # of different access keys
PER_PAIR = Rate(burst=10, seconds_each=6.0)  # of one access key from one source
PER_KEY = Rate(burst=20, seconds_each=6.0)  # of one access key from anywhere


class ConnectThrottle:
    """Failed attempts to connect, counted in memory.

    Args:
        per_source: for each source address (IPv6: each /64), of access keys that fail from there.
        per_pair: for each access key at each source.
        per_key: for each access key.
        most_remembered: of each kind.
        hold_back: seconds that a slow no takes.
    """

    __slots__ = ("_hold_back", "_keys", "_most", "_pairs", "_proven", "_salt", "_sources")

    def __init__(
        self,
        *,
        per_source: Rate = PER_SOURCE,
        per_pair: Rate = PER_PAIR,
        per_key: Rate = PER_KEY,
        most_remembered: int = MOST_REMEMBERED,
        hold_back: float = HOLD_BACK_SECONDS,
    ) -> None:
        self._sources = AttemptBuckets(per_source, most_remembered)
        self._pairs = AttemptBuckets(per_pair, most_remembered)
        self._keys = AttemptBuckets(per_key, most_remembered)
        self._proven: OrderedDict[Hashable, None] = OrderedDict()
        self._most = most_remembered
        self._hold_back = hold_back
        self._salt = secrets.token_bytes(16)

    def wait(self, address: str, access_key: str, now: float, *, live: bool = False) -> float:
        """Return 0.0 when this attempt is to be judged, else the seconds after which one would be.

        `live`: a client has this access key, so nobody guessed it; what others fail at that address is not held
        against it. Behind one router, or in a container, that address may be everybody's.
        """
        source, key = source_of(address), self._short(access_key)
        if self._is_welcome(address, (source, key)):
            return 0.0
        return max(0.0 if live else self._sources.wait(source, now), self._pairs.wait((source, key), now))

    def failed(self, address: str, access_key: str, now: float) -> float:
        """Take note that an attempt failed; return the seconds after which to say so."""
        source, key = source_of(address), self._short(access_key)
        slow = max(self._sources.wait(source, now), self._pairs.wait((source, key), now), self._keys.wait(key, now)) > 0
        if self._pairs.is_full((source, key), now):  # the same key again costs its address nothing more
            self._sources.take(source, now)
        self._pairs.take((source, key), now)
        self._keys.take(key, now)
        return self._hold_back if slow else 0.0

    def succeeded(self, address: str, access_key: str) -> None:
        """Take note that a client proved its password: from there it is always judged, failures forgiven."""
        pair = source_of(address), self._short(access_key)
        self._pairs.forget(pair)
        self._proven[pair] = None
        self._proven.move_to_end(pair)
        if len(self._proven) > self._most:
            self._proven.popitem(last=False)

    @property
    def remembered(self) -> int:
        """How many entries are held."""
        return len(self._sources) + len(self._pairs) + len(self._keys) + len(self._proven)

    def _is_welcome(self, address: str, pair: Hashable) -> bool:
        return not address or is_this_machine(address) or pair in self._proven

    def _short(self, access_key: str) -> bytes:
        """Stand in for an access key, which may be as long as a stranger likes."""
        return hashlib.blake2b(access_key.encode("utf-8", "replace"), digest_size=16, key=self._salt).digest()
