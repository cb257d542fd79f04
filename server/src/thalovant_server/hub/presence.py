# SPDX-License-Identifier: Apache-2.0
"""Who is online: one state per client, from its sessions themselves and not from what it says of itself.

Time and events come in, states come out. A client is

- ``never_seen`` until its first session is ready;
- ``online`` while a session of it is ready and gives signs of life;
- ``stale`` while each of its sessions has been silent for longer than its carrier's own sign of life allows;
- ``offline`` when no session is left, and `why` the last one ended;
- ``revoked`` while it is paused, and when it is removed: with that, it is forgotten.

It will not know a carrier, read a clock or wait for anything (`presence_watch` does), nor keep anything on a disk.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from thalovant_server.hub.refusal import Refusal

State = Literal["never_seen", "online", "stale", "offline", "revoked"]
Standing = Literal["live", "paused", "removed"]

# Why a client is offline: stable words, told over the API.
DISCONNECTED = "disconnected"  # it said so itself
CONNECTION_LOST = "connection_lost"
NO_SIGN_OF_LIFE = "no_sign_of_life"
TAKEN_OVER = "taken_over"  # a newer session of the client took its place
SERVER_STOPPED = "server_stopped"
SERVER_LOST = "server_lost"  # it crashed, or its machine did
PROTOCOL_ERROR = "protocol_error"
CREDENTIAL_ENDED = "credential_ended"  # of that session: replaced, or its grace is over; the client has another
PAUSED = "paused"
RESUMED = "resumed"  # it is not paused any longer, and has not come back yet

# Refusals that have a word of their own; of the others the client's messages are the cause.
_WORDS = {
    "rotated_out": CREDENTIAL_ENDED,
    "removed": CREDENTIAL_ENDED,
    "revoked": CREDENTIAL_ENDED,
    "paused": PAUSED,
    "protocol_off": "protocol_off",
    "hub_off": "hub_off",
    "unresponsive": NO_SIGN_OF_LIFE,
    "restart": SERVER_STOPPED,
    "too_many_connections": TAKEN_OVER,
    "replaced": TAKEN_OVER,
    "slow_reader": "slow_reader",
    "busy": "server_busy",
    "internal": "server_failed",
}

SECOND = 1_000_000
# Looks at sessions that have ended, beside which nothing is tidied up.
FEW = 64


def word_for(refusal: Refusal) -> str:
    """Why a client is offline whose last session the hub ended."""
    return _WORDS.get(refusal.code, PROTOCOL_ERROR)


@dataclass(frozen=True, slots=True)
class Moment:
    """One moment on two clocks: `ticks`, seconds that only grow, and `at`, microseconds since 1970."""

    ticks: float
    at: int


class LiveSession(Protocol):
    """What is asked of a session that is ready, while it lives."""

    number: int

    @property
    def carrier(self) -> str:
        """The carrier's name."""

    @property
    def remote(self) -> str:
        """The client's address, without the port."""

    @property
    def patience(self) -> float | None:
        """Seconds that a living client may be silent on this carrier; None: the carrier has no sign of life."""

    def silence(self) -> float:
        """Seconds since the last sign of life."""


@dataclass(frozen=True, slots=True)
class Presence:
    """The state of a client. Times are microseconds since 1970.

    `carrier`, `address`: of the newest session that gives signs of life, or where the client was last; None of one
    that was never seen and of a revoked one. `since`: of the session when online, of the state otherwise; None when
    that is not known. `why`: of an offline and a revoked client.
    """

    client_id: str
    hub_id: str
    name: str
    state: State
    since: int | None = None
    carrier: str | None = None
    address: str | None = None
    why: str | None = None
    sessions: int = 0
    last_seen_at: int | None = None


@dataclass(slots=True)
class _Session:
    """A ready session. `source` is None once it has ended: the heap of those to look at may still hold it."""

    client: _Client
    source: LiveSession | None
    carrier: str
    address: str
    since: int
    quiet_since: int | None = None


@dataclass(slots=True, eq=False)
class _Client:
    id: str
    hub_id: str
    name: str
    sessions: dict[int, _Session] = field(default_factory=dict)  # in the order in which they became ready
    last_seen: int | None = None
    gone: Presence | None = None  # as it was when its last session ended
    standing: Standing = "live"
    standing_since: int | None = None
    told: Presence | None = None  # without `last_seen_at`, which is no change


class PresenceTracker:
    """The states of all clients of a process."""

    __slots__ = ("_changed", "_clients", "_due", "_over", "_recheck_seconds")

    def __init__(self, recheck_seconds: float) -> None:
        self._recheck_seconds = recheck_seconds
        self._clients: dict[str, _Client] = {}
        self._changed: dict[str, None] = {}
        self._due: list[tuple[float, int, _Session]] = []  # a heap: when to look for a sign of life
        self._over = 0  # how many of these have ended

    # -- events -----------------------------------------------------------------------------------------------

    def load(self, last: Iterable[Presence], paused: frozenset[str]) -> None:
        """Take in how the clients were when the server stopped, those that are paused now by their ids; tells nobody.

        One that was online then has been offline since its last sign of life: nobody wrote why.
        """
        for each in last:
            client = self._add(each.client_id, each.hub_id, each.name)
            client.last_seen = each.last_seen_at
            if each.state in ("online", "stale"):
                client.gone = replace(each, state="offline", since=each.last_seen_at, why=SERVER_LOST, sessions=0)
            elif each.state == "offline":
                client.gone = each
            if each.client_id in paused:
                client.standing, client.standing_since = "paused", each.since if each.why == PAUSED else None
            elif each.why == PAUSED:  # nobody wrote that it was resumed
                client.gone = replace(each, why=RESUMED)
            client.told = _comparable(self._state(client))

    def stands(self, client_id: str, hub_id: str, name: str, standing: Standing, now: Moment) -> None:
        """A client was made, changed, paused or resumed."""
        client = self._clients.get(client_id) or self._add(client_id, hub_id, name)
        client.hub_id, client.name = hub_id, name
        self._put(client, standing, now)

    def removed(self, client_id: str, now: Moment) -> None:
        """A client was removed: told once more, and then forgotten."""
        client = self._clients.get(client_id)
        if client is not None:
            self._put(client, "removed", now)

    def ready(self, client_id: str, hub_id: str, name: str, source: LiveSession, now: Moment) -> None:
        """A session finished its handshake."""
        client = self._clients.get(client_id) or self._add(client_id, hub_id, name)
        session = _Session(client, source, source.carrier, source.remote, now.at)
        client.sessions[source.number] = session
        client.last_seen = now.at
        self._look_later(session, source, now)
        self._changed[client_id] = None

    def ended(self, client_id: str, number: int, why: str, now: Moment) -> None:
        """A session is over. One that never was ready is none of ours."""
        client = self._clients.get(client_id)
        session = None if client is None else client.sessions.get(number)
        if client is None or session is None or session.source is None:
            return
        self._see(client, session.source, now)
        del client.sessions[number]
        self._forget(session)
        if not client.sessions:
            why = why if client.standing == "live" else client.standing
            blank = Presence(client_id, client.hub_id, client.name, "offline", now.at)
            client.gone = replace(blank, carrier=session.carrier, address=session.address, why=why)
        self._changed[client_id] = None

    def look(self, now: Moment) -> None:
        """Look for signs of life where one is due. Costs nothing for sessions of which none is."""
        while self._due and self._due[0][0] <= now.ticks:
            _, _, session = heapq.heappop(self._due)
            if session.source is None:
                self._over -= 1
            else:
                self._look_later(session, session.source, now)

    # -- questions --------------------------------------------------------------------------------------------

    @property
    def watched(self) -> int:
        """How many looks are planned; not much more than twice the sessions, however fast these come and go."""
        return len(self._due)

    @property
    def next_look(self) -> float | None:
        """The tick at which a sign of life is due next; None while nothing is watched."""
        return self._due[0][0] if self._due else None

    def of(self, client_id: str, now: Moment) -> Presence | None:
        """The state of a client; None when there is none of that id."""
        client = self._clients.get(client_id)
        if client is None:
            return None
        for session in client.sessions.values():
            if session.source is not None:
                self._see(client, session.source, now)
        return self._state(client)

    def live(self) -> list[str]:
        """The clients that have sessions."""
        return [client.id for client in self._clients.values() if client.sessions]

    def changes(self, now: Moment) -> list[Presence]:
        """The clients whose state has changed since this was asked last, each once, as they are now."""
        changed, self._changed = self._changed, {}
        return [found for client_id in changed if (found := self._change(client_id, now)) is not None]

    # -- inside -----------------------------------------------------------------------------------------------

    def _add(self, client_id: str, hub_id: str, name: str) -> _Client:
        client = self._clients[client_id] = _Client(client_id, hub_id, name)
        return client

    def _put(self, client: _Client, standing: Standing, now: Moment) -> None:
        if client.standing != standing:
            client.standing, client.standing_since = standing, now.at
            if standing == "live" and client.gone is not None and client.gone.why == PAUSED:
                client.gone = replace(client.gone, since=now.at, why=RESUMED)
        self._changed[client.id] = None

    def _change(self, client_id: str, now: Moment) -> Presence | None:
        found = self.of(client_id, now)
        client = self._clients[client_id]
        if client.standing == "removed":
            for session in client.sessions.values():
                self._forget(session)
            del self._clients[client_id]
        if found is None or _comparable(found) == client.told:
            return None
        client.told = _comparable(found)
        return found

    def _forget(self, session: _Session) -> None:
        """A session is over. An MQTT client may want to be looked at hours later: it is not kept for so long."""
        patient = session.source is not None and session.source.patience is not None
        session.source = None
        if not patient:
            return
        self._over += 1
        if self._over > FEW and self._over > len(self._due) // 2:
            self._due = [each for each in self._due if each[2].source is not None]
            heapq.heapify(self._due)
            self._over = 0

    def _look_later(self, session: _Session, source: LiveSession, now: Moment) -> None:
        """Note whether it is silent now, and when to look again."""
        if source.patience is None:
            return
        left = source.patience - source.silence()
        is_quiet = left <= 0
        if is_quiet != (session.quiet_since is not None):
            session.quiet_since = now.at if is_quiet else None
            self._changed[session.client.id] = None
        heapq.heappush(self._due, (now.ticks + max(left, self._recheck_seconds), source.number, session))

    def _see(self, client: _Client, source: LiveSession, now: Moment) -> None:
        seen = now.at - int(max(source.silence(), 0.0) * SECOND)
        client.last_seen = max(seen, client.last_seen or 0)

    def _state(self, client: _Client) -> Presence:
        blank = Presence(client.id, client.hub_id, client.name, "never_seen", last_seen_at=client.last_seen)
        if client.standing != "live":
            return replace(blank, state="revoked", since=client.standing_since, why=client.standing)
        if client.sessions:
            return _connected(client, blank)
        if client.gone is None:
            return blank
        return replace(client.gone, hub_id=client.hub_id, name=client.name, last_seen_at=client.last_seen)


def _connected(client: _Client, blank: Presence) -> Presence:
    """The state of a client that has sessions."""
    sessions = list(client.sessions.values())
    awake = [session for session in sessions if session.quiet_since is None]
    shown = (awake or sessions)[-1]
    quiet = [session.quiet_since for session in sessions if session.quiet_since is not None]
    return replace(
        blank,
        state="online" if awake else "stale",
        since=shown.since if awake else max(quiet),
        carrier=shown.carrier,
        address=shown.address,
        sessions=len(sessions),
    )


def _comparable(presence: Presence) -> Presence:
    return replace(presence, last_seen_at=None)
