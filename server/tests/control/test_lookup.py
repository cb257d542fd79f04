# SPDX-License-Identifier: Apache-2.0
"""What became of an access key: each way that a credential ends, told to its owner and to nobody else."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from thalovant_server.testing.control import BROKER_ENDPOINTS, ScriptedAdmission, World

Run = Callable[[Callable[[World], Awaitable[None]]], None]
DAY = 86400


def key_of(answer: dict[str, Any]) -> str:
    return str(answer["initial_identify"]["access_key"])


async def look_up(world: World, access_key: Any, **more: Any) -> Any:
    return await world.call("POST", "/v1/clients/lookup", {"access_key": access_key}, **more)


async def fate(world: World, answer: dict[str, Any]) -> tuple[Any, ...]:
    found = (await look_up(world, key_of(answer))).json()
    return found["status"], found["why"], found["ended_at"]


def test_a_live_credential_is_told_with_its_client_and_hub(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        hub = await world.make_hub(spec={"version": "1", "protocols": {"mqtt": True, "wss": False, "http": True}})
        client = await world.make_client(hub["id"], active=False)
        answer = await look_up(world, key_of(client))
        assert answer.status_code == 200 and key_of(client) not in answer.text
        found = answer.json()
        assert (found["status"], found["why"], found["ended_at"]) == ("live", None, None)
        assert found["client"] == (await world.call("GET", f"/v1/clients/{client['id']}")).json()
        assert found["client"]["active"] is False
        assert found["credential"] == client["credentials"][0]
        protocols = ["https", "mqtt"]
        name = {"slug": "kitchen", "name": "kitchen"}
        assert found["hub"] == {"id": hub["id"], **name, "active": True, "protocols": protocols}

    in_world(scenario)


def test_how_far_the_outside_broker_is_is_told(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        here = await world.make_client()
        assert (await look_up(world, key_of(here))).json()["broker"] is None
        world.services.endpoints = BROKER_ENDPOINTS
        world.services.admission = admission = ScriptedAdmission(queued=1)
        link = {"version": "1", "protocols": {"mqtt": {"enabled": True, "via": "link"}}}
        hub = await world.make_hub("behind", spec=link)
        client = await world.make_client(hub["id"])

        async def told() -> Any:
            return (await look_up(world, key_of(client))).json()["broker"]

        requested = {"admitted": False, "operation": client["operation"]}
        assert await told() == requested
        assert admission.waits[-1] == 0.0, "nobody waits for a broker in a look-up"
        admission.take(world.services.directory.credentials_of(client["id"])[-1].id)
        await world.services.operations.look()
        now = await told()
        assert (now["admitted"], now["operation"]["status"]) == (True, "ready")
        rotated = (await world.call("POST", f"/v1/clients/{client['id']}/rotate", {"grace_seconds": DAY})).json()
        assert (await told())["operation"]["id"] == client["operation"]["id"], "of this credential"
        assert (await look_up(world, key_of(rotated))).json()["broker"]["operation"]["status"] == "requested"
        world.services.admission = None
        assert (await told())["admitted"] is None
        await world.call("DELETE", f"/v1/clients/{client['id']}", if_match=rotated["etag"])
        assert await told() is None

    in_world(scenario)


def test_each_way_to_end_is_told_and_when(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        hub = await world.make_hub()
        client = await world.make_client(hub["id"])
        path, start = f"/v1/clients/{client['id']}", "2026-09-21T14:13:20.000Z"

        async def rotate(grace_seconds: int = DAY) -> dict[str, Any]:
            return dict((await world.call("POST", f"{path}/rotate", {"grace_seconds": grace_seconds})).json())

        second = await rotate()
        assert (await look_up(world, key_of(client))).json()["credential"]["state"] == "grace"
        assert await fate(world, client) == ("grace", None, None)
        await world.call("POST", f"{path}/rotate/cancel")
        assert await fate(world, second) == ("ended", "cancelled", start)
        third = await rotate()
        world.clock.seconds += 2 * DAY
        world.token = await world.token_for()
        over = ("ended", "rotated", "2026-09-22T14:13:20.000Z")
        assert await fate(world, client) == over  # removed by now, or not: it says the same
        await world.services.grace.end_expired()
        assert await fate(world, client) == over
        fourth = await rotate(0)
        now = "2026-09-23T14:13:20.000Z"
        assert await fate(world, third) == ("ended", "replaced", now)
        fifth = await rotate()
        await world.call("POST", f"{path}/rotate/finish", {"force": True})
        assert await fate(world, fourth) == ("ended", "rotated", now)
        assert (await look_up(world, key_of(fourth))).json()["client"]["id"] == client["id"]
        await world.call("DELETE", path, if_match=client["etag"])
        found = (await look_up(world, key_of(fifth))).json()
        assert (found["why"], found["client"], found["hub"]["id"]) == ("removed", None, hub["id"])
        sixth = await world.make_client(hub["id"])
        await world.call("DELETE", f"/v1/hubs/{hub['id']}", if_match=hub["etag"])
        found = (await look_up(world, key_of(sixth))).json()
        assert (found["why"], found["client"], found["hub"]) == ("hub_removed", None, None)

    in_world(scenario)


def test_what_ended_is_forgotten_after_400_days_of_further_ends(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        old, late = await world.make_client(), await world.make_client()
        await world.call("DELETE", f"/v1/clients/{old['id']}", if_match=old["etag"])
        world.clock.seconds += 401 * DAY
        world.token = await world.token_for()
        assert (await look_up(world, key_of(old))).status_code == 200
        await world.call("DELETE", f"/v1/clients/{late['id']}", if_match=late["etag"])
        assert (await look_up(world, key_of(old))).status_code == 404
        assert (await look_up(world, key_of(late))).status_code == 200

    in_world(scenario)


def test_a_key_that_is_given_out_again_is_live_and_its_last_end_counts(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        spec = {"apiKey": secrets.token_urlsafe(32)}
        for why in ("removed", "replaced"):
            client = await world.make_client(spec=spec)
            assert (await fate(world, client))[0] == "live"
            if why == "removed":
                await world.call("DELETE", f"/v1/clients/{client['id']}", if_match=client["etag"])
            else:
                await world.call("POST", f"/v1/clients/{client['id']}/rotate", {"grace_seconds": 0})
            assert (await fate(world, client))[:2] == ("ended", why)

    in_world(scenario)


def test_strangers_learn_nothing(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        bob, carol = await world.add_account("bob"), await world.add_account("carol")
        body = {"hub_id": (await world.demo())["id"], "name": "bobs"}
        bobs = (await world.call("POST", "/v1/clients", body, token=bob)).json()
        gone = (await world.call("POST", "/v1/clients", body, token=bob)).json()
        await world.call("DELETE", f"/v1/clients/{gone['id']}", token=bob, if_match=gone["etag"])
        never = (await look_up(world, "n" * 43, token=carol)).text
        for client in (bobs, gone):
            for token, status in ((carol, 404), (bob, 200), (world.token, 200)):
                answer = await look_up(world, key_of(client), token=token)
                assert answer.status_code == status
                assert status == 200 or answer.text == never
        reader = await world.token_for(scope="clients:read")
        assert (await look_up(world, key_of(bobs), token=reader)).status_code == 200
        assert (await look_up(world, key_of(bobs), token=None)).status_code == 401
        hubs_only = await world.token_for(scope="hubs:read")
        assert (await look_up(world, key_of(bobs), token=hubs_only)).status_code == 403

    in_world(scenario)


@pytest.mark.parametrize("key", ["", "x" * 257, 5, None, ["a"]], ids=str)
def test_what_is_no_access_key_is_refused(in_world: Run, key: Any) -> None:
    async def scenario(world: World) -> None:
        answer = await look_up(world, key)
        assert answer.status_code == 422 and "xxx" not in answer.text

    in_world(scenario)


def test_no_access_key_lies_open_among_those_that_ended(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        client = await world.make_client()
        await world.call("DELETE", f"/v1/clients/{client['id']}", if_match=client["etag"])
        async with world.services.database.read() as connection:
            rows = (await connection.exec_driver_sql("SELECT * FROM former_credentials")).all()
        assert len(rows) == 1 and key_of(client) not in str(rows) and key_of(client).encode() not in rows[0]

    in_world(scenario)


@pytest.mark.parametrize("by", ["creation", "rotation"])
def test_a_former_key_is_nobody_elses_and_its_owner_may_take_it_again(in_world: Run, by: str) -> None:
    async def scenario(world: World) -> None:
        eve, hub = await world.add_account("eve"), await world.make_hub()
        client = await world.make_client(hub["id"])
        await world.call("DELETE", f"/v1/clients/{client['id']}", if_match=client["etag"])
        spec = {"apiKey": key_of(client)}
        evil = (await world.call("POST", "/v1/hubs", {"name": "e", "spec": {"version": "1"}}, token=eve)).json()
        body: dict[str, Any] = {"hub_id": evil["id"], "name": "x"}
        if by == "creation":
            answer = await world.call("POST", "/v1/clients", {**body, "spec": spec}, token=eve)
        else:
            hers = (await world.call("POST", "/v1/clients", body, token=eve)).json()
            answer = await world.call("POST", f"/v1/clients/{hers['id']}/rotate", {"spec": spec}, token=eve)
        assert (answer.status_code, answer.json()["code"]) == (409, "access_key_in_use")
        assert (await fate(world, client))[:2] == ("ended", "removed")
        again = await world.make_client(hub["id"], spec=spec)
        assert (await fate(world, again))[:2] == ("live", None)

    in_world(scenario)
