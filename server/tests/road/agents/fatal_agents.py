# SPDX-License-Identifier: Apache-2.0
"""Agents that try to take the server with them."""

from collections.abc import AsyncIterator


def interrupts(text: str) -> str:
    """Raise what Ctrl-C raises, on a thread."""
    if text == "go on":
        return text
    raise KeyboardInterrupt


async def interrupts_later(text: str) -> AsyncIterator[str]:
    """Say something, then raise it on the event loop."""
    yield text
    if text != "go on":
        raise KeyboardInterrupt
