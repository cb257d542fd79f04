# SPDX-License-Identifier: Apache-2.0
"""Scopes: what a token may do (contract 1.6). Knows no account."""

from __future__ import annotations

from collections.abc import Iterable

from thalovant_server.errors import ApiError

HUBS_READ = "hubs:read"
HUBS_WRITE = "hubs:write"
HUBS_INSPECT = "hubs:inspect"
CLIENTS_READ = "clients:read"
CLIENTS_WRITE = "clients:write"
AUDIT_READ = "audit:read"
TOKENS_WRITE = "tokens:write"
USERS_READ = "users:read"
USERS_WRITE = "users:write"

ALL = (
    HUBS_READ,
    HUBS_WRITE,
    HUBS_INSPECT,
    "hubs:preview",
    CLIENTS_READ,
    CLIENTS_WRITE,
    "memory:read",
    "memory:write",
    AUDIT_READ,
    TOKENS_WRITE,
    USERS_READ,
    USERS_WRITE,
)

_IMPLIED = {
    HUBS_WRITE: (HUBS_READ,),
    HUBS_READ: (HUBS_INSPECT, "hubs:preview"),
    USERS_WRITE: (USERS_READ,),
}


def asked_for(scope: str | None) -> list[str]:
    """Return the scopes of a login: those named, separated by blanks, or all of them.

    Raises:
        ApiError: 422 `invalid_scope`, one of them is unknown.
    """
    if scope is None or not scope.strip():
        return list(ALL)
    return known(scope.split(), "scope")


def known(named: Iterable[str], field: str) -> list[str]:
    """Return these scopes, each once, in the order of `ALL`.

    Raises:
        ApiError: 422 `invalid_scope`, one of them is unknown.
    """
    asked = set(named)
    if not asked <= set(ALL):
        raise ApiError(422, f"{field} may name: {' '.join(ALL)}", "invalid_scope")
    return [each for each in ALL if each in asked]


def with_implied(granted: Iterable[str]) -> frozenset[str]:
    """Return the granted scopes and those that they imply."""
    result: set[str] = set()
    waiting = list(granted)
    while waiting:
        scope = waiting.pop()
        if scope not in result:
            result.add(scope)
            waiting += _IMPLIED.get(scope, ())
    return frozenset(result)
