# SPDX-License-Identifier: Apache-2.0
"""The asks of one client: sends each, waits for its answer, and sends it again where the hub runs it only once.

It decides nothing about when an answer is complete (`protocol.asks`) or when to dial (`keeping`).
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

from thalovant.errors import ThalovantHubRefusedError
from thalovant.pending import PendingAsk
from thalovant.protocol.asks import Ask, AskBook, Failed, Outcome
from thalovant.protocol.contexts import session_id_of
from thalovant.protocol.errors import ProtocolError
from thalovant.protocol.messages import HiveMessage
from thalovant.reply import ThalovantReply, reply_or_raise
from thalovant.sending import Sending, as_runtime_error

if TYPE_CHECKING:
    from thalovant.keeping import LinkKeeper
    from thalovant.link import Link

__all__ = ["Asking"]

HUB_GRACE = 1.0  # seconds a hub of ours lets an agent go on past our own deadline, so that ours strikes first
CANCEL_EVENT = "thalovant.ask.cancel"


class Asking:
    """Every ask of one client. `settle` and `empty_wait` are the windows of contract 9.3, in seconds."""

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
        self._pending: dict[str, PendingAsk] = {}  # by request id; the asks of `_book`
        self._awaited = 0  # answers somebody waits for, asks included

    async def ask(self, text: str, request_id: str, timeout: float, **options: Any) -> ThalovantReply:
        """Ask and wait; `options` are those of `build_utterance`. Raises what `AsyncThalovantClient.ask` does."""
        deadline_at = asyncio.get_running_loop().time() + timeout
        link = await self._sending.link(deadline_at)
        payload = self._sending.utterance(link, text, request_id=request_id, **options)
        if link.handled_is_last:
            payload["context"].setdefault("thalovant", {"timeout_ms": round((timeout + HUB_GRACE) * 1000)})
        message = HiveMessage("bus", payload)
        while True:
            outcome = await self._ask_on(link, message, request_id, deadline_at)
            if not (isinstance(outcome, Failed) and outcome.kind == "connection"):
                return reply_or_raise(outcome)
            self._refuse_to_repeat(link, outcome)
            link = await self._keeper.insist(deadline_at, None)

    def hear(self, name: str, data: dict[str, Any], context: dict[str, Any], message: HiveMessage) -> bool:
        """Take an event that came; the ask it belongs to hears it. Returns whether there is one."""
        now = asyncio.get_running_loop().time()
        ask = self._book.dispatch(name, data, context, now, message)
        if ask is not None and (pending := self._pending.get(ask.request_id)) is not None:
            pending.look()
        return ask is not None

    def lost(self, link: Link | None, reason: str) -> None:
        """End the asks that wait on this link, None: on any; what was sent on it cannot be answered any more."""
        now = asyncio.get_running_loop().time()
        for pending in [each for each in self._pending.values() if link is None or each.link is link]:
            self._book.remove(pending.ask)
            pending.ask.link_lost(reason, now)
            pending.look()

    def await_answers(self, change: int) -> None:
        """So many more, or fewer, answers are awaited: a polling carrier looks more often while any is."""
        before = self._awaited > 0
        self._awaited += change
        if before is not (self._awaited > 0):
            self._keeper.expect(not before)

    async def _ask_on(self, link: Link, message: HiveMessage, request_id: str, deadline_at: float) -> Outcome:
        loop = asyncio.get_running_loop()
        ask = Ask(
            request_id,
            session_id_of(message.payload["context"]),
            now=loop.time(),
            deadline_at=deadline_at,
            settle=self._settle,
            empty_wait=self._empty_wait,
            handled_is_last=link.handled_is_last,
        )
        with as_runtime_error():
            self._book.add(ask)
        pending = PendingAsk(ask, link, loop)
        self._pending[request_id] = pending
        self.await_answers(+1)
        link.hold()
        try:
            self._sending.send(link, message)
            return await pending.outcome()
        finally:
            pending.end()
            self._book.remove(ask)
            del self._pending[request_id]
            self.await_answers(-1)
            link.release()
            if ask.outcome is None or loop.time() >= deadline_at:
                self._cancel_at_hub(link, request_id)

    def _cancel_at_hub(self, link: Link, request_id: str) -> None:
        """Tell a hub of ours that nobody waits any more; best effort, nobody waits for this either."""
        if link.handled_is_last and link.error is None:
            with contextlib.suppress(ProtocolError):
                link.send(self._sending.bus(link, CANCEL_EVENT, {"request_id": request_id}, None))

    def _refuse_to_repeat(self, link: Link, outcome: Failed) -> None:
        """Raise unless the same request may be sent again: only a hub of ours runs it once all the same."""
        self._keeper.refuse_if_over()
        if isinstance(link.error, ThalovantHubRefusedError) and not self._keeper.has_other_roads:
            raise link.error
        if not (link.dropped and self._auto_reconnect and link.handled_is_last):
            reply_or_raise(outcome)
