# SPDX-License-Identifier: Apache-2.0
"""Keeps an outside broker's accounts as they are wished, in the background.

A Mosquitto writes its whole file for each command and does nothing else meanwhile. So one account is told at a time,
with pauses in which messages flow; who is to go goes first, and without a pause. A broker that is away loses nothing:
what it is to be told is kept as a set, no larger than the number of credentials, and when it is back everything is
compared.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, replace
from typing import TypeVar

import structlog

from thalovant_server.brokers.base import Broker, Secret
from thalovant_server.brokers.names import Namespace
from thalovant_server.brokers.provisioning_queue import Job, ProvisioningQueue
from thalovant_server.brokers.wished import (
    Step,
    Wish,
    Wishes,
    account_of,
    compare,
    server_wish,
    strangers,
    wish_of,
)
from thalovant_server.directory import Change, Directory
from thalovant_server.errors import AccountRefusedError, BrokerError, ThalovantServerError
from thalovant_server.wall_clock import now

Passwords = Callable[[int], Awaitable[str | None]]
"""The broker password of a credential, by its id; None when the credential is gone."""
Told = Callable[[int, str], None]
"""A credential's id, and ``ready`` or the sentence that says why its account could not be made."""

READY = "ready"
LONGEST_PAUSE = 1.0
AT_ONCE = 200  # credentials looked at in one turn of the loop

_T = TypeVar("_T")

log = structlog.get_logger("thalovant.broker")


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds to wait before a broker that is away is tried again: the first time, doubling, at most."""

    first: float = 0.25
    longest: float = 30.0


@dataclass(frozen=True, slots=True)
class State:
    """How it stands with the broker; counts are of this process.

    Args:
        is_away: whether it could not be told anything the last time.
        since: when that began, or the broker was found to be there, microseconds since 1970; None: not tried yet.
        fault: why it is away, a sentence; "" where it is not.
        queued: what it is still to be told.
        wished: accounts that it should have, the hubs' own among them.
        accounts: of those, the ones that it has.
        made, repaired, removed: accounts that were.
        refused: what it does not do, each an account or a role; tried again at each comparison.
        failures: how often it went away.
        findings: what is open there that is not closed, each the rest of a sentence about the broker.
    """

    is_away: bool = False
    since: int | None = None
    fault: str = ""
    queued: int = 0
    wished: int = 0
    accounts: int = 0
    made: int = 0
    repaired: int = 0
    removed: int = 0
    refused: int = 0
    failures: int = 0
    findings: tuple[str, ...] = ()


class Provisioner:
    """The one who tells a broker about the directory's credentials.

    It removes accounts that are not wished, those of another server on the same root among them: `look_out` sees that
    there is none (`Broker.read_retained` of `Namespace.presence`).

    Args:
        broker: to be told. `stop` closes it.
        directory: says who may connect.
        passwords: read when an account is made, and never kept.
        namespace: what is ours there.
        server_password: of the hubs' own account.
        check_seconds: between two comparisons.
        told: hears what came of an account; must not block.
        look_out: raises a `BrokerError` while the broker must not be told anything; asked before each comparison, which
            would have another server's accounts removed.
        patience: with a broker that is away.
    """

    def __init__(
        self,
        broker: Broker,
        directory: Directory,
        passwords: Passwords,
        namespace: Namespace,
        *,
        server_password: Secret,
        check_seconds: float,
        told: Told = lambda credential_id, outcome: None,
        look_out: Callable[[], Awaitable[None]] | None = None,
        patience: Patience = Patience(),
    ) -> None:
        self._broker = broker
        self._directory = directory
        self._passwords = passwords
        self._namespace = namespace
        self._server_password = server_password
        self._check_seconds = check_seconds
        self._told = told
        self._look_out = look_out
        self.on_there: Callable[[], None] = _nothing
        """Called when the broker is back."""
        self._patience = patience
        self._state = State()
        self._wishes = Wishes()
        self._wishes.put(server_wish(namespace))
        self._there: set[str] = set()  # roles of wishes that the broker has
        self._refused: dict[str, str] = {}  # role: why
        self._queue = ProvisioningQueue()
        self._under_way: Job | None = None
        self._touched: set[str | None] = set()  # users and roles that were told about since the listing began
        self._waiting: dict[str, set[asyncio.Future[bool]]] = {}  # by role
        self._news = asyncio.Event()
        self._hurry = asyncio.Event()  # somebody is to go
        self._asked = asyncio.Event()  # for a comparison
        self._reachable = asyncio.Event()
        self._turns: list[asyncio.Future[None]] = []  # who asked for a comparison
        self._delay = patience.first
        self._task: asyncio.Task[None] | None = None
        self._unsubscribe: Callable[[], None] = lambda: None

    # -- life

    def start(self) -> None:
        """Begin: on the running loop, when the directory is loaded."""
        self._unsubscribe = self._directory.subscribe(self._changed)
        for hub in self._directory.hubs():
            self._look_at_hub(hub.id)
        self._asked.set()
        self._task = asyncio.create_task(self._run(), name="provisioner")

    async def stop(self) -> None:
        """End: what was not told yet is found by the comparison at the next start."""
        self._unsubscribe()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        for turn in self._turns:
            turn.cancel()
        for role in list(self._waiting):
            self._forget(role)
        await self._broker.close()

    async def ensure_server_account(self) -> None:
        """Have the hubs' own account, with our password; whoever is connected with it may lose the connection.

        Raises:
            BrokerAwayError, BrokerRefusedError: it could not be made.
        """
        await self._broker.check()
        account = account_of(server_wish(self._namespace), self._namespace)
        await self._broker.ensure(account, self._server_password, resets_password=True)
        self._there.add(account.role)
        if self._task is not None:
            self._asked.set()  # the link was refused: a broker that forgot this account has forgotten the others, too

    async def withdraw_server_account(self) -> None:
        """Have the hubs' own account no longer: what was begun at a broker that will not do.

        Raises:
            BrokerAwayError, BrokerRefusedError: it may still be there.
        """
        wish = server_wish(self._namespace)
        self._there.discard(wish.role)
        await self._broker.remove(wish.user, wish.role)
        await self._broker.remove_role(wish.role)

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._compare_for_ever(), name="provisioner comparison")
            tasks.create_task(self._tell_for_ever(), name="provisioner queue")

    # -- questions

    @property
    def state(self) -> State:
        """How it stands."""
        return replace(
            self._state, queued=self.queued, wished=len(self._wishes), accounts=len(self._there),
            refused=len(self._refused),
        )  # fmt: skip

    @property
    def queued(self) -> int:
        """What the broker is still to be told, that under way included."""
        return len(self._queue) + (self._under_way is not None)

    async def has(self, credential_id: int, seconds: float) -> bool:
        """Tell whether the broker has this credential's account; wait so long for it."""
        wish = self._wishes.by_credential(credential_id)
        if wish is None or wish.role in self._there:
            return wish is not None
        if seconds <= 0:
            return False
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        waiting = self._waiting.setdefault(wish.role, set())
        waiting.add(future)
        try:
            return await asyncio.wait_for(future, seconds)
        except TimeoutError:
            return False
        finally:
            waiting.discard(future)

    def look(self) -> None:
        """Be told that the broker may have changed, or is back: a comparison is due."""
        self._asked.set()

    async def reconcile(self) -> None:
        """Ask for a comparison now; return when one that began after this has been made."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._turns.append(turn)
        self._asked.set()
        await turn

    # -- what changes

    def _changed(self, change: Change) -> None:
        if change.credential_id is not None:
            self._look_at(change.credential_id)
        else:
            self._look_at_hub(change.hub_id)

    def _look_at_hub(self, hub_id: str) -> None:
        for credential in self._directory.credentials_at(hub_id):
            self._look_at(credential.id)

    def _look_at(self, credential_id: int) -> None:
        """See whether a credential's account is wished now, and queue what follows from that."""
        before = self._wishes.by_credential(credential_id)
        wish = wish_of(self._directory, self._namespace, credential_id)
        if wish == before:
            return
        if before is not None:
            self._wishes.drop(before)
            self._forget(before.role)
            self._queue.remove(before.user, before.role)
            self._hurry.set()
        if wish is not None:
            self._wishes.put(wish)
            if self._task is not None:
                self._queue.make(wish.user, wish.role)
        self._news.set()

    def _forget(self, role: str) -> None:
        self._there.discard(role)
        self._refused.pop(role, None)
        for future in self._waiting.pop(role, ()):
            _settle(future, False)

    # -- telling

    async def _tell_for_ever(self) -> None:
        while True:
            await self._reachable.wait()
            job = self._queue.take()
            if job is None:
                self._news.clear()
                await self._news.wait()
            else:
                await self._tell_and_rest(job)

    async def _tell_and_rest(self, job: Job) -> None:
        loop = asyncio.get_running_loop()
        if not self._queue.has_removals:
            self._hurry.clear()
        began = loop.time()
        await self._tell_noting(job)
        if job.kind != "remove":
            await _within(self._hurry.wait(), min(loop.time() - began, LONGEST_PAUSE))

    async def _tell_noting(self, job: Job) -> None:
        self._under_way = job
        self._touched |= {job.user, job.role}
        try:
            await self._tell(job)
            self._refused.pop(job.role, None)
            self._delay = self._patience.first
        except AccountRefusedError as error:
            self._was_refused(job, error.sentence)
        except BrokerError as error:
            self._put_back(job)
            self._went_away(error)
        except ThalovantServerError as error:  # of the store; the next comparison finds the account missing
            log.warning("broker_password_unread", role=job.role, why=error.sentence)
        except Exception:  # a fault of ours must not keep the others out
            log.exception("broker_account_failed", role=job.role)
        finally:
            self._under_way = None

    async def _tell(self, job: Job) -> None:
        if job.user is None:
            await self._broker.remove_role(job.role)
        elif job.kind == "remove":
            await self._broker.remove(job.user, job.role)
            self._count("removed")
        else:
            await self._ensure(job)

    async def _ensure(self, job: Job) -> None:
        wish = self._wishes.by_role(job.role)
        password = None if wish is None else await self._password(wish)
        if wish is None or password is None:
            return
        is_server = wish.credential_id is None
        outcome = await self._broker.ensure(account_of(wish, self._namespace), password, resets_password=is_server)
        if outcome != "there":
            self._count("made" if job.kind == "make" else "repaired")
        if self._wishes.by_role(wish.role) is wish:  # still
            self._has(wish)

    async def _password(self, wish: Wish) -> Secret | None:
        if wish.credential_id is None:
            return self._server_password
        text = await self._passwords(wish.credential_id)
        return None if text is None else Secret(text)

    def _has(self, wish: Wish) -> None:
        """The broker has this account."""
        self._refused.pop(wish.role, None)
        if wish.role in self._there:
            return
        self._there.add(wish.role)
        for future in self._waiting.pop(wish.role, ()):
            _settle(future, True)
        self._tell_outcome(wish, READY)

    def _was_refused(self, job: Job, why: str) -> None:
        wish = self._wishes.by_role(job.role)
        if self._refused.get(job.role) == why:
            return
        self._refused[job.role] = why
        log.warning("broker_account_refused", role=job.role, kind=job.kind, why=why)
        if wish is not None and job.kind != "remove":
            for future in self._waiting.pop(wish.role, ()):
                _settle(future, False)
            self._tell_outcome(wish, why)

    def _tell_outcome(self, wish: Wish, outcome: str) -> None:
        if wish.credential_id is None:
            return
        try:
            self._told(wish.credential_id, outcome)
        except Exception:  # its fault must not keep an account from the others
            log.exception("broker_outcome_not_told")

    def _put_back(self, job: Job) -> None:
        """Take in again what was not done, unless something else is wished by now."""
        is_wished = self._wishes.by_role(job.role) is not None
        if is_wished == (job.kind in ("make", "repair")):
            self._queue.put_back(job)

    # -- comparing

    async def _compare_for_ever(self) -> None:
        while True:
            await self._until_due()
            try:
                await self._compare()
            except BrokerError as error:
                self._went_away(error)
            except Exception:  # a fault of ours must not end what keeps revoked clients out
                log.exception("broker_comparison_failed")

    async def _until_due(self) -> None:
        """Wait for the next comparison: the period, or a while when the broker is away; less when somebody asks."""
        if not self._state.is_away:
            await _within(self._asked.wait(), self._check_seconds)
        self._asked.clear()
        if self._state.is_away:
            await _within(self._asked.wait(), self._delay * random.uniform(0.5, 1.0))
            self._asked.clear()
            self._delay = min(self._delay * 2, self._patience.longest)

    async def _compare(self) -> None:
        turns, self._turns = self._turns, []
        try:
            await self._broker.check()
            if self._look_out is not None:
                await self._look_out()
            self._is_there()
            self._touched = set() if self._under_way is None else {self._under_way.user, self._under_way.role}
            listing = await self._broker.list()
            await self._queue_steps(compare(self._wishes, self._namespace, listing))
            self._note_findings(strangers(self._wishes, listing))
        except BaseException:
            self._turns = [*turns, *self._turns]
            raise
        for turn in turns:
            _settle(turn, None)
        if not self._queue:
            self._delay = self._patience.first

    async def _queue_steps(self, steps: Iterator[Step | Wish]) -> None:
        found: dict[str, int] = {}
        for count, step in enumerate(steps, 1):
            if step.user not in self._touched and step.role not in self._touched:
                kind = self._queue_step(step)
                if kind:
                    found[kind] = found.get(kind, 0) + 1
            if count % AT_ONCE == 0:
                await asyncio.sleep(0)
        self._news.set()
        if found:
            log.info("broker_differs", **found)

    def _queue_step(self, step: Step | Wish) -> str:
        """Queue it, if it is still wanted; return what it is called in the log."""
        wish = self._wishes.by_role(step.role)
        if isinstance(step, Wish):
            if wish is step:
                self._has(wish)
            return ""
        if step.kind in ("make", "mend") and wish is not None:
            self._there.discard(wish.role)
            if not self._queue.repair(wish.user, wish.role) or wish.role in self._refused:
                return ""  # is known: said already, when it was put there
        elif step.kind == "remove" and step.user is not None:
            self._queue.remove(step.user, step.role)
            self._hurry.set()
        elif step.kind == "orphan" and wish is None:
            self._queue.orphan(step.role)
        else:
            return ""
        return step.kind

    def _note_findings(self, names: list[str]) -> None:
        """Say what is open there, once for as long as it is."""
        given = (f"has a user {name} that is not ours and has a role of ours: take it away" for name in names)
        said = (*self._broker.findings, *given)
        for each in said:
            if each not in self._state.findings:
                log.warning("broker_finding", finding=each)
        self._state = replace(self._state, findings=said)

    # -- whether it is there

    def _is_there(self) -> None:
        if not self._reachable.is_set():
            log.info("broker_there")
            self._state = replace(self._state, is_away=False, since=now(), fault="")
            self._reachable.set()
            self.on_there()

    def _went_away(self, error: BrokerError) -> None:
        self._asked.set()
        self._reachable.clear()
        if self._state.fault == error.sentence:
            return
        log.warning("broker_away", code=error.code, why=error.sentence)
        since = self._state.since if self._state.is_away else now()
        failures = self._state.failures + (not self._state.is_away)
        self._state = replace(self._state, is_away=True, since=since, fault=error.sentence, failures=failures)

    def _count(self, name: str) -> None:
        self._state = replace(self._state, **{name: getattr(self._state, name) + 1})


async def _within(something: Awaitable[object], seconds: float) -> None:
    """Wait for something, but no longer than that."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(something, seconds)


def _settle(future: asyncio.Future[_T], value: _T) -> None:
    if not future.done():
        future.set_result(value)


def _nothing() -> None:
    pass
