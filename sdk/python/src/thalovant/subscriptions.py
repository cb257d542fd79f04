# SPDX-License-Identifier: Apache-2.0
"""Who wants to hear which events: `ThalovantSubscription` and the register behind it.

Safe to use from any thread; delivers on the thread that calls `deliver`. It outlives connections and knows none.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

from thalovant.events import ThalovantEvent

__all__ = ["EventHandler", "EventPredicate", "Subscriptions", "ThalovantSubscription", "event_filter"]

EventHandler = Callable[[ThalovantEvent], Any]
EventPredicate = Callable[[ThalovantEvent], bool]

_log = logging.getLogger("thalovant.handlers")


class ThalovantSubscription:
    """What `client.on(...)` gives back: `close()` it, or use it in a `with` block, to hear no more."""

    def __init__(self, client: Any, event_name: str, handler: Callable[[Any], None]) -> None:
        self._client = client
        self.event_name = event_name
        self.handler = handler

    def close(self) -> None:
        """Hear no more events. Does nothing the second time; a call under way goes on."""
        self._client.remove_subscription(self)

    def unsubscribe(self) -> None:
        """The same as `close`."""
        self.close()

    def __enter__(self) -> ThalovantSubscription:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"ThalovantSubscription({self.event_name!r})"


class Subscriptions:
    """Subscriptions by event name. Reading takes no lock: each entry is a tuple that is replaced, never changed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_name: dict[str, tuple[ThalovantSubscription, ...]] = {}

    def __contains__(self, event_name: object) -> bool:
        return event_name in self._by_name

    def add(self, event_name: str, handler: Callable[[Any], None]) -> ThalovantSubscription:
        """Have `handler` called with each event of that name."""
        subscription = ThalovantSubscription(self, event_name, handler)
        with self._lock:
            self._by_name[event_name] = (*self._by_name.get(event_name, ()), subscription)
        return subscription

    def remove_subscription(self, subscription: ThalovantSubscription) -> None:
        """Forget it; nothing happens when it is not known."""
        name = subscription.event_name
        with self._lock:
            rest = tuple(kept for kept in self._by_name.get(name, ()) if kept is not subscription)
            if rest:
                self._by_name[name] = rest
            else:
                self._by_name.pop(name, None)

    def deliver(self, name: str, event: Any) -> None:
        """Call every handler of that name, in the order of subscribing. What one raises is logged."""
        for subscription in self._by_name.get(name, ()):
            try:
                subscription.handler(event)
            except Exception:  # noqa: BLE001 - a handler's fault must not end the connection
                _log.exception("the handler of %r failed", name)


def event_filter(
    context: dict[str, Any] | None,
    session_id: str | None,
    request_id: str | None,
    predicate: EventPredicate | None,
) -> EventPredicate | None:
    """Put the conditions of `on` and `wait_for_event` into one; None when there is none."""
    if context is None and session_id is None and request_id is None:
        return predicate

    def fits(event: ThalovantEvent) -> bool:
        matches = event.matches_context(context, session_id=session_id, request_id=request_id)
        return matches and (predicate is None or predicate(event))

    return fits
