# SPDX-License-Identifier: Apache-2.0
"""Agents for the tests of the road."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from thalovant_server.agents.base import AgentRequest


def sleepy(text: str) -> str:
    """Block a thread for five seconds when asked to."""
    if text == "sleep":
        time.sleep(5)
    return f"woke for {text}"


def parts(text: str) -> Iterator[str]:
    """Say each word as a part of its own."""
    yield from text.split()


def raises(text: str) -> str:
    """Fail, with a secret in the error."""
    raise RuntimeError(f"the-agents-own-secret {text}")


async def forever(text: str) -> AsyncIterator[str]:
    """Say one part, then never end."""
    yield "so far"
    await asyncio.Event().wait()


async def counted(text: str, request: AgentRequest) -> AsyncIterator[str]:
    """Note in the file ROAD_COUNT that it ran; take as long as the text's first word says, in seconds."""
    with Path(os.environ["ROAD_COUNT"]).open("a") as file:
        file.write(f"{request.request_id}\n")
    yield "one"
    await asyncio.sleep(float(text.split()[0]))
    yield text
