# SPDX-License-Identifier: Apache-2.0
"""What a caller of `ask()` holds in the end: a `ThalovantReply`, or the error that says why there is none.

Turns the outcome of `protocol.asks` into the public types; decides nothing about it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from thalovant.diagnoses import diagnose
from thalovant.display import ThalovantDisplayItem, text_items
from thalovant.errors import (
    ThalovantConnectionError,
    ThalovantError,
    ThalovantPolicyDeniedError,
    ThalovantRuntimeError,
    ThalovantTimeoutError,
    ThalovantUnansweredError,
)
from thalovant.event_names import THALOVANT_CLAIMED_META_KEY
from thalovant.events import ThalovantEvent
from thalovant.markup import strip_ssml
from thalovant.protocol.asks import AUDIO_QUEUE, SPEAK_EVENTS, Answered, Failed, Heard, Outcome


@dataclass(frozen=True)
class ThalovantReply:
    """The answer to one `ask()` (contract 9.2, 9.3).

    `text` is the parts (`utterances`) joined by one space, `handled` false when the answer was cut short,
    `failure_event` what cut it short, `events` all that arrived for it in order, `raw_messages` the messages
    they came in, `dropped_media` how many clips were not kept.
    """

    text: str
    utterances: tuple[str, ...] = ()
    handled: bool = False
    session_id: str | None = None
    request_id: str | None = None
    raw_messages: tuple[Any, ...] = field(default_factory=tuple)
    events: tuple[ThalovantEvent, ...] = field(default_factory=tuple)
    failure_event: ThalovantEvent | None = None
    dropped_media: int = 0

    @property
    def ok(self) -> bool:
        """Is it a whole answer?"""
        return self.handled and self.failure_event is None

    @property
    def claimed(self) -> bool:
        """Did something that knows the subject answer, rather than a fallback?

        False when every pipeline named is a fallback, unless a speak says `meta.thalovant_claimed: true`.
        """
        if not self.ok:
            return False
        ids = self.pipeline_ids
        return not ids or not all("fallback" in name for name in ids) or any(map(_says_claimed, self.events))

    @property
    def display_text(self) -> str:
        """`text` without speech markup."""
        return strip_ssml(self.text)

    @property
    def lang(self) -> str | None:
        """The language of the first event that names one."""
        return next((event.lang for event in self.events if event.lang), None)

    @property
    def pipeline_ids(self) -> tuple[str, ...]:
        """Which pipelines answered, each once, in order."""
        return self._named("pipeline_id")

    @property
    def skill_ids(self) -> tuple[str, ...]:
        """Which skills answered, each once, in order."""
        return self._named("skill_id")

    @property
    def has_audio(self) -> bool:
        """Is there at least one clip whose bytes are here?"""
        return any(event.has_audio for event in self.events)

    @property
    def media_events(self) -> tuple[ThalovantEvent, ...]:
        """What is to be spoken and played, in order."""
        return tuple(event for event in self.events if event.name in SPEAK_EVENTS or event.name == AUDIO_QUEUE)

    def display_items(self, *, max_text_chars: int | None = None) -> tuple[ThalovantDisplayItem, ...]:
        """What is to be shown of all its events, in order; without events, its text.

        ValueError: `max_text_chars` is negative.
        """
        if not self.events:
            return tuple(text_items(self.text, max_text_chars))
        return tuple(item for event in self.events for item in event.display_items(max_text_chars=max_text_chars))

    def as_dict(self) -> dict[str, Any]:
        """Everything but `raw_messages`, ready for JSON."""
        return {
            "text": self.text,
            "display_text": self.display_text,
            "utterances": list(self.utterances),
            "handled": self.handled,
            "ok": self.ok,
            "claimed": self.claimed,
            "pipeline_ids": list(self.pipeline_ids),
            "skill_ids": list(self.skill_ids),
            "session_id": self.session_id,
            "request_id": self.request_id,
            "lang": self.lang,
            "display_items": [item.as_dict() for item in self.display_items()],
            "failure_event": self.failure_event.as_dict() if self.failure_event else None,
            "events": [event.as_dict() for event in self.events],
            "dropped_media": self.dropped_media,
        }

    def _named(self, key: str) -> tuple[str, ...]:
        values = (event.context.get(key) for event in self.events)
        return tuple(dict.fromkeys(value for value in values if isinstance(value, str) and value))


def reply_or_raise(outcome: Outcome) -> ThalovantReply:
    """Return the reply an ask became, or raise the error it became."""
    if isinstance(outcome, Failed):
        raise error_of(outcome)
    return reply_of(outcome)


def reply_of(answered: Answered) -> ThalovantReply:
    """Make the public reply from an answered ask."""
    events = tuple(_event(heard) for heard in answered.events)
    return ThalovantReply(
        text=" ".join(answered.utterances),
        utterances=answered.utterances,
        handled=answered.handled,
        session_id=answered.session_id,
        request_id=answered.request_id,
        raw_messages=tuple(event.raw for event in events),
        events=events,
        failure_event=_event(answered.failure_event) if answered.failure_event else None,
        dropped_media=answered.dropped_media,
    )


def error_of(failed: Failed) -> ThalovantError:
    """Make the public error from a failed ask; the texts are those of `vectors/ask-scenarios.json`."""
    if failed.kind == "unanswered":
        return ThalovantUnansweredError(failed.text)
    if failed.kind == "connection":
        return ThalovantConnectionError(failed.text)
    return _diagnosed(failed)


def _diagnosed(failed: Failed) -> ThalovantError:
    """The texts are the contract's; what they mean is the catalogue's."""
    error: ThalovantError
    if failed.kind == "denied":
        error, code = ThalovantPolicyDeniedError.from_event(failed.event), "policy_denied"
    elif failed.kind == "timeout":
        error, code = ThalovantTimeoutError(failed.text), "ask_unanswered"
    else:
        error, code = ThalovantRuntimeError(failed.text), "agent_failed"
    error.diagnosis = diagnose(code, said=error)
    return error


def _event(heard: Heard) -> ThalovantEvent:
    return ThalovantEvent(heard.name, heard.data, heard.context, heard.raw)


def _says_claimed(event: ThalovantEvent) -> bool:
    meta = event.data.get("meta") if event.name in SPEAK_EVENTS else None
    return isinstance(meta, dict) and meta.get(THALOVANT_CLAIMED_META_KEY) is True
