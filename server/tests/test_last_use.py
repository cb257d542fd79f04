# SPDX-License-Identifier: Apache-2.0
"""Uses are told at once, written in batches and at the end, and not lost while the database fails."""

from __future__ import annotations

import asyncio
from typing import Any

from thalovant_server.errors import StorageError
from thalovant_server.last_use import AT_ONCE, LastUses
from thalovant_server.store import client_credentials
from thalovant_server.store.client_credentials import CredentialRecord, Use
from thalovant_server.testing.control import World


async def rows(world: World, client: dict[str, Any]) -> list[CredentialRecord]:
    async with world.services.database.read() as connection:
        return await client_credentials.of_client(connection, client["id"], world.clock.micros())


def test_memory_counts_before_the_row_and_the_task_writes_by_itself(in_world: Any) -> None:
    async def scenario(world: World) -> None:
        client = await world.make_client()
        (row,) = await rows(world, client)
        uses = LastUses(world.services.database, world.clock.micros, write_seconds=0)
        assert uses.last(row) is None
        uses.note(row.id, "wss", "192.0.2.1")
        uses.note(row.id, "mqtt", "192.0.2.2")
        newest = Use(world.clock.micros(), "mqtt", "192.0.2.2")
        assert uses.last(row) == newest
        uses.start()
        async with asyncio.timeout(10):
            while (await rows(world, client))[0].last_used_at is None:
                await asyncio.sleep(0)
        (row,) = await rows(world, client)
        assert uses.last(row) == newest
        uses.note(row.id, "https", "192.0.2.3")
        assert uses.last(row) == Use(world.clock.micros(), "https", "192.0.2.3")
        await uses.stop()
        assert (await rows(world, client))[0].last_used_carrier == "https"

    in_world(scenario)


def test_what_the_database_does_not_take_waits_for_the_next_time(in_world: Any, monkeypatch: Any) -> None:
    async def scenario(world: World) -> None:
        client = await world.make_client()
        (row,) = await rows(world, client)
        uses = LastUses(world.services.database, world.clock.micros)

        async def full(_work: object) -> None:
            uses.note(row.id, "mqtt", "meanwhile")
            raise StorageError("full")

        uses.note(row.id, "wss", "192.0.2.1")
        with monkeypatch.context() as patch:
            patch.setattr(world.services.database, "write", full)
            await uses.write()
        assert (await rows(world, client))[0].last_used_at is None
        await uses.write()
        assert (await rows(world, client))[0].last_used_address == "meanwhile"

    in_world(scenario)


def test_many_are_written_and_credentials_that_are_gone_are_passed_over(in_world: Any) -> None:
    async def scenario(world: World) -> None:
        made = [await world.make_client(name=f"lamp {number}") for number in range(3)]
        live = [(await rows(world, client))[0].id for client in made]
        uses = LastUses(world.services.database, world.clock.micros)
        for credential_id in [*range(10_000, 10_000 + AT_ONCE), *live]:
            uses.note(credential_id, "wss", "192.0.2.1")
        await uses.write()
        assert [(await rows(world, client))[0].last_used_carrier for client in made] == ["wss"] * 3

    in_world(scenario)
