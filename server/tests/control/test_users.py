# SPDX-License-Identifier: Apache-2.0
"""People's accounts: invited, joined, disabled, given a role; passwords chosen and changed; what ends with them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from sqlalchemy import select

from thalovant_server.bootstrap import ADMIN_EMAIL
from thalovant_server.store.tables import audit
from thalovant_server.testing.control import PASSWORD, World

Run = Callable[[Callable[[World], Awaitable[None]]], None]
ANN = "ann@example.test"
NEW = "a new and longer password"
DAY = 24 * 60 * 60


async def invite(world: World, email: str = ANN, **fields: Any) -> dict[str, Any]:
    answer = await world.call("POST", "/v1/users", {"email": email, **fields})
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


async def accept(world: World, token: str, password: str = NEW, **fields: Any) -> tuple[int, dict[str, Any]]:
    body = {"token": token, "password": password, **fields}
    answer = await world.call("POST", "/v1/auth/invitations/accept", body, token=None)
    return answer.status_code, answer.json()


async def joined(world: World, email: str = ANN, **fields: Any) -> dict[str, Any]:
    invited = await invite(world, email, **fields)
    status, body = await accept(world, invited["invitation_token"])
    assert status == 200, body
    return invited


async def change(world: World, user_id: str, **fields: Any) -> tuple[int, dict[str, Any]]:
    answer = await world.call("PATCH", f"/v1/users/{user_id}", fields)
    return answer.status_code, answer.json()


async def works(world: World, token: str) -> bool:
    return (await world.call("GET", "/v1/users/profile", token=token)).status_code == 200


def test_somebody_invited_chooses_a_password_and_signs_in(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        invited = await invite(world, "  Ann@Example.test", display_name="Ann O'Hara")
        token = invited.pop("invitation_token")
        assert token.startswith("tvinv_")
        assert invited["email"] == ANN and invited["invited"] and invited["role"] == "user"
        status, body = await accept(world, token)
        assert status == 200 and not body["data"]["invited"]
        answer = await world.log_in(ANN, NEW)
        profile = await world.call("GET", "/v1/users/profile", token=answer.json()["access_token"])
        assert profile.json()["data"]["display_name"] == "Ann O'Hara"
        assert (await accept(world, token))[1]["code"] == "invitation_not_found"

    in_world(scenario)


@pytest.mark.parametrize("password", [" ", "password", "0" * 12, PASSWORD])
def test_nobody_signs_in_to_an_account_that_is_only_invited(in_world: Run, password: str) -> None:
    async def scenario(world: World) -> None:
        await invite(world)
        assert (await world.log_in(ANN, password)).json()["code"] == "invalid_credentials"

    in_world(scenario)


def test_an_invitation_ends_in_time_and_with_the_next(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        first = await invite(world)
        second = (await world.call("POST", f"/v1/users/{first['id']}/invite")).json()
        assert (await accept(world, first["invitation_token"]))[0] == 404
        world.clock.seconds += 7 * DAY
        assert (await accept(world, second["invitation_token"]))[0] == 404
        world.token = await world.token_for()
        third = (await world.call("POST", f"/v1/users/{first['id']}/invite")).json()
        world.clock.seconds += 7 * DAY - 1
        assert (await accept(world, third["invitation_token"], display_name="Ann"))[0] == 200

    in_world(scenario)


@pytest.mark.parametrize(
    ("password", "rule"),
    [("eleven char", "at least 12"), ("", "at least 1"), ("x" * 1025, "at most 1024"), (ANN.upper(), "e-mail")],
)
def test_a_password_keeps_to_the_rules(in_world: Run, password: str, rule: str) -> None:
    async def scenario(world: World) -> None:
        token = (await invite(world))["invitation_token"]
        status, body = await accept(world, token, password)
        assert status == 422 and rule in body["detail"]
        assert not password or password not in str(body)
        assert (await accept(world, token))[0] == 200  # the invitation is still good

    in_world(scenario)


@pytest.mark.parametrize(
    "email", ["ann", "@example", "ann@", "a b@c", "a@b@c", "a\u202e@b", "a\x07@b", "x" * 330 + "@b"]
)
def test_an_address_that_is_none_is_refused(in_world: Run, email: str) -> None:
    async def scenario(world: World) -> None:
        assert (await world.call("POST", "/v1/users", {"email": email})).status_code == 422
        assert len((await world.call("GET", "/v1/users")).json()["data"]) == 1

    in_world(scenario)


def test_an_address_is_good_for_one_account(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        answer = await world.call("POST", "/v1/users", {"email": ADMIN_EMAIL.upper()})
        assert (answer.status_code, answer.json()["code"]) == (409, "email_in_use")

    in_world(scenario)


def test_who_is_disabled_is_out_at_once_and_for_good_and_the_clients_stay(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        ann = await joined(world)
        session = await world.token_for(ANN, password=NEW)
        body = {"name": "x", "scopes": ["hubs:read"]}
        program = (await world.call("POST", "/v1/auth/api-tokens", body, token=session)).json()["access_token"]
        hub = (await world.demo())["id"]
        client = await world.call("POST", "/v1/clients", {"hub_id": hub, "name": "lamp"}, token=session)
        status, shown = await change(world, ann["id"], active=False)
        assert status == 200 and not shown["active"]
        assert not await works(world, session) and not await works(world, program)
        assert (await world.log_in(ANN, NEW)).status_code == 401
        assert (await world.call("GET", f"/v1/clients/{client.json()['id']}")).status_code == 200
        assert (await world.call("POST", f"/v1/users/{ann['id']}/invite")).json()["code"] == "account_disabled"
        assert (await change(world, ann["id"], active=True))[0] == 200
        assert not await works(world, session) and not await works(world, program)
        assert (await world.log_in(ANN, NEW)).status_code == 200

    in_world(scenario)


def test_disabling_ends_an_open_invitation(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        ann = await invite(world)
        await change(world, ann["id"], active=False)
        await change(world, ann["id"], active=True)
        assert (await accept(world, ann["invitation_token"]))[0] == 404

    in_world(scenario)


@pytest.mark.parametrize("fields", [{"active": False}, {"role": "user"}], ids=str)
def test_the_last_admin_who_can_sign_in_stays(in_world: Run, fields: dict[str, Any]) -> None:
    async def scenario(world: World) -> None:
        (admin,) = (await world.call("GET", "/v1/users")).json()["data"]
        await invite(world, "later@example.test", role="admin")  # cannot sign in yet
        status, body = await change(world, admin["id"], **fields)
        assert (status, body["code"]) == (409, "last_admin")
        assert await works(world, world.token)
        await joined(world, role="admin")
        assert (await change(world, admin["id"], **fields))[0] == 200

    in_world(scenario)


def test_a_reset_keeps_the_old_password_until_the_new_one_is_chosen(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        ann = await joined(world)
        session = await world.token_for(ANN, password=NEW)
        again = (await world.call("POST", f"/v1/users/{ann['id']}/invite")).json()
        assert (await world.log_in(ANN, NEW)).status_code == 200
        assert (await accept(world, again["invitation_token"], "the third long password"))[0] == 200
        assert not await works(world, session)
        assert (await world.log_in(ANN, NEW)).status_code == 401
        assert (await world.log_in(ANN, "the third long password")).status_code == 200

    in_world(scenario)


def test_what_would_make_a_token_wider_takes_the_password_of_an_admin(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        ann, bob = await joined(world), await invite(world, "bob@example.test")
        body = {"name": "x", "scopes": ["users:write"]}
        token = (await world.call("POST", "/v1/auth/api-tokens", body)).json()["access_token"]
        (admin,) = (one for one in (await world.call("GET", "/v1/users")).json()["data"] if one["role"] == "admin")
        for method, path, sent in (
            ("POST", "/v1/users", {"email": "eve@example.test", "role": "admin"}),
            ("POST", "/v1/users", {"email": "eve@example.test"}),  # whoever has it may invite itself
            ("PATCH", f"/v1/users/{ann['id']}", {"role": "admin"}),
            ("POST", f"/v1/users/{ann['id']}/invite", None),
            ("POST", f"/v1/users/{admin['id']}/invite", None),
            ("POST", f"/v1/users/{bob['id']}/invite", None),
        ):
            answer = await world.call(method, path, sent, token=token)
            assert (answer.status_code, answer.json()["code"]) == (403, "session_required"), path
        assert (await world.call("POST", f"/v1/users/{bob['id']}/invite")).status_code == 201
        assert (await world.log_in("eve@example.test")).status_code == 401
        change = await world.call("PATCH", f"/v1/users/{ann['id']}", {"active": False}, token=token)
        assert change.status_code == 200

    in_world(scenario)


async def change_password(world: World, token: str, current: str, new: str) -> tuple[int, str]:
    body = {"current_password": current, "new_password": new}
    answer = await world.call("POST", "/v1/users/me/password", body, token=token)
    return answer.status_code, answer.text


def test_a_changed_password_ends_the_other_sign_ins_and_no_program(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        here, there = await world.token_for(), await world.token_for()
        body = {"name": "x", "scopes": ["hubs:read"]}
        program = (await world.call("POST", "/v1/auth/api-tokens", body)).json()["access_token"]
        assert (await change_password(world, here, PASSWORD, NEW))[0] == 204
        assert [await works(world, token) for token in (here, there, program)] == [True, False, True]
        assert (await world.log_in()).status_code == 401
        assert (await world.log_in(password=NEW)).status_code == 200

    in_world(scenario)


@pytest.mark.parametrize(
    ("current", "new", "status", "text"),
    [
        ("a wrong password", NEW, 403, "wrong_password"),
        (PASSWORD, "short", 422, "at least 12"),
        (PASSWORD, ADMIN_EMAIL, 422, "e-mail"),
        (PASSWORD, PASSWORD, 422, "another one"),
    ],
)
def test_a_change_that_may_not_be_changes_nothing(
    in_world: Run, current: str, new: str, status: int, text: str
) -> None:
    async def scenario(world: World) -> None:
        got, body = await change_password(world, world.token, current, new)
        assert got == status and text in body and current not in body and new not in body
        assert (await world.log_in()).status_code == 200

    in_world(scenario)


def test_who_guesses_with_a_stolen_token_or_at_the_login_keeps_no_owner_from_changing_the_password(
    in_world: Run,
) -> None:
    async def scenario(world: World) -> None:
        stolen = await world.token_for(scope="hubs:preview")
        for _ in range(25):
            await world.log_in(ADMIN_EMAIL, "guess")  # from the address of the owner
            status, text = await change_password(world, stolen, "guess", NEW)
        assert status == 429 and "retry_after_seconds" in text
        assert (await change_password(world, stolen, PASSWORD, NEW))[0] == 429
        assert (await change_password(world, world.token, PASSWORD, NEW))[0] == 204

    in_world(scenario)


def test_guessing_invitations_is_bounded_and_keeps_nobody_out_who_has_one(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        token = (await invite(world))["invitation_token"]
        statuses = [(await accept(world, f"tvinv_{number}"))[0] for number in range(25)]
        assert statuses == [404] * 20 + [429] * 5
        assert (await accept(world, token))[0] == 200  # from that very address

    in_world(scenario)


def test_the_list_comes_in_pages(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        for name in "abc":
            await invite(world, f"{name}@example.test")
        seen, path = [], "/v1/users?limit=2"
        while path:
            page = (await world.call("GET", path)).json()
            seen += [one["email"] for one in page["data"]]
            path = page["links"]["next"]
        assert sorted(seen) == ["a@example.test", ADMIN_EMAIL, "b@example.test", "c@example.test"]

    in_world(scenario)


def test_each_change_is_audited_once_and_no_secret_with_it(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        ann = await joined(world)
        session = await world.token_for(ANN, password=NEW)
        await change_password(world, session, NEW, PASSWORD)
        for fields in (
            {"display_name": "A"},
            {"display_name": "A"},
            {"active": False, "role": "user"},
            {"active": True},
        ):
            await change(world, ann["id"], **fields)
        async with world.services.database.read() as connection:
            query = select(audit).where(audit.c.target_id == ann["id"]).order_by(audit.c.seq)
            rows = (await connection.execute(query)).all()
        assert [row.action for row in rows] == [
            "account.invited", "account.joined", "account.password_changed",
            "account.changed", "account.disabled", "account.enabled",
        ]  # fmt: skip
        assert rows[3].before == {"display_name": "ann"} and rows[3].after == {"display_name": "A"}
        assert rows[1].actor_id == ann["id"] and rows[1].token_id is None
        for secret in (ann["invitation_token"], NEW, PASSWORD, session):
            assert secret not in str(rows)

    in_world(scenario)
