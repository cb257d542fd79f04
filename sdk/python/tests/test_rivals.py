# SPDX-License-Identifier: Apache-2.0
"""Two programs with one identity at a broker that keeps one connection of each: they fight slowly, and say why."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jumping_time import JumpingLoop

from thalovant import rivals
from thalovant.errors import ThalovantConnectionError, ThalovantTimeoutError
from thalovant.keeping import LinkKeeper
from thalovant.rivals import LONGEST_PAUSE, STEADY, HungUpError, Rivals

HUNG_UP = "The broker closed the connection."


@given(st.lists(st.floats(0, 300)))
def test_what_is_counted(lives: list[float]) -> None:
    counted, in_a_row = Rivals(), 0
    for stood in lives:
        counted.cut(stood)
        in_a_row = in_a_row + 1 if stood < STEADY else 1
        assert counted.suspected is (in_a_row >= 3)
        assert counted.pause == (min(5.0 * 2 ** (in_a_row - 1), LONGEST_PAUSE) if in_a_row > 1 else 0.0)


def test_nothing_is_held_against_a_client_that_was_never_cut() -> None:
    assert (Rivals().pause, Rivals().suspected) == (0.0, False)


def test_a_rival_that_pauses_longest_is_no_sign_of_peace() -> None:
    assert STEADY > LONGEST_PAUSE * 1.5


def test_the_error_says_what_to_do() -> None:
    counted = Rivals()
    for _ in range(4):
        counted.cut(1.0)
    error = counted.error(HUNG_UP)
    assert isinstance(error, ThalovantConnectionError) and error.code == "connection_failed"
    assert error.diagnosis is not None and error.diagnosis.code == "identity_in_use"
    assert str(error).startswith(f"{HUNG_UP} So it did 4 times in a row")
    assert "another program uses the same identity" in str(error) and "identity create HUB" in str(error)


class Broker:
    """Keeps the newest connection of a user, and ends the one before without a word."""

    def __init__(self) -> None:
        self.now: tuple[Any, Any] | None = None
        self.times: list[float] = []

    def let_in(self, link: Any, on_lost: Any) -> None:
        before, self.now = self.now, (link, on_lost)
        self.times.append(asyncio.get_running_loop().time())
        if before is not None:
            before[0].error = HungUpError(HUNG_UP)
            before[1](before[0], before[0].error)


class Dialer:
    """A program's way to it."""

    phase = "connecting"
    attempts = ()
    moved_because = None
    protocol = "mqtt"

    def __init__(self, broker: Broker, roads: tuple[str, ...] = ("mqtt",)) -> None:
        self.broker, self.roads = broker, roads
        self.expect = self.forgive = self.next_probe = lambda *_: None

    async def end(self) -> None: ...

    async def dial(self, on_message: Any, on_lost: Any, patience: float | None) -> Any:
        await asyncio.sleep(0.05)
        link = SimpleNamespace(error=None, opened_at=None, ready_at=None, close=self.end)
        link.transport = SimpleNamespace(socket_opened_at=None)
        self.broker.let_in(link, on_lost)
        return link

    async def meaning_of_loss(self, link: Any, error: Any) -> Any:
        return error


def play(scene: Callable[..., Awaitable[None]], **options: Any) -> tuple[Broker, list[str]]:
    """Two programs at one broker; what was said about what each had asked."""
    broker, said = Broker(), []

    async def main() -> None:
        keepers = [
            LinkKeeper(
                Dialer(broker, **options),  # type: ignore[arg-type]
                auto_reconnect=True,
                on_message=lambda link, message: None,
                on_lost=lambda link, reason: said.append(reason),
            )
            for _ in range(2)
        ]
        await scene(*keepers)
        for keeper in keepers:
            await keeper.end("over", for_good=True)

    random.seed(5)
    with asyncio.Runner(loop_factory=JumpingLoop) as runner:
        runner.run(main())
    return broker, said


def test_they_take_turns_of_a_minute_and_both_say_why(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "thalovant.connection")

    async def an_hour(first: LinkKeeper, second: LinkKeeper) -> None:
        await first.dialled()
        await second.dialled()
        await asyncio.sleep(3600)
        for keeper in (first, second):
            assert keeper.link is not None or "another program" in (keeper.last_error or "")

    broker, said = play(an_hour)
    assert 40 <= len(broker.times) <= 100, "for ever at full speed it would be 700"
    assert all(later - earlier > 15 for earlier, later in zip(broker.times[8:], broker.times[9:], strict=False))
    told = [reason for reason in said if "another program uses the same identity" in reason]
    assert len(told) > len(said) / 2
    assert sum("another program" in record.message for record in caplog.records) == len(told)


def test_calls_do_not_fight_faster() -> None:
    """Each program asks all the time, and what was cut off is asked again at once."""

    async def ten_minutes(*keepers: LinkKeeper) -> None:
        async def asks(keeper: LinkKeeper) -> None:
            loop = asyncio.get_running_loop()
            while loop.time() < 1600:
                try:
                    await keeper.insist(loop.time() + 12, None)
                    await asyncio.sleep(0.1)
                except (ThalovantConnectionError, ThalovantTimeoutError) as error:
                    failures.append(error)
                    await asyncio.sleep(0.1)

        await asyncio.gather(*map(asks, keepers))

    failures: list[Exception] = []
    broker, _ = play(ten_minutes)
    assert len(broker.times) < 60, "it would be a thousand"
    assert failures and all("another program uses the same identity" in str(error) for error in failures)


def test_a_call_that_can_wait_gets_its_turn() -> None:
    async def scene(first: LinkKeeper, second: LinkKeeper) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(3):
            await first.dialled()
            await second.dialled()
        began = loop.time()
        assert (await first.dialled(began + 90)) is first.link
        assert loop.time() - began > 5

    play(scene)


def test_once_the_other_has_ended_all_is_forgotten() -> None:
    async def scene(first: LinkKeeper, second: LinkKeeper) -> None:
        for _ in range(4):
            await first.dialled()
            await second.dialled()
        await second.end("over", for_good=True)
        await first.dialled()
        await asyncio.sleep(STEADY + 1)
        assert first.link is not None
        first._lost(first.link, HungUpError(HUNG_UP))
        await asyncio.sleep(8)
        assert first.link is not None, "the first time again: dialled after the usual pause"

    play(scene)


def test_a_client_with_another_road_does_not_wait() -> None:
    async def scene(first: LinkKeeper, second: LinkKeeper) -> None:
        for _ in range(5):
            for keeper in (first, second):
                began = asyncio.get_running_loop().time()
                await keeper.dialled()
                assert asyncio.get_running_loop().time() - began < 1

    _, said = play(scene, roads=("mqtt", "wss"))
    assert not any("another program" in reason for reason in said)


def test_the_bounds_are_those_of_the_redial() -> None:
    from thalovant import keeping

    assert (rivals.FIRST_PAUSE, rivals.LONGEST_PAUSE) == (keeping.FIRST_REDIAL, keeping.LONGEST_REDIAL)
