# SPDX-License-Identifier: Apache-2.0
"""The context of a bus message: what is added when it is sent, what is read from it when one arrives.

Builds and reads dictionaries; knows no ask, no connection and no clock. It never raises on what came from
the wire: a field of the wrong type counts as absent. It never changes a dictionary it was given.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from typing import Any

UTTERANCE = "recognizer_loop:utterance"
DEFAULT_SESSION = "default"
REQUEST_ID_KEYS = ("request_id", "thalovant_request_id", "correlation_id")


def new_request_id() -> str:
    """Make a request id as contract 9.1 spells it: `thalovant-request-` and 32 hex digits."""
    return f"thalovant-request-{secrets.token_hex(16)}"


def new_session_id() -> str:
    """Make a session id of its own, as published clients spell it: `thalovant-session-` and 32 hex digits."""
    return f"thalovant-session-{secrets.token_hex(16)}"


def build_utterance(
    text: str,
    *,
    lang: str = "en-us",
    request_id: str,
    session_id: str,
    site_id: str,
    useragent: str | None,
    context: Mapping[str, Any] | None = None,
    call_session_id: str | None = None,
    stt_lang: str | None = None,
    pipeline: Sequence[str] | None = None,
    location: Mapping[str, Any] | None = None,
    given: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Build the payload of the `bus` message that asks something (contract 9.1).

    `session_id` is the connection's own session, `call_session_id` the one this call named, if any; it wins
    over the session in `context`, and `default` means the connection's own. Without a `useragent` the context
    names no source, platform and destination (contract 9.5). `given` is an input that is more than its words: it
    stands as `input` in the context and, when it is exact, in the data. The answer is `{"type", "data", "context"}`.
    """
    sent = _with_options(context or {}, stt_lang, pipeline, location)
    data: dict[str, Any] = {"utterances": [text], "lang": lang}
    if given is not None:
        sent["input"] = dict(given)
        data |= {"input": dict(given)} if given.get("exact") else {}
    session = _mapping(sent.get("session"))
    session["request_id"] = request_id
    session.setdefault("lang", lang)
    if call_session_id:
        session["session_id"] = call_session_id
    sent["session"] = session
    sent["request_id"] = sent["thalovant_request_id"] = request_id
    sent = with_context_defaults(sent, session_id=session_id, site_id=site_id, useragent=useragent)
    return {"type": UTTERANCE, "data": data, "context": sent}


def carry_on(payload: Mapping[str, Any], carried: Mapping[str, Any]) -> dict[str, Any]:
    """The payload of an utterance with what the last turn left (`carrying`), below what the caller says."""
    context = payload["context"]
    return {**payload, "context": {**context, "session": {**carried, **context["session"]}}}


def reply_context(wire: Mapping[str, Any], context: Mapping[str, Any] | None) -> dict[str, Any]:
    """The context of a reply: the event's as it came, the caller's over it, source and destination swapped."""
    sent = {**wire, **(context or {})}
    source, destination = sent.pop("source", None), sent.pop("destination", None)
    ends = {"source": destination, "destination": source}
    return sent | {key: value for key, value in ends.items() if value is not None}


def with_context_defaults(
    context: Mapping[str, Any] | None, *, session_id: str, site_id: str, useragent: str | None
) -> dict[str, Any]:
    """Lay the caller's context over what every message carries (`vectors/contexts.json`, send).

    A session that is no object is replaced by an empty one; a session id that is missing or `default`
    becomes the connection's own. Without a `useragent` nothing is said of source, platform and destination.
    """
    sent = dict(context or {})
    session = _mapping(sent.get("session"))
    if session.get("session_id") in (None, "", DEFAULT_SESSION):
        session["session_id"] = session_id
    session.setdefault("site_id", site_id)
    sent["session"] = session
    if useragent is not None:
        for key, value in (("source", useragent), ("platform", useragent), ("destination", "HiveMind")):
            sent.setdefault(key, value)
    return sent


def seen_context(wire_context: object, carrier: str) -> dict[str, Any]:
    """What a handler sees of a context that arrived (`vectors/contexts.json`, receive; contract 7).

    Over `wss` and `https`, `destination` has moved to `source` and the hub's mark of the verified peer is
    gone; over `mqtt` it is the context as it came. Keep the wire context itself for replies.
    """
    seen = _mapping(wire_context)
    if carrier == "mqtt":
        return seen
    seen.pop("hivemind_verified_source_peer", None)
    destination = seen.pop("destination", None)
    if destination is not None:
        seen["source"] = destination
    return seen


def request_id_of(context: object, data: object) -> str | None:
    """Find which request a message belongs to (contract 9.2): in the context, its session, then the data."""
    outer = context if isinstance(context, Mapping) else {}
    for place in (outer, outer.get("session"), data):
        if isinstance(place, Mapping):
            for key in REQUEST_ID_KEYS:
                if found := _id(place.get(key)):
                    return found
    return None


def session_of(context: object) -> Mapping[str, Any]:
    """The session object of a context; empty when it has none."""
    session = context.get("session") if isinstance(context, Mapping) else None
    return session if isinstance(session, Mapping) else {}


def session_id_of(context: object) -> str | None:
    """The session a message names: `context.session.session_id`, else `context.session_id`."""
    inner = _id(session_of(context).get("session_id"))
    return inner or (_id(context.get("session_id")) if isinstance(context, Mapping) else None)


def spoken_text(data: object) -> str:
    """The words a message carries, as they came: `utterance`, else `text`, else the first of `utterances`."""
    if not isinstance(data, Mapping):
        return ""
    for key in ("utterance", "text"):
        value = data.get(key)
        if isinstance(value, str) and value:
            return value
    return next(iter(spoken_texts({"utterances": data.get("utterances")})), "")


def spoken_texts(data: object) -> tuple[str, ...]:
    """All texts in `utterances` (a list or a single text), else the one in `utterance`."""
    if not isinstance(data, Mapping):
        return ()
    many = data.get("utterances")
    if isinstance(many, str):
        return (many,)
    if isinstance(many, list | tuple):
        return tuple(item for item in many if isinstance(item, str))
    one = data.get("utterance")
    return (one,) if isinstance(one, str) else ()


def _with_options(
    context: Mapping[str, Any],
    stt_lang: str | None,
    pipeline: Sequence[str] | None,
    location: Mapping[str, Any] | None,
) -> dict[str, Any]:
    sent = dict(context)
    if stt_lang:
        sent["stt_lang"] = stt_lang
    if location:
        sent["location"] = dict(location)
    if pipeline:
        sent["session"] = _mapping(sent.get("session")) | {"pipeline": list(pipeline)}
    return sent


def _mapping(value: object) -> dict[str, Any]:
    return dict(value) if isinstance(value, Mapping) else {}


def _id(value: object) -> str | None:
    """An id is a text; a whole number counts too, because some agents number their requests."""
    if isinstance(value, int) and not isinstance(value, bool):
        return _decimal(value)
    return value if isinstance(value, str) and value else None


def _decimal(value: int) -> str | None:
    # Python refuses to print integers of thousands of digits; no id needs more than 64 bits.
    return str(value) if value.bit_length() <= 64 else None
