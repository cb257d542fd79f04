# SPDX-License-Identifier: Apache-2.0
"""One session of the HTTPS road: its cookie, what waits to be fetched, and the requests that wait for it.

It will not read requests (`gateways.https`, `gateways.http_exchange`).
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from thalovant.protocol.exchange import Frame, write_answer
from thalovant_server.gateways.call import BINARY, Call
from thalovant_server.gateways.outbox import FRAME_COST, Outbox
from thalovant_server.hub import refusal
from thalovant_server.hub.refusal import Refusal

if TYPE_CHECKING:
    from thalovant_server.gateways.lane import Lane
    from thalovant_server.hub.budget import Account
    from thalovant_server.hub.clock import Clock, Timer
    from thalovant_server.hub.connection import Connection
    from thalovant_server.hub.limits import Limits

CARRIER = "https"
# A request that waits for frames while another one sends some: a third means that the first one's client has gone.
HELD = 2
# A long answer is fetched in pieces, so that what has arrived is forgotten meanwhile.
ANSWER_BYTES = 1024 * 1024


class HttpSession:
    """The `Link` of a connection whose client comes and asks. Bounded in frames and bytes; over it the session ends."""

    __slots__ = (
        "_budget",
        "_clock",
        "_flush_due",
        "_held",
        "_inbox_size",
        "_limits",
        "_on_close",
        "_outbox",
        "access_key",
        "carrier",
        "connection",
        "cookie",
        "ended",
        "exchanges",
        "inbox",
        "lane",
        "remote",
        "taken",
        "timer",
    )

    def __init__(
        self,
        access_key: str,
        remote: str,
        limits: Limits,
        budget: Account,
        on_close: Callable[[HttpSession], None],
        lane: Lane,
        clock: Clock,
    ) -> None:
        self.access_key = access_key
        self.carrier = CARRIER
        self.remote = remote
        self.cookie = secrets.token_hex(16).encode()
        self.connection: Connection | None = None
        self.ended: Refusal | None = None
        self.timer: Timer | None = None
        self.lane = lane
        self.exchanges = False
        """Whether its client uses `/exchange`: then it cannot poll any more, which would take frames out of order."""
        self.taken = 0
        """How many frames of its client were taken in by exchange."""
        self.inbox: Sequence[Frame] = ()
        """Frames that were taken in and wait for their turn."""
        self._inbox_size = 0
        self._limits = limits
        self._budget = budget
        self._on_close = on_close
        self._clock = clock
        self._outbox = Outbox()
        self._held: list[tuple[Call, Timer | None]] = []
        self._flush_due = False

    def __repr__(self) -> str:
        return f"<HttpSession {self.connection!r} waiting={len(self)}>"

    def __len__(self) -> int:
        """Frames that wait to be fetched."""
        return len(self._outbox)

    @property
    def ready(self) -> bool:
        """The handshake is over and the session lives."""
        return self.connection is not None and self.connection.ready and self.ended is None

    @property
    def account(self) -> Account:
        """Pays for what is held for its client."""
        return self._budget

    @property
    def held(self) -> int:
        """Requests that wait for frames."""
        return len(self._held)

    # -- Link -------------------------------------------------------------------------------------------------

    def send_clear(self, data: bytes) -> None:
        """Queue one text frame."""
        self._put(False, data)

    def send_sealed(self, frames: list[bytes]) -> None:
        """Queue sealed frames."""
        for frame in frames:
            self._put(True, frame)

    def close(self, why: Refusal) -> None:
        """What is queued can still be fetched; then the client hears that there is no session."""
        self.ended = why
        self.keep_inbox(())
        self._on_close(self)

    @property
    def patience(self) -> float:
        """A client asks again when it was answered, and a request is held so long at most."""
        return self._limits.http_wait_seconds + self._limits.late_seconds

    def silence(self) -> float:
        """Since the last request."""
        return self._clock.now() - self.connection.heard if self.connection is not None else 0.0

    # -- polling ----------------------------------------------------------------------------------------------

    def fetch(self, *, sealed: bool) -> list[bytes]:
        """Fetch and forget all frames of one kind."""
        if not self._outbox.kept:
            return []
        before = self._outbox.size
        frames = self._outbox.fetch(sealed)
        self._budget.give(before - self._outbox.size)
        return frames

    # -- exchange ---------------------------------------------------------------------------------------------

    def acknowledge(self, following: int) -> bool:
        """Forget the frames before that number; False when it is none that was handed out."""
        before = self._outbox.size
        arrived = self._outbox.acknowledge(following)
        if before != self._outbox.size:
            self._budget.give(before - self._outbox.size)
        return arrived

    def rewind(self) -> None:
        """Hand out again what was not acknowledged."""
        self._outbox.rewind()

    def hold(self, call: Call, seconds: float) -> None:
        """Answer it as soon as there is a frame, at the latest after so many seconds, if there are any."""
        if len(self._held) == HELD:
            self.flush()
        if len(self._held) == HELD:
            self._answer(self._let_go(0))
        timer = self._clock.call_later(seconds, lambda: self.release(call)) if seconds > 0 else None
        self._held.append((call, timer))
        call.on_lost = partial(self._forget, call)

    def release(self, call: Call) -> None:
        """Answer it now with what there is, be it nothing; if it is held."""
        if self._forget(call):
            self._answer(call)

    def flush(self) -> None:
        """Answer held requests with what waits, the newest first: an older one may be of a connection that broke."""
        self._flush_due = False
        while self._held and len(self._outbox):
            self._answer(self._let_go(-1))

    def let_all_go(self) -> list[Call]:
        """The requests that are held, and are not any more."""
        return [self._let_go(0) for _ in range(len(self._held))]

    def discard(self) -> None:
        """Forget what nobody will fetch, and what nobody will read."""
        self._budget.give(self._outbox.size)
        self._outbox.clear()
        self.keep_inbox(())

    def keep_inbox(self, frames: Sequence[Frame]) -> bool:
        """Keep these frames, and no others, until it is their turn; False, and the end, when there is no room."""
        size = sum(len(data) + FRAME_COST for _, data in frames)
        more = size - self._inbox_size
        if more > 0 and not self._budget.take(more):
            if self.connection is not None:
                self.connection.end(refusal.BUSY)
            return False
        if more < 0:
            self._budget.give(-more)
        self.inbox, self._inbox_size = frames, size
        return True

    # -- inside -----------------------------------------------------------------------------------------------

    def _put(self, sealed: bool, data: bytes) -> None:
        """Queue one frame, or end the session: a frame left out would break the Noise session anyway."""
        if self.ended is not None:
            return
        limits, outbox = self._limits, self._outbox
        cost = len(data) + FRAME_COST
        full = outbox.kept >= limits.out_frames or outbox.size + cost > limits.out_bytes
        if full or not self._budget.take(cost):
            if self.connection is None:  # its very first frames: the server is full
                self.ended = refusal.BUSY
            else:
                self.connection.end(refusal.SLOW_READER)
            return
        outbox.put(sealed, data)
        if self._held and not self._flush_due:
            self._flush_due = True
            asyncio.get_running_loop().call_soon(self.flush)  # with all that this turn of the loop says

    def _answer(self, call: Call) -> None:
        number, frames = self._outbox.hand_out(ANSWER_BYTES)
        call.answer(200, write_answer(number, frames), BINARY)

    def _let_go(self, at: int) -> Call:
        call, timer = self._held.pop(at)
        call.on_lost = None
        if timer is not None:
            timer.cancel()
        return call

    def _forget(self, call: Call) -> bool:
        """Hold a request no longer; False when it was not held."""
        for at, (held, _) in enumerate(self._held):
            if held is call:
                self._let_go(at)
                return True
        return False
