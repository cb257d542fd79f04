# SPDX-License-Identifier: Apache-2.0
"""A loop whose time a test moves: nothing is due before, everything in its order, and sockets go on meanwhile."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

from thalovant_server.testing.held_time import HeldLoop


@pytest.fixture
def other() -> Iterator[HeldLoop]:
    """One that runs in a thread, as a server's does."""
    loop = HeldLoop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield loop
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def test_an_hour_passes_in_order_and_in_no_time(other: HeldLoop) -> None:
    due: list[str] = []

    async def main() -> float:
        begun = asyncio.get_running_loop().time()
        over = asyncio.Event()
        here = asyncio.get_running_loop()
        for seconds, name in ((3_600.0, "hour"), (60.0, "minute"), (60.5, "later")):
            other.call_soon_threadsafe(other.call_later, seconds, due.append, name)
        other.call_soon_threadsafe(other.call_later, 3_601.0, here.call_soon_threadsafe, over.set)
        await other.pass_until(over.wait(), step=20.0)
        return here.time() - begun

    before = other.time()
    assert asyncio.run(main()) < 60
    assert due == ["minute", "later", "hour"] and other.time() >= before + 3_601


def test_held_time_stands_still_and_runs_on_from_there() -> None:
    async def main() -> None:
        loop.hold()
        held, called = loop.time(), []
        loop.call_later(0.001, called.append, "early")
        loop.call_later(0.3, called.append, "late")
        await asyncio.to_thread(threading.Event().wait, 0.01)
        assert (loop.time(), called) == (held, [])
        await loop.step(0.25)
        assert (loop.time(), called) == (held + 0.25, ["early"])
        loop.release()
        await asyncio.sleep(0.06)
        assert called == ["early", "late"] and held + 0.3 <= loop.time()

    loop = HeldLoop()
    loop.run_until_complete(main())
    loop.close()


def test_what_is_waited_for_may_fail_and_time_runs_again(other: HeldLoop) -> None:
    async def fails() -> None:
        raise ValueError

    async def main() -> None:
        with pytest.raises(ValueError):
            await other.pass_until(fails())
        before = other.time()
        other.call_soon_threadsafe(other.call_later, 0.01, passed.set)
        assert await asyncio.to_thread(passed.wait, 10) and other.time() > before

    passed = threading.Event()
    asyncio.run(main())
