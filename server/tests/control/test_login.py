# SPDX-License-Identifier: Apache-2.0
"""Signing in and out: tokens, scopes, the throttle at the route, and what never gets out."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import httpx2
import pytest

from thalovant_server.bootstrap import ADMIN_EMAIL
from thalovant_server.control.app import create_app
from thalovant_server.control.passwords import AT_ONCE, MOST_WAITING
from thalovant_server.control.throttle import LoginThrottle
from thalovant_server.store import tokens
from thalovant_server.testing.control import ENDPOINTS, PASSWORD, World

Run = Callable[[Callable[[World], Awaitable[None]]], None]


def test_a_login_gives_a_token_that_works(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        answer = await world.log_in()
        body = answer.json()
        assert answer.status_code == 200
        assert body["token_type"] == "bearer"
        assert body["expires_in"] == 43_200
        assert "hubs:write" in body["scopes"]
        assert body["token_id"].startswith("tok-")
        profile = await world.call("GET", "/v1/users/profile", token=body["access_token"])
        assert profile.json()["data"].keys() == {"id", "email", "display_name", "role"}
        assert answer.headers["cache-control"] == "no-store"

    in_world(scenario)


def test_the_email_is_taken_in_any_case(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        assert (await world.log_in("  Admin@Thalovant.LOCAL ")).status_code == 200

    in_world(scenario)


@pytest.mark.parametrize(
    ("email", "password"), [("admin@thalovant.local", "wrong"), ("nobody@example.test", PASSWORD), ("x", "y")]
)
def test_wrong_credentials_all_look_alike(in_world: Run, email: str, password: str) -> None:
    async def scenario(world: World) -> None:
        answer = await world.log_in(email, password)
        assert answer.status_code == 401
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json() == {
            "type": "about:blank",
            "title": "Unauthorized",
            "status": 401,
            "detail": "Invalid email or password",
            "code": "invalid_credentials",
        }

    in_world(scenario)


def test_an_unknown_account_costs_a_hash_too(in_world: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(world: World) -> None:
        asked: list[str | None] = []
        verify = world.services.hasher.verify

        async def spy(password: str, phc: str | None) -> bool:
            asked.append(phc)
            return await verify(password, phc)

        monkeypatch.setattr(world.services.hasher, "verify", spy)
        await world.log_in("nobody@example.test")
        assert asked == [None]

    in_world(scenario)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"email": "a"},
        {"email": "", "password": "x"},
        {"email": 1, "password": {}},
        {"email": "a", "password": ""},
        {"email": "a" * 400, "password": "x"},
        {"email": "a", "password": "x" * 2000},
    ],
)
def test_a_malformed_login_is_a_422(in_world: Run, body: dict[str, Any]) -> None:
    async def scenario(world: World) -> None:
        answer = await world.call("POST", "/v1/auth/token", body, token=None)
        assert answer.status_code == 422
        assert answer.json()["code"] == "validation_failed"
        assert "x" * 100 not in answer.text
        assert "input" not in answer.json()["errors"][0]

    in_world(scenario)


def test_second_factor_members_are_taken(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        assert (await world.log_in(otp_code="123456", recovery_code="rc-1")).status_code == 200

    in_world(scenario)


def test_a_scope_narrows_the_token(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        token = await world.token_for(scope="clients:write hubs:read")
        assert (await world.call("GET", "/v1/hubs", token=token)).status_code == 200
        for method, path in (("POST", "/v1/hubs"), ("GET", "/v1/clients")):
            body = {"name": "x", "spec": {"version": "1"}} if method == "POST" else None
            refused = await world.call(method, path, body, token=token)
            assert refused.status_code == 403
            assert refused.json()["detail"] == "Insufficient scopes"

    in_world(scenario)


def test_writing_hubs_implies_reading_them(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        token = await world.token_for(scope="hubs:write")
        assert (await world.call("GET", "/v1/hubs", token=token)).status_code == 200
        assert (await world.call("GET", "/v1/clients", token=token)).status_code == 403

    in_world(scenario)


def test_an_unknown_scope_is_refused(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        answer = await world.log_in(scope="hubs:read root")
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_scope")

    in_world(scenario)


@pytest.mark.parametrize("token", [None, "unknown", "x" * 100_000, "tvpat_x", " "])
def test_a_token_that_is_none_is_refused(in_world: Run, token: str | None) -> None:
    async def scenario(world: World) -> None:
        answer = await world.call("GET", "/v1/hubs", token=token)
        assert answer.status_code == 401
        assert answer.json()["code"] == "invalid_token"
        assert "bearer" in answer.headers["www-authenticate"].lower()

    in_world(scenario)


def test_a_token_ends_on_time(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        world.clock.seconds += 43_199
        assert (await world.call("GET", "/v1/hubs")).status_code == 200
        world.clock.seconds += 1
        assert (await world.call("GET", "/v1/hubs")).status_code == 401

    in_world(scenario)


def test_a_revoked_token_is_refused_at_once(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        made = (await world.log_in()).json()
        path = f"/v1/auth/api-tokens/{made['token_id']}"
        assert (await world.call("DELETE", path, token=made["access_token"])).status_code == 204
        assert (await world.call("GET", "/v1/hubs", token=made["access_token"])).status_code == 401
        assert (await world.call("DELETE", path, token=made["access_token"])).status_code == 401

    in_world(scenario)


def test_tokens_of_others_are_not_there(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        other = await world.add_account("bob")
        mine = (await world.log_in()).json()
        for token_id in (mine["token_id"], "tok-unknown"):
            answer = await world.call("DELETE", f"/v1/auth/api-tokens/{token_id}", token=other)
            assert (answer.status_code, answer.json()["code"]) == (404, "token_not_found")
        assert (await world.call("GET", "/v1/hubs", token=mine["access_token"])).status_code == 200

    in_world(scenario)


def test_a_token_revokes_itself_and_what_can_do_no_more(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        async def revoke(token: dict[str, Any], by: dict[str, Any]) -> int:
            path = f"/v1/auth/api-tokens/{token['token_id']}"
            return (await world.call("DELETE", path, token=by["access_token"])).status_code

        whole, reader, viewer, writer = [
            (await world.log_in(scope=scope)).json() for scope in (None, "hubs:read", "hubs:preview", "clients:write")
        ]
        for by, token in ((viewer, whole), (viewer, reader), (reader, writer), (writer, viewer)):
            assert await revoke(token, by) == 403
        assert (await world.call("GET", "/v1/hubs", token=whole["access_token"])).status_code == 200
        assert await revoke(viewer, reader) == 204  # reading implies it
        assert await revoke(reader, reader) == 204
        assert await revoke(writer, whole) == 204
        assert (await world.call("GET", "/v1/hubs", token=reader["access_token"])).status_code == 401

    in_world(scenario)


def test_only_a_hash_of_a_token_is_stored(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        database = world.services.database
        async with database.read() as connection:
            assert await tokens.find(connection, database.sealer, world.token) is not None
        raw = b"".join(file.read_bytes() for file in database.path.parent.glob("thalovant.db*"))
        assert world.token.encode() not in raw

    in_world(scenario)


def test_old_tokens_are_forgotten(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        old = (await world.log_in()).json()
        world.clock.seconds += 43_200 + 24 * 3600 + 1
        await world.log_in()
        async with world.services.database.read() as connection:
            assert await tokens.by_id(connection, old["token_id"]) is None

    in_world(scenario)


def test_guessing_is_slowed_down_with_a_time_to_wait(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        for _ in range(20):
            assert (await world.log_in("bob@example.test", "guess")).status_code == 401
        answer = await world.log_in("bob@example.test", "guess")
        assert answer.status_code == 429
        assert answer.json()["code"] == "login_rate_limited"
        assert answer.json()["retry_after_seconds"] == int(answer.headers["retry-after"]) == 6
        world.clock.seconds += 6
        assert (await world.log_in("bob@example.test", "guess")).status_code == 401

    in_world(scenario)


def test_the_owner_gets_in_while_others_guess(in_world: Run) -> None:
    async def scenario(world: World) -> None:  # the world's own login came from this address
        for _ in range(30):
            await world.log_in("nobody@example.test", "guess")
        assert (await world.log_in()).status_code == 200

    in_world(scenario)


class From:
    """Signs in from an address of choice; notes each wait instead of waiting."""

    def __init__(self, world: World) -> None:
        self.waits: list[float] = []
        self._world = world
        world.services.throttle = LoginThrottle(lambda: world.clock.seconds, pause=self._pause)

    async def _pause(self, seconds: float) -> None:
        self.waits.append(seconds)

    async def log_in(self, address: str, email: str = ADMIN_EMAIL, password: str = PASSWORD) -> int:
        transport = httpx2.ASGITransport(create_app(self._world.services), client=(address, 5000))
        async with httpx2.AsyncClient(transport=transport, base_url=ENDPOINTS.api_url) as http:
            answer = await http.post("/v1/auth/token", json={"email": email, "password": password})
        return int(answer.status_code)


@pytest.mark.parametrize("email", [ADMIN_EMAIL, "nobody@example.test"])
def test_guessing_from_elsewhere_slows_a_new_address_of_the_owner_but_locks_it_not_out(
    in_world: Run, email: str
) -> None:
    async def scenario(world: World) -> None:
        door = From(world)
        for number in range(30):
            assert await door.log_in(f"198.51.100.{number % 3}", email, "guess") == 401
        assert door.waits == [1.0] * 10  # of a known account and of an unknown one
        assert await door.log_in("203.0.113.1") == 200

    in_world(scenario)


def test_wrong_passwords_on_the_machine_itself_do_not_lock_its_owner_out(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        door = From(world)
        for _ in range(30):
            assert await door.log_in("127.0.0.1", password="wrong") == 401
        assert await door.log_in("127.0.0.1") == 200
        assert len(door.waits) == 11

    in_world(scenario)


def test_overloading_buys_no_guess_without_the_wait(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        door = From(world)
        for _ in range(20):
            assert await door.log_in("127.0.0.1", "bob@example.test", "guess") == 401
        world.services.hasher._under_way = AT_ONCE + MOST_WAITING
        assert await door.log_in("127.0.0.1", "bob@example.test", "guess") == 503
        world.services.hasher._under_way = 0
        assert await door.log_in("127.0.0.1", "bob@example.test", "guess") == 401
        assert len(door.waits) == 2

    in_world(scenario)


def test_a_crowd_of_logins_is_refused_not_piled_up(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        room = AT_ONCE + MOST_WAITING
        world.services.hasher._under_way = room
        answer = await world.log_in()
        assert (answer.status_code, answer.json()["code"]) == (503, "overloaded")
        assert int(answer.headers["retry-after"]) > 0
        world.services.hasher._under_way = 0
        answers = await asyncio.gather(*(world.log_in() for _ in range(room)))
        assert {each.status_code for each in answers} == {200}

    in_world(scenario)


def test_who_calls_with_a_good_token_from_a_shared_address_is_not_locked_out_there(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        door = From(world)  # a throttle that remembers nobody, as after a restart
        transport = httpx2.ASGITransport(create_app(world.services), client=("203.0.113.9", 5000))
        async with httpx2.AsyncClient(transport=transport, base_url=ENDPOINTS.api_url) as http:
            await http.get("/v1/hubs", headers={"authorization": f"Bearer {world.token}"})
        for _ in range(30):
            last = await door.log_in("203.0.113.9", "nobody@example.test", "guess")
        assert last == 429
        assert await door.log_in("203.0.113.9") == 200
        assert await door.log_in("198.51.100.1", "nobody@example.test", "guess") == 401

    in_world(scenario)


@pytest.mark.parametrize("how", ["password", "disabled"])
def test_a_login_that_was_under_way_when_its_account_changed_gives_no_token(
    in_world: Run, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The password was right when it was looked at: all that was signed in ended since."""

    async def scenario(world: World) -> None:
        bob, hasher = await world.add_account("bob"), world.services.hasher
        verify = hasher.verify

        async def meanwhile(password: str, phc: str | None) -> bool:
            right = await verify(password, phc)
            monkeypatch.setattr(hasher, "verify", verify)
            if how == "password":
                body = {"current_password": PASSWORD, "new_password": "another horse battery staple"}
                assert (await world.call("POST", "/v1/users/me/password", body, token=bob)).status_code == 204
            else:
                assert (await world.call("PATCH", "/v1/users/user-bob", {"active": False})).status_code == 200
            return right

        monkeypatch.setattr(hasher, "verify", meanwhile)
        answer = await world.log_in("bob@example.test")
        assert (answer.status_code, answer.json()["code"]) == (401, "invalid_credentials")

    in_world(scenario)


def test_a_token_that_makes_others_guesses_the_password_no_more_often_with_them(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        bob, judged = await world.add_account("bob"), 0
        for number in range(3):
            asked = {"name": f"t{number}", "scopes": ["tokens:write"]}
            made = (await world.call("POST", "/v1/auth/api-tokens", asked, token=bob)).json()["access_token"]
            for guess in range(12):
                body = {"current_password": f"wrong {guess}", "new_password": "another horse battery staple"}
                answer = await world.call("POST", "/v1/users/me/password", body, token=made)
                judged += answer.status_code == 403
        assert judged == 20
        body = {"current_password": PASSWORD, "new_password": "another horse battery staple"}
        assert (await world.call("POST", "/v1/users/me/password", body, token=bob)).status_code == 204

    in_world(scenario)
