# SPDX-License-Identifier: Apache-2.0
"""What comes in to a client: each message to the ask it answers and to whoever subscribed to it.

Runs within the carrier's read callback. It dials nothing and sends nothing; subscriptions outlive connections.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Any

from thalovant.binaries import binary_of
from thalovant.errors import ThalovantConnectionError
from thalovant.event_names import HIVE_KINDS
from thalovant.events import ThalovantEvent
from thalovant.listening import Listening
from thalovant.protocol.binary import BinaryFrame
from thalovant.protocol.contexts import seen_context, session_id_of
from thalovant.protocol.errors import MessageError
from thalovant.protocol.messages import HiveMessage
from thalovant.subscriptions import EventHandler, EventPredicate, Subscriptions, ThalovantSubscription
from thalovant.tasks import OwnedTasks

if TYPE_CHECKING:
    from thalovant.asking import Asking
    from thalovant.hub_endpoints import HubProtocol
    from thalovant.keeping import LinkKeeper
    from thalovant.link import Incoming, Link

__all__ = ["Hearing"]

BINARY = "bin"

_log = logging.getLogger("thalovant.handlers")


class Hearing:
    """The way in of one client. `site_id` is the client's own: a broadcast to it is heard as a bus message."""

    def __init__(self, keeper: LinkKeeper, asking: Asking, site_id: str) -> None:
        self._keeper = keeper
        self._asking = asking
        self._site_id = site_id
        self._events = Subscriptions()
        self._frames = Subscriptions()  # by kind: those of `HIVE_KINDS`, and `BINARY`
        self._listenings: set[Listening] = set()
        self._handlers = OwnedTasks()
        self._watches = OwnedTasks()

    def on(self, event_name: str, handler: EventHandler, fits: EventPredicate | None) -> ThalovantSubscription:
        """Have `handler` called with each event of that name that fits; a coroutine runs in a task."""
        return self._events.add(event_name, self._calling(event_name, handler, fits))

    def on_hive(self, kind: str, handler: Callable[[Any], Any]) -> Callable[[], None]:
        """Have `handler` called with each frame of that kind; returns how to end that. ValueError: no such kind."""
        if kind not in HIVE_KINDS:
            raise ValueError(f"{kind!r} is not a hive frame kind; expected one of {', '.join(HIVE_KINDS)}.")
        return self._frames.add(kind, self._calling(kind, handler, None)).close

    def on_binary(self, handler: Callable[[Any], Any]) -> Callable[[], None]:
        """Have `handler` called with each binary payload; returns how to end that."""
        return self._frames.add(BINARY, self._calling(BINARY, handler, None)).close

    @contextlib.contextmanager
    def listening(self, listening: Listening, event_name: str) -> Iterator[None]:
        """Let events of that name into `listening` meanwhile."""
        with self._events.add(event_name, listening.put):
            self._listenings.add(listening)
            try:
                yield
            finally:
                self._listenings.discard(listening)

    @contextlib.contextmanager
    def watching(self, listening: Listening) -> Iterator[None]:
        """End `listening` when there will be no link any more; while it waits, answers are awaited."""
        watch = self._watches.start(self._watch(listening), "thalovant-listen")
        self._asking.await_answers(+1)
        try:
            yield
        finally:
            self._asking.await_answers(-1)
            watch.cancel()

    async def end(self, *, for_good: bool) -> None:
        """Cancel the handlers that still run; for good: end whoever listens."""
        if for_good:
            for listening in self._listenings:
                listening.end()
            await self._watches.end()
        await self._handlers.end()

    def receive(self, link: Link, message: Incoming) -> None:
        """Take a message that came on `link`."""
        if isinstance(message, BinaryFrame):
            if self._is_current(link) and BINARY in self._frames:
                self._frames.deliver(BINARY, binary_of(message))
            return
        if message.msg_type in self._frames and message.msg_type in HIVE_KINDS and self._is_current(link):
            self._frames.deliver(message.msg_type, message)
        with contextlib.suppress(MessageError):  # what is malformed is not for anybody (contract 7)
            self._receive(link, message)

    def _receive(self, link: Link, message: HiveMessage) -> None:
        if message.msg_type == "query":
            self._asking.hear_query(link, message, message.nested())
            return
        protocol = link.transport.protocol
        inner = self._bus_message(message, protocol)
        if inner is None:
            return
        name, data, context = inner.bus_parts()
        seen = seen_context(context, protocol)
        news = self._asking.hear(link, name, data, seen, message)
        if name in self._events and (self._is_ours(link, seen) if news is None else news):
            self._events.deliver(name, ThalovantEvent(name, data, seen, message))

    def _calling(self, name: str, handler: Callable[[Any], Any], fits: EventPredicate | None) -> Callable[[Any], None]:
        def deliver(event: Any) -> None:
            if fits is None or fits(event):
                result = handler(event)
                if isinstance(result, Awaitable):
                    self._handlers.start(_run(result, name), f"thalovant-handler-{name}")

        return deliver

    async def _watch(self, listening: Listening) -> None:
        await self._keeper.gone.wait()
        try:
            self._keeper.refuse_if_over()
        except ThalovantConnectionError as error:
            listening.end(error)
        else:
            why = self._keeper.last_error or "It was lost."
            listening.end(ThalovantConnectionError(f"There is no connection any more. {why}"))

    def _is_current(self, link: Link) -> bool:
        return self._keeper.link in (None, link)

    def _is_ours(self, link: Link, context: dict[str, Any]) -> bool:
        """Whether an event is to be delivered: while there are two links, what the hub says on both only once.

        The link that is not in use brings answers to what was said on it, and they name a session that was used on it.
        """
        return self._is_current(link) or link.has_session(session_id_of(context))

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
