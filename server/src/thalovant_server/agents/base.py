# SPDX-License-Identifier: Apache-2.0
"""What an agent is: text in, parts of an answer out.

It will not know a carrier, a credential's secret or how the answer travels.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class AgentRequest:
    """One ask, as an agent sees it.

    `client_id` says who asks: stable, given by this server, different for each client. `session_id` is the client's
    choice made private to it: two clients never have the same, so it may key a conversation. `client_name` is for
    people. `data` and `context` are the client's own, unchecked; a session named there is not private.

    `blocked_skills` and `blocked_intents` (``skill:intent``) are what this client may not reach, by its policy or its
    own wish; the session in `context` has them too, as `blacklisted_skills` and `blacklisted_intents`. The hub cannot
    know where a text leads: an agent with skills must heed them.
    """

    text: str
    lang: str
    session_id: str
    client_name: str
    site_id: str
    request_id: str
    data: dict[str, Any] = field(repr=False)
    context: dict[str, Any] = field(repr=False)
    _: KW_ONLY
    client_id: str
    blocked_skills: tuple[str, ...] = ()
    blocked_intents: tuple[str, ...] = ()


class AgentError(Exception):
    """An agent could not answer, or answered with something that is not text."""

    code = "agent_failed"


class Agent(Protocol):
    """Anything that answers. One object serves all clients at once."""

    name: str

    def answer(self, request: AgentRequest) -> AsyncGenerator[str, None]:
        """Yield the parts of the answer in order; nothing yielded means nothing to say.

        Cancelled at the request's deadline. Whatever it raises reaches the client as "the agent failed", no more.
        """
        ...

    async def close(self) -> None:
        """Free what the agent holds; called once, after its last answer."""
