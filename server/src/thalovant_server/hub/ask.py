# SPDX-License-Identifier: Apache-2.0
"""An ask as it came over the bus: what was said, in which language, under which request id (contract 9.1).

It will not judge permissions (`hub.policy`) nor run anything (`hub.runtime`).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from thalovant.protocol import strict_json
from thalovant.protocol.progress import Progress

if TYPE_CHECKING:
    from thalovant_server.hub.limits import Limits

REQUEST_ID_KEYS = ("request_id", "thalovant_request_id", "correlation_id")
DEFAULT_LANG = "en-us"
MAX_NAME = 256  # characters of a session id
# Bytes of one value in memory: an empty dict has 64 and its place in a list 8; a dict of one member has 184.
VALUE_COST = 80


@dataclass(frozen=True, slots=True)
class Cancel:
    """`thalovant.ask.cancel`: stop the client's own ask of that request id."""

    request_id: str


@dataclass(frozen=True, slots=True)
class Ask:
    """One utterance. `digest` covers type and data: with client and request id it names the turn (decision 10)."""

    type: str
    text: str
    lang: str
    data: dict[str, Any]
    context: dict[str, Any]
    request_id: str | None
    session_id: str | None  # None when there is none, or one that is no clean name
    timeout: float
    digest: bytes
    context_bytes: int  # of its JSON, which comes back with each part
    size: int  # roughly what `data` and `context` hold in memory, in bytes
    heard: Progress | None = None  # how much of the answer the asker has, when it asks again
    query_id: str | None = None  # of the `query` frame that it came in

    @classmethod
    def read(
        cls,
        bus_type: str,
        data: dict[str, Any],
        context: dict[str, Any],
        request_id: str | None,
        data_json: bytes,
        context_json: bytes,
        limits: Limits,
    ) -> Ask:
        """Read a bus message's parts.

        Raises:
            ValueError: `utterances` is not a list of text, or the language is not text; says which.
        """
        lang = data.get("lang", DEFAULT_LANG)
        if not isinstance(lang, str) or len(lang) > 64:
            raise ValueError("data.lang must be a language tag")
        session = context.get("session")
        session_id = session.get("session_id") if isinstance(session, dict) else None
        return cls(
            type=bus_type,
            text=_spoken(data),
            lang=lang or DEFAULT_LANG,
            data=data,
            context=context,
            request_id=request_id,
            session_id=session_id if isinstance(session_id, str) and clean_name(session_id) else None,
            timeout=_timeout(context, limits),
            digest=hashlib.blake2b(data_json, key=bus_type.encode()[:64], digest_size=16).digest(),
            context_bytes=len(context_json),
            size=_held(data_json) + _held(context_json),
            heard=Progress.of_request(context),
        )


def _held(json: bytes) -> int:
    """What the values read from this JSON hold in memory: text of up to four bytes a character, and an object each."""
    return len(json) * (1 if json.isascii() else 4) + VALUE_COST * strict_json.values(json)


def _spoken(data: dict[str, Any]) -> str:
    """The best of the candidates, which is the first (contract 9.1)."""
    utterances = data.get("utterances")
    if not isinstance(utterances, list) or not utterances:
        raise ValueError("data.utterances must be a list with the text")
    text = utterances[0]
    if not isinstance(text, str):
        raise ValueError("data.utterances must hold text")  # noqa: TRY004 - one error type for the caller
    return text


def _timeout(context: dict[str, Any], limits: Limits) -> float:
    """`context.thalovant.timeout_ms` within bounds, else the default."""
    wishes = context.get("thalovant")
    wish = wishes.get("timeout_ms") if isinstance(wishes, dict) else None
    if not isinstance(wish, (int, float)) or isinstance(wish, bool) or wish != wish:
        return limits.turn_seconds
    return min(max(wish / 1000, limits.turn_seconds_least), limits.turn_seconds_most)


def malformed(payload: dict[str, Any]) -> str | None:
    """What is wrong with a bus payload's outer shape (contract section 7), or None."""
    bus_type = payload.get("type")
    if not isinstance(bus_type, str) or not bus_type:
        return "'bus' payload needs a type"
    for name in ("data", "context"):
        if not isinstance(payload.get(name, {}), dict):
            return f"'bus' payload's {name} must be an object"
    return None


def clean_name(text: str, most: int = MAX_NAME) -> bool:
    """Whether a name that a client chose may stand in logs and keys: some text, not too long, nothing unprintable."""
    return 0 < len(text) <= most and text.isprintable()


def request_id_of(payload: dict[str, Any], limits: Limits) -> str | None:
    """The request id of a bus payload: in the context, then its session, then the data (contract 9.2).

    An id that is empty, too long or not text counts as none.
    """
    context = payload.get("context")
    places = [context, context.get("session") if isinstance(context, dict) else None, payload.get("data")]
    for place in places:
        if not isinstance(place, dict):
            continue
        for key in REQUEST_ID_KEYS:
            found = place.get(key)
            if isinstance(found, str) and 0 < len(found) <= limits.request_id_chars:
                return found
    return None
