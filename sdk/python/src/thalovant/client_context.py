# SPDX-License-Identifier: Apache-2.0
"""Dictionaries that a caller may hand to `ask`, `emit` and their like: who asks, from where, about which place.

Each is made from what is given and leaves out what is not; nothing is checked against a hub, sent or kept. A session,
user or metadata that is no object counts as absent. Field names: contract 9.1 and the published clients.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["build_client_context", "build_location", "request_context"]


def request_context(
    context: Mapping[str, Any] | None = None,
    *,
    stt_lang: str | None = None,
    pipeline: Sequence[str] | None = None,
    location: Mapping[str, Any] | None = None,
) -> dict[str, Any] | None:
    """A context with the language that was spoken, the stages to ask and the place it is about; None when empty.

    They stand where `ask(stt_lang=..., pipeline=..., location=...)` puts them, over those in `context`.
    """
    made = dict(context or {})
    if stt_lang:
        made["stt_lang"] = stt_lang
    stages = [pipeline] if isinstance(pipeline, str) else list(pipeline or ())
    named = [name for name in (str(stage).strip() for stage in stages) if name]
    if named:
        made["session"] = _object(made.get("session")) | {"pipeline": named}
    if location:
        made["location"] = dict(location)
    return made or None


def build_location(
    city: str = "",
    region: str = "",
    country: str = "",
    latitude: float | str | None = None,
    longitude: float | str | None = None,
    timezone: str = "",
) -> dict[str, Any] | None:
    """A place for `ask(location=...)`; None without a city.

    `country` is a country code, `latitude` and `longitude` are degrees (both or neither; out of range, not a number or
    0/0 counts as not given), `timezone` is a name like `Europe/Berlin`.
    """
    texts = {"city": city, "region": region, "country_code": str(country or "").upper()}
    stripped = {key: str(text or "").strip() for key, text in texts.items()}
    made: dict[str, Any] = {key: text for key, text in stripped.items() if text}
    if "city" not in made:
        return None
    if zone := str(timezone or "").strip():
        made["timezone"] = {"code": zone}
    degrees = _degrees(latitude, 90.0), _degrees(longitude, 180.0)
    if None not in degrees and any(degrees):
        made["coordinate"] = {"latitude": degrees[0], "longitude": degrees[1]}
    return made


def build_client_context(
    context: Mapping[str, Any] | None = None,
    *,
    user_id: str | None = None,
    user_name: str | None = None,
    auth_token: str | None = None,
    auth_provider: str | None = None,
    auth_claims: Mapping[str, Any] | None = None,
    roles: Sequence[str] | None = None,
    platform: str | None = None,
    source: str | None = None,
    destination: str | None = None,
    channel: str | None = None,
    device_id: str | None = None,
    locale: str | None = None,
    metadata: Mapping[str, Any] | None = None,
    session_id: str | None = None,
) -> dict[str, Any]:
    """A context that says who asks through which device, for agents that want to know.

    What `context` says already stays, but for `user`, `auth` and `metadata`, whose members given here win. The hub
    passes all of it on to its agent and back with each part of the answer: `auth_token` is a secret of yours that both
    get to see.
    """
    made = dict(context or {})
    named = [str(role) for role in ([roles] if isinstance(roles, str) else roles or ())]
    plain = {"user_id": user_id, "user_name": user_name, "auth_token": auth_token, "roles": named}
    plain |= {"platform": platform, "source": source, "destination": destination, "channel": channel, "locale": locale}
    for key, value in (plain | {"session_id": session_id}).items():
        if value:
            made.setdefault(key, value)
    _lay_over(made, "user", {"id": user_id, "name": user_name, "roles": named})
    _lay_over(made, "auth", {"token": auth_token, "provider": auth_provider, "claims": dict(auth_claims or {})})
    _lay_over(made, "metadata", dict(metadata or {}))
    if device_id:
        made.setdefault("device", {"id": device_id} | ({"platform": platform} if platform else {}))
    if session_id:
        made["session"] = {"session_id": session_id} | _object(made.get("session"))
    return made


def _lay_over(made: dict[str, Any], key: str, members: Mapping[str, Any]) -> None:
    given = {name: value for name, value in members.items() if value or key == "metadata"}
    if given:
        made[key] = _object(made.get(key)) | given


def _object(value: object) -> dict[str, Any]:
    return dict(value) if isinstance(value, Mapping) else {}


def _degrees(value: float | str | None, most: float) -> float | None:
    if value is None or isinstance(value, bool):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) and abs(number) <= most else None
