# SPDX-License-Identifier: Apache-2.0
"""Scopes in words: what each lets a sign-in or token do, what a sign-in by a browser asks for, what a command needs."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["DAILY", "SCOPES", "needed_by", "scopes_text"]

SCOPES = {
    "hubs:read": "see hubs",
    "hubs:write": "make, change and remove hubs",
    "clients:read": "see clients, what they may send and who is online",
    "clients:write": "make, rotate, change and remove clients",
    "audit:read": "read the audit log",
    "tokens:write": "make, list and revoke tokens; answer devices",
    "users:read": "see the accounts of the server (admins)",
    "users:write": "disable and enable people (admins); to invite them takes a sign-in",
}
"""Each scope that a command needs, and what it is for."""

DAILY = ("hubs:read", "clients:read", "clients:write", "audit:read")
"""What a sign-in by a browser asks for when nobody says more."""

_CLIENTS_READ = ("hubs:read", "clients:read")
_CLIENTS_WRITE = ("clients:read", "clients:write")
_NEEDED: dict[str, Sequence[str]] = {
    "hubs": ("hubs:read",),
    **dict.fromkeys(("hubs create", "hubs set", "hubs remove"), ("hubs:write",)),
    "identity create": ("hubs:read", "clients:write"),
    "identity rotate": _CLIENTS_WRITE,
    "identity reset-key": ("clients:write",),
    "clients": _CLIENTS_READ,
    "clients show": ("clients:read",),
    **dict.fromkeys(
        (
            f"clients {one}"
            for one in ["rotate", "finish", "cancel", "pause", "resume", "rename", "remove", "reset-key", "policy"]
        ),
        _CLIENTS_WRITE,
    ),
    "audit": ("audit:read",),
    "tokens": ("tokens:write",),
    "device": ("tokens:write",),
    "users": ("users:read",),
    **dict.fromkeys(("users invite", "users disable", "users enable"), ("users:write",)),
}


def needed_by(arguments: Sequence[str]) -> tuple[str, str] | None:
    """Return the command that was typed and the scopes that it needs, in words; None for one that needs none."""
    words = [one for one in arguments if not one.startswith("-")]
    for size in (2, 1):
        if scopes := _NEEDED.get(command := " ".join(words[:size])):
            more = {"--hub": "hubs:read", "--client": "clients:read"} if command == "audit" else {"--hub": "hubs:read"}
            named = {scope for option, scope in more.items() if option in arguments}
            return command, " and ".join(dict.fromkeys((*scopes, *sorted(named))))
    return None


def scopes_text() -> str:
    """Return a part of a help text with a line for each scope."""
    width = max(map(len, SCOPES))
    return "\b\nScopes:\n" + "\n".join(f"  {name:<{width}}  {what}" for name, what in SCOPES.items())
