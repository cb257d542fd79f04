# SPDX-License-Identifier: Apache-2.0
"""`AsyncThalovantConversation`: what belongs together on one client, under a session id of its own.

It says and hears through its client, which does all of it; it adds the session, the language and a context to each
call, and hears only events of its session (or of none). It holds nothing open and outlives connections.
`sync_conversation` is its twin.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Self, cast

from thalovant.events import ThalovantEvent
from thalovant.protocol.contexts import new_session_id, session_of
from thalovant.reply import ThalovantReply
from thalovant.subscriptions import EventHandler, EventPredicate, ThalovantSubscription

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from thalovant.client import AsyncThalovantClient

__all__ = ["AsyncThalovantConversation", "joined_context", "own_session"]


class AsyncThalovantConversation:
    """A conversation on a client: every call with one `session_id`, `lang` and `context`.

    What the hub leaves of one turn for the next (contract 9.1) is carried on with each `ask`. The context of a call is
    laid over that of the conversation, and their sessions likewise. Usable as a context manager; leaving it ends
    nothing, for the connection and the subscriptions are the client's.
    """

    def __init__(
        self,
        client: AsyncThalovantClient,
        *,
        session_id: str | None = None,
        lang: str = "en-us",
        context: dict[str, Any] | None = None,
    ) -> None:
        self.client = client
        self.session_id = session_id or new_session_id()
        self.lang = lang
        self.context = dict(context or {})

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: Any) -> None:
        pass

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.session_id!r})"

    async def ask(
        self,
        text: str,
        *,
        timeout: float = 12.0,
        lang: str | None = None,
        context: dict[str, Any] | None = None,
        request_id: str | None = None,
    ) -> ThalovantReply:
        """Ask, as the client's `ask` does."""
        return await self.client.ask(
            text,
            timeout=timeout,
            lang=lang or self.lang,
            context=joined_context(self.context, context),
            session_id=self.session_id,
            request_id=request_id,
        )

    async def query(
        self,
        text: str,
        *,
        timeout: float = 12.0,
        lang: str | None = None,
        context: dict[str, Any] | None = None,
        request_id: str | None = None,
        query_id: str | None = None,
    ) -> ThalovantReply:
        """Ask in a `query` frame, as the client's `query` does."""
        return await self.client.query(
            text,
            timeout=timeout,
            lang=lang or self.lang,
            context=joined_context(self.context, context),
            session_id=self.session_id,
            request_id=request_id,
            query_id=query_id,
        )

    async def send_utterance(
        self,
        text: str,
        *,
        lang: str | None = None,
        context: dict[str, Any] | None = None,
        request_id: str | None = None,
    ) -> Any:
        """Ask without waiting for the answer, as the client's `send_utterance` does."""
        return await self.client.send_utterance(
            text,
            lang=lang or self.lang,
            context=joined_context(self.context, context),
            session_id=self.session_id,
            request_id=request_id,
        )

    async def send_action(
        self,
        payload: str,
        *,
        title: str | None = None,
        lang: str | None = None,
        context: dict[str, Any] | None = None,
        request_id: str | None = None,
    ) -> Any:
        """Say that something was chosen, as the client's `send_action` does."""
        return await self.client.send_action(
            payload,
            title=title,
            lang=lang or self.lang,
            context=joined_context(self.context, context),
            session_id=self.session_id,
            request_id=request_id,
        )

    async def send_code(
        self,
        value: str,
        *,
        kind: str = "code",
        label: str | None = None,
        lang: str | None = None,
        context: dict[str, Any] | None = None,
        request_id: str | None = None,
    ) -> Any:
        """Say something that is exact, as the client's `send_code` does."""
        return await self.client.send_code(
            value,
            kind=kind,
            label=label,
            lang=lang or self.lang,
            context=joined_context(self.context, context),
            session_id=self.session_id,
            request_id=request_id,
        )

    async def emit(
        self, event_type: str, data: dict[str, Any] | None = None, context: dict[str, Any] | None = None
    ) -> Any:
        """Send a bus message, as the client's `emit` does, in this session."""
        own = own_session(joined_context(self.context, context), self.session_id, self.lang)
        return await self.client.emit(event_type, data, own)

    def on(
        self,
        event_name: str,
        handler: EventHandler,
        *,
        predicate: EventPredicate | None = None,
        context: dict[str, Any] | None = None,
    ) -> ThalovantSubscription:
        """Have `handler` called with each event of that name in this session (or in none), as the client's `on`."""
        return self.client.on(event_name, handler, predicate=predicate, context=context, session_id=self.session_id)

    async def wait_for_event(
        self,
        event_name: str,
        *,
        timeout: float = 12.0,
        predicate: EventPredicate | None = None,
        context: dict[str, Any] | None = None,
    ) -> ThalovantEvent:
        """Wait for the next event of that name in this session (or in none), as the client's `wait_for_event`."""
        return await self.client.wait_for_event(
            event_name, timeout=timeout, predicate=predicate, context=context, session_id=self.session_id
        )

    async def listen(
        self,
        event_name: str,
        *,
        timeout: float | None = None,
        max_events: int | None = None,
        predicate: EventPredicate | None = None,
        context: dict[str, Any] | None = None,
    ) -> AsyncIterator[ThalovantEvent]:
        """Iterate over the events of that name in this session (or in none), as the client's `listen`."""
        heard = self.client.listen(
            event_name,
            timeout=timeout,
            max_events=max_events,
            predicate=predicate,
            context=context,
            session_id=self.session_id,
        )
        async with aclosing(cast("AsyncGenerator[ThalovantEvent, None]", heard)) as events:
            async for event in events:
                yield event


def joined_context(own: Mapping[str, Any], call: Mapping[str, Any] | None) -> dict[str, Any]:
    """A conversation's context with that of a call over it, and so their sessions."""
    joined = {**own, **(call or {})}
    session = {**session_of(own), **session_of(call)}
    return {**joined, "session": session} if session else joined


def own_session(context: Mapping[str, Any], session_id: str, lang: str) -> dict[str, Any]:
    """A context in this session; its language is only a default."""
    return {**context, "session": {"lang": lang, **session_of(context), "session_id": session_id}}
