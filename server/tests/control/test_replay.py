# SPDX-License-Identifier: Apache-2.0
"""A repeated request: answered as the first time, secrets included, or refused with a code; never half an answer."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import uvloop

from thalovant_server.testing.control import World, open_world

Run = Callable[[Callable[[World], Awaitable[None]]], None]


def body(hub_id: str, name: str = "lamp") -> dict[str, Any]:
    """The same request with fresh secrets, as an SDK repeats it."""
    fresh = {each: secrets.token_urlsafe(32) for each in ("apiKey", "password", "cryptoKey")}
    return {"hub_id": hub_id, "name": name, "spec": {"version": "1", "siteId": "lamp", **fresh}}


def test_a_replay_with_new_secrets_gives_the_first_credentials(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        hub = (await world.demo())["id"]
        first = await world.call("POST", "/v1/clients", body(hub), idempotency_key="key-1")
        again = await world.call("POST", "/v1/clients", body(hub), idempotency_key="key-1")
        assert (again.status_code, again.json()) == (first.status_code, first.json())
        assert first.json()["initial_identify"]["password"]
        assert len((await world.call("GET", "/v1/clients")).json()["data"]) == 1
        assert len(world.changes) == 1

    in_world(scenario)


def test_two_at_once_make_one(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        hub = (await world.demo())["id"]
        calls = [world.call("POST", "/v1/clients", body(hub), idempotency_key="key-1") for _ in range(5)]
        answers = [each.json() for each in await asyncio.gather(*calls)]
        assert all(answer == answers[0] for answer in answers)
        assert len((await world.call("GET", "/v1/clients")).json()["data"]) == 1

    in_world(scenario)


def test_the_key_with_another_payload_is_refused(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        hub = (await world.demo())["id"]
        await world.call("POST", "/v1/clients", body(hub), idempotency_key="key-1")
        for other in (body(hub, "other"), {**body(hub), "active": False}):
            answer = await world.call("POST", "/v1/clients", other, idempotency_key="key-1")
            assert (answer.status_code, answer.json()["code"]) == (409, "idempotency_key_reused")

    in_world(scenario)


def test_keys_of_different_accounts_and_routes_do_not_meet(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        bob, hub = await world.add_account("bob"), (await world.demo())["id"]
        mine = await world.call("POST", "/v1/clients", body(hub), idempotency_key="key-1")
        bobs = await world.call("POST", "/v1/clients", body(hub), idempotency_key="key-1", token=bob)
        hub_made = await world.call(
            "POST", "/v1/hubs", {"name": "x", "spec": {"version": "1"}}, idempotency_key="key-1"
        )
        assert (mine.status_code, bobs.status_code, hub_made.status_code) == (201, 201, 201)
        assert mine.json()["id"] != bobs.json()["id"]

    in_world(scenario)


def test_a_hub_is_made_once_too(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        wanted = {"name": "x", "spec": {"version": "1"}}
        first, again = [await world.call("POST", "/v1/hubs", wanted, idempotency_key="k") for _ in range(2)]
        assert first.json() == again.json()
        assert (first.status_code, again.status_code) == (201, 201)

    in_world(scenario)


def test_a_refused_request_keeps_nothing(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        hub = await world.demo()
        wrong = await world.call("POST", "/v1/clients", body("hub-none"), idempotency_key="key-1")
        right = await world.call("POST", "/v1/clients", body(hub["id"]), idempotency_key="key-1")
        assert (wrong.status_code, right.status_code) == (404, 201)

    in_world(scenario)


def test_an_answer_is_kept_for_a_day(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        hub = (await world.demo())["id"]
        first = await world.call("POST", "/v1/clients", body(hub), idempotency_key="key-1")
        world.clock.seconds += 24 * 3600 - 1
        token = await world.token_for()
        again = await world.call("POST", "/v1/clients", body(hub), idempotency_key="key-1", token=token)
        assert again.json() == first.json()
        world.clock.seconds += 1
        later = await world.call("POST", "/v1/clients", body(hub), idempotency_key="key-1", token=token)
        assert later.status_code == 201
        assert later.json()["id"] != first.json()["id"]

    in_world(scenario)


def test_what_was_removed_is_not_answered_again(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        hub = await world.make_hub()
        for number, removed in enumerate(("client", "hub")):
            key = f"key-{number}"
            made = (await world.call("POST", "/v1/clients", body(hub["id"]), idempotency_key=key)).json()
            path = f"/v1/clients/{made['id']}" if removed == "client" else f"/v1/hubs/{hub['id']}"
            assert (await world.call("DELETE", path, if_match='W/"1"')).status_code == 204
            answer = await world.call("POST", "/v1/clients", body(hub["id"]), idempotency_key=key)
            assert (answer.status_code, answer.json()["code"]) == (409, "idempotency_result_gone")

    in_world(scenario)


@pytest.mark.parametrize("key", ["", "x" * 256, "a b"])
def test_an_unusable_key_is_refused(in_world: Run, key: str) -> None:
    async def scenario(world: World) -> None:
        answer = await world.call("POST", "/v1/clients", body("hub-x"), idempotency_key=key)
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_idempotency_key")

    in_world(scenario)


def test_the_kept_answer_is_sealed(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        wanted = body((await world.demo())["id"])
        await world.call("POST", "/v1/clients", wanted, idempotency_key="key-1")
        raw = b"".join(file.read_bytes() for file in world.services.database.path.parent.glob("thalovant.db*"))
        assert wanted["spec"]["password"].encode() not in raw

    in_world(scenario)


def test_a_replay_works_after_a_restart(tmp_path: Path) -> None:
    async def ask() -> dict[str, Any]:
        async with open_world(tmp_path) as world:
            hub = (await world.demo())["id"]
            return dict((await world.call("POST", "/v1/clients", body(hub), idempotency_key="key-1")).json())

    assert uvloop.run(ask()) == uvloop.run(ask())
