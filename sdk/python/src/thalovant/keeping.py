# SPDX-License-Identifier: Apache-2.0
"""Keeps one client's link to its hub: dials when one is needed, and again, with growing pauses, when it dropped.

At most one link and one dial at a time, however many calls wait for them. It ends by itself for good when the hub
or this client shows another key than agreed, and after ten minutes of nothing but refusals (contract 10.1). It sends
nothing and does not know what an ask is.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from thalovant.dialing import ends_for_good
from thalovant.errors import ThalovantConnectionError, ThalovantHubRefusedError, ThalovantTimeoutError
from thalovant.health import ThalovantConnectionInfo, ThalovantConnectionPhase
from thalovant.protocol.messages import HiveMessage
from thalovant.tasks import OwnedTasks

if TYPE_CHECKING:
    from thalovant.dialing import Dialer
    from thalovant.link import Link

__all__ = ["LinkKeeper"]

FIRST_REDIAL = 5.0  # seconds, times 0.5 to 1.5
LONGEST_REDIAL = 60.0
REFUSAL_PATIENCE = 600.0
FIRST_RETRY = 0.1  # seconds between two dials of a call that waits for its hub to come back
LONGEST_RETRY = 2.0


class _EndedError(ThalovantConnectionError):
    """The user ended the connection; no call dials it again behind their back."""


class LinkKeeper:
    """The link of one client, as `link`, or None. All of it belongs to one event loop.

    `on_lost` is called with a link and a reason when what was sent on it can no longer be answered; with None for all
    that was sent.
    """

    def __init__(
        self,
        dialer: Dialer,
        *,
        auto_reconnect: bool,
        on_message: Callable[[Link, HiveMessage], None],
        on_lost: Callable[[Link | None, str], None],
    ) -> None:
        self._dialer = dialer
        self._auto_reconnect = auto_reconnect
        self._on_message = on_message
        self._on_lost = on_lost
        self.link: Link | None = None
        self._carrier = asyncio.Lock()  # held while a carrier is being opened or closed
        self._tasks = OwnedTasks()  # what dials; cancelled at the end
        self._clearing = OwnedTasks()  # what tidies up; waited for
        self._dial_task: asyncio.Task[Link] | None = None
        self._redial_task: asyncio.Task[None] | None = None
        self._closed = False
        self._given_up: ThalovantConnectionError | None = None
        self.gone = asyncio.Event()
        """Set once there is no link and none will be dialled by itself: closed, given up, or lost and not kept."""
        self._info = ThalovantConnectionInfo()
        self._last_error: str | None = None

    def expect(self, answers: bool) -> None:
        """Be told whether somebody waits for the hub to say something."""
        self._dialer.expect(answers)

    def forgive(self) -> None:
        """Forget that the link was given up: the user asks for another attempt."""
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
        task = self._dial_task
        if task is None:
            task = self._dial_task = self._tasks.start(self._dial(), "thalovant-dial")
        try:
            async with asyncio.timeout_at(deadline_at):
                link = await asyncio.shield(task)
                if link.error is not None:  # lost again before we got to it; what that means is known after this
                    await self._clearing.end_by_itself()
                    raise link.error
                return link
        except TimeoutError:
            last = f" The last attempt: {self._last_error}" if self._last_error else ""
            raise ThalovantTimeoutError(f"The hub was not reached in time.{last}") from None
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
                late = deadline_at is not None and loop.time() + pause >= deadline_at
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

    async def end(self, reason: str, *, for_good: bool) -> None:
        """End the link and everything that dials; what is in flight fails with `reason`."""
        self._closed = self._closed or for_good
        link, self.link = self.link, None
        self._on_lost(None, reason)
        await self._tasks.end()
        self._dial_task = self._redial_task = None
        await self._clearing.end_by_itself()
        await self._tasks.end()  # a redial that the clearing has begun
        if link is not None:
            async with self._carrier:
                await link.close()
        if for_good:
            self.gone.set()

    async def _dial(self) -> Link:
        started, started_at = time.monotonic(), _now()
        try:
            async with self._carrier:
                self.refuse_if_over()  # the link before may just have been given up
                self._info = ThalovantConnectionInfo("connecting", started_at)
                link = await self._dialer.dial(self._on_message, self._lost)
            self.link, self._last_error = link, None
            self.gone.clear()
            self._info = _measured(link, started, started_at)
            return link
        except Exception as error:
            self._note(error)
            raise
        finally:
            self._dial_task = None

    def _lost(self, link: Link, error: ThalovantConnectionError) -> None:
        """Hear that a link ended by itself; one that is not ours yet is `_dial`'s to report."""
        if self.link is link:
            self.link = None
            self._last_error = str(error)
            self._clearing.start(self._clear_away(link, error), "thalovant-link-lost")

    async def _clear_away(self, link: Link, error: ThalovantConnectionError) -> None:
        async with self._carrier:
            link.error = meaning = await self._dialer.meaning_of_loss(link, error)
            self._note(meaning)
            await link.close()
        self._on_lost(link, str(meaning))
        if not self._auto_reconnect:
            self.gone.set()
        if self._auto_reconnect and not self._closed and self._given_up is None and self._redial_task is None:
            self._redial_task = self._tasks.start(self._redial(), "thalovant-redial")

    async def _redial(self) -> None:
        """Dial until there is a link; one that a call has dialled in between will do."""
        loop = asyncio.get_running_loop()
        pause, refused_since = FIRST_REDIAL, None
        try:
            while True:
                await asyncio.sleep(pause * random.uniform(0.5, 1.5))
                try:
                    await self.dialled()
                    return
                except ThalovantHubRefusedError as error:
                    refused_since = refused_since or loop.time()
                    if loop.time() - refused_since >= REFUSAL_PATIENCE:
                        self._give_up(error)
                except Exception:  # noqa: BLE001 - noted by _dial; the next attempt may do better
                    refused_since = None
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
        self._given_up = error
        self.gone.set()

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
        return replace(self._info, phase=self.phase, last_error=self._last_error)

    @property
    def last_error(self) -> str | None:
        """Why there is no link; None while there is one, or when none was tried."""
        return self._last_error


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _may_pass(error: ThalovantConnectionError) -> bool:
    """Whether dialling again may help without anybody doing something first."""
    return not isinstance(error, ThalovantHubRefusedError | _EndedError) and not ends_for_good(error)


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
