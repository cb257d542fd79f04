# SPDX-License-Identifier: Apache-2.0
"""The login throttle, its clock moved by hand: slow for guessers, never closed for good, bounded."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalovant_server.attempt_buckets import Rate
from thalovant_server.control.throttle import LoginThrottle
from thalovant_server.errors import ApiError, Overloaded


class Ticking:
    """A throttle of three tries, one more each ten seconds, for addresses; five for accounts."""

    def __init__(self, most: int = 100) -> None:
        self.now = 0.0
        self.throttle = LoginThrottle(
            lambda: self.now, per_address=Rate(3, 10.0), per_account=Rate(5, 10.0), most_remembered=most
        )

    def slowed(self, address: str, email: str) -> bool:
        return self.throttle.admit(address, email).slow

    def signs_in(self, address: str, email: str) -> None:
        self.throttle.succeeded(self.throttle.admit(address, email))

    def passes(self, address: str, email: str) -> bool:
        try:
            self.throttle.admit(address, email)
        except ApiError as error:
            assert error.status == 429
            assert error.retry_after_seconds
            return False
        return True


def test_an_address_has_so_many_tries_and_then_waits() -> None:
    world = Ticking()
    assert [world.passes("192.0.2.1", f"{n}@x") for n in range(4)] == [True, True, True, False]
    world.now = 10.0
    assert [world.passes("192.0.2.1", "a@x") for _ in range(2)] == [True, False]


def test_guessing_at_an_account_from_many_addresses_is_slowed_down_and_locks_nobody_out() -> None:
    world = Ticking()
    assert [world.slowed(f"192.0.2.{n}", "ada@x") for n in range(200)] == [False] * 5 + [True] * 195
    assert not world.slowed("198.51.100.99", "bob@x")
    world.now = 10.0  # however many have tried
    assert [world.slowed(f"198.51.100.{n}", "ada@x") for n in range(2)] == [False, True]


@pytest.mark.parametrize("address", ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"])
def test_the_machine_itself_is_slowed_down_and_never_refused(address: str) -> None:
    world = Ticking()
    assert [world.slowed(address, f"{n}@x") for n in range(30)] == [False] * 3 + [True] * 27
    world.signs_in(address, "ada@x")
    assert [world.slowed(address, "ada@x") for n in range(5)] == [False] * 3 + [True] * 2


def test_only_so_many_wait_at_once() -> None:
    async def main() -> None:
        gate, asked = asyncio.Event(), []

        async def pause(seconds: float) -> None:
            asked.append(seconds)
            await gate.wait()

        throttle = LoginThrottle(lambda: 0.0, most_waiting=2, pause=pause)
        attempt = throttle.admit("192.0.2.1", "ada@x")
        async with asyncio.TaskGroup() as group:
            for _ in range(2):
                group.create_task(throttle.slow_down(attempt))
            while len(asked) < 2:
                await asyncio.sleep(0)
            with pytest.raises(Overloaded) as caught:
                await throttle.slow_down(attempt)
            assert caught.value.retry_after_seconds > 0
            gate.set()
        await throttle.slow_down(attempt)
        assert asked == [1.0] * 3

    asyncio.run(main())


def test_who_leaves_while_waiting_makes_room() -> None:
    async def main() -> None:
        throttle = LoginThrottle(lambda: 0.0, most_waiting=1, pause=lambda _: asyncio.Event().wait())
        attempt = throttle.admit("192.0.2.1", "ada@x")
        for _ in range(3):
            task = asyncio.create_task(throttle.slow_down(attempt))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(main())


def test_the_owner_comes_in_from_where_it_worked_before() -> None:
    world = Ticking()
    world.signs_in("192.0.2.1", "ada@x")
    while world.passes("198.51.100.1", "ada@x") or world.passes("198.51.100.2", "ada@x"):
        pass
    assert world.slowed("198.51.100.3", "ada@x")
    assert not world.slowed("192.0.2.1", "ada@x")


def test_the_owners_address_is_slowed_down_and_never_refused() -> None:
    world = Ticking()
    world.signs_in("192.0.2.1", "ada@x")
    assert [world.slowed("192.0.2.1", "ada@x") for _ in range(5)] == [False] * 3 + [True] * 2
    assert not world.slowed("192.0.2.1", "bob@x")


def test_an_owner_whose_neighbours_guess_gets_in_and_they_get_one_guess_a_second() -> None:
    async def main() -> None:
        turns, now, judged = asyncio.Queue[asyncio.Event](), [0.0], Counter[str]()

        async def pause(seconds: float) -> None:
            await turns.put(over := asyncio.Event())
            await over.wait()

        throttle = LoginThrottle(lambda: now[0], per_address=Rate(3, 10.0), pause=pause)
        throttle.succeeded(throttle.admit("192.0.2.1", "ada@x"))

        async def tries(who: str) -> str:
            attempt = throttle.admit("192.0.2.1", "ada@x")
            try:
                if attempt.slow:
                    await throttle.slow_down(attempt)
            except ApiError:
                return "refused"
            judged[who] += 1
            return "judged"

        guesses = [asyncio.create_task(tries("neighbour")) for _ in range(20)]
        mine = asyncio.create_task(tries("owner"))
        owners = 1
        while judged["owner"] < 3:  # each round is a second, and makes one place for whoever comes first
            now[0] += 1.0
            (await turns.get()).set()
            while turns.empty():
                await asyncio.sleep(0)
            if mine.done():
                mine = asyncio.create_task(tries("owner"))
                owners += 1
            guesses += [asyncio.create_task(tries("neighbour")) for _ in range(20)]
            await asyncio.sleep(0)
        assert owners <= 10 and now[0] <= 20
        assert judged.total() <= 3 + now[0] * (1 + 1 / 10) + 1
        for task in [mine, *guesses]:
            task.cancel()
        await asyncio.wait([mine, *guesses])
        assert not throttle._lines

    asyncio.run(main())


def test_right_passwords_cost_nothing() -> None:
    world = Ticking()
    for _ in range(50):
        world.signs_in("192.0.2.1", "ada@x")


def test_an_attempt_that_was_not_judged_costs_nothing() -> None:
    world = Ticking()
    for _ in range(50):
        world.throttle.forgive(world.throttle.admit("192.0.2.1", "ada@x"))
    assert [world.slowed(f"192.0.2.{n}", "ada@x") for n in range(6)] == [False] * 5 + [True]


@pytest.mark.parametrize("ends", ["forgive", "succeeded"])
def test_an_empty_bucket_is_not_paid_what_it_did_not_give(ends: str) -> None:
    world = Ticking()
    for number in range(3):
        world.slowed("127.0.0.1", f"{number}@x")
    for _ in range(4):  # each waits: an attempt that took nothing must not buy the next one a way round the wait
        attempt = world.throttle.admit("127.0.0.1", "mine@x")
        getattr(world.throttle, ends)(attempt)
        assert world.slowed("127.0.0.1", "ada@x")


def test_an_owner_who_was_not_known_at_first_gets_back_what_was_taken_then() -> None:
    world = Ticking()
    attempts = [world.throttle.admit("192.0.2.1", "ada@x") for _ in range(3)]
    for attempt in attempts:  # from the second on, the address has a bucket of its own
        world.throttle.succeeded(attempt)
    assert [world.passes("192.0.2.1", "bob@x") for _ in range(4)] == [True, True, True, False]


def test_one_ipv6_customer_is_one_source() -> None:
    world = Ticking()
    tries = [world.passes(f"2001:db8:1:2::{n}", f"{n}@x") for n in range(4)]
    assert tries == [True, True, True, False]
    assert world.passes("2001:db8:1:3::1", "other@x")
    assert world.passes("not an address", "other@x")


def test_a_mapped_address_is_the_same_source() -> None:
    world = Ticking()
    for number in range(3):
        assert world.passes("::ffff:192.0.2.1", f"{number}@x")
    assert not world.passes("192.0.2.1", "3@x")


def test_memory_is_bounded() -> None:
    world = Ticking(most=10)
    for number in range(1000):
        world.passes(f"192.0.{number % 250}.{number // 250}", f"{number}@x")
    throttle = world.throttle
    assert all(len(each) <= 10 for each in (throttle._addresses, throttle._accounts, throttle._owners))


@given(st.lists(st.tuples(st.floats(0, 100), st.integers(0, 2), st.booleans()), max_size=60))
def test_whoever_waits_as_told_gets_in(steps: list[tuple[float, int, bool]]) -> None:
    world = Ticking()
    for passed, who, right in steps:
        world.now += passed
        address, email = f"192.0.2.{who}", f"{who}@x"
        try:
            attempt = world.throttle.admit(address, email)
        except ApiError as error:
            world.now += error.retry_after_seconds or 0
            attempt = world.throttle.admit(address, email)
        if right:
            world.throttle.succeeded(attempt)


def test_the_refusal_names_no_account() -> None:
    world = Ticking()
    for _ in range(3):
        world.passes("192.0.2.1", "ada@x")
    with pytest.raises(ApiError) as caught:
        world.throttle.admit("192.0.2.1", "ada@x")
    assert "ada" not in str(caught.value)
