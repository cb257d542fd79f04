# SPDX-License-Identifier: Apache-2.0
"""Agents for the tests of queries, conversations and listening."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator

from thalovant_server.agents.base import AgentRequest


def mute(text: str) -> None:
    """Have nothing to say."""


def session(text: str, request: AgentRequest) -> str:
    """Say in which session one is, and what the client carries on in it."""
    return json.dumps([request.session_id, request.context["session"].get("active_handlers")])


_gates: dict[str, asyncio.Event] = {}
_runs: Counter[str] = Counter()


async def gated(text: str) -> AsyncIterator[str]:
    """`say NAME a b | c d`: say these words, and wait at the bar for `open NAME`; at last, which run it was."""
    verb, name, *words = text.split()
    gate = _gates.setdefault(name, asyncio.Event())
    if verb == "open":
        gate.set()
        yield "opened"
        return
    _runs[name] += 1
    run = _runs[name]
    for word in words:
        if word == "|":
            await gate.wait()
        else:
            yield word
    yield f"run {run}"


def blocked(text: str, request: AgentRequest) -> str:
    """Say which skills and intents one may not use, and what the session says of it."""
    session = request.context.get("session", {})
    told = [session.get("blacklisted_skills"), session.get("blacklisted_intents")]
    return json.dumps([*request.blocked_skills, *request.blocked_intents, *told])
