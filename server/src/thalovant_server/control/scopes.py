# SPDX-License-Identifier: Apache-2.0
"""Scopes: what a token may do (contract 1.6). Knows no account."""

from __future__ import annotations

from thalovant_server.errors import ApiError

HUBS_READ = "hubs:read"
HUBS_WRITE = "hubs:write"
CLIENTS_READ = "clients:read"
CLIENTS_WRITE = "clients:write"
AUDIT_READ = "audit:read"

ALL = (
    HUBS_READ,
    HUBS_WRITE,
    "hubs:inspect",
    "hubs:preview",
    CLIENTS_READ,
    CLIENTS_WRITE,
    "memory:read",
    "memory:write",
    AUDIT_READ,
)

_IMPLIED = {HUBS_WRITE: (HUBS_READ,), HUBS_READ: ("hubs:inspect", "hubs:preview")}


def asked_for(scope: str | None) -> list[str]:
    """Return the scopes of a login: those named, separated by blanks, or all of them.

    Raises:
        ApiError: 422 `invalid_scope`, one of them is unknown.
    """
    if scope is None or not scope.strip():
        return list(ALL)
    named = set(scope.split())
    if not named <= set(ALL):
        raise ApiError(422, f"scope may name: {' '.join(ALL)}", "invalid_scope")
    return [each for each in ALL if each in named]


def with_implied(granted: list[str]) -> frozenset[str]:
    """Return the granted scopes and those that they imply."""
    result: set[str] = set()
    waiting = list(granted)
    while waiting:
        scope = waiting.pop()
        if scope not in result:
            result.add(scope)
            waiting += _IMPLIED.get(scope, ())
    return frozenset(result)
