# SPDX-License-Identifier: Apache-2.0
"""Agents for the tests of the road."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator


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
