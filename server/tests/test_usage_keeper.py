# SPDX-License-Identifier: Apache-2.0
"""The asks of the day in a real database: kept across starts, in batches, and not lost when a write fails."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from sqlalchemy import select

from thalovant_server import usage_keeper
from thalovant_server.daily_usage import DAY, DailyUsage
from thalovant_server.errors import StorageError
from thalovant_server.store.tables import quota_usage
from thalovant_server.testing.control import World
from thalovant_server.usage_keeper import UsageKeeper

Run = Callable[[Callable[[World], Awaitable[None]]], None]


async def rows(world: World) -> dict[str, tuple[int, int]]:
    async with world.services.database.read() as connection:
        found = (await connection.execute(select(quota_usage))).all()
    return {row.client_id: (row.day, row.used) for row in found}


async def again(world: World) -> DailyUsage:
    """What a new start reads."""
    usage = DailyUsage(world.clock.micros)
    await UsageKeeper(usage, world.services.database).load()
    return usage


def test_the_counts_are_there_after_a_start_and_gone_after_midnight(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        client = (await world.make_client())["id"]
        usage = world.services.usage
        keeper = UsageKeeper(usage, world.services.database)
        for used in (2, 3):
            for _ in range(used - usage.used(client)):
                usage.count(client)
            await keeper.write()
            assert await rows(world) == {client: (usage.day, used)}
        assert (await again(world)).used(client) == 3
        world.clock.seconds += 86_400
        assert (await again(world)).used(client) == 0
        usage.count(client)
        await keeper.write()
        assert await rows(world) == {client: (int(world.clock.micros() // DAY), 1)}

    in_world(scenario)


def test_the_counts_of_clients_that_are_gone_hold_up_nobody(in_world: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usage_keeper, "BATCH", 2)

    async def scenario(world: World) -> None:
        usage = world.services.usage
        living = [(await world.make_client(name=f"c{number}"))["id"] for number in range(3)]
        for client in ["gone-1", *living, "gone-2"]:
            usage.count(client)
        await UsageKeeper(usage, world.services.database).write()
        assert await rows(world) == dict.fromkeys(living, (usage.day, 1))
        await world.call("DELETE", f"/v1/clients/{living[0]}", if_match='W/"1"')
        assert set(await rows(world)) == set(living[1:])

    in_world(scenario)


def test_what_could_not_be_written_is_written_later(in_world: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk's fault is made up: the write raises what a full disk raises."""

    async def scenario(world: World) -> None:
        client = (await world.make_client())["id"]
        usage, database = world.services.usage, world.services.database
        keeper = UsageKeeper(usage, database)
        usage.count(client)

        async def full(work: Any) -> None:
            raise StorageError("the disk is full")

        with monkeypatch.context() as patch:
            patch.setattr(database, "write", full)
            await keeper.write()
        assert usage.is_unwritten
        usage.count(client)
        await keeper.write()
        assert await rows(world) == {client: (usage.day, 2)}

    in_world(scenario)


def test_it_writes_by_itself(in_world: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usage_keeper, "WRITE_SECONDS", 0.001)

    async def scenario(world: World) -> None:
        client = (await world.make_client())["id"]
        written = asyncio.Event()
        world.services.usage.count(client)
        keeper = UsageKeeper(world.services.usage, world.services.database)
        write = keeper.write

        async def noticed() -> None:
            await write()
            written.set()

        monkeypatch.setattr(keeper, "write", noticed)
        task = asyncio.create_task(keeper.run())
        async with asyncio.timeout(10):
            await written.wait()
        task.cancel()
        await asyncio.wait([task])
        assert await rows(world) == {client: (world.services.usage.day, 1)}

    in_world(scenario)
