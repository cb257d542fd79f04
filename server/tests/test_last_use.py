# SPDX-License-Identifier: Apache-2.0
"""Uses are told at once, written in batches and at the end, and not lost while the database fails."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from thalovant import ThalovantClient, ThalovantControlPlane
from thalovant.protocol import noise
from thalovant_server.errors import StorageError
from thalovant_server.hub.hub import Hub
from thalovant_server.last_use import AT_ONCE, LastUses
from thalovant_server.store import client_credentials
from thalovant_server.store.client_credentials import CredentialRecord, Use
from thalovant_server.testing.control import World
from thalovant_server.testing.directory import cheap_stretch
from thalovant_server.testing.in_process import InProcessServer


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


def test_the_places_of_the_last_uses_are_read_the_oldest_first(in_world: Any) -> None:
    async def main(world: World) -> None:
        made = [await world.make_client(name=f"lamp-{number}") for number in range(3)]
        uses = LastUses(world.services.database, world.clock.micros)
        for client, address in zip(made[:2], ("192.0.2.1", "192.0.2.2"), strict=True):
            (row,) = await rows(world, client)
            uses.note(row.id, "wss", address)
            world.clock.seconds += 1
        await uses.stop()
        keys = [client["initial_identify"]["access_key"] for client in made]
        assert await uses.places() == [(keys[0], "192.0.2.1"), (keys[1], "192.0.2.2")]

    in_world(main)


def test_a_restarted_server_knows_from_where_its_clients_came(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(noise, "stretch", cheap_stretch)
    with InProcessServer(tmp_path / "data") as server:
        trusted = Path(server.ready["ca_file"]).read_text()
        with ThalovantControlPlane(server.ready["api_url"], ca_pem=trusted) as api:
            api.login(*server.admin)
            identity = api.create_client_identity(server.ready["hub_id"], name="lamp").identity
        with ThalovantClient(identity, protocol="wss", noise_state_dir=str(tmp_path / "keys")) as client:
            client.ask("Is anybody there?")
        server.stop()
        known: list[tuple[str, str]] = []
        monkeypatch.setattr(Hub, "proven", lambda self, *who: known.append(who))
        server.start()
        assert known == [(identity.access_key, "127.0.0.1")]
