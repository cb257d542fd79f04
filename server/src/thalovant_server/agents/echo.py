# SPDX-License-Identifier: Apache-2.0
"""The agent that gives the same text back: for trying a hub out, for tests and for benchmarks."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from thalovant_server.agents.base import AgentRequest


class EchoAgent:
    """Answers with the text itself, unchanged, in one part."""

    name = "echo"

    async def answer(self, request: AgentRequest) -> AsyncGenerator[str, None]:
        """Yield the request's text."""
        yield request.text

    async def close(self) -> None:
        """Nothing to free."""
