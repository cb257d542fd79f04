# SPDX-License-Identifier: Apache-2.0
"""Everything that was started ends, in reverse order, whatever one of them does."""

from __future__ import annotations

import asyncio
import os
import signal

import uvloop

from thalovant_server.shutdown import Drain, Shutdown


def test_parts_end_in_reverse_order_and_a_failing_one_keeps_no_other() -> None:
    ended: list[str] = []

    async def main() -> None:
        shutdown = Shutdown(5.0)

        async def end(name: str) -> None:
            ended.append(name)
            if name == "second":
                raise RuntimeError("cannot")

        for name in ("first", "second", "third"):
            shutdown.at_end(name, lambda _, name=name: end(name))  # type: ignore[misc]
        shutdown.request()
        await shutdown.wait()
        await shutdown.run()
        await shutdown.run()

    asyncio.run(main())
    assert ended == ["third", "second", "first"]


def test_what_drains_is_told_how_long_and_two_early_wishes_leave_no_time() -> None:
    async def main() -> list[tuple[float, bool]]:
        given: list[tuple[float, bool]] = []

        async def end(drain: Drain) -> None:
            given.append((drain.seconds, drain.hurry.is_set()))

        for wishes in (1, 2):
            shutdown = Shutdown(5.0)
            shutdown.at_end("part", end)
            for _ in range(wishes):
                shutdown.request()
            await shutdown.run()
        return given

    (first, hurried), second = asyncio.run(main())
    assert 4.0 < first <= 5.0
    assert not hurried
    assert second == (0.0, True)


def test_a_second_wish_cuts_the_draining_short_that_is_under_way() -> None:
    async def main() -> list[str]:
        said: list[str] = []
        draining = asyncio.Event()
        shutdown = Shutdown(3600.0)

        async def first(drain: Drain) -> None:
            said.append(f"first with {drain.seconds:g}")

        async def last(drain: Drain) -> None:
            draining.set()
            await asyncio.wait_for(drain.hurry.wait(), drain.seconds)
            said.append("last to its end")

        shutdown.at_end("first", first)
        shutdown.at_end("last", last)
        shutdown.request()
        running = asyncio.create_task(shutdown.run())
        await draining.wait()
        shutdown.request()
        await asyncio.wait_for(running, 5)
        return said

    assert asyncio.run(main()) == ["last to its end", "first with 0"]


def test_a_signal_is_a_wish() -> None:
    async def main() -> None:
        shutdown = Shutdown(1.0)
        shutdown.listen_to_signals()
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.wait_for(shutdown.wait(), 5)

    uvloop.run(main())
