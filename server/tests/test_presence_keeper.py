# SPDX-License-Identifier: Apache-2.0
"""What is kept of who was online: over a stop, over a kill, and beside changes of the clients."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

from thalovant_server.errors import StorageError
from thalovant_server.hub import refusal
from thalovant_server.hub.presence import Presence
from thalovant_server.hub.presence_watch import PresenceWatch
from thalovant_server.presence_keeper import PresenceKeeper
from thalovant_server.store import clients, presence
from thalovant_server.testing.clock import StandingClock
from thalovant_server.testing.control import World


@contextlib.asynccontextmanager
async def started(world: World, **seconds: float) -> AsyncIterator[tuple[PresenceWatch, PresenceKeeper, StandingClock]]:
    """What the server does at its start."""
    clock = StandingClock()
    watch = PresenceWatch(world.services.directory, clock, world.clock.micros)
    keeper = PresenceKeeper(watch, world.services.database, **seconds)
    await keeper.load()
    yield watch, keeper, clock
    watch.stop()


def session(world: World, client_id: str, number: int = 1) -> Any:
    """A made-up session that has just become ready, over MQTT."""
    return SimpleNamespace(
        credential=world.services.directory.credentials_of(client_id)[-1],
        number=number, carrier="mqtt", remote="192.0.2.9",
        patience=None, silence=lambda: 0.0, refusal=None, why="connection_lost",
    )  # fmt: skip


def seen(watch: PresenceWatch, client: dict[str, Any]) -> Presence:
    found = watch.of(client["id"])
    assert found is not None
    return found


def test_who_was_online_at_a_stop_is_offline_since_then(in_world: Any) -> None:
    async def scenario(world: World) -> None:
        client, never = await world.make_client(), await world.make_client(name="never")
        async with started(world) as (watch, keeper, _):
            one = session(world, client["id"])
            watch.ready(one)
            world.clock.seconds += 10
            one.refusal = refusal.RESTARTING
            watch.ended(one)
            watch.stop()
            await keeper.write()
        stopped = world.clock.micros()
        world.clock.seconds += 1000
        async with started(world) as (watch, _, _):
            found = seen(watch, client)
            assert (found.state, found.why, found.since, found.last_seen_at) == (
                "offline", "server_stopped", stopped, stopped,
            )  # fmt: skip
            assert (found.carrier, found.address, found.sessions, found.name) == ("mqtt", "192.0.2.9", 0, "lamp")
            assert seen(watch, never) == Presence(never["id"], never["hub_id"], "never", "never_seen")

    in_world(scenario)


async def until_kept(world: World, client: dict[str, Any], **wanted: Any) -> None:
    """Wait until the database has this of a client."""
    async with asyncio.timeout(5):
        while True:
            async with world.services.database.read() as connection:
                rows = await presence.of_every_client(connection)
            row = next(each for each in rows if each.client_id == client["id"])
            if all(getattr(row, name) == value for name, value in wanted.items()):
                return


def test_who_was_online_at_a_kill_is_offline_since_its_last_written_sign_of_life(in_world: Any) -> None:
    async def scenario(world: World) -> None:
        client, other = await world.make_client(), await world.make_client(name="other")
        async with started(world, write_seconds=0, sign_seconds=0.02) as (watch, keeper, _):
            running = asyncio.create_task(keeper.run())
            for number, each in enumerate((client, other)):
                watch.ready(session(world, each["id"], number))
                await until_kept(world, each, state="online", carrier="mqtt", address="192.0.2.9")
            world.clock.seconds += 5
            alive = world.clock.micros()
            for each in (client, other):
                await until_kept(world, each, state="online", last_seen_at=alive)
            running.cancel()
            await asyncio.wait([running])
            world.clock.seconds += 1000
            async with started(world) as (after, _, _):
                for each in (client, other):
                    found = seen(after, each)
                    assert (found.state, found.why, found.sessions) == ("offline", "server_lost", 0)
                    assert (found.since, found.last_seen_at) == (alive, alive)

    in_world(scenario)


def test_a_paused_client_is_paused_after_a_restart_and_offline_when_it_is_resumed(in_world: Any) -> None:
    async def scenario(world: World) -> None:
        client, never = await world.make_client(), await world.make_client(name="never")
        async with started(world) as (watch, keeper, _):
            one = session(world, client["id"])
            watch.ready(one)
            for each in (client, never):
                answer = await world.call("PATCH", f"/v1/clients/{each['id']}", {"active": False}, if_match='W/"1"')
                assert answer.status_code == 200, answer.text
            one.refusal = refusal.PAUSED
            watch.ended(one)
            watch.stop()
            await keeper.write()
        paused = world.clock.micros()
        world.clock.seconds += 1000
        async with started(world) as (watch, keeper, _):
            found = seen(watch, client)
            assert (found.state, found.why, found.since) == ("revoked", "paused", paused)
            assert (seen(watch, never).state, seen(watch, never).since) == ("revoked", None)
            for each in (client, never):
                await world.call("PATCH", f"/v1/clients/{each['id']}", {"active": True}, if_match='W/"2"')
            found = seen(watch, client)
            assert (found.state, found.why, found.since) == ("offline", "resumed", world.clock.micros())
            assert seen(watch, never).state == "never_seen"

    in_world(scenario)


def test_clients_that_are_removed_meanwhile_do_not_keep_others_from_being_written(in_world: Any) -> None:
    async def scenario(world: World) -> None:
        client, gone = await world.make_client(), await world.make_client(name="gone")
        async with started(world) as (watch, keeper, _):
            for number, each in enumerate((client, gone)):
                watch.ready(session(world, each["id"], number))
            await asyncio.sleep(0)  # both are noted
            remove = functools.partial(clients.remove, client_id=gone["id"])
            await world.services.database.write(lambda transaction: remove(transaction.connection))
            await keeper.write()
            await until_kept(world, client, state="online")

    in_world(scenario)


def test_what_the_database_does_not_take_is_written_the_next_time(in_world: Any, monkeypatch: Any) -> None:
    async def scenario(world: World) -> None:
        client, database = await world.make_client(), world.services.database
        async with started(world) as (watch, keeper, _):
            one = session(world, client["id"])
            watch.ready(one)
            await asyncio.sleep(0)  # it is noted

            async def full(work: Any) -> None:
                watch.ended(one)
                await asyncio.sleep(0)  # a newer state is noted while the older one is being written
                raise StorageError("the disk is full")

            with monkeypatch.context() as patch:
                patch.setattr(database, "write", full)
                await keeper.write()
            await keeper.write()
            await until_kept(world, client, state="offline", why="connection_lost")

    in_world(scenario)
