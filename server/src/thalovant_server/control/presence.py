# SPDX-License-Identifier: Apache-2.0
"""Which clients are online: a client's state as a resource, and a hub's clients as a stream of events.

The database says which clients there are, the hub how they are. It will not decide what a state is.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import Any

import orjson
import structlog
from sqlalchemy.ext.asyncio import AsyncConnection
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from thalovant_server.control.answers import HEADERS, time_text
from thalovant_server.control.callers import Caller
from thalovant_server.control.hubs import may_see, ownership_required, referred_hub
from thalovant_server.control.services import Services
from thalovant_server.errors import ApiError, StorageError
from thalovant_server.hub.presence import Presence
from thalovant_server.hub.watchers import Watcher
from thalovant_server.store import clients
from thalovant_server.store.clients import ClientRecord
from thalovant_server.store.hubs import HubRecord

log = structlog.get_logger("thalovant.presence")

KEEP_ALIVE_SECONDS = 15.0
WATCHERS = 256
WATCHERS_OF_ACCOUNT = 16
WATCHERS_OF_TOKEN = 8
LOOK_SECONDS = 1.0
RETRY_SECONDS = 5
# Clients that are read, and told of, at a time: some 60 KB, and only when what was told before has left.
PIECE = 200

READY = b"event: ready\ndata: {}\n\n"
OVERFLOW = b"event: overflow\ndata: {}\n\n"
KEEP_ALIVE = b": keep-alive\n\n"

StillGood = Callable[[], Awaitable[bool]]
"""Whether the caller may still watch."""


def of(services: Services, client: ClientRecord) -> Presence:
    """Return the state of a client that is in the database."""
    known = services.presence.of(client.id)
    if known is not None:
        return known
    blank = Presence(client.id, client.hub_id, client.name, "never_seen")
    return blank if client.active else Presence(client.id, client.hub_id, client.name, "revoked", why="paused")


def shown(presence: Presence) -> dict[str, Any]:
    """Return a client's state as a resource."""
    return {
        "client_id": presence.client_id,
        "hub_id": presence.hub_id,
        "name": presence.name,
        "state": presence.state,
        "since": _time(presence.since),
        "carrier": presence.carrier,
        "address": presence.address,
        "why": presence.why,
        "sessions": presence.sessions,
        "last_seen_at": _time(presence.last_seen_at),
    }


def _time(microseconds: int | None) -> str | None:
    return None if microseconds is None else time_text(microseconds)


async def own_hub(connection: AsyncConnection, caller: Caller, reference: str) -> HubRecord:
    """Return a hub, by id or slug, whose clients the caller may see.

    Raises:
        ApiError: 404; 403 for another account's hub that is public.
    """
    hub = await referred_hub(connection, reference, lambda found: may_see(caller, found))
    if not caller.owns(hub.owner_id, hub.id):
        raise ownership_required()
    return hub


def watch(services: Services, caller: Caller, hub_id: str) -> Watcher:
    """Begin to watch a hub's clients.

    Raises:
        ApiError: 429 and 503, the account, the token or the server has as many watchers as it may have, or the server
            goes down.
    """
    watchers = services.presence.watchers
    if watchers.dismissed:
        detail = "The server is going down. Try again in a moment."
        raise ApiError(503, detail, "overloaded", retry_after_seconds=RETRY_SECONDS)
    if watchers.of_account(caller.id) >= WATCHERS_OF_ACCOUNT:
        detail = f"This account has {WATCHERS_OF_ACCOUNT} event streams open: close one first."
        raise ApiError(429, detail, "too_many_watchers", retry_after_seconds=RETRY_SECONDS)
    if watchers.of_token(caller.token_id) >= WATCHERS_OF_TOKEN:  # a narrow one leaves some to the account's others
        detail = f"This token has {WATCHERS_OF_TOKEN} event streams open: close one first."
        raise ApiError(429, detail, "too_many_watchers", retry_after_seconds=RETRY_SECONDS)
    if len(watchers) >= WATCHERS:
        detail = "The server has as many event streams open as it serves. Try again in a moment."
        raise ApiError(503, detail, "too_many_watchers", retry_after_seconds=RETRY_SECONDS)
    return services.presence.watch(hub_id, caller.id, caller.token_id)


class EventStream(StreamingResponse):
    """The states of a hub's clients as server-sent events (HTML, 9.2), for as long as the reader may and wants to.

    A reader that does not take what is sent makes this wait, its watcher's queue fill, and that end.
    """

    media_type = "text/event-stream"

    def __init__(self, services: Services, watcher: Watcher, still_good: StillGood) -> None:
        self._watcher = watcher
        self._events = _events(services, watcher, still_good)
        # nginx and its like hold back what they take for a page unless told not to.
        super().__init__(self._events, headers={**HEADERS, "x-accel-buffering": "no"})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one reader until either side ends it."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._watcher.close()
            await self._events.aclose()


class _Look:
    """At the caller, who may lose what lets it watch: once more when the last look is old."""

    def __init__(self, still_good: StillGood) -> None:
        self._still_good = still_good
        self._at = asyncio.get_running_loop().time()

    async def finds_good(self) -> bool:
        now = asyncio.get_running_loop().time()
        if now < self._at + LOOK_SECONDS:
            return True
        self._at = now
        return await self._still_good()


async def _events(services: Services, watcher: Watcher, still_good: StillGood) -> AsyncGenerator[bytes]:
    """Every client as it is, then each change; a comment from time to time. Nothing once the caller is none."""
    loop, look = asyncio.get_running_loop(), _Look(still_good)
    try:
        async for piece in _as_they_are(services, watcher):
            if not await look.finds_good():
                return
            yield piece
    except StorageError as error:  # the reader comes back: it has not heard that it is ready
        log.warning("presence_stream_ended", code=error.code)
        return
    if not watcher.over:  # else not everything was told, and what was not is not gone
        yield READY
    due = loop.time() + KEEP_ALIVE_SECONDS
    while not watcher.overflowed:
        if loop.time() >= due:
            if not await look.finds_good():
                return
            yield KEEP_ALIVE
            due = loop.time() + KEEP_ALIVE_SECONDS
        changes = watcher.take(PIECE)
        if changes and not await look.finds_good():
            return
        if changes:
            yield b"".join(map(_event, changes))
        elif watcher.over:
            return
        else:
            await _news(watcher, due)
    yield OVERFLOW


async def _as_they_are(services: Services, watcher: Watcher) -> AsyncIterator[bytes]:
    """Every client of the hub once, in the order in which they were made."""
    after = 0
    while not watcher.over:
        async with services.database.read() as connection:
            rows = await clients.page(connection, after=after, limit=PIECE, hub_id=watcher.hub_id)
        if rows:
            yield b"".join(_event(of(services, row)) for row in rows)
        if len(rows) < PIECE:
            return
        after = rows[-1].seq


async def _news(watcher: Watcher, until: float) -> None:
    """Wait for news, but not past that time of the loop."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout_at(until):
            await watcher.wait()


def _event(presence: Presence) -> bytes:
    return b"event: presence\ndata: %s\n\n" % orjson.dumps(shown(presence))
