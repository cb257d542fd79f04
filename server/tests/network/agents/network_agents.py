# SPDX-License-Identifier: Apache-2.0
"""An agent that tells how often it ran for the same words."""

import asyncio
from collections import Counter

_runs: Counter[str] = Counter()


async def counted(text: str) -> str:
    """Take `slowly` seconds when the words say so (`slowly 2 …`); answer with how often these words were asked."""
    _runs[text] += 1
    words = text.split()
    if words[:1] == ["slowly"]:
        await asyncio.sleep(float(words[1]))
    return f"{text}: run {_runs[text]}"


async def runs_of(text: str) -> str:
    """How often the agent above ran for these words."""
    return str(_runs[text])
