# SPDX-License-Identifier: Apache-2.0
"""What a client's spec says of its policy: checked, and read as permissions.

`allowed_types` (an empty list is a client that may only listen), the grants `can_broadcast`, `can_propagate` and
`can_escalate`, `blocked_skills`, `blocked_intents`, `rate_limit` and `daily_quota`. What a spec does not say, or says
null to, is as the preset of its `connection_type` has it. Stores nothing.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from typing import Any

from thalovant_server.client_presets import preset_permissions
from thalovant_server.directory import Permissions, RateLimit
from thalovant_server.errors import ForbiddenTextError
from thalovant_server.identifiers import is_plain_name

GRANTS = ("can_broadcast", "can_propagate", "can_escalate")
LISTS = ("allowed_types", "blocked_skills", "blocked_intents")
POLICY_KEYS = (*LISTS, *GRANTS, "rate_limit", "daily_quota")
MOST_NAMES = 64
NAME_LENGTH = 128
MOST_MESSAGES = 1_000_000
MOST_SECONDS = 86_400
MOST_ASKS = 1_000_000_000


def check_permissions(spec: Mapping[str, Any], where: str = "spec.") -> None:
    """Check what a spec says of policy, if it does.

    Args:
        spec: of a client.
        where: what the caller knows the spec as, to begin the name of a field with.

    Raises:
        ForbiddenTextError: `connection_type` is no plain name; a list holds more than 64 names, or one that is not 1 to
            128 printable characters in composed form (NFC) without blanks; a grant is neither true nor false;
            `rate_limit` is no object of 1 to 1,000,000 `messages` and 1 to 86,400 `per_seconds`; `daily_quota` is no
            whole number from 0 to 1,000,000,000.
    """
    _check_type(spec.get("connection_type"), where)
    for key in LISTS:
        _check_list(spec.get(key), where + key)
    for key in GRANTS:
        if not isinstance(spec.get(key), bool | None):
            raise ForbiddenTextError(where + key, "must be true or false")
    _check_rate(spec.get("rate_limit"), where + "rate_limit")
    quota = spec.get("daily_quota")
    if quota is not None and not _is_whole(quota, 0, MOST_ASKS):
        raise ForbiddenTextError(where + "daily_quota", f"must be a whole number from 0 to {MOST_ASKS}")


def permissions(spec: Mapping[str, Any]) -> Permissions:
    """Return what a checked spec permits."""
    preset = preset_permissions(spec.get("connection_type"))
    return Permissions(
        allowed_types=_names(spec, "allowed_types", preset.allowed_types),
        can_broadcast=_grant(spec, "can_broadcast", preset.can_broadcast),
        can_propagate=_grant(spec, "can_propagate", preset.can_propagate),
        can_escalate=_grant(spec, "can_escalate", preset.can_escalate),
        blocked_skills=_names(spec, "blocked_skills", preset.blocked_skills),
        blocked_intents=_names(spec, "blocked_intents", preset.blocked_intents),
        rate_limit=preset.rate_limit if spec.get("rate_limit") is None else _rate(spec["rate_limit"]),
        daily_quota=preset.daily_quota if spec.get("daily_quota") is None else int(spec["daily_quota"]),
    )


def exceeds(wanted: Permissions, given: Permissions) -> list[str]:
    """Return in which of its parts ``wanted`` permits what ``given`` does not; by name, in their order.

    A rate limit is longer when it lets more messages through at once, or in the long run.
    """
    parts = {
        "allowed_types": not wanted.allowed_types <= given.allowed_types,
        "blocked_skills": not wanted.blocked_skills >= given.blocked_skills,
        "blocked_intents": not wanted.blocked_intents >= given.blocked_intents,
        **{key: getattr(wanted, key) and not getattr(given, key) for key in GRANTS},
        "rate_limit": _is_longer(wanted.rate_limit, given.rate_limit),
        "daily_quota": given.daily_quota is not None
        and (wanted.daily_quota is None or wanted.daily_quota > given.daily_quota),
    }
    return [name for name, more in parts.items() if more]


def _check_type(kind: object, where: str) -> None:
    if kind is not None and not (isinstance(kind, str) and is_plain_name(kind)):
        raise ForbiddenTextError(where + "connection_type", "must be a plain name of a-z 0-9 _ -")


def _check_list(given: object, field: str) -> None:
    if given is None:
        return
    if not isinstance(given, list) or len(given) > MOST_NAMES or not all(map(_is_name, given)):
        raise ForbiddenTextError(
            field,
            f"must be a list of at most {MOST_NAMES} names, each of 1 to {NAME_LENGTH} printable characters (NFC)",
        )


def _check_rate(given: object, field: str) -> None:
    if given is None:
        return
    bounds = {"messages": MOST_MESSAGES, "per_seconds": MOST_SECONDS}
    if not isinstance(given, dict) or set(given) != set(bounds):
        raise ForbiddenTextError(field, 'must be like {"messages": 60, "per_seconds": 60}')
    for key, most in bounds.items():
        if not _is_whole(given[key], 1, most):
            raise ForbiddenTextError(f"{field}.{key}", f"must be a whole number from 1 to {most}")


def _names(spec: Mapping[str, Any], key: str, otherwise: frozenset[str]) -> frozenset[str]:
    return otherwise if spec.get(key) is None else frozenset(spec[key])


def _grant(spec: Mapping[str, Any], key: str, otherwise: bool) -> bool:
    return otherwise if spec.get(key) is None else spec[key] is True


def _rate(given: Mapping[str, Any]) -> RateLimit:
    return RateLimit(int(given["messages"]), int(given["per_seconds"]))


def _is_longer(wanted: RateLimit | None, given: RateLimit | None) -> bool:
    if given is None or wanted is None:
        return given is not None
    in_the_long_run = wanted.messages * given.per_seconds > given.messages * wanted.per_seconds
    return wanted.messages > given.messages or in_the_long_run


def _is_name(value: object) -> bool:
    if not isinstance(value, str) or not 0 < len(value) <= NAME_LENGTH:
        return False
    return value.isprintable() and " " not in value and unicodedata.is_normalized("NFC", value)


def _is_whole(value: object, least: int, most: int) -> bool:
    return type(value) is int and least <= value <= most
