# SPDX-License-Identifier: Apache-2.0
"""The presence of every client on the event loop: stamps what happens with the time, looks for signs of life, and
tells whoever watches, once a turn of the loop: a state that was over before anybody could be told (silent and then
gone, both found at once after a pause of this machine) is not told.

It will not decide what a state is (`presence`), nor keep anything on a disk.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from thalovant_server.hub.presence import Moment, Presence, PresenceTracker, Standing, word_for
from thalovant_server.hub.watchers import Watcher, Watchers
from thalovant_server.wall_clock import now as wall_now

if TYPE_CHECKING:
    from thalovant_server.directory import Change, Directory
    from thalovant_server.hub.clock import Clock, Timer
    from thalovant_server.hub.connection import Connection
    from thalovant_server.wall_clock import Clock as WallClock

LOOK_SECONDS = 1.0


class PresenceWatch:
    """Fed by the hub's connections and the directory, asked by the control plane. Make it on the running loop.

    Make it before whoever ends sessions when the directory changes: a paused client's sessions then end as paused.

    Args:
        directory: which clients there are.
        clock: of silences and timers.
        wall: of what is told.
        look_seconds: how soon after it is due a silence is noticed, and after a sign of life its end.
    """

    def __init__(
        self, directory: Directory, clock: Clock, wall: WallClock = wall_now, *, look_seconds: float = LOOK_SECONDS
    ) -> None:
        self.watchers = Watchers()
        self._directory = directory
        self._clock = clock
        self._wall = wall
        self._look_seconds = look_seconds
        self._tracker = PresenceTracker(look_seconds)
        self._listeners: list[Callable[[Presence], None]] = []
        self._timer: Timer | None = None
        self._telling = False
        self._stopped = False
        self._bare: set[str] = set()  # clients without a credential when they were last looked at
        self._unsubscribe = directory.subscribe(self._changed)

    # -- what happens -----------------------------------------------------------------------------------------

    def ready(self, connection: Connection) -> None:
        """A session finished its handshake."""
        of = connection.credential
        self._tracker.ready(of.client_id, of.hub_id, of.client_name, connection, self._now())
        self._watch_signs()
        self._tell_soon()

    def ended(self, connection: Connection) -> None:
        """A session is over, ready or not."""
        why = connection.why if connection.refusal is None else word_for(connection.refusal)
        self._tracker.ended(connection.credential.client_id, connection.number, why, self._now())
        self._tell_soon()

    def load(self, last: Iterable[Presence], paused: frozenset[str]) -> None:
        """Take in how all clients were when the server stopped, and which of them are paused, by id. Tells nobody."""
        self._tracker.load(last, paused)

    def stop(self) -> None:
        """Look no more; what has changed so far is told now."""
        self._unsubscribe()
        self.watchers.dismiss()
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._tell()

    # -- questions --------------------------------------------------------------------------------------------

    def of(self, client_id: str) -> Presence | None:
        """The state of a client; None when there is none of that id."""
        return self._tracker.of(client_id, self._now())

    def live(self) -> list[Presence]:
        """The clients that have sessions, as they are now."""
        now = self._now()
        return [found for each in self._tracker.live() if (found := self._tracker.of(each, now)) is not None]

    def listen(self, listener: Callable[[Presence], None]) -> None:
        """Call ``listener`` with every change, in order."""
        self._listeners.append(listener)

    def watch(self, hub_id: str, account_id: str, token_id: str = "") -> Watcher:
        """Begin to watch the clients of a hub. Close it when done."""
        return self.watchers.add(hub_id, account_id, token_id)

    # -- inside -----------------------------------------------------------------------------------------------

    def _now(self) -> Moment:
        return Moment(self._clock.now(), self._wall())

    def _changed(self, change: Change) -> None:
        """A client was made, changed or removed, or a hub was."""
        if change.client_id is None:
            if change.action == "removed":
                self._tell()
                self.watchers.dismiss(change.hub_id)
            return
        credentials = self._directory.credentials_of(change.client_id)
        if not credentials:  # it is gone, unless it gets another one in the same breath
            self._bare.add(change.client_id)
        else:
            of = next((each for each in credentials if each.id == change.credential_id), credentials[-1])
            standing: Standing = "live" if of.active else "paused"
            self._tracker.stands(of.client_id, of.hub_id, of.client_name, standing, self._now())
        self._tell_soon()

    def _watch_signs(self) -> None:
        """Look again when a sign of life is due; no timer while none is."""
        due = self._tracker.next_look
        if self._timer is None and due is not None and not self._stopped:
            self._timer = self._clock.call_later(max(due - self._clock.now(), self._look_seconds), self._look)

    def _look(self) -> None:
        self._timer = None
        self._tracker.look(self._now())
        self._watch_signs()
        self._tell_soon()

    def _tell_soon(self) -> None:
        """Once for all that this turn of the loop changes."""
        if not self._telling:
            self._telling = True
            asyncio.get_running_loop().call_soon(self._tell)

    def _tell(self) -> None:
        self._telling = False
        now = self._now()
        bare, self._bare = self._bare, set()
        for client_id in bare:
            if not self._directory.credentials_of(client_id):
                self._tracker.removed(client_id, now)
        for presence in self._tracker.changes(now):
            for listener in self._listeners:
                listener(presence)
            self.watchers.tell(presence)
