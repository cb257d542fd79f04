# SPDX-License-Identifier: Apache-2.0
"""The asks and queries of one client: sends each, waits for its answer, and sends it again where that runs it once.

It decides nothing about when an answer is complete (`protocol.asks`) or when to dial (`keeping`).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from thalovant.errors import ThalovantHubRefusedError, ThalovantPublishDeniedError, ThalovantPublishTooLargeError
from thalovant.pending import PendingAsk
from thalovant.protocol.ask_book import AskBook
from thalovant.protocol.asks import HANDLED, Ask, Failed, Outcome, Query
from thalovant.protocol.carrying import Conversations
from thalovant.protocol.contexts import carry_on, new_request_id, new_session_id, request_id_of, session_id_of
from thalovant.protocol.errors import ProtocolError
from thalovant.protocol.messages import HiveMessage
from thalovant.protocol.progress import MARK, Progress, with_heard
from thalovant.reply import ThalovantReply, reply_or_raise
from thalovant.sending import Sending, as_runtime_error

if TYPE_CHECKING:
    from thalovant.keeping import LinkKeeper
    from thalovant.link import Link

__all__ = ["Asking"]

HUB_GRACE = 1.0  # seconds a hub of ours lets an agent go on past our own deadline, so that ours strikes first
VERDICT_SECONDS = 8.0  # a hub of ours says at once that it does not take a frame
CANCEL_EVENT = "thalovant.ask.cancel"


class Asking:
    """Every ask and query of one client. `settle` and `empty_wait` are the windows of contract 9.3, in seconds."""

    def __init__(
        self,
        keeper: LinkKeeper,
        sending: Sending,
        book: AskBook,
        *,
        settle: float,
        empty_wait: float,
        auto_reconnect: bool,
    ) -> None:
        self._keeper = keeper
        self._sending = sending
        self._book = book
        self._settle = settle
        self._empty_wait = empty_wait
        self._auto_reconnect = auto_reconnect
        self._conversations = Conversations()
        self._pending: dict[str, PendingAsk] = {}  # by request id; those of `_book` that were sent
        self._awaited = 0  # answers somebody waits for, asks included

    async def ask(self, text: str, request_id: str, timeout: float, **options: Any) -> ThalovantReply:
        """Ask and wait; `options` are those of `build_utterance`. Raises what `AsyncThalovantClient.ask` does."""
        deadline_at = asyncio.get_running_loop().time() + timeout
        link = await self._sending.link(deadline_at)
        payload = self._sending.utterance(link, text, request_id=request_id, **options)
        session_id = session_id_of(payload["context"])
        carried = self._conversations.begin_turn(session_id or "", request_id)
        if carried:
            payload = carry_on(payload, carried)
        ask = self._new_ask(link, request_id, session_id, deadline_at)
        return await self._answered(ask, link, _patient(link, payload, timeout), deadline_at)

    async def query(
        self, text: str, request_id: str, query_id: str, timeout: float, session_id: str | None, **options: Any
    ) -> ThalovantReply:
        """Ask in a `query` frame and wait; the rest as `ask`. Without a session it has one of its own."""
        loop = asyncio.get_running_loop()
        deadline_at = loop.time() + timeout
        link = await self._sending.link(deadline_at)
        payload = self._sending.utterance(
            link,
            text,
            addressed=False,
            request_id=request_id,
            call_session_id=session_id or session_id_of(options.get("context")) or new_session_id(),
            **options,
        )
        session = session_id_of(payload["context"])
        query = Query(query_id, request_id, session, now=loop.time(), deadline_at=deadline_at)
        return await self._answered(query, link, _patient(link, payload, timeout), deadline_at)

    async def relay(
        self, kind: str, event_type: str, data: dict[str, Any] | None, context: dict[str, Any] | None
    ) -> HiveMessage:
        """Send a bus message for others, in a frame of this kind, and return the frame.

        A hub of ours that does not take such frames says so at once. Raises what it says, as an ask does.
        """
        link = await self._sending.link()
        if not link.handled_is_last or kind in link.session.hub_capabilities:
            return await self._sending.post(link, _frame(kind, self._sending.bus(link, event_type, data, context)))
        request_id = request_id_of(context, None) or new_request_id()
        message = _frame(kind, self._sending.bus(link, event_type, data, {**(context or {}), "request_id": request_id}))
        deadline_at = asyncio.get_running_loop().time() + VERDICT_SECONDS
        with self._in_book(self._new_ask(link, request_id, None, deadline_at)) as ask:
            reply_or_raise(await self._ask_on(link, ask, message, deadline_at))
        return message

    def hear(
        self, link: Link, name: str, data: dict[str, Any], context: dict[str, Any], message: HiveMessage
    ) -> bool | None:
        """Take a bus event that came on `link`; the ask it belongs to hears it.

        Returns whether it is news; None when it belongs to no ask.
        """
        if name == HANDLED and (request_id := request_id_of(context, data)) is not None:
            self._conversations.handled(request_id, context)
        ask = self._book.owner(name, data, context, asyncio.get_running_loop().time())
        return None if ask is None else self._give(ask, link, name, data, context, message)

    def hear_query(self, link: Link, message: HiveMessage, inner: HiveMessage) -> None:
        """Take a `query` frame that came on `link`, with the bus message in it."""
        query = self._book.query(message.metadata.get("query_id"))
        if query is not None:
            self._give(query, link, *inner.bus_parts(), message)

    def lost(self, link: Link | None, reason: str) -> None:
        """End the asks that wait on this link, None: on any; what was sent on it cannot be answered any more."""
        now = asyncio.get_running_loop().time()
        for pending in [each for each in self._pending.values() if link is None or each.link is link]:
            pending.ask.link_lost(reason, now)
            pending.look()

    def await_answers(self, change: int) -> None:
        """So many more, or fewer, answers are awaited: a polling carrier looks more often while any is."""
        before = self._awaited > 0
        self._awaited += change
        if before is not (self._awaited > 0):
            self._keeper.expect(not before)

    def _new_ask(self, link: Link, request_id: str, session_id: str | None, deadline_at: float) -> Ask:
        return Ask(
            request_id,
            session_id,
            now=asyncio.get_running_loop().time(),
            deadline_at=deadline_at,
            settle=self._settle,
            empty_wait=self._empty_wait,
            handled_is_last=link.handled_is_last,
        )

    def _give(
        self, ask: Ask, link: Link, name: str, data: dict[str, Any], context: dict[str, Any], message: HiveMessage
    ) -> bool:
        pending = self._pending.get(ask.request_id)
        progress = Progress.of_message(message.metadata)
        if pending is None or pending.link is not link or ask.has_heard(name, progress):
            return False  # it comes again on the link that the request was sent on last
        ask.receive(name, data, context, asyncio.get_running_loop().time(), message, progress)
        if ask.outcome is not None:
            self._book.remove(ask)
        pending.look()
        return True

    async def _answered(self, ask: Ask, link: Link, payload: dict[str, Any], deadline_at: float) -> ThalovantReply:
        with self._in_book(ask):
            while True:
                outcome = await self._ask_on(link, ask, _request(ask, payload), deadline_at)
                if not (isinstance(outcome, Failed) and outcome.kind == "connection"):
                    return reply_or_raise(outcome)
                self._refuse_to_repeat(link, ask, outcome)
                link = await self._keeper.insist(deadline_at, None)
                if not _runs_once(link, ask):
                    return reply_or_raise(outcome)
                ask.reopen()
                payload = {**payload, "context": with_heard(payload["context"], ask.heard)}

    async def _ask_on(self, link: Link, ask: Ask, message: HiveMessage, deadline_at: float) -> Outcome:
        loop = asyncio.get_running_loop()
        pending = self._pending[ask.request_id] = PendingAsk(ask, link, loop)
        self.await_answers(+1)
        link.hold()
        try:
            self._sending.send(link, message)
            return await pending.outcome()
        finally:
            pending.end()
            del self._pending[ask.request_id]
            self.await_answers(-1)
            link.release()
            if ask.outcome is None or loop.time() >= deadline_at:
                self._cancel_at_hub(link, ask.request_id)

    @contextlib.contextmanager
    def _in_book(self, ask: Ask) -> Iterator[Ask]:
        with as_runtime_error():
            self._book.add(ask)
        try:
            yield ask
        finally:
            self._book.remove(ask)

    def _cancel_at_hub(self, link: Link, request_id: str) -> None:
        """Tell a hub of ours that nobody waits any more; best effort, nobody waits for this either."""
        if link.handled_is_last and link.error is None:
            with contextlib.suppress(ProtocolError):
                link.send(self._sending.bus(link, CANCEL_EVENT, {"request_id": request_id}, None))

    def _refuse_to_repeat(self, link: Link, ask: Ask, outcome: Failed) -> None:
        """Raise unless the same request may be sent again: only a hub of ours runs it once all the same."""
        self._keeper.refuse_if_over()
        error = link.error
        hopeless = isinstance(error, ThalovantHubRefusedError | ThalovantPublishDeniedError) and not _of_another(error)
        if error is not None and hopeless and not self._keeper.has_other_roads:
            raise error
        if not (link.dropped and self._auto_reconnect and _runs_once(link, ask)):
            reply_or_raise(outcome)


def _of_another(error: Exception) -> bool:
    """Whether the link ended by a message that is known to be too long; whoever sent that one was told at once."""
    return isinstance(error, ThalovantPublishTooLargeError) and error.size is not None


def _runs_once(link: Link, ask: Ask) -> bool:
    """Whether the hub on this link runs the same request only once, however often it is sent."""
    return link.handled_is_last and not (isinstance(ask, Query) and "query" not in link.session.hub_capabilities)


def _patient(link: Link, payload: dict[str, Any], timeout: float) -> dict[str, Any]:
    """Tell a hub of ours how long the asker waits, unless the caller does."""
    if link.handled_is_last:
        payload["context"].setdefault(MARK, {"timeout_ms": round((timeout + HUB_GRACE) * 1000)})
    return payload


def _request(ask: Ask, payload: dict[str, Any]) -> HiveMessage:
    """The message that asks: an utterance, in a `query` frame where it is one."""
    message = HiveMessage("bus", payload)
    return _frame("query", message, {"query_id": ask.query_id}) if isinstance(ask, Query) else message


def _frame(kind: str, inner: HiveMessage, metadata: dict[str, Any] | None = None) -> HiveMessage:
    return HiveMessage(kind, inner.as_dict(), metadata or {})
