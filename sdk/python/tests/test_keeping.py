# SPDX-License-Identifier: Apache-2.0
"""When a link is dialled again, and when no more: with a scripted dialer, in a time that jumps instead of passing."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest
from jumping_time import JumpingLoop

from thalovant import keeping
from thalovant.diagnoses import diagnose, diagnosed
from thalovant.errors import (
    ThalovantClientKeyRejectedError,
    ThalovantConnectionError,
    ThalovantHubKeyChangedError,
    ThalovantHubRefusedError,
    ThalovantTimeoutError,
)
from thalovant.keeping import LinkKeeper


class FakeLink:
    def __init__(self) -> None:
        self.error: Exception | None = None
        self.opened_at = self.ready_at = None
        self.transport = SimpleNamespace(socket_opened_at=None)
        self.closed = 0

    async def close(self) -> None:
        self.closed += 1


class Dialer:
    """Ends each dial as the script says: an error is raised, a number is a pause in seconds, else there is a link."""

    phase = "connecting"
    roads = ("wss",)
    protocol = "wss"
    attempts = ()
    moved_because = None

    def __init__(self, *script: Any, then: Any = None) -> None:
        self.script, self.then = list(script), then
        self.times: list[float] = []
        self.links: list[FakeLink] = []

    def expect(self, answers: bool) -> None: ...

    def forgive(self) -> None: ...

    def next_probe(self) -> None: ...

    async def end(self) -> None: ...

    async def dial(self, on_message: Any, on_lost: Any, patience: float | None) -> Any:
        self.on_lost = on_lost
        self.times.append(asyncio.get_running_loop().time())
        outcome = self.script.pop(0) if self.script else self.then
        if isinstance(outcome, float):
            await asyncio.sleep(outcome)
        if isinstance(outcome, Exception):
            raise outcome
        self.links.append(FakeLink())
        return self.links[-1]

    async def meaning_of_loss(self, link: Any, error: Any) -> Any:
        return error

    def lose(self, error: Exception) -> None:
        """The newest link ends by itself."""
        self.links[-1].error = error
        self.on_lost(self.links[-1], error)

    def pauses(self) -> list[float]:
        return [round(later - earlier, 6) for earlier, later in zip(self.times, self.times[1:], strict=False)]


LOST = ThalovantConnectionError("The link dropped.")
AWAY = ThalovantConnectionError("Nobody listens.")
REFUSED = ThalovantHubRefusedError("No.")


@pytest.fixture
def jitter(monkeypatch: pytest.MonkeyPatch) -> list[tuple[float, float]]:
    """Pauses as they are, without chance; holds the bounds that were asked for."""
    asked: list[tuple[float, float]] = []

    def uniform(low: float, high: float) -> float:
        asked.append((low, high))
        return 1.0

    monkeypatch.setattr(keeping.random, "uniform", uniform)
    return asked


def play(dialer: Dialer, scene: Callable[[LinkKeeper], Awaitable[None]], *, auto_reconnect: bool = True) -> list[str]:
    """Run a scene with a keeper and end it; returns what was said about lost links."""
    said: list[str] = []

    async def main() -> None:
        keeper = LinkKeeper(
            dialer,  # type: ignore[arg-type]
            auto_reconnect=auto_reconnect,
            on_message=lambda link, message: None,
            on_lost=lambda link, reason: said.append(reason),
        )
        await scene(keeper)
        await keeper.end("over", for_good=True)
        assert [task for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []

    with asyncio.Runner(loop_factory=JumpingLoop) as runner:
        runner.run(main())
    assert said.pop() == "over"
    return said


async def until(condition: Callable[[], bool], seconds: float = 3600.0) -> None:
    """Let time jump until it is so; at most so much of it."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(1.0)


# Redialling


@pytest.mark.parametrize(("chance", "pause"), [(0.5, 2.5), (1.0, 5.0), (1.5, 7.5)])
def test_a_lost_link_is_dialled_again_after_about_five_seconds(
    monkeypatch: pytest.MonkeyPatch, chance: float, pause: float
) -> None:
    monkeypatch.setattr(keeping.random, "uniform", lambda low, high: chance)
    dialer = Dialer()

    async def scene(keeper: LinkKeeper) -> None:
        first = await keeper.dialled()
        dialer.lose(LOST)
        assert keeper.link is None
        await until(lambda: keeper.link is not None)
        assert keeper.link is not first and keeper.info.phase == "ready" and keeper.last_error is None
        assert dialer.links[0].closed == 1

    assert play(dialer, scene) == ["The link dropped."]
    assert dialer.pauses() == [pause]


def test_pauses_double_up_to_a_minute(jitter: list[tuple[float, float]]) -> None:
    dialer = Dialer(None, *[AWAY] * 6)

    async def scene(keeper: LinkKeeper) -> None:
        await keeper.dialled()
        dialer.lose(LOST)
        await until(lambda: len(dialer.links) == 2)

    play(dialer, scene)
    assert dialer.pauses() == [5.0, 10.0, 20.0, 40.0, 60.0, 60.0, 60.0]
    assert set(jitter) == {(0.5, 1.5)}


def test_after_a_link_that_stood_pauses_begin_anew(jitter: Any) -> None:
    dialer = Dialer(None, AWAY, AWAY, None, None)

    async def scene(keeper: LinkKeeper) -> None:
        await keeper.dialled()
        for number in (2, 3):
            dialer.lose(LOST)
            await until(lambda number=number: len(dialer.links) == number)  # type: ignore[misc]

    play(dialer, scene)
    pauses = dialer.pauses()
    assert pauses[:3] == [5.0, 10.0, 20.0] and 5.0 <= pauses[3] <= 6.0


def test_a_link_that_a_call_dialled_meanwhile_will_do(jitter: Any) -> None:
    dialer = Dialer()

    async def scene(keeper: LinkKeeper) -> None:
        await keeper.dialled()
        dialer.lose(LOST)
        await asyncio.sleep(1.0)
        link = await keeper.dialled()
        await asyncio.sleep(600.0)
        assert keeper.link is link

    play(dialer, scene)
    assert dialer.pauses() == [1.0]


def test_without_auto_reconnect_nothing_is_dialled_unasked() -> None:
    dialer = Dialer()

    async def scene(keeper: LinkKeeper) -> None:
        await keeper.dialled()
        dialer.lose(LOST)
        await keeper.gone.wait()
        await asyncio.sleep(3600.0)
        assert len(dialer.times) == 1
        await keeper.dialled()
        assert not keeper.gone.is_set()

    play(dialer, scene, auto_reconnect=False)


def test_ending_ends_the_redialling(jitter: Any) -> None:
    dialer = Dialer(None, then=AWAY)

    async def scene(keeper: LinkKeeper) -> None:
        await keeper.dialled()
        dialer.lose(LOST)
        await until(lambda: len(dialer.times) == 3)
        await keeper.end("The client was disconnected.", for_good=False)
        await asyncio.sleep(3600.0)
        assert len(dialer.times) == 3 and not keeper.gone.is_set()

    play(dialer, scene)


# Giving up


def test_ten_minutes_of_nothing_but_refusals_are_enough(jitter: Any) -> None:
    dialer = Dialer(None, then=REFUSED)

    async def scene(keeper: LinkKeeper) -> None:
        await keeper.dialled()
        dialer.lose(LOST)
        await asyncio.wait_for(keeper.gone.wait(), 3600.0)
        since = dialer.times[-1] - dialer.times[1]
        assert keeping.REFUSAL_PATIENCE <= since <= keeping.REFUSAL_PATIENCE + keeping.LONGEST_REDIAL
        assert keeper.phase == "error"
        dials = len(dialer.times)
        await asyncio.sleep(3600.0)
        with pytest.raises(ThalovantHubRefusedError):
            await keeper.dialled()
        assert len(dialer.times) == dials
        keeper.forgive()  # the user asks for it
        dialer.then = None
        await keeper.dialled()
        assert not keeper.gone.is_set()

    play(dialer, scene)


def refused(code: str) -> ThalovantHubRefusedError:
    return diagnosed(ThalovantHubRefusedError, diagnose(code, told="No.", client="kitchen"))


@pytest.mark.parametrize(
    "code",
    [
        *("broker_login_refused", "credential_refused", "credential_withdrawn", "wrong_password"),
        *("client_removed", "credential_rotated", "hub_removed"),
    ],
)
def test_a_credential_that_is_over_is_given_up_after_a_minute(jitter: Any, code: str) -> None:
    dialer = Dialer(None, then=refused(code))

    async def scene(keeper: LinkKeeper) -> None:
        await keeper.dialled()
        dialer.lose(LOST)
        await asyncio.wait_for(keeper.gone.wait(), 120.0)
        with pytest.raises(ThalovantHubRefusedError) as caught:
            await keeper.dialled()
        assert caught.value.diagnosis is not None and caught.value.diagnosis.code == code

    play(dialer, scene)
    assert dialer.pauses() == [5.0, 10.0, 20.0, 40.0]


def test_being_throttled_in_between_does_not_make_it_go_on(jitter: Any) -> None:
    throttled = diagnosed(ThalovantConnectionError, diagnose("throttled", told="Busy."))
    no = refused("credential_refused")
    dialer = Dialer(None, no, throttled, throttled, then=no)

    async def scene(keeper: LinkKeeper) -> None:
        await keeper.dialled()
        dialer.lose(LOST)
        await asyncio.wait_for(keeper.gone.wait(), 120.0)

    play(dialer, scene)
    assert len(dialer.times) == 5


@pytest.mark.parametrize("code", ["client_paused", "hub_off", "protocol_off"])
def test_what_its_owner_may_take_back_is_waited_for(jitter: Any, code: str) -> None:
    dialer = Dialer(None, *[refused(code)] * 60, then=None)

    async def scene(keeper: LinkKeeper) -> None:
        await keeper.dialled()
        dialer.lose(LOST)
        await until(lambda: keeper.link is not None, 7200.0)

    play(dialer, scene)
    assert set(dialer.pauses()[4:]) == {60.0}


def test_the_log_says_once_that_it_is_cut_off_and_that_it_is_back(
    jitter: Any, caplog: pytest.LogCaptureFixture
) -> None:
    dialer = Dialer(None, AWAY, AWAY)

    async def scene(keeper: LinkKeeper) -> None:
        await keeper.dialled()
        dialer.lose(LOST)
        await until(lambda: keeper.link is not None)
        dialer.then = refused("credential_refused")
        dialer.lose(diagnosed(ThalovantConnectionError, diagnose("server_busy", told="Away.")))
        await keeper.gone.wait()

    with caplog.at_level(logging.INFO, "thalovant.connection"):
        play(dialer, scene)
    told = [record.getMessage() for record in caplog.records if record.name == "thalovant.connection"]
    assert told[:3] == ["cut off: The link dropped; trying again", "connected again", "cut off: Away; trying again"]
    assert told[3].startswith("given up: No. The client was paused or removed") and len(told) == 4


def test_a_client_that_does_not_dial_by_itself_says_nothing(caplog: pytest.LogCaptureFixture) -> None:
    dialer = Dialer()

    async def scene(keeper: LinkKeeper) -> None:
        await keeper.dialled()
        dialer.lose(LOST)
        await keeper.gone.wait()

    with caplog.at_level(logging.INFO, "thalovant.connection"):
        play(dialer, scene, auto_reconnect=False)
    assert caplog.records == []


def test_a_hub_that_was_away_meanwhile_is_given_its_ten_minutes_anew(jitter: Any) -> None:
    dialer = Dialer(None, *[REFUSED] * 10, AWAY, then=REFUSED)

    async def scene(keeper: LinkKeeper) -> None:
        await keeper.dialled()
        dialer.lose(LOST)
        await asyncio.wait_for(keeper.gone.wait(), 7200.0)

    play(dialer, scene)
    after = dialer.times[12:]  # the first dial, ten refusals and the one that found nobody come before
    assert after[-1] - after[0] >= keeping.REFUSAL_PATIENCE
    assert dialer.times[10] - dialer.times[1] < keeping.REFUSAL_PATIENCE


def test_a_hub_that_is_away_is_dialled_for_ever(jitter: Any) -> None:
    dialer = Dialer(None, then=AWAY)

    async def scene(keeper: LinkKeeper) -> None:
        await keeper.dialled()
        dialer.lose(LOST)
        await asyncio.sleep(24 * 3600.0)
        assert not keeper.gone.is_set()
        assert keeper.last_error == str(AWAY)

    play(dialer, scene)
    assert len(dialer.times) > 24 * 60 - 10


@pytest.mark.parametrize(
    "error", [ThalovantHubKeyChangedError("Another hub."), ThalovantClientKeyRejectedError("Another key.")]
)
@pytest.mark.parametrize("when", ["lost", "dialled"])
def test_another_key_than_agreed_ends_it_at_once(jitter: Any, error: Any, when: str) -> None:
    dialer = Dialer(None, then=error)

    async def scene(keeper: LinkKeeper) -> None:
        await keeper.dialled()
        dialer.lose(error if when == "lost" else LOST)
        await asyncio.wait_for(keeper.gone.wait(), 10.0)
        await asyncio.sleep(3600.0)
        with pytest.raises(type(error)):
            await keeper.insist(None, None)

    play(dialer, scene)
    assert len(dialer.times) == (1 if when == "lost" else 2)


# Calls that need a link


def test_many_calls_share_one_dial() -> None:
    dialer = Dialer(3.0)

    async def scene(keeper: LinkKeeper) -> None:
        links = await asyncio.gather(*(keeper.dialled() for _ in range(20)))
        assert set(links) == {keeper.link}

    play(dialer, scene)
    assert len(dialer.times) == 1


def test_a_call_that_is_late_leaves_the_dial_to_others() -> None:
    dialer = Dialer(3.0)

    async def scene(keeper: LinkKeeper) -> None:
        now = asyncio.get_running_loop().time()
        other = asyncio.create_task(keeper.dialled())
        with pytest.raises(ThalovantTimeoutError):
            await keeper.dialled(now + 1.0)
        assert await other is keeper.link

    play(dialer, scene)
    assert len(dialer.times) == 1


def test_insisting_dials_until_the_deadline_with_growing_pauses(jitter: Any) -> None:
    dialer = Dialer(then=AWAY)

    async def scene(keeper: LinkKeeper) -> None:
        with pytest.raises(ThalovantConnectionError, match="Nobody"):
            await keeper.insist(asyncio.get_running_loop().time() + 10.0, None)

    play(dialer, scene)
    assert dialer.pauses() == [0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0, 2.0]


@pytest.mark.parametrize("attempts", [1, 2, 5])
def test_insisting_stops_after_its_attempts(jitter: Any, attempts: int) -> None:
    dialer = Dialer(then=AWAY)

    async def scene(keeper: LinkKeeper) -> None:
        with pytest.raises(ThalovantConnectionError):
            await keeper.insist(None, attempts)

    play(dialer, scene)
    assert len(dialer.times) == attempts


def test_a_refusal_is_not_insisted_against() -> None:
    dialer = Dialer(then=REFUSED)

    async def scene(keeper: LinkKeeper) -> None:
        with pytest.raises(ThalovantHubRefusedError):
            await keeper.insist(None, None)

    play(dialer, scene)
    assert len(dialer.times) == 1


@pytest.mark.parametrize("for_good", [True, False])
def test_ending_ends_calls_that_wait_for_a_dial(for_good: bool) -> None:
    dialer = Dialer(3600.0)

    async def scene(keeper: LinkKeeper) -> None:
        call = asyncio.create_task(keeper.insist(None, None))
        await asyncio.sleep(1.0)
        await keeper.end("The client ended it.", for_good=for_good)
        with pytest.raises(ThalovantConnectionError, match="closed" if for_good else "disconnected"):
            await call
        assert keeper.gone.is_set() is for_good

    play(dialer, scene)
