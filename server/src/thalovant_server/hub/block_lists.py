# SPDX-License-Identifier: Apache-2.0
"""Skills and intents that a client may not reach: what a bus message addresses, and what an agent is told.

The hub denies messages that address a blocked skill or intent. Which skill an utterance leads to only the agent knows,
so it is handed both lists, also in the session where OVOS agents read them (`blacklisted_skills`,
`blacklisted_intents`). A client may name more there; it cannot name less.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from thalovant_server.directory import Permissions

SKILLS = "blacklisted_skills"
INTENTS = "blacklisted_intents"


@dataclass(frozen=True, slots=True)
class Blocked:
    """What an agent is handed with an ask: both lists, sorted, and the context with them in its session."""

    skills: tuple[str, ...]
    intents: tuple[str, ...]
    context: dict[str, Any]


def blocked_skill(permissions: Permissions, bus_type: str, data: dict[str, Any]) -> str | None:
    """Return the blocked skill that a bus message addresses, by `data.skill_id` or as ``<skill>:<intent>``."""
    if not permissions.blocked_skills:
        return None
    addressed = (data.get("skill_id"), *(name.partition(":")[0] for name in _intents(bus_type, data)))
    return next((name for name in addressed if isinstance(name, str) and name in permissions.blocked_skills), None)


def blocked_intent(permissions: Permissions, bus_type: str, data: dict[str, Any]) -> str | None:
    """Return the blocked intent that a bus message addresses, by its type or by `data.intent_name`."""
    if not permissions.blocked_intents:
        return None
    return next((name for name in _intents(bus_type, data) if name in permissions.blocked_intents), None)


def for_agent(permissions: Permissions, context: dict[str, Any]) -> Blocked:
    """Return what the agent is handed: the policy's names, and those that the client names itself."""
    given = context.get("session")
    session: dict[str, Any] = given if isinstance(given, dict) else {}
    skills = _merged(permissions.blocked_skills, session.get(SKILLS))
    intents = _merged(permissions.blocked_intents, session.get(INTENTS))
    if not skills and not intents:
        return Blocked((), (), context)
    told = {**session, SKILLS: list(skills), INTENTS: list(intents)}
    return Blocked(skills, intents, {**context, "session": told})


def _intents(bus_type: str, data: dict[str, Any]) -> Iterator[str]:
    """The intents that a message may mean, each as ``<skill>:<intent>``: some names of intents hold their skill."""
    if ":" in bus_type:
        yield bus_type
    intent, skill = data.get("intent_name"), data.get("skill_id")
    if isinstance(intent, str):
        yield intent
        if isinstance(skill, str):
            yield f"{skill}:{intent}"


def _merged(policy: frozenset[str], own: object) -> tuple[str, ...]:
    named = {name for name in own if isinstance(name, str)} if isinstance(own, list) else set()
    return tuple(sorted(policy | named))
