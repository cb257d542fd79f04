# SPDX-License-Identifier: Apache-2.0
"""What a client's resource says of its credentials: alone and in a list, at a cost that does not grow with the list."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import uvloop
from sqlalchemy import Engine, event

from thalovant_server.testing.control import World, open_world

Run = Callable[[Callable[[World], Awaitable[None]]], None]


@contextmanager
def statements() -> Iterator[list[str]]:
    """Collect what is asked of the clients in the database meanwhile; a password may be stretched beside it."""
    said: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if "clients" in statement:
            said.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield said
    finally:
        event.remove(Engine, "before_cursor_execute", note)


def test_a_list_shows_what_single_clients_show_and_asks_as_often_for_one_as_for_many(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        hub = await world.make_hub()
        made = [await world.make_client(hub["id"], name="lamp 0")]
        path, costs = f"/v1/clients?hub_id={hub['id']}", []
        for _ in range(2):
            with statements() as said:
                listed = (await world.call("GET", path)).json()["data"]
            costs.append(len(said))
            single = [(await world.call("GET", f"/v1/clients/{each['id']}")).json() for each in made]
            assert listed == single
            for number in range(1, 8):
                made.append(await world.make_client(hub["id"], name=f"lamp {number}"))
                await world.call("POST", f"/v1/clients/{made[-1]['id']}/rotate")
        assert costs[0] == costs[1] > 0
        assert [len(each["credentials"]) for each in listed] == [1] + [2] * 7
        assert "access_key" not in str(listed)

    in_world(scenario)


def test_the_last_use_is_shown_from_memory_and_after_a_restart_from_the_database(tmp_path: Path) -> None:
    shown = {"at": "2026-09-21T14:13:30.000Z", "carrier": "mqtt", "address": "2001:db8::7"}

    async def first() -> str:
        async with open_world(tmp_path) as world:
            client = await world.make_client()
            assert client["credentials"][0]["last_used"] is None
            (entry,) = world.services.directory.credentials_of(client["id"])
            world.services.uses.note(entry.id, "wss", "192.0.2.1")
            await world.services.uses.write()
            world.clock.seconds += 10
            world.services.uses.note(entry.id, "mqtt", "2001:db8::7")
            listed = (await world.call("GET", "/v1/clients")).json()["data"]
            assert listed[0]["credentials"][0]["last_used"] == shown
            return str(client["id"])

    async def second(client_id: str) -> None:
        async with open_world(tmp_path) as world:
            client = (await world.call("GET", f"/v1/clients/{client_id}")).json()
            assert client["credentials"][0]["last_used"] == shown
            rotated = await world.call("POST", f"/v1/clients/{client_id}/rotate")
            (_, new) = world.services.directory.credentials_of(client_id)
            world.services.uses.note(new.id, "https", "192.0.2.1")
            assert [each["last_used"] for each in rotated.json()["credentials"]] == [shown, None]

    async def third(client_id: str) -> None:
        async with open_world(tmp_path) as world:
            assert (await world.call("POST", f"/v1/clients/{client_id}/rotate/finish")).status_code == 200

    client_id = uvloop.run(first())
    uvloop.run(second(client_id))
    uvloop.run(third(client_id))
