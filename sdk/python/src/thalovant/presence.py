# SPDX-License-Identifier: Apache-2.0
"""Who is online, as values, and a watch over it that outlives its connections. No I/O; times are handed in.

A server tells every client once, says `ready`, and then each change. After a lost connection it tells everything
again: what is the same as before is not told twice here, and what is no longer there is told as removed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from thalovant.api_session import HttpAnswer
from thalovant.errors import ThalovantAPIError, ThalovantAPIUnreachableError
from thalovant.event_stream import EventStream, ServerSentEvent

__all__ = ["ClientPresence", "ClientState", "PresenceWatch"]

ClientState = Literal["never_seen", "online", "stale", "offline", "revoked"]

FIRST_PAUSE = 1.0  # seconds before the stream is opened again, times 0.5 to 1.5
LONGEST_PAUSE = 30.0

_TEXTS = ("since", "carrier", "address", "why", "last_seen_at")


@dataclass(frozen=True)
class ClientPresence:
    """What is known of one client: whether it is online, since when, and why not.

    `state` is `never_seen`, `online`, `stale` (the server waits for a sign of life), `offline` or `revoked` (`why` is
    `paused` or `removed`). Times are ISO 8601 text in UTC, as the server wrote them; `carrier` is wss, https or mqtt.
    `sessions` is how many connections it has.
    """

    client_id: str
    hub_id: str
    name: str
    state: ClientState
    since: str | None = None
    carrier: str | None = None
    address: str | None = None
    why: str | None = None
    sessions: int = 0
    last_seen_at: str | None = None

    @classmethod
    def from_dict(cls, payload: Mapping[str, Any]) -> ClientPresence:
        """Read one; a state this SDK does not know is kept as it is.

        Raises ThalovantAPIError naming the required field that is missing.
        """
        required: dict[str, Any] = {name: payload.get(name) for name in ("client_id", "hub_id", "name", "state")}
        for name, value in required.items():
            if not isinstance(value, str):
                raise ThalovantAPIError(f"The Thalovant API told of a client's presence without {name}.")
        texts: dict[str, Any] = {name: payload.get(name) for name in _TEXTS}
        texts = {name: value for name, value in texts.items() if isinstance(value, str)}
        sessions = payload.get("sessions")
        return cls(**required, **texts, sessions=sessions if isinstance(sessions, int) else 0)

    def as_dict(self) -> dict[str, Any]:
        """The same as a mapping; it holds no secret."""
        return asdict(self)


class PresenceWatch:
    """One watch over a hub. `uniform` draws a number between two, for the pauses."""

    def __init__(self, uniform: Callable[[float, float], float]) -> None:
        self._uniform = uniform
        self._stream = EventStream()
        self._known: dict[str, ClientPresence] = {}
        self._told: set[str] | None = None  # since the stream was opened; None once it is ready
        self._pause = FIRST_PAUSE
        self._was_open = False
        self.over = False
        """Whether the server has ended the stream, for we were too slow."""

    def opened(self, answer: HttpAnswer) -> None:
        """Begin a stream. Raises ThalovantAPIError when the answer is none."""
        if not answer.headers.get("content-type", "").startswith("text/event-stream"):
            raise ThalovantAPIError("The Thalovant API answered no event stream.")
        self._stream = EventStream()
        self._told = set()
        self.over = False
        self._was_open = True

    def feed(self, part: bytes) -> list[ClientPresence]:
        """Return what is new in these bytes. Raises ThalovantAPIError when they cannot be read."""
        return [new for event in self._stream.feed(part) for new in self._news(event)]

    def lost(self, error: ThalovantAPIError | None) -> float:
        """Return the seconds to wait before the stream is opened again.

        Raises `error` when trying again does not help: the server refused, or was not there in the first place.
        """
        if error is not None and not (self._was_open and _passes(error)):
            raise error
        pause, self._pause = self._pause, min(self._pause * 2, LONGEST_PAUSE)
        asked = error.retry_after_seconds if error is not None else None
        return max(pause * self._uniform(0.5, 1.5), asked or 0.0)

    def _news(self, event: ServerSentEvent) -> list[ClientPresence]:
        if self.over:
            return []  # there is nothing to trust after a gap
        if event.event == "presence":
            return self._changed(ClientPresence.from_dict(_object(event.data)))
        if event.event == "ready":
            return self._ready()
        self.over = event.event == "overflow"
        return []

    def _changed(self, new: ClientPresence) -> list[ClientPresence]:
        if self._told is not None:
            self._told.add(new.client_id)
        before = self._known.get(new.client_id)
        if new.state == "revoked" and new.why == "removed":
            self._known.pop(new.client_id, None)
        else:
            self._known[new.client_id] = new
        return [] if new == before else [new]

    def _ready(self) -> list[ClientPresence]:
        gone = [] if self._told is None else [one for one in self._known if one not in self._told]
        self._told = None
        self._pause = FIRST_PAUSE
        return [_removed(self._known.pop(one)) for one in gone]


def _removed(before: ClientPresence) -> ClientPresence:
    """What is told of a client that was removed while nobody told us."""
    return replace(before, state="revoked", why="removed", since=None, carrier=None, address=None, sessions=0)


def _object(text: str) -> Mapping[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise ThalovantAPIError("The Thalovant API sent an event that is no JSON object.")
    return value


def _passes(error: ThalovantAPIError) -> bool:
    status = error.status_code
    return isinstance(error, ThalovantAPIUnreachableError) if status is None else status == 429 or status >= 500
