# SPDX-License-Identifier: Apache-2.0
"""API tokens: made no wider than their maker, listed without themselves, limited to hubs, revoked, last used."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import httpx2
import pytest
from sqlalchemy import select, update

from thalovant_server.control.tokens import MOST_TOKENS
from thalovant_server.store.tables import accounts, audit
from thalovant_server.store.tables import tokens as table
from thalovant_server.testing.control import MINE, World

Run = Callable[[Callable[[World], Awaitable[None]]], None]
DAY = 24 * 60 * 60


async def make(world: World, token: str = MINE, **fields: Any) -> httpx2.Response:
    body = {"name": "nightly build", "scopes": ["hubs:read"], **fields}
    return await world.call("POST", "/v1/auth/api-tokens", body, token=token)


async def made(world: World, token: str = MINE, **fields: Any) -> dict[str, Any]:
    answer = await make(world, token, **fields)
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


async def listed(world: World, token: str = MINE, query: str = "") -> list[dict[str, Any]]:
    answer = await world.call("GET", f"/v1/auth/api-tokens{query}", token=token)
    assert answer.status_code == 200, answer.text
    return list(answer.json()["data"])


def test_a_token_is_told_once_and_works(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        token = await made(world)
        assert token["access_token"].startswith("tvpat_") and len(token["access_token"]) == 49
        assert token["token_id"] == token["id"]
        assert (await world.call("GET", "/v1/hubs", token=token["access_token"])).status_code == 200
        (shown,) = await listed(world)
        assert shown == {
            "id": token["id"], "kind": "api", "name": "nightly build", "scopes": ["hubs:read"], "hub_ids": None,
            "created_at": token["created_at"], "expires_at": None, "last_used_at": shown["created_at"],
        }  # fmt: skip

    in_world(scenario)


def test_a_token_does_not_expire_unless_told_to(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        lasting = await made(world)
        short = await made(world, expires_in_seconds=60)
        world.clock.seconds += 59
        assert (await world.call("GET", "/v1/hubs", token=short["access_token"])).status_code == 200
        world.clock.seconds += 1
        assert (await world.call("GET", "/v1/hubs", token=short["access_token"])).status_code == 401
        world.clock.seconds += 1000 * DAY
        world.token = await world.token_for()
        assert (await world.call("GET", "/v1/hubs", token=lasting["access_token"])).status_code == 200
        assert [each["id"] for each in await listed(world)] == [lasting["id"]]

    in_world(scenario)


@pytest.mark.parametrize(
    "fields",
    [
        {"name": ""}, {"name": "a/b"}, {"name": "x" * 201}, {"name": None}, {"scopes": []}, {"scopes": ["root"]},
        {"scopes": "hubs:read"}, {"hub_ids": []}, {"hub_ids": [""]}, {"hub_ids": ["x"] * 101},
        {"expires_in_seconds": 0}, {"expires_in_seconds": 59}, {"expires_in_seconds": 10**12},
        {"expires_in_seconds": "60"}, {"expires_in_seconds": True},
    ],
    ids=str,
)  # fmt: skip
def test_what_makes_no_sense_is_a_422_and_makes_nothing(in_world: Run, fields: dict[str, Any]) -> None:
    async def scenario(world: World) -> None:
        assert (await make(world, **fields)).status_code == 422
        assert await listed(world) == []

    in_world(scenario)


def test_a_token_makes_none_that_is_wider(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        here, there = (await world.make_hub("here"))["id"], (await world.make_hub("there"))["id"]
        scopes = ["tokens:write", "hubs:read", "clients:read"]
        maker = (await made(world, scopes=scopes, hub_ids=[here], expires_in_seconds=DAY))["access_token"]

        assert (await make(world, maker, scopes=["clients:write"], expires_in_seconds=60)).status_code == 403
        assert (await make(world, maker, hub_ids=[there], expires_in_seconds=60)).json()["code"] == "hub_not_found"
        assert (await make(world, maker)).json()["errors"][0]["loc"] == ["body", "expires_in_seconds"]
        assert (await make(world, maker, expires_in_seconds=DAY + 1)).status_code == 422
        # No hubs named: those of the maker. A scope that is implied may be given on.
        child = await made(world, maker, scopes=["hubs:inspect"], expires_in_seconds=DAY)
        assert child["hub_ids"] == [here]

    in_world(scenario)


@pytest.mark.parametrize("ended", ["revoked", "expired", "disabled"])
@pytest.mark.parametrize("gives", ["a token", "a device"])
def test_what_ends_while_its_request_is_under_way_gives_nothing_out(
    in_world: Run, monkeypatch: pytest.MonkeyPatch, gives: str, ended: str
) -> None:
    async def scenario(world: World) -> None:
        leaked = await made(world, scopes=["tokens:write", "hubs:read"], expires_in_seconds=3600)
        begun = (await world.call("POST", "/v1/auth/device/authorize", {"scopes": ["hubs:read"]}, token=None)).json()
        database = world.services.database
        write = database.write

        async def ends_first(work: Any) -> Any:
            monkeypatch.setattr(database, "write", write)
            if ended == "revoked":
                await world.call("DELETE", f"/v1/auth/api-tokens/{leaked['token_id']}")
            elif ended == "expired":
                world.clock.seconds += 3600
            else:
                off = update(accounts).values(active=False)
                await write(lambda transaction: transaction.connection.execute(off))
            return await write(work)

        path = f"/v1/auth/device/codes/{begun['user_code']}/approve" if gives == "a device" else "/v1/auth/api-tokens"
        body = {} if gives == "a device" else {"name": "y", "scopes": ["hubs:read"], "expires_in_seconds": 60}
        monkeypatch.setattr(database, "write", ends_first)
        answer = await world.call("POST", path, body, token=leaked["access_token"])
        assert (answer.status_code, answer.json()["code"]) == (401, "invalid_token")

    in_world(scenario)


def test_a_session_makes_tokens_that_outlive_it_but_can_do_no_more(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        session = await world.token_for(scope="tokens:write hubs:read")
        assert (await made(world, session))["expires_at"] is None
        assert (await make(world, session, scopes=["hubs:write"])).status_code == 403

    in_world(scenario)


def test_hubs_of_others_are_not_there_and_public_ones_are(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        stranger = await world.add_account("bob")
        private, public = (await world.make_hub())["id"], (await world.demo())["id"]
        assert (await make(world, stranger, hub_ids=[private])).json()["code"] == "hub_not_found"
        assert (await make(world, stranger, hub_ids=["hub-unknown"])).json()["code"] == "hub_not_found"
        assert (await made(world, stranger, hub_ids=[public, public]))["hub_ids"] == [public]

    in_world(scenario)


def test_a_limited_token_sees_public_hubs_no_better_than_others(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        hub, demo = (await world.make_hub())["id"], (await world.demo())["id"]
        scopes = ["hubs:read", "clients:write"]
        limited = (await made(world, scopes=scopes, hub_ids=[hub]))["access_token"]
        assert (await world.call("GET", f"/v1/hubs/{demo}", token=limited)).status_code == 404
        body = {"hub_id": demo, "name": "lamp"}
        assert (await world.call("POST", "/v1/clients", body, token=limited)).status_code == 404
        assert (await world.call("POST", "/v1/clients", {**body, "hub_id": hub}, token=limited)).status_code == 201
        assert [one["id"] for one in (await world.call("GET", "/v1/hubs", token=limited)).json()["data"]] == [hub]

    in_world(scenario)


def test_pages_of_a_limited_token_are_filled_with_what_it_may_see(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        mine = (await world.make_hub("mine"))["id"]
        for number in range(3):
            await world.make_client(name=f"elsewhere {number}")
            await world.make_client(mine, name=f"mine {number}")
        limited = (await made(world, scopes=["clients:read"], hub_ids=[mine]))["access_token"]
        page = (await world.call("GET", "/v1/clients?limit=2", token=limited)).json()
        assert [one["name"] for one in page["data"]] == ["mine 0", "mine 1"]
        rest = (await world.call("GET", page["links"]["next"], token=limited)).json()
        assert [one["name"] for one in rest["data"]] == ["mine 2"]
        assert rest["meta"]["next"] is None

    in_world(scenario)


def test_a_limited_token_is_told_no_answer_that_a_wider_one_was_given(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        hub, demo = (await world.make_hub())["id"], (await world.demo())["id"]
        body = {"hub_id": demo, "name": "lamp"}
        first = await world.call("POST", "/v1/clients", body, idempotency_key="once")
        limited = (await made(world, scopes=["clients:write"], hub_ids=[hub]))["access_token"]
        again = await world.call("POST", "/v1/clients", body, token=limited, idempotency_key="once")
        assert (again.status_code, again.json()["code"]) == (409, "idempotency_key_reused")
        assert first.json()["initial_identify"]["password"] not in again.text

    in_world(scenario)


def test_a_limited_token_knows_and_revokes_only_itself_and_those_of_its_hubs(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        here, there = (await world.make_hub("here"))["id"], (await world.make_hub("there"))["id"]
        scopes = ["tokens:write", "hubs:read"]
        whole = await made(world)
        both = await made(world, hub_ids=[here, there])
        other = await made(world, hub_ids=[there])
        mine = await made(world, hub_ids=[here])
        limited = await made(world, scopes=scopes, hub_ids=[here])
        by = limited["access_token"]
        assert {each["id"] for each in await listed(world, by)} == {mine["id"], limited["id"]}
        for each in (whole, both, other):
            refused = await world.call("DELETE", f"/v1/auth/api-tokens/{each['id']}", token=by)
            assert (refused.status_code, refused.json()["code"]) == (404, "token_not_found")
        for each in (mine, limited):
            assert (await world.call("DELETE", f"/v1/auth/api-tokens/{each['id']}", token=by)).status_code == 204
        assert (await world.call("GET", "/v1/hubs", token=by)).status_code == 401

    in_world(scenario)


def test_the_list_comes_in_pages_and_of_one_kind(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        for number in range(3):
            world.clock.seconds += number % 2  # two of them in the same microsecond
            await made(world, name=f"number {number}")
        seen, path = [], "?limit=1"
        for _ in range(3):
            page = (await world.call("GET", f"/v1/auth/api-tokens{path}")).json()
            seen += [each["name"] for each in page["data"]]
            path = "?" + str(page["links"]["next"]).partition("?")[2]
        assert sorted(seen) == ["number 0", "number 1", "number 2"]
        assert page["links"]["next"] is None
        assert {each["kind"] for each in await listed(world, query="?kind=session")} == {"session"}
        assert await listed(world, query="?kind=device") == []
        assert (await world.call("GET", "/v1/auth/api-tokens?cursor=MQ")).json()["code"] == "invalid_cursor"

    in_world(scenario)


def test_an_admin_sees_and_revokes_those_of_others(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        bob = await world.add_account("bob")
        token = await made(world, bob)
        (shown,) = await listed(world, query="?owner_id=user-bob")
        assert shown["id"] == token["id"]
        assert (await world.call("DELETE", f"/v1/auth/api-tokens/{token['id']}")).status_code == 204
        assert await listed(world, bob) == []

    in_world(scenario)


def test_an_account_has_so_many_tokens_and_no_more(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        first = await made(world)
        for number in range(MOST_TOKENS - 1):
            await made(world, name=f"number {number}")
        assert (await make(world)).json()["code"] == "too_many_tokens"
        await world.call("DELETE", f"/v1/auth/api-tokens/{first['id']}")
        await made(world)

    in_world(scenario)


def test_last_use_is_shown_at_once_and_written_once_for_many_requests(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        async def stored() -> int | None:
            async with world.services.database.read() as connection:
                found = await connection.execute(select(table.c.last_used_at).where(table.c.id == token["id"]))
                return found.scalar_one()

        token = await made(world)
        assert (await listed(world))[0]["last_used_at"] is None
        for _ in range(3):
            world.clock.seconds += 1
            await world.call("GET", "/v1/hubs", token=token["access_token"])
        assert (await listed(world))[0]["last_used_at"] is not None
        assert await stored() is None
        await world.services.token_use.write()
        assert await stored() == world.clock.micros()

    in_world(scenario)


def test_making_and_revoking_are_audited_once_and_without_the_token(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        token = await made(world, expires_in_seconds=60)
        for _ in range(2):  # the second changes nothing
            await world.call("DELETE", f"/v1/auth/api-tokens/{token['id']}")
        async with world.services.database.read() as connection:
            rows = (await connection.execute(select(audit).where(audit.c.target_id == token["id"]))).all()
        assert [(row.action, row.target_id) for row in rows] == [
            ("token.created", token["id"]), ("token.revoked", token["id"]),
        ]  # fmt: skip
        assert rows[0].after["scopes"] == ["hubs:read"] and rows[0].address == "192.0.2.1"
        assert token["access_token"] not in str(rows)

    in_world(scenario)
