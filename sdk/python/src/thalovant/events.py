# SPDX-License-Identifier: Apache-2.0
"""One message from the hub, as a handler or a reply sees it: `ThalovantEvent`.

Reads what is there; asks nothing, decodes audio only when told to. A field of the wrong type counts as
absent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from thalovant.display import ThalovantDisplayItem, items_of
from thalovant.markup import strip_ssml
from thalovant.protocol.asks import AUDIO_QUEUE, DENIED, MAX_CLIP_BYTES, QUERY_TIMEOUT, UNMATCHED_EVENTS
from thalovant.protocol.contexts import request_id_of, session_id_of, spoken_text, spoken_texts
from thalovant.protocol.errors import MessageError
from thalovant.protocol.messages import HiveMessage

_FAILURES = UNMATCHED_EVENTS | {DENIED, QUERY_TIMEOUT}
_RICH_WRAPPERS = ("rich_media_data", "rich_media", "display")
_RICH_KEYS = (
    "table",
    "attachment",
    "attachments",
    "quick_replies",
    "buttons",
    "image",
    "images",
)


@dataclass(frozen=True)
class ThalovantEvent:
    """A message of the hub: `name` (its type), `data`, `context` (as handlers see it), `raw` (as it came).

    Fields and properties: `contract/python-surface.json`; meaning of the types: contract 9.2.
    """

    name: str
    data: dict[str, Any]
    context: dict[str, Any]
    raw: Any

    @property
    def text(self) -> str:
        """The words it carries, exactly as they came; empty when it carries none."""
        return spoken_text(self.data)

    @property
    def display_text(self) -> str:
        """`text` without speech markup."""
        return strip_ssml(self.text)

    @property
    def utterances(self) -> tuple[str, ...]:
        """All texts of `data.utterances`, else the single `data.utterance`."""
        return spoken_texts(self.data)

    @property
    def request_id(self) -> str | None:
        """Which request it belongs to (contract 9.2)."""
        return request_id_of(self.context, self.data)

    @property
    def session_id(self) -> str | None:
        """The session it belongs to."""
        return session_id_of(self.context)

    @property
    def site_id(self) -> str | None:
        """The place it is meant for: the session's, else the context's."""
        return _first_text((_session(self.context), "site_id"), (self.context, "site_id"))

    @property
    def lang(self) -> str | None:
        """Its language: the data's, else the context's, else the session's."""
        return _first_text((self.data, "lang"), (self.context, "lang"), (_session(self.context), "lang"))

    @property
    def is_policy_denied(self) -> bool:
        """Is it the refusal of something this client sent?"""
        return self.name == DENIED

    @property
    def is_failure(self) -> bool:
        """Does it say that a request found no answer or was refused?"""
        return self.name in _FAILURES

    @property
    def is_audio(self) -> bool:
        """Is it a clip to play, embedded or elsewhere?"""
        return self.name == AUDIO_QUEUE

    @property
    def has_audio(self) -> bool:
        """Is it a clip whose bytes are in it? `audio_bytes` may still find them malformed."""
        return self.is_audio and bool(self._embedded_audio())

    @property
    def rich_media(self) -> dict[str, Any]:
        """The cards that come with the words, as the agent wrote them, neither checked nor fetched.

        The first non-empty object (or JSON text of one) under `rich_media_data`, `rich_media`, `display`, else
        those of the keys `table`, `attachment(s)`, `quick_replies`, `buttons`, `image(s)` that stand in the
        data itself (contract 9.6).
        """
        wrapped = (_json_object(self.data.get(key)) for key in _RICH_WRAPPERS)
        bare = {key: self.data[key] for key in _RICH_KEYS if self.data.get(key)}
        return next((found for found in wrapped if found), bare)

    def display_items(self, *, max_text_chars: int | None = None) -> tuple[ThalovantDisplayItem, ...]:
        """What is to be shown: the words, in items of at most `max_text_chars` characters, then the cards.

        ValueError: `max_text_chars` is negative.
        """
        return items_of(self.data, self.rich_media, max_text_chars)

    def audio_bytes(self, *, max_bytes: int = MAX_CLIP_BYTES) -> bytes:
        """Decode the embedded clip. ValueError: there is none, it is too large, or it is not hexadecimal."""
        hexadecimal = self._embedded_audio()
        if not hexadecimal:
            raise ValueError("this event carries no embedded audio")
        if len(hexadecimal) > 2 * max_bytes:
            raise ValueError("embedded audio exceeds the clip limit")
        try:
            return bytes.fromhex(hexadecimal)
        except ValueError:
            raise ValueError("embedded audio is not hexadecimal") from None

    def matches_context(
        self,
        context: dict[str, Any] | None = None,
        *,
        session_id: str | None = None,
        request_id: str | None = None,
    ) -> bool:
        """Does it belong to the request, or else the session, that is named here or in `context`?

        When both sides name a request that alone decides; else, when both name a session, that does; an event
        that names neither belongs to everyone.
        """
        for wanted, own in (
            (request_id or request_id_of(context, None), self.request_id),
            (session_id or session_id_of(context), self.session_id),
        ):
            if wanted and own:
                return wanted == own
        return True

    def as_dict(self) -> dict[str, Any]:
        """Everything but `raw`, ready for JSON."""
        return {
            "name": self.name,
            "data": self.data,
            "context": self.context,
            "text": self.text,
            "display_text": self.display_text,
            "session_id": self.session_id,
            "request_id": self.request_id,
            "display_items": [item.as_dict() for item in self.display_items()],
        }

    def _embedded_audio(self) -> str:
        value = self.data.get("binary_data") if self.is_audio else None
        return value if isinstance(value, str) else ""


def wire_context(event: object) -> Mapping[str, Any]:
    """The context of an event as it came, before handlers saw it; of something that has none, an empty one."""
    raw = getattr(event, "raw", event)
    if isinstance(raw, HiveMessage):
        try:
            return (raw if raw.msg_type == "bus" else raw.nested()).bus_parts()[2]
        except MessageError:
            return {}
    found = event.get("context") if isinstance(event, Mapping) else getattr(event, "context", None)
    return found if isinstance(found, Mapping) else {}


def _session(context: Mapping[str, Any]) -> Mapping[str, Any]:
    session = context.get("session")
    return session if isinstance(session, Mapping) else {}


def _first_text(*places: tuple[Mapping[str, Any], str]) -> str | None:
    values = (place.get(key) for place, key in places)
    return next((value for value in values if isinstance(value, str) and value), None)


def _json_object(value: object) -> dict[str, Any]:
    if isinstance(value, str):
        try:
            value = orjson.loads(value)
        except ValueError:
            return {}
    return dict(value) if isinstance(value, Mapping) else {}
