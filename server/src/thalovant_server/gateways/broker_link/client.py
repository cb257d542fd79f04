# SPDX-License-Identifier: Apache-2.0
"""One client behind the broker: what came from it and waits its turn, its dialogue with the hub, what goes to it.

All clients share one connection, which is therefore read whatever they send; here that costs none of them another's
time or memory. It will not decide who may be here, nor know what a topic root is.
"""

from __future__ import annotations

import math
from collections import deque
from time import monotonic
from typing import TYPE_CHECKING

import structlog

from thalovant.protocol.clear import refusal_frame
from thalovant.protocol.topics import SPELLINGS, STATUS
from thalovant_server.gateways.broker_link.outbound import FRAME_COST, Outbound, OutQueue
from thalovant_server.gateways.dialogue import Dialogue
from thalovant_server.gateways.lane import SLICE_SECONDS
from thalovant_server.gateways.share import Share
from thalovant_server.hub.presence import CREDENTIAL_ENDED
from thalovant_server.hub.refusal import BUSY, INTERNAL

if TYPE_CHECKING:
    from collections.abc import Callable

    from thalovant_server.directory import CredentialEntry
    from thalovant_server.gateways.dialogue import Begin
    from thalovant_server.gateways.lane import Lane
    from thalovant_server.hub.budget import Account
    from thalovant_server.hub.limits import Limits
    from thalovant_server.hub.refusal import Refusal

log = structlog.get_logger("thalovant.link")


class LinkClient:
    """The client of one credential, while it has a session or something waits for it or from it.

    Args:
        prefix: of its topics.
        where: the broker, as `host:port`: nobody here knows the client's own address.
        credential: its credential as it is now; None when that is over.
        begin: begins a session, or raises `Refused`.
        outbound: what frames leave through.
        lane: whose turns it takes.
        account: pays for what waits.
        limits: bound what waits.
    """

    __slots__ = (
        "_inbox",
        "_inbox_bytes",
        "_inward",
        "_is_due",
        "_lane",
        "_limits",
        "_outbound",
        "_topics",
        "_waiting",
        "dialogue",
        "host",
        "queue",
        "remote",
    )

    def __init__(
        self,
        prefix: bytes,
        where: str,
        credential: Callable[[], CredentialEntry | None],
        begin: Begin,
        *,
        outbound: Outbound,
        lane: Lane,
        account: Account,
        limits: Limits,
    ) -> None:
        self.host = self.remote = where
        self.dialogue = Dialogue(self, credential, begin)
        self.queue = OutQueue(Share(account))
        self._outbound = outbound
        self._topics = {segment: b"%b/%b" % (prefix, segment.encode()) for segment in SPELLINGS.values()}
        self._lane = lane
        self._limits = limits
        self._inward = Share(account)
        self._inbox: deque[tuple[str, bytes]] = deque()
        self._inbox_bytes = 0
        self._waiting = False
        self._is_due = False

    @property
    def live(self) -> bool:
        """Whether it has a session."""
        return self.dialogue.answers is not None

    @property
    def idle(self) -> bool:
        """Whether nothing is lost when it is forgotten."""
        return not (self._inbox or self.queue or self.live)

    # -- what came --------------------------------------------------------------------------------------------

    def put(self, segment: str, payload: bytes) -> bool:
        """A message of the client came; whether `work` is due now, which it was not before."""
        self._inbox.append((segment, payload))
        self._inbox_bytes += len(payload) + FRAME_COST
        was_due, self._is_due = self._is_due, True
        return not was_due

    def work(self) -> None:
        """All that one read brought is there: deal with a slice of it, unless earlier ones wait their turn."""
        self._is_due = False
        if not self._waiting:
            self._slice()
        elif not self._count():
            self._overflow()

    def _slice(self) -> None:
        self._waiting = False
        most, done, until = self._lane.allowance(), 0, 0.0
        while done < most and self._inbox:
            self._one()
            done += 1
            now = monotonic()
            until = until or now + SLICE_SECONDS
            if now >= until:
                break
        self._lane.spend(done)
        if not self._count():
            self._overflow()
        elif self._inbox:
            self._waiting = True
            self._lane.wait(self._slice)

    def _one(self) -> None:
        segment, payload = self._inbox.popleft()
        self._inbox_bytes -= len(payload) + FRAME_COST
        try:
            if segment == STATUS:
                self.dialogue.said(payload)
            else:
                self.dialogue.receive(segment, payload)
        except Exception:  # a fault of ours is the end of this session, and none of the others' on the link
            log.exception("message_failed", broker=self.remote, segment=segment)
            self.dialogue.end(INTERNAL)

    def _count(self) -> bool:
        """Hold what waits against the client's share; False when that is too much."""
        return self._inward.hold(self._inbox_bytes)

    def _overflow(self) -> None:
        """It sends more than is worked through: its session is over, and what waited with it."""
        self._empty()
        self.dialogue.end(BUSY)

    # -- what the dialogue calls ------------------------------------------------------------------------------

    @property
    def patience(self) -> float | None:
        """A client behind a broker gives us no sign of life of its own."""
        return None

    def silence(self) -> float:
        """Nothing but its messages is heard of it."""
        return math.inf

    def hears(self, segment: str) -> bool:
        """The broker does not tell; a PUBACK may (`NotTaken`)."""
        return True

    def deliver(self, segment: str, frames: list[bytes]) -> None:
        """Publish frames of one message, in order. One that the broker takes too slowly ends the session."""
        topic, queue = self._topics[segment], self.queue
        for frame in frames:
            if not self._outbound.put(queue, topic, frame):
                break
        else:
            if queue.size <= self._limits.out_bytes and len(queue) <= self._limits.out_frames:
                return
        queue.clear()
        self.dialogue.end(BUSY)

    def refused(self, segment: str, refusal: Refusal) -> None:
        """The hub ended the session: no connection ends with it, so a clear frame says why."""
        self._outbound.put(self.queue, self._topics[segment], refusal_frame(refusal.code, refusal.reason))

    # -- its end ----------------------------------------------------------------------------------------------

    def lose(self, why: str, refusal: Refusal) -> None:
        """Its session is lost, `why` in a word of `hub.presence`; the client hears of it as of a refusal."""
        segment = self.dialogue.answers
        self.dialogue.stop(why)
        self._empty()
        if segment is not None:
            self.queue.clear()
            self.refused(segment, refusal)

    def tell(self, refusal: Refusal) -> None:
        """Say something to a client of whose session nothing is known: it hears one of the two."""
        for segment in self._topics:
            self.refused(segment, refusal)

    def forget(self) -> None:
        """Its credential is over; what waits for it still leaves."""
        self._empty()
        self.dialogue.stop(CREDENTIAL_ENDED)

    def _empty(self) -> None:
        self._inbox.clear()
        self._inbox_bytes = 0
        self._inward.release()
