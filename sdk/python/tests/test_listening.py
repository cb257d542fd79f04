# SPDX-License-Identifier: Apache-2.0
"""The buffer of a listener: order, room, its end, and its time."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thalovant.errors import ThalovantRuntimeError
from thalovant.events import ThalovantEvent
from thalovant.listening import OVERFLOW, Listening


def event(number: int) -> ThalovantEvent:
    return ThalovantEvent("count", {"n": number}, {}, None)


async def rest(listening: Listening) -> tuple[list[int], Exception | None]:
    found = []
    try:
        while (one := await listening.next()) is not None:
            found.append(one.data["n"])
    except Exception as error:
        return found, error
    return found, None


@settings(deadline=None)
@given(st.lists(st.one_of(st.just("take"), st.integers(0, 9)), max_size=60), st.integers(1, 5))
def test_nothing_is_lost_in_silence(steps: list[str | int], most: int) -> None:
    """Every event is handed out in order, or an error says that one was not."""

    async def main() -> None:
        listening = Listening("count", None, most)
        put, got = [], []
        for step in steps:
            if step != "take":
                put.append(int(step))
                listening.put(event(int(step)))
            elif len(got) < len(put) and not listening._ended:
                one = await listening.next()
                assert one is not None
                got.append(one.data["n"])
        listening.end()
        found, error = await rest(listening)
        got += found
        assert got == put[: len(got)]
        if error is None:
            assert got == put
        else:
            assert isinstance(error, ThalovantRuntimeError) and error.code == OVERFLOW
            assert len(found) == most

    asyncio.run(main())


def test_it_waits_for_what_comes_and_ends_once() -> None:
    async def main() -> None:
        listening = Listening("count", lambda one: one.data["n"] != 2, 8)
        waiting = asyncio.create_task(rest(listening))
        for number in (1, 2, 3):
            await asyncio.sleep(0)
            listening.put(event(number))
        listening.end(KeyError("why"))
        listening.end()
        listening.put(event(4))
        found, error = await waiting
        assert found == [1, 3]
        assert isinstance(error, KeyError)
        assert not listening.timed_out

    asyncio.run(main())


def test_at_its_time_it_ends_and_hands_out_the_rest() -> None:
    async def main() -> None:
        now = asyncio.get_running_loop().time
        assert await rest(Listening("count", None, 8, now() - 1)) == ([], None)
        busy = Listening("count", None, 8, now() + 0.05)
        busy.put(event(1))
        busy.put(event(2))
        while now() < busy._deadline_at:
            await asyncio.sleep(0.01)
        busy.put(event(3))
        assert await rest(busy) == ([1, 2], None)
        assert busy.timed_out
        waiting = Listening("count", None, 8, now() + 0.01)
        assert (await rest(waiting), waiting.timed_out) == (([], None), True)

    asyncio.run(main())


@pytest.mark.parametrize("most", [0, -1])
def test_without_room_there_is_none(most: int) -> None:
    with pytest.raises(ValueError, match="max_buffered_events"):
        Listening("count", None, most)
