# SPDX-License-Identifier: Apache-2.0
"""Who is waiting on one client: finds the ask or query that an event belongs to, in constant time.

It sends nothing, keeps no time and judges no answer (`asks`).
"""

from __future__ import annotations

from collections.abc import Mapping

from thalovant.protocol.asks import DENIED, ENDS_A_QUERY, Ask, Query
from thalovant.protocol.contexts import UTTERANCE, request_id_of
from thalovant.protocol.errors import SessionError, TooLargeError

MAX_ASKS = 10_000
UNTRACKED_SEND_GRACE = 10.0


class AskBook:
    """Every ask and query in flight, at most `max_asks` of either; who an event belongs to.

    It also knows when an utterance was last sent that nobody waits for: a refusal that names no request can be blamed
    on an ask only when nothing else can have caused it (contract 9.4).
    """

    def __init__(self, *, max_asks: int = MAX_ASKS) -> None:
        self._max_asks = max_asks
        self._flying: dict[str, Ask] = {}  # by request id, queries too
        self._queries: dict[str, Query] = {}
        self._last_send_at: float | None = None

    def __len__(self) -> int:
        return len(self._flying)

    def __contains__(self, request_id: object) -> bool:
        return request_id in self._flying

    def add(self, ask: Ask) -> None:
        """Have `ask` hear its events. SessionError: its id is in flight; TooLargeError: the book is full."""
        if ask.request_id in self._flying:
            raise _in_use("request", ask.request_id)
        is_query = isinstance(ask, Query)
        self._make_room(len(self._queries) if is_query else len(self._flying) - len(self._queries))
        if isinstance(ask, Query):
            if ask.query_id in self._queries:
                raise _in_use("query", ask.query_id)
            self._queries[ask.query_id] = ask
        self._flying[ask.request_id] = ask

    def remove(self, ask: Ask) -> None:
        """Forget `ask`, ended or given up; nothing happens if it is not in the book."""
        if self._flying.get(ask.request_id) is not ask:
            return
        del self._flying[ask.request_id]
        if isinstance(ask, Query):
            del self._queries[ask.query_id]

    def sent(self, message_type: str, now: float) -> None:
        """A message was sent that nobody waits for; only an utterance matters for whose a refusal is."""
        if message_type == UTTERANCE:
            self._last_send_at = now

    def owner(self, name: str, data: object, context: object, now: float) -> Ask | None:
        """Whose a `bus` event is. What a query hears comes in `query` frames, but for what ends it."""
        request_id = request_id_of(context, data)
        if request_id is None:
            return self._owner_of_denial(data, now) if name == DENIED else None
        ask = self._flying.get(request_id)
        return None if isinstance(ask, Query) and name not in ENDS_A_QUERY else ask

    def query(self, query_id: object) -> Query | None:
        """Whose a `query` frame is, by the id in its metadata."""
        return self._queries.get(query_id) if isinstance(query_id, str) else None

    def _owner_of_denial(self, data: object, now: float) -> Ask | None:
        if len(self._flying) != 1:
            return None
        only = next(iter(self._flying.values()))
        denied = data.get("denied_type") if isinstance(data, Mapping) else None
        # By the same rule a query's: alone in flight, it can only be the one.
        mine = denial_is_for(only.request_id, None, denied, asks=1, queries=0, sends=self._recent_sends(now))
        return only if mine else None

    def _recent_sends(self, now: float) -> int:
        return int(self._last_send_at is not None and now - self._last_send_at < UNTRACKED_SEND_GRACE)

    def _make_room(self, held: int) -> None:
        if held >= self._max_asks:
            raise TooLargeError(
                f"{self._max_asks} requests are in flight on this connection. Wait for some to end.",
                limit=self._max_asks,
                code="too_many_requests",
            )


def denial_is_for(
    own_request_id: str,
    denial_request_id: str | None,
    denied_type: object,
    *,
    asks: int,
    queries: int,
    sends: int,
) -> bool:
    """Is a refusal that of this ask? By its request id, else only if nothing else can have caused it.

    `asks`, `queries` and `sends` count what is in flight, this ask included (contract 9.4).
    """
    if denial_request_id is not None:
        return denial_request_id == own_request_id
    return denied_type == UTTERANCE and (asks, queries, sends) == (1, 0, 0)


def _in_use(what: str, name: str) -> SessionError:
    return SessionError(
        f"A {what} with the id {name!r} is already in flight. Use another {what}_id.", code=f"{what}_id_in_use"
    )
