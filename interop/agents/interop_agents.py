# SPDX-License-Identifier: Apache-2.0
"""Agents for the tests, declared to the server with `--agent name=python:interop_agents:function`."""

import asyncio
import time
from collections.abc import AsyncIterator


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
