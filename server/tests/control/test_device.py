# SPDX-License-Identifier: Apache-2.0
"""Device login as RFC 8628 and contract 4.4 have it: codes, questions, approval, denial, and what bounds them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select

from thalovant_server.control.app import create_app
from thalovant_server.control.device import CODE_LETTERS, MOST_OF_ONE_SOURCE, shown_code, typed_code
from thalovant_server.control.throttle import PER_ADDRESS
from thalovant_server.store.tables import audit
from thalovant_server.testing.control import ENDPOINTS, MINE, PASSWORD, World

Run = Callable[[Callable[[World], Awaitable[None]]], None]
DAY = 24 * 60 * 60


async def begin(world: World, **fields: Any) -> dict[str, Any]:
    answer = await world.call("POST", "/v1/auth/device/authorize", fields, token=None)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def ask(world: World, begun: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    answer = await world.call("POST", "/v1/auth/device/token", {"device_code": begun["device_code"]}, token=None)
    return answer.status_code, answer.json()


async def refusal(world: World, begun: dict[str, Any]) -> str:
    status, body = await ask(world, begun)
    assert status == 400 and body["error"] == body["code"]
    return str(body["error"])


async def answer(world: World, begun: dict[str, Any], say: str, token: str = MINE, **fields: Any) -> httpx2.Response:
    path = f"/v1/auth/device/codes/{begun['user_code']}/{say}"
    return await world.call("POST", path, fields if say == "approve" else None, token=token)


def test_a_device_is_signed_in_once_somebody_approves(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        begun = await begin(world, client_name="kitchen-pi")
        assert begun["verification_uri"] == f"{ENDPOINTS.api_url}/v1/device"
        assert begun["verification_uri_complete"].endswith(f"?user_code={begun['user_code']}")
        assert (begun["interval"], begun["expires_in"]) == (5, 900)
        assert await refusal(world, begun) == "authorization_pending"
        described = (await world.call("GET", f"/v1/auth/device/codes/{begun['user_code'].lower()}")).json()
        assert described["client_name"] == "kitchen-pi" and described["address"] == "192.0.2.1"
        assert described["scopes"] == ["hubs:read", "clients:write"] and described["client_verified"] is False
        assert (await answer(world, begun, "approve")).status_code == 200
        status, token = await ask(world, begun)
        assert status == 200 and token["access_token"].startswith("tvpat_")
        assert (token["scopes"], token["kind"], token["name"]) == (described["scopes"], "device", "kitchen-pi")
        assert token["token_type"] == "bearer" and token["token_id"] == token["id"] and token["expires_at"]
        assert (await world.call("GET", "/v1/hubs", token=token["access_token"])).status_code == 200
        assert await refusal(world, begun) == "expired_token"  # used

    in_world(scenario)


def test_a_device_that_is_denied_is_told_so(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        begun = await begin(world)
        assert (await answer(world, begun, "deny")).status_code == 204
        assert await refusal(world, begun) == "access_denied"
        assert (await answer(world, begun, "approve")).json()["code"] == "device_code_not_found"

    in_world(scenario)


def test_asking_too_often_is_told_to_slow_down(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        begun = await begin(world)
        seen = []
        for seconds in (0, 1, 4, 4.6, 5):
            world.clock.seconds += seconds
            seen.append(await refusal(world, begun))
        pending, slow = "authorization_pending", "slow_down"
        assert seen == [pending, slow, pending, pending, pending]

    in_world(scenario)


def test_a_device_login_is_over_after_its_time(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        begun, approved = await begin(world), await begin(world)
        await answer(world, approved, "approve")
        world.clock.seconds += 900
        assert await refusal(world, begun) == await refusal(world, approved) == "expired_token"
        assert (await answer(world, begun, "approve")).status_code == 404

    in_world(scenario)


@pytest.mark.parametrize("code", ["x", "x" * 256, "tvpat_"])
def test_a_device_code_that_is_none_is_like_one_that_expired(in_world: Run, code: str) -> None:
    async def scenario(world: World) -> None:
        assert await refusal(world, {"device_code": code}) == "expired_token"

    in_world(scenario)


@pytest.mark.parametrize(
    ("fields", "status", "code"),
    [
        ({"client_id": "cli"}, 400, "unknown_client"),
        ({"scopes": ["root"]}, 422, "invalid_scope"),
        ({"client_name": "a\u202eb"}, 422, "validation_failed"),
        ({"client_name": " "}, 422, "validation_failed"),
        ({"client_name": "x" * 201}, 422, "validation_failed"),
    ],
)
def test_what_cannot_be_asked_for_is_refused(in_world: Run, fields: dict[str, Any], status: int, code: str) -> None:
    async def scenario(world: World) -> None:
        refused = await world.call("POST", "/v1/auth/device/authorize", fields, token=None)
        assert (refused.status_code, refused.json()["code"]) == (status, code)

    in_world(scenario)


def test_no_scopes_are_the_usual_ones(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        begun = await begin(world, scopes=[])
        granted = (await answer(world, begun, "approve")).json()["scopes"]
        assert granted == ["hubs:read", "clients:write"]

    in_world(scenario)


def test_a_device_gets_no_more_than_it_asked_for_nor_than_the_approver_has(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        hub = (await world.make_hub())["id"]
        body = {"name": "x", "scopes": ["tokens:write", "hubs:read"], "hub_ids": [hub], "expires_in_seconds": 3600}
        narrow = (await world.call("POST", "/v1/auth/api-tokens", body)).json()
        begun = await begin(world, scopes=["hubs:write", "hubs:read", "clients:write"])
        by = narrow["access_token"]
        assert (await answer(world, begun, "approve", scopes=["audit:read"])).status_code == 403
        assert (await answer(world, begun, "approve", by, scopes=["hubs:write"])).status_code == 403
        demo = (await world.demo())["id"]
        assert (await answer(world, begun, "approve", by, hub_ids=[demo])).json()["code"] == "hub_not_found"
        assert (await answer(world, begun, "approve", by)).json()["scopes"] == ["hubs:read"]
        token = (await ask(world, begun))[1]
        assert (token["scopes"], token["hub_ids"]) == (["hubs:read"], [hub])
        assert token["expires_at"] == narrow["expires_at"]

    in_world(scenario)


def test_the_approver_chooses_less(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        hub = (await world.make_hub())["id"]
        begun = await begin(world)
        await answer(world, begun, "approve", scopes=["hubs:inspect"], hub_ids=[hub])
        token = (await ask(world, begun))[1]
        assert (token["scopes"], token["hub_ids"]) == (["hubs:inspect"], [hub])
        world.clock.seconds += 90 * DAY
        assert (await world.call("GET", "/v1/users/profile", token=token["access_token"])).status_code == 401

    in_world(scenario)


@pytest.mark.parametrize("ends", ["disabled", "password"])
def test_an_approval_ends_with_the_account_or_its_password(in_world: Run, ends: str) -> None:
    async def scenario(world: World) -> None:
        bob = await world.add_account("bob")
        begun = await begin(world)
        await answer(world, begun, "approve", bob)
        if ends == "disabled":
            for active in (False, True):
                await world.call("PATCH", "/v1/users/user-bob", {"active": active})
        else:
            body = {"current_password": PASSWORD, "new_password": "another long password"}
            assert (await world.call("POST", "/v1/users/me/password", body, token=bob)).status_code == 204
        assert await refusal(world, begun) == "expired_token"

    in_world(scenario)


def test_at_a_shared_address_the_oldest_that_waits_makes_room(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        approved = await begin(world)
        await answer(world, approved, "approve")
        begun = []
        for _ in range(MOST_OF_ONE_SOURCE + 2):
            world.clock.seconds += 1
            begun.append(await begin(world))
        seen = [await refusal(world, each) for each in begun]
        assert seen == ["expired_token"] * 2 + ["authorization_pending"] * MOST_OF_ONE_SOURCE
        assert (await ask(world, approved))[0] == 200

    in_world(scenario)


def test_a_flood_of_one_address_evicts_nobody_elsewhere_and_is_slowed_down(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        elsewhere = httpx2.ASGITransport(create_app(world.services), client=("198.51.100.7", 5000))
        async with httpx2.AsyncClient(transport=elsewhere, base_url=ENDPOINTS.api_url) as http:
            other = (await http.post("/v1/auth/device/authorize", json={})).json()
            for _ in range(PER_ADDRESS.burst):
                await begin(world)
            refused = await world.call("POST", "/v1/auth/device/authorize", {}, token=None)
            assert (refused.status_code, refused.json()["code"]) == (429, "device_login_rate_limited")
            assert 0 < int(refused.headers["retry-after"]) <= PER_ADDRESS.seconds_each
            assert (await http.post("/v1/auth/device/authorize", json={})).status_code == 200
        assert await refusal(world, other) == "authorization_pending"

    in_world(scenario)


def test_guessing_codes_stops_the_one_who_guesses_and_nobody_else(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        begun, guesser = await begin(world), await world.add_account("eve")
        for number in range(25):
            refused = await world.call("GET", f"/v1/auth/device/codes/WRONG{number:03}", token=guesser)
        assert refused.status_code == 429 and int(refused.headers["retry-after"]) > 0
        assert (await answer(world, begun, "approve", guesser)).status_code == 429
        assert (await answer(world, begun, "approve")).status_code == 200

    in_world(scenario)


def test_guessing_many_codes_at_once_is_no_way_round(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        guesses = [world.call("GET", f"/v1/auth/device/codes/WRONG{number:03}") for number in range(40)]
        statuses = [each.status_code for each in await asyncio.gather(*guesses)]
        assert (statuses.count(404), statuses.count(429)) == (20, 20)

    in_world(scenario)


def test_answers_are_audited_and_no_code_with_them(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        yes, no = await begin(world, client_name="pi"), await begin(world)
        await answer(world, yes, "approve")
        await answer(world, no, "deny")
        token = (await ask(world, yes))[1]
        async with world.services.database.read() as connection:
            query = select(audit).where(audit.c.action.like("login.%") | (audit.c.target_id == token["id"]))
            rows = (await connection.execute(query.order_by(audit.c.seq))).all()
        assert [row.action for row in rows] == ["login.device_approved", "login.device_denied", "token.created"]
        assert rows[0].after == {
            "client_name": "pi", "scopes": ["hubs:read", "clients:write"], "hub_ids": None, "asked_from": "192.0.2.1",
        }  # fmt: skip
        raw = b"".join(file.read_bytes() for file in world.services.database.path.parent.glob("thalovant.db*"))
        for secret in (yes["device_code"], no["device_code"], token["access_token"]):
            assert secret not in str(rows) and secret.encode() not in raw
        assert yes["user_code"] not in str(rows)

    in_world(scenario)


@given(st.text(CODE_LETTERS, min_size=8, max_size=8), st.text(" -_./", max_size=3), st.booleans())
def test_a_code_is_understood_however_it_is_typed(code: str, between: str, small: bool) -> None:
    typed = between.join(shown_code(code))
    assert typed_code(typed.lower() if small else typed) == code
