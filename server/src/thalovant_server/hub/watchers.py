# SPDX-License-Identifier: Apache-2.0
"""Who watches the presence of a hub's clients: each has a bounded queue, and one that is too slow is told so.

It will not decide who may watch, nor know what is told beyond its hub.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from thalovant_server.hub.presence import Presence

# All clients of a large hub may change at once; each that waits costs a reference.
QUEUE = 4096


class Watcher:
    """One reader of a hub's changes. Made by `Watchers.add`; close it when done."""

    def __init__(self, owner: Watchers, hub_id: str, account_id: str, token_id: str) -> None:
        self.hub_id = hub_id
        self.account_id = account_id
        self.token_id = token_id
        self.over = False
        """Nothing more will come: the server goes down, the hub is gone, or the reader was too slow."""
        self.overflowed = False
        self._owner = owner
        self._waiting: deque[Presence] = deque()
        self._news = asyncio.Event()

    def tell(self, presence: Presence) -> None:
        """Queue a change; when the queue is full, that is the end, and what waits is forgotten."""
        if self.over:
            return
        if len(self._waiting) >= QUEUE:
            self.overflowed = True
            self._waiting.clear()
            self.end()
            return
        self._waiting.append(presence)
        self._news.set()

    def end(self) -> None:
        """Let nothing more come; what waits can still be taken."""
        self.over = True
        self._news.set()

    def take(self, most: int = QUEUE) -> list[Presence]:
        """What waits, in order, so many at most."""
        taken = [self._waiting.popleft() for _ in range(min(most, len(self._waiting)))]
        if not self._waiting and not self.over:
            self._news.clear()
        return taken

    async def wait(self) -> None:
        """Until something waits, or it is over."""
        await self._news.wait()

    def close(self) -> None:
        """The reader is gone."""
        self.end()
        self._waiting.clear()
        self._owner.remove(self)


class Watchers:
    """All watchers, by hub."""

    def __init__(self) -> None:
        self._by_hub: dict[str, set[Watcher]] = {}
        self.dismissed = False
        """The server goes down: whoever comes now hears nothing."""

    def __len__(self) -> int:
        """How many there are."""
        return sum(map(len, self._by_hub.values()))

    def of_account(self, account_id: str) -> int:
        """How many an account has."""
        return sum(each.account_id == account_id for group in self._by_hub.values() for each in group)

    def of_token(self, token_id: str) -> int:
        """How many there are by one token."""
        return sum(each.token_id == token_id for group in self._by_hub.values() for each in group)

    def add(self, hub_id: str, account_id: str, token_id: str = "") -> Watcher:
        """A watcher of that hub; over at once when all were dismissed."""
        watcher = Watcher(self, hub_id, account_id, token_id)
        self._by_hub.setdefault(hub_id, set()).add(watcher)
        if self.dismissed:
            watcher.end()
        return watcher

    def remove(self, watcher: Watcher) -> None:
        """Forget one, if it is there."""
        group = self._by_hub.get(watcher.hub_id)
        if group is not None:
            group.discard(watcher)
            if not group:
                del self._by_hub[watcher.hub_id]

    def tell(self, presence: Presence) -> None:
        """Tell the watchers of the client's hub."""
        for watcher in self._by_hub.get(presence.hub_id, ()):
            watcher.tell(presence)

    def dismiss(self, hub_id: str | None = None) -> None:
        """End the watchers of a hub that is gone; None: all there are and all to come, for the server goes down."""
        self.dismissed = self.dismissed or hub_id is None
        ended = list(self._by_hub.values()) if hub_id is None else [self._by_hub.get(hub_id, set())]
        for group in ended:
            for watcher in group:
                watcher.end()
