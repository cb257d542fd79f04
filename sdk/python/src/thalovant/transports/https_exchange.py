# SPDX-License-Identifier: Apache-2.0
"""The HTTPS carrier towards a hub that announces "poll": numbered frames over two lines (docs/wire.md).

One line holds a request open in which the hub's frames arrive; the other takes what is sent, and brings the answers
that are ready by then. They change places each time, so that neither stands idle until somebody in between closes it.
A request whose connection broke is sent again, once, over a new one: the numbers make sure that nothing is lost or
comes twice. One that nobody answers in time loses the link.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from itertools import islice
from typing import Final

from thalovant.errors import ThalovantConnectionError
from thalovant.protocol.errors import ExchangeError
from thalovant.protocol.exchange import MAX_FRAMES, Answer, Exchange, Frame, cost, read_answer
from thalovant.tasks import OwnedTasks
from thalovant.transports.base import SLOWEST
from thalovant.transports.http11 import Answer as HttpAnswer
from thalovant.transports.http_line import HttpLine, HttpServer, OnAnswer
from thalovant.transports.https_polling import CLOSE_PATIENCE, MAX_WAITING, Owner
from thalovant.transports.hub_requests import HubRequests

__all__ = ["Exchanging"]

HOLD: Final = 25.0  # seconds that the hub may keep an answer back; proxies wait for 30 or 60
# So long the answer to what was sent is kept back for what the hub says to it; what comes later has the other line.
LINGER: Final = 0.005
BODY_BYTES: Final = 256 * 1024  # of frames in one request
MAX_GAPS: Final = 6  # answers in a row that leave frames missing: two are under way at a time


class Exchanging:
    """One session at the hub. Nothing here awaits a request: answers are taken in where they are read."""

    def __init__(
        self,
        owner: Owner,
        requests: HubRequests,
        server: HttpServer,
        line: HttpLine,
        waiting: Iterable[Frame],
    ) -> None:
        """`line`: the one that the session was begun on; `waiting`: frames that wait to be sent."""
        self._owner = owner
        self._requests = requests
        self._loop = asyncio.get_running_loop()
        self._lines = [line, HttpLine(server)]
        self._tasks = OwnedTasks()
        self._holding: HttpLine | None = None  # the line whose request the hub holds
        self._sending: HttpLine | None = None
        self._waiting = deque(waiting)
        self._unanswered = 0  # bytes of what is being sent
        self._first = 0  # the number of the first of them
        self._next = 0  # the number of the frame that is due
        self._early: list[Answer] = []  # answers that have overtaken another
        self._gaps = 0
        self._held_last = line
        self._up = False
        self._over = False  # nothing is handed up any more
        self._ended = False  # nor sent
        self._due = False
        self._room = asyncio.Event()
        self._sent = asyncio.Event()
        self._alarm: asyncio.TimerHandle | None = None
        self._go_on_soon()

    @property
    def congested(self) -> bool:
        """Whether so many frames wait that the sender should."""
        return len(self._waiting) >= MAX_WAITING and not self._over

    def put(self, frame: Frame) -> None:
        """Queue a frame; what one turn of the loop queues leaves in one request."""
        if not self._over:
            self._waiting.append(frame)
            self._go_on_soon()

    def ready(self) -> None:
        """The session is up: from now on the hub speaks unasked."""
        self._up = True
        self._go_on_soon()

    async def drain(self) -> None:
        """Wait until fewer frames wait."""
        while self.congested:
            self._room.clear()
            await self._room.wait()

    def check(self, seconds: float) -> None:
        """Ask for a sign of life; see `transports.base.Transport.check`."""
        if self._over or self._alarm is not None:
            return
        if self._sending is None:
            line = self._sending = self._other(self._holding)
            self._ask(line, 0, 0.0, self._answered_check)
        patience = seconds + self._unanswered / SLOWEST
        self._alarm = self._loop.call_later(patience, self._judge_silence, self._reads, patience)

    async def close(self) -> None:
        """Send what is queued, then POST /disconnect; both within about a second."""
        was_over, self._over = self._over, True
        self._room.set()
        self._stop_alarm()
        try:
            if not was_over:
                with contextlib.suppress(OSError, ThalovantConnectionError):  # TimeoutError is among them
                    async with asyncio.timeout(CLOSE_PATIENCE):
                        await self._say_goodbye()
        finally:
            self._hang_up()
        await self._tasks.end()
        for line in self._lines:
            await line.gone()

    async def _say_goodbye(self) -> None:
        self._go_on()
        while self._waiting or self._sending is not None:
            self._sent.clear()
            await self._sent.wait()
        await self._other(self._holding).ask(self._requests.plain("disconnect"), CLOSE_PATIENCE)

    def _hang_up(self) -> None:
        self._ended = True
        self._stop_alarm()
        for line in self._lines:
            line.hang_up()

    # -- what goes out ----------------------------------------------------------------------------------------

    def _go_on_soon(self) -> None:
        if not self._due:
            self._due = True
            self._loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        """Send what waits, and have the hub hold a request; before the session is up one of both is enough."""
        self._due = False
        if self._ended:
            return
        if self._waiting and self._sending is None:
            self._send()
        if self._holding is None and not self._over and (self._up or self._sending is None):
            self._hold()

    def _send(self) -> None:
        count = size = 0
        for _, data in islice(self._waiting, MAX_FRAMES):
            size += cost(data)
            if count and size > BODY_BYTES:
                break
            count += 1
        self._unanswered = size
        line = self._sending = self._other(self._holding)
        self._ask(line, count, LINGER if self._up else HOLD, partial(self._answered_send, count))

    def _hold(self) -> None:
        """The line that held the last one has a rest; there is only one before the session is up."""
        rests = self._sending or (self._held_last if self._up else None)
        line = self._holding = self._held_last = self._other(rests)
        self._ask(line, 0, HOLD, self._answered_held)

    def _other(self, busy: HttpLine | None) -> HttpLine:
        return self._lines[1] if busy is self._lines[0] else self._lines[0]

    def _ask(
        self, line: HttpLine, count: int, wait: float, done: Callable[[Answer], None], *, repeated: bool = False
    ) -> None:
        """Exchange the first `count` frames that wait; `done` gets the answer. Sent again once, when it broke off."""
        again = repeated or bool(self._early)  # what an answer has overtaken may be lost
        frames = tuple(islice(self._waiting, count))
        body = Exchange(self._next, self._first, round(wait * 1000), again, frames).encode()
        request, patience = self._requests.exchange(body), wait + self._owner.send_timeout

        def answered(outcome: HttpAnswer | Exception) -> None:
            if self._ended:
                return
            if isinstance(outcome, HttpAnswer):
                self._answered(outcome, done)
            elif isinstance(outcome, ConnectionError) and not repeated:
                self._ask(line, count, wait, done, repeated=True)
            else:
                self._lose(outcome)

        if line.connected:
            line.request(request, patience, answered)
        else:
            self._tasks.start(self._dial_and_ask(line, request, patience, answered), "thalovant-https-dial")

    async def _dial_and_ask(self, line: HttpLine, request: bytes, patience: float, answered: OnAnswer) -> None:
        try:
            await self._owner.dial(line)
        except ThalovantConnectionError as error:
            self._lose(error)
            return
        if not self._ended:
            line.request(request, patience, answered)

    # -- what comes in ----------------------------------------------------------------------------------------

    def _answered(self, answer: HttpAnswer, done: Callable[[Answer], None]) -> None:
        try:
            done(read_answer(self._requests.content("exchange", answer)))
        except ExchangeError as error:
            self._lose(ThalovantConnectionError(f"The hub's answer cannot be read: {error.text}"))
        except Exception as error:  # noqa: BLE001 - an owner that cannot take a frame has ended the link
            self._lose(error)
        else:
            self._go_on()

    def _answered_held(self, answer: Answer) -> None:
        self._holding = None
        self._take(answer)

    def _answered_send(self, count: int, answer: Answer) -> None:
        for _ in range(count):
            self._waiting.popleft()
        self._first += count
        self._unanswered = 0
        self._sending = None
        self._room.set()
        self._sent.set()
        self._take(answer)

    def _answered_check(self, answer: Answer) -> None:
        """If frames were given long ago that never came, then the line of the held request is dead."""
        self._sending = None
        self._sent.set()
        missing, holding = answer.first > self._next, self._holding
        self._take(answer)
        if missing and holding is not None and holding is self._holding and not holding.answering:
            holding.hang_up()

    def _take(self, answer: Answer) -> None:
        """Hand up the frames that are due; those of an answer that came too soon wait for the one before it."""
        if answer.frames:
            self._early.append(answer)
        while (due := self._next_answer()) is not None:
            for sealed, data in due.frames[self._next - due.first :]:
                self._next += 1
                self._hand_up(sealed, data)
        self._look_for_gap()

    def _hand_up(self, sealed: bool, data: bytes) -> None:
        if not self._over:  # which one of the frames before it may have led to
            self._owner.received(data, sealed)

    def _next_answer(self) -> Answer | None:
        for answer in self._early:
            if answer.first <= self._next:
                self._early.remove(answer)
                return answer
        return None

    def _look_for_gap(self) -> None:
        """Each request asks again for frames that are missing; a hub that never gives them leaves them out."""
        self._gaps = self._gaps + 1 if self._early else 0
        if self._gaps > MAX_GAPS:
            raise ThalovantConnectionError("The hub's answers leave out frames.")

    # -- the end ----------------------------------------------------------------------------------------------

    def _lose(self, error: Exception) -> None:
        if self._ended:
            return
        told, self._over = self._over, True
        self._hang_up()
        self._waiting.clear()
        self._sending = None
        self._room.set()
        self._sent.set()
        if not told:
            self._owner.lost(error)

    @property
    def _reads(self) -> int:
        return sum(line.reads for line in self._lines)

    def _judge_silence(self, reads: int, patience: float) -> None:
        self._alarm = None
        if self._reads == reads:
            self._lose(ThalovantConnectionError(f"The hub gave no sign of life within {patience:.3g} s."))

    def _stop_alarm(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
