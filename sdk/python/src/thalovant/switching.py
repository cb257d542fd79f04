# SPDX-License-Identifier: Apache-2.0
"""How a client gets a link when it may use several roads: carries out what `roads` decides.

One `RoadDialer` a client, with one `Dialer` a road. It says in the log why it moved (`thalovant.roads`, once a change),
tells the errors of all roads as one, and leaves what it learned to the next run. A hub that shows another key than the
one trusted, and a client key that is refused, end the attempt at once: no road may hide that. It keeps no link.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, cast

from thalovant.diagnoses import most_fundamental
from thalovant.dialing import ends_for_good
from thalovant.errors import (
    ThalovantClientKeyRejectedError,
    ThalovantConnectionError,
    ThalovantError,
    ThalovantHubRefusedError,
    ThalovantTimeoutError,
)
from thalovant.health import ThalovantConnectionPhase
from thalovant.link import HandshakeTimeoutError
from thalovant.roads import Roads, Walk
from thalovant.tasks import OwnedTasks

if TYPE_CHECKING:
    from thalovant.dialing import Dialer
    from thalovant.hub_endpoints import HubProtocol
    from thalovant.link import Incoming, Link
    from thalovant.road_memory import RoadMemory

__all__ = ["RoadDialer"]

Attempts = tuple[tuple["HubProtocol", str], ...]
OnMessage = Callable[["Link", "Incoming"], None]
OnLost = Callable[["Link", ThalovantConnectionError], None]

_PHASES: tuple[ThalovantConnectionPhase, ...] = ("connecting", "open", "handshake", "ready")

_log = logging.getLogger("thalovant.roads")


class RoadDialer:
    """Makes links over the best of one identity's roads that is open. `dialers` has the preferred one first.

    `left_out` names the roads that the identity has no way to use, and why; `memory` is what runs leave each other.
    """

    def __init__(self, dialers: Sequence[Dialer], *, left_out: Attempts = (), memory: RoadMemory | None = None) -> None:
        self._dialers: dict[HubProtocol, Dialer] = {dialer.protocol: dialer for dialer in dialers}
        self._roads = Roads(tuple(self._dialers), chance=lambda: random.uniform(0.5, 1.5))
        self._left_out = left_out
        self._memory = memory
        self._recalled = memory is None
        self._kept: Mapping[HubProtocol, object] = {}  # what the memory holds
        self._tries = OwnedTasks()
        self._saving = OwnedTasks()
        self._race: _Race | None = None  # the one under way
        self._errors: dict[HubProtocol, str] = {}  # of the latest attempts, by road
        self._other_key: ThalovantConnectionError | None = None
        self.moved_because: str | None = None
        """Why the client is on another road than before, or than the one it prefers; None when it never moved."""

    @property
    def roads(self) -> tuple[HubProtocol, ...]:
        """The roads that can be tried, the preferred one first."""
        return self._roads.preference

    @property
    def protocol(self) -> HubProtocol | None:
        """The road that the client is on, or was on last; None before the first one."""
        return self._roads.current

    @property
    def attempts(self) -> Attempts:
        """The roads that did not lead to the hub lately, each with the reason."""
        under_way = self._race.under_way() if self._race is not None else {}
        return (*self._left_out, *(self._errors | under_way).items())

    @property
    def phase(self) -> ThalovantConnectionPhase:
        """How far the road has come that has come farthest."""
        reached = [dialer.phase for dialer in self._dialers.values() if dialer.dialling]
        return max(reached, key=_PHASES.index, default="connecting")

    def expect(self, answers: bool) -> None:
        """Be told whether somebody waits for the hub to say something."""
        for dialer in self._dialers.values():
            dialer.expect(answers)

    def forgive(self) -> None:
        """Forget that a hub with another key was seen: the user asks for another attempt."""
        self._other_key = None

    async def dial(self, on_message: OnMessage, on_lost: OnLost, patience: float | None = None) -> Link:
        """Return a link over the first road that gets there; whoever waits has `patience` seconds.

        Raises what `Dialer.dial` raises. When every road has failed it is one error, the refusal only if each of them
        refused, with `attempts` on it.
        """
        if self._other_key is not None:
            raise self._other_key
        await self._recall()
        walk = self._roads.walk(_now(), patience)
        race = self._race = _Race(self._dialers, walk, self._tries, on_message, on_lost)
        self._errors = race.errors
        try:
            link = await race.run()
        except _AllFailedError:
            raise self._one_error(race.failures) from None
        except ThalovantConnectionError as error:
            error.attempts = self.attempts
            raise
        finally:
            self._race = None
        self._arrived(link, race)
        return link

    async def probe(self, road: HubProtocol, on_message: OnMessage, on_lost: OnLost) -> Link | None:
        """Return a link over a better road than the current one; None when it is still not open."""
        try:
            link = await self._dialers[road].dial(on_message, on_lost)
        except ThalovantError as error:
            self._still_closed(road, error)
            return None
        self._move(road, f"{road}, which is preferred, is open again", logging.INFO)
        self._errors.clear()
        return link

    def next_probe(self) -> tuple[float, HubProtocol] | None:
        """When (loop time) to look at which better road; None when there is nothing better to be had."""
        return None if self._other_key is not None else self._roads.next_probe(_now())

    def took_back(self, link: Link, lost: Link) -> None:
        """The link to a better road was lost, and the one before it, on a lesser road, still stands."""
        self._roads.reached(link.transport.protocol, _now(), [lost.transport.protocol])
        self._errors[lost.transport.protocol] = str(lost.error)
        self._tell(link.transport.protocol, f"{lost.transport.protocol} was lost: {lost.error}", logging.WARNING)
        self._save()

    async def meaning_of_loss(self, link: Link, error: ThalovantConnectionError) -> ThalovantConnectionError:
        """What it is to the user that a link was lost; to be told of each loss once."""
        road = link.transport.protocol
        meaning = await self._dialers[road].meaning_of_loss(link, error)
        lived = float("inf") if link.ready_at is None else time.monotonic() - link.ready_at
        if road == self._roads.current:
            self._roads.lost(road, _now(), lived, refused=isinstance(meaning, ThalovantHubRefusedError))
        return meaning

    async def end(self) -> None:
        """Wait until the tries of ended walks are over, and until what was to be kept is kept."""
        await self._tries.end_by_itself()
        await self._saving.end_by_itself()

    def _arrived(self, link: Link, race: _Race) -> None:
        road, before = link.transport.protocol, self._roads.current
        for slow in race.walk.overtaken_by(road):
            self._errors[slow] = f"There was no connection within {race.seconds():.2g} s."
        self._errors.pop(road, None)
        failed = tuple(self._errors)
        for earlier in self._better(road):
            self._errors.setdefault(earlier, "It failed lately and is tried again later.")
        self._roads.reached(road, _now(), failed)
        if road != (before or self.roads[0]):
            reason = " ".join(f"{each}: {error}" for each, error in self._errors.items())
            self._tell(road, reason or f"{road} is open again", logging.WARNING if failed else logging.INFO)
        self._save()

    def _one_error(self, failures: Mapping[HubProtocol, ThalovantConnectionError]) -> ThalovantConnectionError:
        """What it is that every road has failed: the refusal, or the timeout, only if it was that on each."""
        errors, kind = list(failures.values()), ThalovantConnectionError
        if len(self.attempts) == 1:
            error = errors[0]
        else:
            for narrow in (ThalovantHubRefusedError, HandshakeTimeoutError):
                kind = narrow if all(isinstance(each, narrow) for each in errors) else kind
            error = kind(" ".join(["No road leads to the hub.", *(f"{road}: {why}" for road, why in self.attempts)]))
            error.diagnosis = most_fundamental(each.diagnosis for each in errors)
        error.attempts = self.attempts
        return error

    def _better(self, road: HubProtocol) -> tuple[HubProtocol, ...]:
        return self.roads[: self.roads.index(road)]

    def _move(self, road: HubProtocol, reason: str, level: int) -> None:
        self._roads.reached(road, _now())
        self._tell(road, reason, level)
        self._save()

    def _tell(self, road: HubProtocol, reason: str, level: int) -> None:
        self.moved_because = reason
        _log.log(level, "moved to %s: %s", road, reason)

    def _still_closed(self, road: HubProtocol, error: ThalovantError) -> None:
        self._errors[road] = str(error)
        self._roads.probe_failed(road, _now())
        self._save()
        # The link that stands was made with this very key, so a rejected one can only be that road's own trouble.
        if ends_for_good(error) and not isinstance(error, ThalovantClientKeyRejectedError):
            self._other_key = cast("ThalovantConnectionError", error)
            _log.error("%s leads to another hub and is not looked at again: %s", road, error)
        else:
            _log.debug("%s is still not open: %s", road, error)

    async def _recall(self) -> None:
        if self._memory is not None and not self._recalled:
            held = await asyncio.to_thread(self._memory.load)
            self._recalled = True
            now = _now()
            self._roads.recall({road: (now - age, times) for road, (age, times) in held.items()})
            self._kept = self._roads.set_aside()

    def _save(self) -> None:
        """Keep which roads are set aside, in the background, if that has changed."""
        aside = self._roads.set_aside()
        if self._memory is None or aside == self._kept:
            return
        self._kept, now = aside, _now()
        ages = {road: (now - at, times) for road, (at, times) in aside.items()}
        self._saving.start(asyncio.to_thread(self._memory.save, ages), "thalovant-roads-save")


class _AllFailedError(Exception):
    """Every road of a walk has failed."""


class _Race:
    """The tries of one walk, each a task. The first link wins; one that comes too late is closed again."""

    def __init__(
        self,
        dialers: Mapping[HubProtocol, Dialer],
        walk: Walk,
        tries: OwnedTasks,
        on_message: OnMessage,
        on_lost: OnLost,
    ) -> None:
        self._dialers = dialers
        self.walk = walk
        self._tries = tries
        self._started: list[asyncio.Task[None]] = []
        self._on_message = on_message
        self._on_lost = on_lost
        self._began = _now()
        self._news = asyncio.Event()
        self._over = False
        self._link: Link | None = None
        self._fatal: Exception | None = None
        self.failures: dict[HubProtocol, ThalovantConnectionError] = {}
        self.errors: dict[HubProtocol, str] = {}

    def seconds(self) -> float:
        """How long it has run."""
        return _now() - self._began

    def under_way(self) -> dict[HubProtocol, str]:
        """The roads that neither failed nor got there so far."""
        return {road: f"There is no connection after {self.seconds():.2g} s." for road in self.walk.running}

    async def run(self) -> Link:
        """Return the first link there is. Raises what no other road could mend, and `_AllFailedError`."""
        try:
            while (link := await self._winner()) is None:
                if self._fatal is not None:
                    raise self._fatal
                for road in self.walk.due(_now()):
                    self._started.append(self._tries.start(self._try(road), f"thalovant-dial-{road}"))
                if self.walk.over:
                    raise _AllFailedError
                await self._wait()
        except BaseException:
            self._over = True
            if self._link is not None:
                await self._link.close()
            raise
        finally:
            self._over = True
            for task in self._started:
                task.cancel()  # and nobody waits for it: saying goodbye on a slow road takes its time
        return link

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout_at(self.walk.next_at):
                await self._news.wait()
        except TimeoutError:
            pass  # the next road may start
        self._news.clear()

    async def _winner(self) -> Link | None:
        """The link that has won; does not yield unless it was lost again before we got to it."""
        link = self._link
        if link is None or link.error is None:
            return link
        self._link = None
        road = link.transport.protocol
        try:
            meaning = await self._dialers[road].meaning_of_loss(link, link.error)
        finally:
            await link.close()
        self._note(road, meaning)
        return None

    async def _try(self, road: HubProtocol) -> None:
        try:
            link = await self._dialers[road].dial(self._on_message, self._on_lost)
        except Exception as error:  # noqa: BLE001 - `run` raises what no other road could mend
            self._note(road, error)
            return
        if self._over or self._link is not None:
            await link.close()
        else:
            self._link = link
        self._news.set()

    def _note(self, road: HubProtocol, error: Exception) -> None:
        self._news.set()
        if not isinstance(error, ThalovantConnectionError) or ends_for_good(error):
            self._fatal = self._fatal or error
            return
        self.failures[road] = error
        self.errors[road] = str(error)
        self.walk.failed(road, _now(), passing=not isinstance(error, ThalovantHubRefusedError))


def timed_out(last: str | None, attempts: Attempts) -> ThalovantTimeoutError:
    """The error for a deadline that passed before the hub was reached."""
    said = " ".join(f"{road}: {reason}" for road, reason in attempts) or (f"The last attempt: {last}" if last else "")
    error = ThalovantTimeoutError(" ".join(["The hub was not reached in time.", said]).rstrip())
    error.attempts = attempts
    return error


def _now() -> float:
    return asyncio.get_running_loop().time()
