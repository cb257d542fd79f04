# SPDX-License-Identifier: Apache-2.0
"""Runs turns: each ask once, within its deadline, in bounded numbers (architecture decisions 10 and 11).

The key of a turn is (client, request id, digest of type and data). The same ask again, over whatever connection,
hears the same answer and runs the agent no second time; the same id with other content is a new turn. A turn is
remembered until its deadline plus a minute, unless it was cancelled, found no room for its answer or the server went
down: then there is no answer to repeat, and the same ask is a new turn. When the memory is full, the turns that
ended first are forgotten first (a client's own, then anybody's); a turn that runs is never forgotten.

It will not know carriers or permissions. A lost link cancels nothing.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING

import structlog

from thalovant_server.agents.base import Agent, AgentError, AgentRequest
from thalovant_server.hub.turn import Failure, Turn

if TYPE_CHECKING:
    from thalovant_server.hub.ask import Ask
    from thalovant_server.hub.budget import Account
    from thalovant_server.hub.clock import Clock, Timer
    from thalovant_server.hub.limits import Limits
    from thalovant_server.hub.replies import Asker

log = structlog.get_logger("thalovant.runtime")

# How long a cancelled agent may take to clean up when the server goes down.
LAST_WORD_SECONDS = 0.5
# What a turn costs beside its bytes of text, roughly: objects, keys, a timer.
TURN_OVERHEAD = 1024

FAILED = Failure("agent_failed", "The agent of this hub failed to answer. Try again, or tell the hub's operator.")
TOO_LONG = Failure("answer_too_long", "The agent's answer is longer than this hub passes on.")
BUSY = Failure("busy", "The server holds as much as it can. Ask again.")
CANCELLED = Failure("cancelled", "The ask was cancelled.")
GOING_DOWN = Failure("restart", "The server went down before the answer was complete. Ask again.")
# These say nothing about the ask itself, so the same ask again must run.
PASSING = (BUSY, CANCELLED, GOING_DOWN)

TooMany = tuple[str, str]
TOO_MANY: TooMany = ("too_many_requests", "too many asks at once: wait for answers, then ask again")
NO_ROOM: TooMany = ("too_many_requests", "the server holds as much as it can: try again later")
STOPPING: TooMany = ("backend_unavailable", "the server is going down: ask again shortly")


class AnswerTooLongError(AgentError):
    """The agent said more than an answer may hold."""

    code = "answer_too_long"


class NoRoomError(Exception):
    """The answer's next part is more than the byte budget has left; the agent did nothing wrong."""


class _Work(Turn):
    """A turn with what the runtime needs to run and forget it."""

    __slots__ = ("account", "agent", "client", "cost", "deadline", "key", "request", "task", "timer")

    def __init__(
        self,
        ask: Ask,
        client: _Client,
        account: Account,
        agent: Agent,
        request: AgentRequest,
        deadline: float,
        limits: Limits,
    ) -> None:
        super().__init__(ask, limits)
        self.client = client
        self.account = account
        self.agent = agent
        self.request: AgentRequest | None = request
        self.deadline = deadline
        self.key: tuple[str, bytes] | None = (ask.request_id, ask.digest) if ask.request_id else None
        self.cost = ask.size + TURN_OVERHEAD
        self.task: asyncio.Task[None] | None = None
        self.timer: Timer | None = None


class _Client:
    """The turns of one client."""

    __slots__ = ("id", "remembered", "remembered_bytes", "running", "turns", "waiting")

    def __init__(self, client_id: str) -> None:
        self.id = client_id
        self.turns: dict[tuple[str, bytes], _Work] = {}
        self.running = 0
        self.waiting: deque[_Work] = deque()
        self.remembered: OrderedDict[_Work, None] = OrderedDict()
        self.remembered_bytes = 0

    @property
    def empty(self) -> bool:
        return not (self.turns or self.running or self.waiting or self.remembered)


class Runtime:
    """All turns of the process."""

    def __init__(self, clock: Clock, limits: Limits) -> None:
        self._clock = clock
        self._limits = limits
        self._clients: dict[str, _Client] = {}
        self._remembered: OrderedDict[_Work, None] = OrderedDict()
        self._remembered_bytes = 0
        self._slots: dict[str, asyncio.Semaphore] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = False

    @property
    def running(self) -> int:
        """Turns whose agent runs now."""
        return len(self._tasks)

    @property
    def remembered(self) -> int:
        """Turns that have ended and can be repeated."""
        return len(self._remembered)

    def knows(self, client_id: str, ask: Ask) -> bool:
        """Whether this ask runs or is remembered, so that `submit` would run nothing."""
        client = self._clients.get(client_id)
        return client is not None and bool(ask.request_id) and (ask.request_id, ask.digest) in client.turns

    def submit(
        self, asker: Asker, client_id: str, account: Account, agent: Agent, ask: Ask, request: AgentRequest
    ) -> TooMany | None:
        """Start a turn, or join the one that is the same. `account` pays for what the turn holds.

        Returns:
            None; or code and reason of a denial when there is no room.
        """
        client = self._clients.get(client_id) or _Client(client_id)
        if ask.request_id and (known := client.turns.get((ask.request_id, ask.digest))):
            known.attach(asker, ask)
            return None
        denial = self._no_room(client, account, ask)
        if denial is not None:
            return denial
        turn = _Work(ask, client, account, agent, request, self._clock.now() + ask.timeout, self._limits)
        turn.attach(asker, ask)
        self._clients[client_id] = client
        if turn.key:
            client.turns[turn.key] = turn
        turn.timer = self._clock.call_later(ask.timeout, lambda: self._expire(turn))
        client.waiting.append(turn)
        self._start_waiting(client)
        return None

    def cancel(self, asker: Asker, client_id: str, request_id: str) -> None:
        """`asker` waits no more for its client's turns of that request id; one that nobody waits for is cancelled."""
        client = self._clients.get(client_id)
        for turn in list(client.turns.values()) if client else ():
            if turn.key and turn.key[0] == request_id and not turn.done and not turn.detach(asker, CANCELLED):
                self._abandon(turn, CANCELLED)

    def refuse_new(self) -> None:
        """Take no new turns from now on; the same ask again still joins its turn."""
        self._stopping = True

    async def stop(self, seconds: float, hurry: asyncio.Event | None = None) -> None:
        """Let turns end, those that wait for a place too; then cancel them. Each listener hears how its ask ended.

        They have so many seconds, and no more once `hurry` is set.
        """
        self.refuse_new()
        await self._drain(seconds, hurry or asyncio.Event())
        for client in list(self._clients.values()):
            for turn in [*client.turns.values(), *client.waiting]:
                self._abandon(turn, GOING_DOWN)
        # Twice: the first cancellation may be spent waiting for a thread that an agent blocks.
        for _ in range(2):
            if not self._tasks:
                break
            for task in self._tasks:
                task.cancel()
            await asyncio.wait(self._tasks, timeout=LAST_WORD_SECONDS)
        for turn in list(self._remembered):
            self._forget(turn)

    # -- inside -----------------------------------------------------------------------------------------------

    async def _drain(self, seconds: float, hurry: asyncio.Event) -> None:
        loop = asyncio.get_running_loop()
        ends = {loop.create_task(self._idle(), name="drain"), loop.create_task(hurry.wait(), name="hurry")}
        try:
            await asyncio.wait(ends, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in ends:
                task.cancel()

    async def _idle(self) -> None:
        while self._tasks:  # each that ends may start one that waited
            await asyncio.wait(self._tasks)

    def _no_room(self, client: _Client, account: Account, ask: Ask) -> TooMany | None:
        if self._stopping:
            return STOPPING
        limits = self._limits
        if client.running >= limits.turns_running and len(client.waiting) >= limits.turns_waiting:
            return TOO_MANY
        return None if self._take(client, account, ask.size + TURN_OVERHEAD) else NO_ROOM

    def _take(self, client: _Client, account: Account, count: int) -> bool:
        """Take bytes, if need be those of the client's own answers that are remembered, the oldest first."""
        while not account.take(count):
            if not client.remembered:
                return False
            self._forget(next(iter(client.remembered)))
        return True

    def _start_waiting(self, client: _Client) -> None:
        while client.waiting and client.running < self._limits.turns_running:
            turn = client.waiting.popleft()
            client.running += 1
            name = f"turn {client.id} {turn.ask.request_id if turn.ask else ''}"
            task = asyncio.get_running_loop().create_task(self._run(turn), name=name)
            turn.task = task
            self._tasks.add(task)
            task.add_done_callback(partial(self._ran, turn))

    async def _run(self, turn: _Work) -> None:
        """Run the agent to the turn's end. Nothing but a cancellation from outside leaves here."""
        slots = self._slots.get(turn.agent.name)
        if slots is None:
            slots = self._slots[turn.agent.name] = asyncio.Semaphore(self._limits.agent_running)
        async with slots:
            try:
                await self._listen(turn)
                turn.finish()
            except AnswerTooLongError as error:
                self._log_failure(turn, error)
                turn.fail(TOO_LONG)
            except NoRoomError:
                log.warning("no_room_for_answer", **_names(turn))
                turn.fail(BUSY)
                self._unname(turn)  # now: the same ask may come before `_ran`
            except GeneratorExit:  # either this task is thrown away, or an agent raised it: `_ran` tells
                raise
            except BaseException as error:  # one that left here could end the loop, and the server with it
                task = asyncio.current_task()
                if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
                    raise
                self._log_failure(turn, error)
                turn.fail(FAILED)

    async def _listen(self, turn: _Work) -> None:
        request = turn.request
        if request is None:
            return
        async with aclosing(turn.agent.answer(request)) as parts:
            async for part in parts:
                self._add(turn, part)
                if not len(turn.parts) % self._limits.parts_at_once:
                    await asyncio.sleep(0)  # an agent that never waits would hold the loop for its whole answer

    def _add(self, turn: _Work, part: str) -> None:
        before = turn.size
        turn.add(part)
        more = turn.size - before
        limits = self._limits
        if turn.size > limits.answer_bytes or len(turn.parts) > limits.answer_parts:
            raise AnswerTooLongError(f"the answer of {turn.agent.name} is too long")
        if not self._take(turn.client, turn.account, more):
            raise NoRoomError
        turn.cost += more

    def _log_failure(self, turn: _Work, error: BaseException) -> None:
        log.error("agent_failed", **_names(turn), exc_info=error)

    def _ran(self, turn: _Work, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        turn.client.running -= 1
        turn.task = None
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._log_failure(turn, error)
            turn.fail(FAILED)
        turn.fail(GOING_DOWN)  # which changes nothing when it has ended
        self._ended(turn)
        self._start_waiting(turn.client)
        self._drop_if_empty(turn.client)

    def _expire(self, turn: _Work) -> None:
        seconds = f"{turn.ask.timeout:g}" if turn.ask else "its"
        self._abandon(turn, Failure("deadline", f"The agent did not answer within {seconds} seconds."))

    def _abandon(self, turn: _Work, failure: Failure) -> None:
        """End a turn from outside: tell its listeners, and stop the agent or never start it."""
        if turn.done:
            return
        turn.fail(failure)
        if failure in PASSING:
            self._unname(turn)  # now: the agent may take its time to stop
        if turn.task is not None:
            turn.task.cancel()
            return
        turn.client.waiting.remove(turn)
        self._ended(turn)
        self._drop_if_empty(turn.client)

    def _ended(self, turn: _Work) -> None:
        """The agent is done with the turn: keep the answer for a while, and only the answer."""
        if turn.timer is not None:
            turn.timer.cancel()
        turn.request = None
        kept = turn.size + TURN_OVERHEAD
        turn.account.give(turn.cost)
        turn.cost = 0
        if turn.key is None or turn.failure in PASSING or not turn.account.take(kept):
            self._forget(turn)
            return
        turn.cost = kept
        self._remembered[turn] = None
        turn.client.remembered[turn] = None
        self._remembered_bytes += kept
        turn.client.remembered_bytes += kept
        delay = max(turn.deadline + self._limits.remember_seconds - self._clock.now(), 0.0)
        turn.timer = self._clock.call_later(delay, lambda: self._forget(turn))
        self._make_room(turn.client)

    def _make_room(self, client: _Client) -> None:
        limits = self._limits
        while len(client.remembered) > limits.turns_remembered_per_client or (
            client.remembered_bytes > limits.turns_remembered_bytes_per_client and client.remembered
        ):
            self._forget(next(iter(client.remembered)))
        while len(self._remembered) > limits.turns_remembered or (
            self._remembered_bytes > limits.turns_remembered_bytes and self._remembered
        ):
            self._forget(next(iter(self._remembered)))

    def _forget(self, turn: _Work) -> None:
        if turn.timer is not None:
            turn.timer.cancel()
            turn.timer = None
        if turn in self._remembered:
            del self._remembered[turn]
            turn.client.remembered.pop(turn, None)
            self._remembered_bytes -= turn.cost
            turn.client.remembered_bytes -= turn.cost
        turn.account.give(turn.cost)
        turn.cost = 0
        self._unname(turn)
        self._drop_if_empty(turn.client)

    def _unname(self, turn: _Work) -> None:
        """From now on the same ask is a new turn."""
        if turn.key is not None and turn.client.turns.get(turn.key) is turn:
            del turn.client.turns[turn.key]
        turn.key = None

    def _drop_if_empty(self, client: _Client) -> None:
        if client.empty and self._clients.get(client.id) is client:
            del self._clients[client.id]


def _names(turn: _Work) -> dict[str, str]:
    """Say in the log which turn it is."""
    request_id = turn.request.request_id if turn.request else ""
    return {"agent": turn.agent.name, "client_id": turn.client.id, "request_id": request_id}
