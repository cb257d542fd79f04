# SPDX-License-Identifier: Apache-2.0
"""What comes in to a client: each message to the ask it answers and to whoever subscribed to it.

Runs within the carrier's read callback. It dials nothing and sends nothing; subscriptions outlive connections.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any

from thalovant.events import ThalovantEvent
from thalovant.protocol.contexts import seen_context, session_id_of
from thalovant.protocol.errors import MessageError
from thalovant.protocol.messages import HiveMessage
from thalovant.subscriptions import EventHandler, EventPredicate, Subscriptions, ThalovantSubscription
from thalovant.tasks import OwnedTasks

if TYPE_CHECKING:
    from thalovant.asking import Asking
    from thalovant.hub_endpoints import HubProtocol
    from thalovant.keeping import LinkKeeper
    from thalovant.link import Link

__all__ = ["Hearing"]

_log = logging.getLogger("thalovant.handlers")


class Hearing:
    """The way in of one client. `site_id` is the client's own: a broadcast to it is heard as a bus message."""

    def __init__(self, keeper: LinkKeeper, asking: Asking, site_id: str) -> None:
        self._keeper = keeper
        self._asking = asking
        self._site_id = site_id
        self._subscriptions = Subscriptions()
        self._handlers = OwnedTasks()

    def on(self, event_name: str, handler: EventHandler, fits: EventPredicate | None) -> ThalovantSubscription:
        """Have `handler` called with each event of that name that fits; a coroutine runs in a task."""

        def deliver(event: ThalovantEvent) -> None:
            if fits is None or fits(event):
                result = handler(event)
                if isinstance(result, Awaitable):
                    self._handlers.start(_run(result, event_name), f"thalovant-handler-{event_name}")

        return self._subscriptions.add(event_name, deliver)

    def next(
        self, event_name: str, fits: EventPredicate | None
    ) -> tuple[ThalovantSubscription, asyncio.Future[ThalovantEvent]]:
        """Subscribe to the next event of that name that fits; close the subscription in every case."""
        found: asyncio.Future[ThalovantEvent] = asyncio.get_running_loop().create_future()

        def deliver(event: ThalovantEvent) -> None:
            try:
                if not found.done() and (fits is None or fits(event)):
                    found.set_result(event)
            except Exception as error:  # noqa: BLE001 - the predicate's fault is for its caller
                found.set_exception(error)

        return self._subscriptions.add(event_name, deliver), found

    async def end_handlers(self) -> None:
        """Cancel the handlers that still run."""
        await self._handlers.end()

    def receive(self, link: Link, message: HiveMessage) -> None:
        """Take a message that came on `link`."""
        try:
            if message.msg_type == "query":
                self._asking.hear_query(link, message, message.nested())
                return
            protocol = link.transport.protocol
            inner = self._bus_message(message, protocol)
            if inner is None:
                return
            name, data, context = inner.bus_parts()
        except MessageError:
            return  # not for anybody (contract 7)
        seen = seen_context(context, protocol)
        news = self._asking.hear(link, name, data, seen, message)
        if name in self._subscriptions and (self._is_ours(link, seen) if news is None else news):
            self._subscriptions.deliver(ThalovantEvent(name, data, seen, message))

    def _is_ours(self, link: Link, context: dict[str, Any]) -> bool:
        """Whether an event is to be delivered: while there are two links, what the hub says on both only once.

        The link that is not in use brings answers to what was said on it, and they name its session.
        """
        return self._keeper.link in (None, link) or session_id_of(context) == link.session_id

    def _bus_message(self, message: HiveMessage, protocol: HubProtocol) -> HiveMessage | None:
        """The bus message in a frame: the frame itself, or a broadcast to this client's own site (contract 7)."""
        if message.msg_type == "bus":
            return message
        own = message.msg_type == "broadcast" and message.target_site_id == self._site_id
        if not own or protocol == "mqtt":
            return None
        inner = message.nested()
        return inner if inner.msg_type == "bus" else None


async def _run(result: Awaitable[Any], event_name: str) -> None:
    try:
        await result
    except Exception:  # noqa: BLE001 - a handler's fault must not end anything
        _log.exception("the handler of %r failed", event_name)
