# SPDX-License-Identifier: Apache-2.0
"""Which topics the link hears: those on which the clients of its hubs speak. Hubs come and go, links too.

Sans-I/O: `due` says what to ask of the broker, `answered` takes what it said to that. One SUBSCRIBE is under way at a
time, so its answer needs no number.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from thalovant.protocol.mqtt.client_connection import FAILURE, NOTHING_RETAINED
from thalovant.protocol.topics import SPELLINGS, STATUS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from thalovant_server.brokers.names import Namespace

HUBS_AT_ONCE = 20  # in one SUBSCRIBE
_QOS = 1
_RETAINED_WHEN_NEW = 0x10  # retain handling 1: what is retained comes once, not again when a session goes on


@dataclass(frozen=True, slots=True)
class Due:
    """What to ask of the broker: filters with their options, and filters that are wanted no longer."""

    subscribe: tuple[tuple[bytes, int], ...] = ()
    unsubscribe: tuple[bytes, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.subscribe or self.unsubscribe)


class Subscriptions:
    """The hubs whose clients are to be heard, and what the broker knows of that."""

    def __init__(self, namespace: Namespace) -> None:
        self._namespace = namespace
        self._wished: dict[str, None] = {}
        self._asked: tuple[str, ...] = ()
        self._granted: set[str] = set()
        self._stale: set[str] = set()  # of an earlier link, whose session goes on

    @property
    def complete(self) -> bool:
        """Whether everything that is wished is granted."""
        return self._granted.issuperset(self._wished)

    def wish(self, hub_id: str, wished: bool) -> None:
        """The clients of that hub are to be heard, or no longer."""
        if wished:
            self._wished[hub_id] = None
        else:
            self._wished.pop(hub_id, None)

    def begin(self, *, session_present: bool) -> None:
        """A link is up: all is asked for anew, and dropped what an earlier one asked for and is not wished now."""
        self._stale = {*self._stale, *self._granted, *self._asked} if session_present else set()
        self._granted.clear()
        self._asked = ()

    def due(self) -> Due:
        """What to ask now; nothing while an answer is due."""
        if self._asked:
            return Due()
        dropped = [hub for hub in (*self._granted, *self._stale) if hub not in self._wished]
        self._granted.difference_update(dropped)
        self._stale.clear()
        self._asked = tuple(hub for hub in self._wished if hub not in self._granted)[:HUBS_AT_ONCE]
        asked = tuple(each for hub in self._asked for each in self._filters(hub))
        return Due(asked, tuple(name for hub in dict.fromkeys(dropped) for name, _ in self._filters(hub)))

    def answered(self, codes: Iterable[int]) -> bool:
        """The broker has answered the SUBSCRIBE; whether it granted everything."""
        self._granted.update(self._asked)
        self._asked = ()
        return all(code < FAILURE for code in codes)

    def _filters(self, hub_id: str) -> list[tuple[bytes, int]]:
        clients = self._namespace.topic(f"hubs/{hub_id}/clients/+")
        heard = [(f"{clients}/{each}".encode(), _QOS | NOTHING_RETAINED) for each in SPELLINGS]
        return [*heard, (f"{clients}/{STATUS}".encode(), _QOS | _RETAINED_WHEN_NEW)]
