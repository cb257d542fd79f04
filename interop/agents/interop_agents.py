# SPDX-License-Identifier: Apache-2.0
"""Agents for the tests, declared to the server with `--agent name=python:interop_agents:function`."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator

from thalovant_server.agents.base import AgentRequest


async def late_part(text: str) -> AsyncIterator[str]:
    """Say one part, and another 400 ms after it: past the published SDK's window of 250 ms."""
    yield f"first of {text}"
    await asyncio.sleep(0.4)
    yield f"last of {text}"


def sleepy(text: str) -> str:
    """Block a thread for five seconds when asked to."""
    if text == "sleep":
        time.sleep(5)
    return f"woke for {text}"


def words(text: str) -> Iterator[str]:
    """Say each word as a part of its own."""
    yield from text.split()


def mute(text: str) -> None:
    """Have nothing to say."""


def inputs(text: str, request: AgentRequest) -> str:
    """Say the session without the part that makes it private, and what was entered."""
    return json.dumps([request.session_id.partition(":")[2], text, request.context.get("input")])
