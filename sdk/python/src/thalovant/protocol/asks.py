# SPDX-License-Identifier: Apache-2.0
"""What an ask is waiting for, and what it became: the state machine of contract 9, without a clock.

    waiting ──first part──▶ speaking ──settled──────────────▶ Answered(handled=True)
       │                       ├──refused──────────────────▶ Answered(handled=False)
       │                       └──link lost, query timeout─▶ Failed
       └──empty wait, deadline, refused, link lost──────────▶ Failed ──reopened─▶ waiting or speaking

A query (`Query`, contract 9.5) goes the same way and is complete when `hive.query.complete` says so. An ask has two
ways to know that its answer is complete:

- *settling* (any hub): `settle` seconds after the first part, whatever comes later (contract 9.3);
- *handled is last* (a hub that announces the capability "handled"): `ovos.utterance.handled` completes the
  ask at once and no window applies, so nothing is lost and nothing is waited for. If the deadline comes
  first, what was said so far is answered with `handled=False`: nothing the user was told is thrown away.

Time is whatever the caller's clock says, in seconds; each method is told what time it is, and `next_at` is
when `tick` has something to do. Nothing here sends, waits, logs, or raises on what the hub sent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from thalovant.protocol.contexts import session_id_of, spoken_text
from thalovant.protocol.progress import Progress

__all__ = [
    "Answered",
    "Ask",
    "Failed",
    "Heard",
    "Outcome",
    "Query",
]

SPEAK_EVENTS = frozenset({"speak", "ovos.utterance.speak"})
UNMATCHED_EVENTS = frozenset({"ovos.intent.unmatched", "complete_intent_failure"})
HANDLED = "ovos.utterance.handled"
DENIED = "hive.policy.denied"
QUERY_TIMEOUT = "hive.query.timeout"
QUERY_COMPLETE = "hive.query.complete"
AUDIO_QUEUE = "mycroft.audio.queue"

MAX_CLIP_BYTES = 4 * 1024 * 1024
MAX_MEDIA_BYTES = 16 * 1024 * 1024
MAX_EVENTS = 10_000
MAX_TEXT_CHARS = 16 * 1024 * 1024

NOTHING_SAID = "The hub's agent is done and said nothing. Whoever runs the hub finds the ask in its log."
NO_REPLY = "Hub finished the query but did not emit a speak reply."
NO_ANSWER = "no_answer"
NOBODY_ANSWERED = "Nobody on the hub answered. Ask in other words."
LINK_LOST = "HiveMind transport stopped"

FailureKind = Literal["timeout", "unanswered", "denied", "query_timeout", "connection", "too_much"]


@dataclass(frozen=True, slots=True)
class Heard:
    """One event an ask used: its type, data, context as handlers see it, and the message it came in."""

    name: str
    data: dict[str, Any]
    context: dict[str, Any]
    raw: Any = None


@dataclass(frozen=True, slots=True)
class Answered:
    """The ask got an answer. `utterances` are its parts in order; `handled` is false when it was cut short.

    `session_id` is the last one the hub named, else the one asked with; `failure_event` is what cut it
    short; `dropped_media` counts the clips that were empty, malformed or over a limit.
    """

    request_id: str
    session_id: str | None
    utterances: tuple[str, ...]
    events: tuple[Heard, ...]
    handled: bool
    failure_event: Heard | None = None
    dropped_media: int = 0


@dataclass(frozen=True, slots=True)
class Failed:
    """The ask got no answer: `kind` for programs, `text` for people, `event` the hub's event that ended it.

    `unanswered`: `text` is what the hub did not understand, as far as it said. `denied`: read `event`.
    """

    kind: FailureKind
    request_id: str
    text: str = ""
    event: Heard | None = None


Outcome = Answered | Failed


Step = Callable[[Any, Heard, float], None]


class Ask:
    """One request in flight. Feed it the events that carry its request id, in the order they came."""

    _steps: ClassVar[dict[str, Step]]

    __slots__ = (
        "_began_at",
        "_chars",
        "_deadline_at",
        "_dropped",
        "_empty_at",
        "_empty_wait",
        "_events",
        "_handled_is_last",
        "_heard",
        "_media_bytes",
        "_outcome",
        "_parts",
        "_session_id",
        "_settle",
        "_settle_at",
        "_unmatched",
        "request_id",
    )

    def __init__(
        self,
        request_id: str,
        session_id: str | None,
        *,
        now: float,
        deadline_at: float,
        settle: float = 0.25,
        empty_wait: float = 5.0,
        handled_is_last: bool = False,
    ) -> None:
        """Start waiting at `now`; `settle` and `empty_wait` in seconds, defaults as in contract 9.3."""
        self.request_id = request_id
        self._session_id = session_id
        self._began_at = now
        self._deadline_at = max(deadline_at, now)
        self._settle = settle
        self._empty_wait = empty_wait
        self._handled_is_last = handled_is_last
        self._settle_at: float | None = None
        self._empty_at: float | None = None
        self._parts: list[str] = []
        self._events: list[Heard] = []
        self._unmatched: Heard | None = None
        self._chars = self._media_bytes = self._dropped = 0
        self._heard: Progress | None = None
        self._outcome: Outcome | None = None

    @property
    def outcome(self) -> Outcome | None:
        """What the ask became; None while it is in flight. Set once."""
        return self._outcome

    @property
    def next_at(self) -> float | None:
        """The earliest time at which `tick` can end the ask; None when it has ended."""
        if self._outcome is not None:
            return None
        due = [at for at in (self._deadline_at, self._settle_at, self._empty_at) if at is not None]
        return min(due)

    @property
    def heard(self) -> Progress | None:
        """How much of the answer has come; None when the hub does not say."""
        return self._heard

    def has_heard(self, name: str, progress: Progress | None) -> bool:
        """Has this part of the answer come before? It came on a link that was lost meanwhile."""
        if progress is None or self._heard is None or name not in SPEAK_EVENTS:
            return False
        return progress.turn == self._heard.turn and progress.parts <= self._heard.parts

    def tick(self, now: float) -> None:
        """Let the time pass: end the ask if a window or the deadline is over at `now`."""
        at = self.next_at
        if at is None or now < at:
            return
        if self._parts:
            # Only a deadline can strike here while an answer is incomplete: settling is complete by rule.
            self._answer(handled=not self._handled_is_last)
        elif self._unmatched is not None:
            self._fail("unanswered", spoken_text(self._unmatched.data), self._unmatched)
        elif self._handled_is_last:
            waited = f"{round(self._deadline_at - self._began_at, 1):g}"
            self._fail("timeout", f"No answer within {waited} s. If the agent needs longer, ask with a longer timeout.")
        else:
            self._fail("timeout", NO_REPLY)

    def receive(
        self,
        name: str,
        data: object,
        context: object,
        now: float,
        raw: Any = None,
        progress: Progress | None = None,
    ) -> bool:
        """Take one event of this request; True when the ask used it (a kind contract 9.2 lists).

        `progress` is how far the answer has come with it, where the hub says so.
        """
        self.tick(now)
        if self._outcome is not None or name not in self._steps or self.has_heard(name, progress):
            return False
        self._follow(progress)
        heard = Heard(name, _as_dict(data), _as_dict(context), raw)
        if self._has_too_much():
            self._fail("too_much", "The hub sent more than one reply can hold. Ask for less at a time.")
            return True
        self._steps[name](self, heard, now)
        self.tick(now)
        return True

    def link_lost(self, reason: str, now: float) -> None:
        """The connection is gone: no more events can come, even after speech (contract 9.3)."""
        self.tick(now)
        if self._outcome is None:
            self._fail("connection", f"{LINK_LOST}: {reason}" if reason else LINK_LOST)

    def reopen(self) -> None:
        """Wait on after a lost link: the same request is sent again, and what was heard of its answer is kept.

        Unless the hub does not say how far an answer has come: then it comes from its beginning.
        """
        self._outcome = None
        if self._heard is None:
            self._start_over()

    def _follow(self, progress: Progress | None) -> None:
        """Go on with the turn that was heard so far, or begin anew: the hub forgot it, and the agent runs again."""
        if progress is None:
            return
        if self._heard is not None and progress.turn != self._heard.turn:
            self._start_over()
        self._heard = progress

    def _start_over(self) -> None:
        self._parts, self._events, self._unmatched = [], [], None
        self._settle_at = self._empty_at = None
        self._chars = self._media_bytes = self._dropped = 0

    def _on_speak(self, heard: Heard, now: float) -> None:
        self._keep(heard)
        part = " ".join(spoken_text(heard.data).split())
        if not part or (self._parts and self._parts[-1] == part):
            return
        if not self._parts and not self._handled_is_last:
            self._settle_at = now + self._settle
        self._empty_at = None
        self._chars += len(part)
        self._parts.append(part)

    def _on_handled(self, heard: Heard, now: float) -> None:
        self._keep(heard)
        if self._handled_is_last:
            self._complete()
        else:
            self._start_empty_wait(now)

    def _on_unmatched(self, heard: Heard, now: float) -> None:
        self._keep(heard)
        self._unmatched = self._unmatched or heard
        if not self._handled_is_last:
            self._start_empty_wait(now)

    def _on_denied(self, heard: Heard, now: float) -> None:
        self._keep(heard)
        if self._parts:
            self._answer(handled=False, failure_event=heard)
        else:
            self._fail("denied", event=heard)

    def _on_query_timeout(self, heard: Heard, now: float) -> None:
        error = heard.data.get("error")
        text = error if isinstance(error, str) and error else "The hub found nobody to answer this in time."
        self._fail("query_timeout", text, heard)

    def _on_clip(self, heard: Heard, now: float) -> None:
        size = _clip_bytes(heard.data.get("binary_data"))
        if size is None or self._media_bytes + size > MAX_MEDIA_BYTES:
            self._dropped += 1
            return
        self._media_bytes += size
        self._keep(heard)

    def _keep(self, heard: Heard) -> None:
        self._session_id = session_id_of(heard.context) or self._session_id
        self._events.append(heard)

    def _has_too_much(self) -> bool:
        return len(self._events) >= MAX_EVENTS or self._chars >= MAX_TEXT_CHARS

    def _start_empty_wait(self, now: float) -> None:
        if not self._parts and self._empty_at is None:
            self._empty_at = now + self._empty_wait

    def _complete(self) -> None:
        """The hub says this was the last event."""
        if self._parts:
            self._answer(handled=True)
        elif self._unmatched is not None:
            self._fail("unanswered", spoken_text(self._unmatched.data), self._unmatched)
        else:
            self._fail("timeout", NOTHING_SAID)

    def _answer(self, *, handled: bool, failure_event: Heard | None = None) -> None:
        self._outcome = Answered(
            self.request_id,
            self._session_id,
            tuple(self._parts),
            tuple(self._events),
            handled,
            failure_event,
            self._dropped,
        )

    def _fail(self, kind: FailureKind, text: str = "", event: Heard | None = None) -> None:
        self._outcome = Failed(kind, self.request_id, text, event)


Ask._steps = {
    **dict.fromkeys(SPEAK_EVENTS, Ask._on_speak),
    **dict.fromkeys(UNMATCHED_EVENTS, Ask._on_unmatched),
    HANDLED: Ask._on_handled,
    DENIED: Ask._on_denied,
    QUERY_TIMEOUT: Ask._on_query_timeout,
    AUDIO_QUEUE: Ask._on_clip,
}


class Query(Ask):
    """One query in flight (contract 9.5): `hive.query.complete` ends it, and no window applies.

    Feed it what comes in `query` frames of its id; of the rest, only what ends it (`ENDS_A_QUERY`). A timeout that
    comes after a part was said answers with what there is, as a refusal does.
    """

    __slots__ = ("query_id",)

    def __init__(
        self, query_id: str, request_id: str, session_id: str | None, *, now: float, deadline_at: float
    ) -> None:
        """Start waiting at `now`."""
        super().__init__(request_id, session_id, now=now, deadline_at=deadline_at, handled_is_last=True)
        self.query_id = query_id

    def _on_complete(self, heard: Heard, now: float) -> None:
        self._keep(heard)
        if self._parts or self._unmatched is not None:
            self._complete()
        else:
            self._fail("timeout", NO_REPLY)

    def _on_nobody(self, heard: Heard, now: float) -> None:
        if self._parts:
            self._keep(heard)
            self._answer(handled=False, failure_event=heard)
        elif heard.data.get("error") == NO_ANSWER:
            self._fail("query_timeout", NOBODY_ANSWERED, heard)
        else:
            self._on_query_timeout(heard, now)


Query._steps = {
    **dict.fromkeys(SPEAK_EVENTS, Ask._on_speak),
    **dict.fromkeys(UNMATCHED_EVENTS, Ask._on_unmatched),
    DENIED: Ask._on_denied,
    AUDIO_QUEUE: Ask._on_clip,
    QUERY_TIMEOUT: Query._on_nobody,
    QUERY_COMPLETE: Query._on_complete,
}

ENDS_A_QUERY = frozenset({DENIED, QUERY_TIMEOUT})
"""What ends a query even when it comes as a plain `bus` message with its request id."""


def _as_dict(value: object) -> dict[str, Any]:
    return dict(value) if isinstance(value, Mapping) else {}


def _clip_bytes(hexadecimal: object) -> int | None:
    """The size of an embedded clip; None when it is missing, empty, too large or not hexadecimal."""
    if not isinstance(hexadecimal, str) or not 0 < len(hexadecimal) <= 2 * MAX_CLIP_BYTES:
        return None
    try:
        return len(bytes.fromhex(hexadecimal)) or None
    except ValueError:
        return None
