# SPDX-License-Identifier: Apache-2.0
"""Keeps one client's link to its hub: dials when one is needed, and again, with growing pauses, when it dropped.

At most one dial at a time, however many calls wait for it, and one link that new calls use. A client of several roads
that is on a lesser one looks for a better one meanwhile and changes over to it: what was asked on the link before
ends there (it *retires*). It ends by itself for good when the hub or this client shows another key than agreed, after
a minute of refusals of the credential, and after ten minutes of any others (contract 10.1), save those that somebody
may take back: a paused client is dialled on. The log `thalovant.connection` says when a client that dials again by
itself is cut off, is back, or gives up. It sends nothing and does not know what an ask is.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from thalovant.dialing import ends_for_good
from thalovant.errors import (
    ThalovantConnectionError,
    ThalovantError,
    ThalovantHubRefusedError,
    ThalovantPublishDeniedError,
)
from thalovant.health import ThalovantConnectionInfo, ThalovantConnectionPhase
from thalovant.rivals import HungUpError, Rivals
from thalovant.switching import timed_out
from thalovant.tasks import OwnedTasks

if TYPE_CHECKING:
    from thalovant.link import Incoming, Link
    from thalovant.switching import RoadDialer

__all__ = ["LinkKeeper"]

FIRST_REDIAL = 5.0  # seconds, times 0.5 to 1.5
FIRST_REDIAL_OF_SEVERAL = 1.0  # the same with several roads: another one may be open
LONGEST_REDIAL = 60.0
REFUSAL_PATIENCE = 600.0
CREDENTIAL_PATIENCE = 60.0  # for a credential that is over: nothing mends it but another one
FIRST_RETRY = 0.1  # seconds between two dials of a call that waits for its hub to come back
LONGEST_RETRY = 2.0
RETIREMENT = 2.0  # seconds that a link goes on for answers to what nobody waits for
LOOK_EVERY = 1.0  # seconds, while an answer is awaited and there are several roads
SIGN_OF_LIFE = 3.0  # seconds for a silent hub to show that it is there


_OF_CREDENTIAL = (
    *("broker_login_refused", "credential_refused", "credential_withdrawn", "wrong_password"),
    *("client_removed", "credential_ended", "credential_rotated", "hub_removed"),  # where the hub says so
)
_TAKEN_BACK = ("client_paused", "hub_off", "protocol_off")  # by the owner, at any time
_IN_BETWEEN = "throttled"  # says nothing new: it is for the refusals before

_log = logging.getLogger("thalovant.connection")


class _EndedError(ThalovantConnectionError):
    """The user ended the connection; no call dials it again behind their back."""


class LinkKeeper:
    """The link of one client, as `link`, or None. All of it belongs to one event loop.

    `on_lost` is called with a link and a reason when what was sent on it can no longer be answered; with None for all
    that was sent.
    """

    def __init__(
        self,
        dialer: RoadDialer,
        *,
        auto_reconnect: bool,
        on_message: Callable[[Link, Incoming], None],
        on_lost: Callable[[Link | None, str], None],
    ) -> None:
        self._dialer = dialer
        self._auto_reconnect = auto_reconnect
        self._on_message = on_message
        self._on_lost = on_lost
        self.link: Link | None = None
        self._carrier = asyncio.Lock()  # held while a carrier is being opened or closed
        self._ending = asyncio.Lock()  # so that what is being ended is not cancelled twice
        self._retiring: dict[Link, ThalovantConnectionInfo] = {}  # each better than the one before
        self._tasks = OwnedTasks()  # what dials; cancelled at the end
        self._clearing = OwnedTasks()  # what tidies up; waited for
        self._endings = OwnedTasks()
        self._dial_task: asyncio.Task[Link] | None = None
        self._redial_task: asyncio.Task[None] | None = None
        self._return_task: asyncio.Task[None] | None = None
        self._watch: asyncio.TimerHandle | None = None
        self._expecting = False
        self._closed = False
        self._given_up: ThalovantConnectionError | None = None
        self.gone = asyncio.Event()
        """Set once there is no link and none will be dialled by itself: closed, given up, or lost and not kept."""
        self._info = ThalovantConnectionInfo()
        self._last_error: str | None = None
        self._cut_off = False  # and said so
        self._rivals = Rivals()
        self._up_since = 0.0  # loop time
        self._rival_error: ThalovantConnectionError | None = None
        self._not_before = 0.0  # loop time: no dial is due before, not even of a call

    def expect(self, answers: bool) -> None:
        """Be told whether somebody waits for the hub to say something."""
        self._expecting = answers
        self._dialer.expect(answers)
        if answers and self._watch is None and self.has_other_roads:
            self._watch = asyncio.get_running_loop().call_later(LOOK_EVERY, self._look_after)

    def forgive(self) -> None:
        """Forget that the link was given up: the user asks for another attempt."""
        self._dialer.forgive()
        if self._given_up is not None and not self._closed:
            self._given_up = None
            self.gone.clear()

    async def dialled(self, deadline_at: float | None = None) -> Link:
        """Return the link, dialled once if there is none; `deadline_at` is loop time.

        Raises what `Dialer.dial` raises, `ThalovantTimeoutError` at the deadline, and the reason when the link was
        given up.
        """
        if self.link is not None:
            return self.link
        self.refuse_if_over()
        if self._rival_error is not None and deadline_at is not None and self._not_before >= deadline_at:
            raise self._rival_error
        task = self._dial_task
        if task is None:
            patience = None if deadline_at is None else deadline_at - asyncio.get_running_loop().time()
            task = self._dial_task = self._tasks.start(self._dial(patience), "thalovant-dial")
        try:
            async with asyncio.timeout_at(deadline_at):
                link = await asyncio.shield(task)
                if link.error is not None:  # lost again before we got to it; what that means is known after this
                    await self._clearing.end_by_itself()
                    raise link.error
                return link
        except TimeoutError:
            raise timed_out(self._last_error, self._dialer.attempts) from None
        except asyncio.CancelledError:
            if not task.cancelled() or _is_cancelled():
                raise
            self.refuse_if_over()
            raise _EndedError("The client was disconnected.") from None

    async def insist(self, deadline_at: float | None, attempts: int | None) -> Link:
        """Return the link, dialled up to `attempts` times; None dials until the deadline. Raises as `dialled`."""
        loop = asyncio.get_running_loop()
        pause = FIRST_RETRY
        while True:
            try:
                return await self.dialled(deadline_at)
            except ThalovantConnectionError as error:
                attempts = None if attempts is None else attempts - 1
                late = deadline_at is not None and max(loop.time() + pause, self._not_before) >= deadline_at
                if attempts == 0 or late or not _may_pass(error):
                    raise
            await asyncio.sleep(pause * random.uniform(0.5, 1.5))
            pause = min(pause * 2, LONGEST_RETRY)

    def refuse_if_over(self) -> None:
        """Raise the reason when there will be no link any more."""
        if self._closed:
            raise _EndedError("The client was closed. Make a new one.")
        if self._given_up is not None:
            raise self._given_up

    async def end(self, reason: str, *, for_good: bool, seconds: float | None = None) -> bool:
        """End the links and everything that dials; what is in flight fails with `reason`.

        A caller that is cancelled leaves the ending to itself. After so many `seconds` it is cut short; False then.
        """
        self._closed = self._closed or for_good
        links = self._let_go()
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        self._on_lost(None, reason)
        ending = self._endings.start(self._end(links), "thalovant-end")
        await asyncio.sleep(0)  # it has begun, so that it can be cut short without leaving a link open
        done, _ = await asyncio.wait({ending}, timeout=None if seconds is None else max(seconds, 0.0))
        if not done:
            ending.cancel()
            await asyncio.wait({ending})
        return bool(done)

    async def _end(self, links: list[Link]) -> None:
        # The first stack is left last: whoever ends it meanwhile waits until the links are closed.
        async with contextlib.AsyncExitStack() as turn, contextlib.AsyncExitStack() as stack:
            for link in links:
                stack.push_async_callback(link.close)
            await turn.enter_async_context(self._ending)
            try:
                await self._tasks.end()
                self._dial_task = self._redial_task = self._return_task = None
                await self._clearing.end_by_itself()
                await self._tasks.end()  # a redial that the clearing has begun
            finally:
                for link in self._let_go():  # one that had arrived before its dial could be ended
                    stack.push_async_callback(link.close)
            await self._dialer.end()
        if self._closed:
            self.gone.set()

    def _let_go(self) -> list[Link]:
        links = [link for link in (self.link, *self._retiring) if link is not None]
        self.link, self._retiring = None, {}
        return links

    async def _dial(self, patience: float | None) -> Link:
        try:
            patience = await self._held_back(patience)
            started, started_at = time.monotonic(), _now()
            async with self._carrier:
                self.refuse_if_over()  # the link before may just have been given up
                self._info = ThalovantConnectionInfo("connecting", started_at)
                link = await self._dialer.dial(self._on_message, self._lost, patience)
            self.gone.clear()
            self._take(link, _measured(link, started, started_at))
            return link
        except Exception as error:
            self._note(error)
            raise
        finally:
            self._dial_task = None

    async def _held_back(self, patience: float | None) -> float | None:
        """Wait until a dial would do more than cut off another program; returns the patience that is left."""
        seconds = max(self._not_before - asyncio.get_running_loop().time(), 0.0)
        if seconds:
            await asyncio.sleep(seconds)
        return None if patience is None else max(patience - seconds, 0.0)

    def _take(self, link: Link, info: ThalovantConnectionInfo) -> None:
        """Use this link from now on, and look for a better one if there may be one."""
        self.link, self._info, self._last_error = link, info, None
        self._up_since = asyncio.get_running_loop().time()
        if self._cut_off:
            self._cut_off = False
            _log.info("connected again")
        if self._return_task is None and self._dialer.next_probe() is not None:
            self._return_task = self._tasks.start(self._return(), "thalovant-return")

    async def _return(self) -> None:
        """Look at better roads when it is time, until the link is on the best one."""
        try:
            while (probe := self._dialer.next_probe()) is not None:
                due, road = probe
                await asyncio.sleep(due - asyncio.get_running_loop().time())
                started, started_at = time.monotonic(), _now()
                link = await self._dialer.probe(road, self._on_message, self._lost)
                if link is not None:
                    self._change_over(link, _measured(link, started, started_at))
        finally:
            if self._return_task is asyncio.current_task():
                self._return_task = None

    def _change_over(self, link: Link, info: ThalovantConnectionInfo) -> None:
        """Use a better link from now on; the one before retires."""
        old, old_info = self.link, self._info
        self._take(link, info)
        if old is not None:
            self._retiring[old] = old_info
            self._tasks.start(self._retire(old), "thalovant-retire")

    async def _retire(self, link: Link) -> None:
        """Close a link once all that was asked on it has ended, unless it was lost or is needed again."""
        await asyncio.sleep(RETIREMENT)
        await link.unused()
        if self._retiring.pop(link, None) is not None:
            await link.close()

    def _lost(self, link: Link, error: ThalovantConnectionError) -> None:
        """Hear that a link ended by itself; one that is not ours yet is `_dial`'s to report."""
        if self.link is link:
            self.link = None
            self._last_error = str(error)
            if self._return_task is not None:
                self._return_task.cancel()
                self._return_task = None
            if self._retiring:
                self._take_back(link)
            self._heed_rivals(error)
            self._clearing.start(self._clear_away(link, error), "thalovant-link-lost")
        elif self._retiring.pop(link, None) is not None:
            self._clearing.start(self._clear_away(link, error), "thalovant-link-lost")

    def _take_back(self, lost: Link) -> None:
        """A link that was to retire still stands, which is quicker than any dial."""
        link, info = self._retiring.popitem()
        self._dialer.took_back(link, lost)
        self._take(link, info)

    def _heed_rivals(self, said: ThalovantConnectionError) -> None:
        """A link was cut: most likely by another program, where that has happened before and there is one road only."""
        if not isinstance(said, HungUpError) or self.has_other_roads:
            return
        now = asyncio.get_running_loop().time()
        self._rivals.cut(now - self._up_since)
        if self._rivals.suspected:
            self._not_before = now + self._rivals.pause * random.uniform(0.5, 1.5)
            self._rival_error = self._rivals.error(said)

    async def _clear_away(self, link: Link, error: ThalovantConnectionError) -> None:
        async with self._carrier:
            meaning = await self._dialer.meaning_of_loss(link, error)
            if isinstance(meaning, HungUpError) and self._rivals.suspected:
                meaning = self._rival_error or meaning
            link.error = meaning
            if self.link is None:
                self._note(meaning)
            await link.close()
        self._on_lost(link, str(meaning))
        if self.link is not None:
            return
        if not self._auto_reconnect:
            self.gone.set()
        if self._auto_reconnect and not self._closed and self._given_up is None and self._redial_task is None:
            self._redial_task = self._tasks.start(self._redial(), "thalovant-redial")
            self._cut_off = True
            _log.warning("cut off: %s; trying again", _happened(meaning).rstrip("."))

    def _look_after(self) -> None:
        """While answers are awaited: find out soon when a road has become a dead end."""
        self._watch = None
        if self._expecting:
            for link in (self.link, *self._retiring):
                if link is not None:
                    link.look_after(SIGN_OF_LIFE)
            self.expect(True)

    async def _redial(self) -> None:
        """Dial until there is a link; one that a call has dialled in between will do."""
        loop = asyncio.get_running_loop()
        pause = FIRST_REDIAL_OF_SEVERAL if self.has_other_roads else max(FIRST_REDIAL, self._rivals.pause)
        refused_since: float | None = None
        try:
            while True:
                await asyncio.sleep(pause * random.uniform(0.5, 1.5))
                try:
                    await self.dialled()
                    return
                except Exception as error:  # noqa: BLE001 - noted by _dial; the next attempt may do better
                    if _code(error) != _IN_BETWEEN:
                        refused_since = (refused_since or loop.time()) if _is_lasting(error) else None
                    lasting = 0.0 if refused_since is None else loop.time() - refused_since
                    if isinstance(error, ThalovantHubRefusedError) and lasting >= _patience(error):
                        self._give_up(error)
                if self._given_up is not None:
                    return
                pause = min(pause * 2, LONGEST_REDIAL)
        finally:
            self._redial_task = None

    def _note(self, error: Exception) -> None:
        self._last_error = str(error)
        if isinstance(error, ThalovantConnectionError) and ends_for_good(error):
            self._give_up(error)

    def _give_up(self, error: ThalovantConnectionError) -> None:
        if self._auto_reconnect and self._given_up is None:
            _log.error("given up: %s", error)
        self._given_up = error
        self._cut_off = False
        self.gone.set()

    @property
    def has_other_roads(self) -> bool:
        """Whether there is more than one way to the hub."""
        return len(self._dialer.roads) > 1

    @property
    def road(self) -> str:
        """The road that the client is on, or was on last; with several of them, of which."""
        roads = self._dialer.roads
        now = self._dialer.protocol or roads[0]
        return now if len(roads) == 1 else f"{now} of {'/'.join(roads)}"

    @property
    def phase(self) -> ThalovantConnectionPhase:
        """Where the connection stands now."""
        if self.link is not None:
            return "ready"
        if self._dial_task is not None:
            return self._dialer.phase
        if self._given_up is not None:
            return "error"
        return "idle" if self._info.phase == "idle" and not self._closed else "closed"

    @property
    def info(self) -> ThalovantConnectionInfo:
        """How the latest attempt went."""
        dialer = self._dialer
        return replace(
            self._info,
            phase=self.phase,
            last_error=self._last_error,
            protocol=dialer.protocol,
            attempts=dialer.attempts,
            moved_because=dialer.moved_because,
        )

    @property
    def last_error(self) -> str | None:
        """Why there is no link; None while there is one, or when none was tried."""
        return self._last_error


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _code(error: Exception) -> str:
    diagnosis = error.diagnosis if isinstance(error, ThalovantError) else None
    return diagnosis.code if diagnosis is not None else ""


def _happened(error: ThalovantError) -> str:
    return error.diagnosis.happened if error.diagnosis is not None else str(error)


def _is_lasting(error: Exception) -> bool:
    """Whether it is a refusal that nobody is going to take back."""
    return isinstance(error, ThalovantHubRefusedError) and _code(error) not in _TAKEN_BACK


def _patience(error: Exception) -> float:
    return CREDENTIAL_PATIENCE if _code(error) in _OF_CREDENTIAL else REFUSAL_PATIENCE


def _may_pass(error: ThalovantConnectionError) -> bool:
    """Whether dialling again may help without anybody doing something first."""
    hopeless = ThalovantHubRefusedError | ThalovantPublishDeniedError | _EndedError
    return not isinstance(error, hopeless) and not ends_for_good(error)


def _measured(link: Link, started: float, started_at: str) -> ThalovantConnectionInfo:
    socket_at, opened_at, ready_at = link.transport.socket_opened_at, link.opened_at, link.ready_at
    return ThalovantConnectionInfo(
        "ready",
        started_at,
        connected_at=_now(),
        transport_open_ms=_milliseconds(started, opened_at),
        socket_open_ms=_milliseconds(started, socket_at),
        handshake_ms=_milliseconds(opened_at, ready_at),
        connect_ms=_milliseconds(started, ready_at),
    )


def _milliseconds(start: float | None, end: float | None) -> float | None:
    return None if start is None or end is None else round((end - start) * 1000, 3)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
