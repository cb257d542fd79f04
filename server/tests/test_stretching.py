# SPDX-License-Identifier: Apache-2.0
"""The stretch queue: one at a time, those who wait first, bounded, and it survives a failure."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from thalovant_server.errors import Overloaded
from thalovant_server.stretching import StretchQueue


class Gate:
    """A computation that starts when asked and goes on when it is let."""

    def __init__(self) -> None:
        self.started: list[int] = []
        self.at_once = 0
        self.most_at_once = 0
        self.begun = asyncio.Semaphore(0)
        self.open = asyncio.Semaphore(0)

    async def compute(self, credential_id: int) -> bytes:
        self.started.append(credential_id)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        self.begun.release()
        try:
            await self.open.acquire()
        finally:
            self.at_once -= 1
        if credential_id < 0:
            raise LookupError(credential_id)
        return bytes([credential_id])


def run(scenario: Callable[[Gate, StretchQueue], Coroutine[Any, Any, None]], most_waiting: int = 100) -> None:
    async def main() -> None:
        gate = Gate()
        queue = StretchQueue(gate.compute, most_waiting=most_waiting)
        queue.start()
        await scenario(gate, queue)
        await queue.stop()

    asyncio.run(main())


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def test_who_waits_goes_before_those_nobody_waits_for() -> None:
    async def scenario(gate: Gate, queue: StretchQueue) -> None:
        for number in (1, 2, 3):
            queue.later(number)
        await gate.begun.acquire()
        waiting = asyncio.create_task(queue.now(3))
        await settle()
        for _ in range(3):
            gate.open.release()
        assert await waiting == b"\x03"
        for _ in range(2):
            await gate.begun.acquire()
        assert gate.started == [1, 3, 2]
        assert gate.most_at_once == 1

    run(scenario)


def test_many_who_wait_for_one_compute_it_once() -> None:
    async def scenario(gate: Gate, queue: StretchQueue) -> None:
        queue.later(7)
        await gate.begun.acquire()
        tasks = [asyncio.create_task(queue.now(7)) for _ in range(10)]
        await settle()
        gate.open.release()
        assert await asyncio.gather(*tasks) == [b"\x07"] * 10
        assert gate.started == [7]

    run(scenario)


def test_too_many_who_wait_are_told_to_come_back() -> None:
    async def scenario(gate: Gate, queue: StretchQueue) -> None:
        tasks = [asyncio.create_task(queue.now(number)) for number in (1, 2)]
        await settle()
        with pytest.raises(Overloaded) as caught:
            await queue.now(3)
        assert caught.value.retry_after_seconds > 0
        for _ in range(2):
            gate.open.release()
        await asyncio.gather(*tasks)
        gate.open.release()
        assert await queue.now(3) == b"\x03"

    run(scenario, most_waiting=2)


def test_one_who_leaves_makes_room_and_spoils_nothing() -> None:
    async def scenario(gate: Gate, queue: StretchQueue) -> None:
        leaving, staying = (asyncio.create_task(queue.now(1)) for _ in range(2))
        await gate.begun.acquire()
        leaving.cancel()
        await asyncio.gather(leaving, return_exceptions=True)
        third = asyncio.create_task(queue.now(1))
        await settle()
        gate.open.release()
        assert await asyncio.gather(staying, third) == [b"\x01", b"\x01"]

    run(scenario, most_waiting=2)


def test_a_failure_reaches_who_waits_and_the_worker_goes_on() -> None:
    async def scenario(gate: Gate, queue: StretchQueue) -> None:
        for _ in range(3):
            gate.open.release()
        queue.later(-1)
        with pytest.raises(LookupError):
            await queue.now(-2)
        assert await queue.now(5) == b"\x05"

    run(scenario)


def test_forgotten_work_is_not_done() -> None:
    async def scenario(gate: Gate, queue: StretchQueue) -> None:
        queue.later(1)
        queue.later(2)
        queue.forget(1)
        gate.open.release()
        await gate.begun.acquire()
        assert gate.started == [2]

    run(scenario)


def test_stopping_tells_everybody_who_waits() -> None:
    async def main() -> None:
        gate = Gate()
        queue = StretchQueue(gate.compute)
        queue.start()
        tasks = [asyncio.create_task(queue.now(number)) for number in (1, 2)]
        await gate.begun.acquire()
        await queue.stop()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(each, Overloaded) for each in outcomes)
        with pytest.raises(Overloaded):
            await queue.now(3)

    asyncio.run(main())
