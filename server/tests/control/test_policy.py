# SPDX-License-Identifier: Apache-2.0
"""A client's policy over the API: shown as it is in force, changed by the hub's owner only, followed at once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from sqlalchemy import select

from thalovant_server.client_presets import PRESETS
from thalovant_server.directory import Permissions, RateLimit
from thalovant_server.store.tables import audit
from thalovant_server.testing.control import World

Run = Callable[[Callable[[World], Awaitable[None]]], None]
ASK = "recognizer_loop:utterance"
DEFAULT = {
    "connection_type": None,
    "preset": None,
    "allowed_types": [ASK],
    "can_broadcast": False,
    "can_propagate": True,
    "can_escalate": True,
    "blocked_skills": [],
    "blocked_intents": [],
    "rate_limit": None,
    "daily_quota": None,
    "usage": {"day": "2026-09-21", "used": 0},
}
CHANGE = {
    "allowed_types": ["peer.custom", ASK],
    "can_broadcast": True,
    "can_escalate": False,
    "blocked_skills": ["skill-b", "skill-a"],
    "blocked_intents": ["skill-c:open.intent"],
    "rate_limit": {"messages": 5, "per_seconds": 10},
    "daily_quota": 0,
}


def in_force(world: World, client: dict[str, Any]) -> Permissions:
    (entry,) = world.services.directory.credentials_of(client["id"])
    return entry.permissions


async def actions(world: World, client: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    query = select(audit).where(audit.c.client_id == client["id"]).order_by(audit.c.seq)
    async with world.services.database.read() as connection:
        rows = (await connection.execute(query)).all()
    return [(row.action, row.before, row.after) for row in rows]


async def policy_of(world: World, client: dict[str, Any], **more: Any) -> Any:
    answer = await world.call("GET", f"/v1/clients/{client['id']}/policy", **more)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def patch(world: World, client: dict[str, Any], body: Any, *, etag: str | None = None, **more: Any) -> Any:
    headers = {"if_match": etag or (await policy_of(world, client))["etag"], **more}
    return await world.call("PATCH", f"/v1/clients/{client['id']}/policy", body, **headers)


def test_without_settings_a_client_has_the_default(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        client = await world.make_client()
        expected = {**DEFAULT, "client_id": client["id"], "etag": client["etag"]}
        assert await policy_of(world, client) == expected
        assert in_force(world, client) == Permissions()

    in_world(scenario)


def test_a_kind_of_connection_has_its_preset_and_any_other_the_default(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        for kind, preset in PRESETS.items():
            client = await world.make_client(spec={"connection_type": kind})
            shown = await policy_of(world, client)
            assert (shown["connection_type"], shown["preset"]) == (kind, kind)
            assert in_force(world, client) == preset.permissions
            assert shown["allowed_types"] == sorted(preset.permissions.allowed_types)
        client = await world.make_client(spec={"connection_type": "toaster"})
        shown = await policy_of(world, client)
        assert (shown["connection_type"], shown["preset"]) == ("toaster", None)
        assert in_force(world, client) == Permissions()

    in_world(scenario)


def test_a_change_is_in_force_at_once_kept_in_the_spec_and_audited_once(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        client = await world.make_client()
        world.changes.clear()
        answer = await patch(world, client, CHANGE)
        assert answer.status_code == 200, answer.text
        expected = {**DEFAULT, **CHANGE, "blocked_skills": ["skill-a", "skill-b"]}
        assert answer.json() == {**expected, "client_id": client["id"], "etag": 'W/"2"'}
        assert await policy_of(world, client) == answer.json()
        assert in_force(world, client) == Permissions(
            frozenset({ASK, "peer.custom"}), True, True, False, frozenset({"skill-a", "skill-b"}),
            frozenset({"skill-c:open.intent"}), RateLimit(5, 10), 0,
        )  # fmt: skip
        assert [(change.action, change.client_id) for change in world.changes] == [("changed", client["id"])]
        shown = (await world.call("GET", f"/v1/clients/{client['id']}")).json()
        assert shown["etag"] == 'W/"2"'
        assert {key: shown["spec"][key] for key in CHANGE} == CHANGE
        (_, made, _), (action, before, after) = await actions(world, client)
        assert (action, made) == ("policy.changed", None)
        assert before == {key: DEFAULT[key] for key in CHANGE}
        assert after == {key: expected[key] for key in CHANGE}

    in_world(scenario)


def test_what_is_left_out_stays_and_null_goes_back_to_the_preset(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        client = await world.make_client(spec={"connection_type": "web_chat", **CHANGE})
        first = (await patch(world, client, {"daily_quota": 7})).json()
        assert first["rate_limit"] == CHANGE["rate_limit"]
        assert first["daily_quota"] == 7
        second = (await patch(world, client, {"rate_limit": None, "allowed_types": None})).json()
        assert second["rate_limit"] == {"messages": 60, "per_seconds": 60}
        assert second["allowed_types"] == [ASK]
        assert second["daily_quota"] == 7
        third = (await patch(world, client, {"connection_type": None})).json()
        assert (third["preset"], third["rate_limit"], third["can_broadcast"]) == (None, None, True)
        assert in_force(world, client).rate_limit is None

    in_world(scenario)


def test_what_changes_nothing_moves_nothing(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        client = await world.make_client(spec={"daily_quota": 3})
        for body in ({}, {"daily_quota": 3}, {"unknown": 1}, {"rate_limit": None}):
            answer = await patch(world, client, body)
            assert (answer.status_code, answer.json()["etag"]) == (200, client["etag"])
        assert len(await actions(world, client)) == 1

    in_world(scenario)


NONSENSE: list[tuple[dict[str, Any], str]] = [
    ({"allowed_types": "a"}, "allowed_types"),
    ({"allowed_types": ["a b"]}, "allowed_types"),
    ({"blocked_skills": ["a\n"]}, "blocked_skills"),
    ({"blocked_intents": ["e\u0301"]}, "blocked_intents"),
    ({"can_broadcast": "yes"}, "can_broadcast"),
    ({"can_propagate": 1}, "can_propagate"),
    ({"rate_limit": {"messages": 0, "per_seconds": 1}}, "rate_limit.messages"),
    ({"rate_limit": {"messages": 1}}, "rate_limit.per_seconds"),
    ({"rate_limit": {"messages": 1, "per_seconds": 1, "more": 1}}, "rate_limit.more"),
    ({"rate_limit": 5}, "rate_limit"),
    ({"daily_quota": -1}, "daily_quota"),
    ({"daily_quota": 1.5}, "daily_quota"),
    ({"connection_type": "a/b"}, "connection_type"),
]  # fmt: skip


def test_what_makes_no_sense_is_refused_by_name_without_a_change(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        client = await world.make_client()
        for body, field in NONSENSE:
            answer = await patch(world, client, {"daily_quota": 3, **body})
            assert answer.status_code == 422, body
            assert field in answer.text.replace('","', ".")
            assert in_force(world, client) == Permissions()
        assert await policy_of(world, client) == {**DEFAULT, "client_id": client["id"], "etag": client["etag"]}
        assert len(await actions(world, client)) == 1

    in_world(scenario)


def test_another_etag_than_the_present_one_changes_nothing(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        client = await world.make_client()
        for etag in ('W/"2"', "", "*", '"1"'):
            path, headers = f"/v1/clients/{client['id']}/policy", {"if_match": etag} if etag else {}
            answer = await world.call("PATCH", path, {"daily_quota": 1}, **headers)
            assert (answer.status_code, answer.json()["code"]) == (412, "etag_mismatch")
        assert in_force(world, client) == Permissions()

    in_world(scenario)


def test_an_unknown_client_and_somebody_elses_are_not_found(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        client, stranger = await world.make_client((await world.make_hub())["id"]), await world.add_account("stranger")
        for path, token in ((f"/v1/clients/{client['id']}/policy", stranger), ("/v1/clients/nobody/policy", None)):
            more = {"token": token} if token else {}
            for method, body in (("GET", None), ("PATCH", {})):
                answer = await world.call(method, path, body, **more)
                assert (answer.status_code, answer.json()["code"]) == (404, "client_not_found")

    in_world(scenario)


def test_a_token_that_may_only_read_changes_nothing(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        client, reader = await world.make_client(), await world.token_for(scope="clients:read")
        assert (await policy_of(world, client, token=reader))["client_id"] == client["id"]
        answer = await patch(world, client, {"daily_quota": 1}, token=reader)
        assert (answer.status_code, answer.json()["code"]) == (403, "insufficient_scopes")

    in_world(scenario)


# -- a client on somebody else's public hub


def test_a_guest_of_a_public_hub_gives_its_client_no_more_than_the_default(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        guest, hub = await world.add_account("guest"), await world.make_hub(visibility="public")
        for spec in (
            {"allowed_types": [ASK, "more"]},
            {"can_broadcast": True},
            {"connection_type": "embedded", "can_broadcast": True},
            {"connection_type": "developer", "allowed_types": [ASK, "ovos.skills.list"]},
        ):
            body = {"hub_id": hub["id"], "name": "g", "spec": spec}
            answer = await world.call("POST", "/v1/clients", body, token=guest)
            assert (answer.status_code, answer.json()["code"]) == (403, "ownership_required")
        assert (await world.call("GET", "/v1/clients", token=guest)).json()["data"] == []

    in_world(scenario)


def test_a_guest_may_name_any_kind_and_gets_what_default_and_preset_share(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        guest, hub = await world.add_account("guest"), await world.make_hub(visibility="public")
        for kind, preset in PRESETS.items():
            body = {"hub_id": hub["id"], "name": "g", "spec": {"connection_type": kind, "daily_quota": 9}}
            made = await world.call("POST", "/v1/clients", body, token=guest)
            assert made.status_code == 201, made.text
            assert made.json()["spec"]["connection_type"] == kind
            given, may = in_force(world, made.json()), preset.permissions
            assert given.allowed_types == {ASK}
            assert (given.can_propagate, given.can_escalate) == (may.can_propagate, may.can_escalate)
            assert (given.rate_limit, given.daily_quota) == (may.rate_limit, 9)

    in_world(scenario)


def test_a_guest_sees_the_policy_of_its_client_and_only_the_hubs_owner_changes_it(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        guest, hub = await world.add_account("guest"), await world.make_hub(visibility="public")
        body = {"hub_id": hub["id"], "name": "g"}
        client = (await world.call("POST", "/v1/clients", body, token=guest)).json()
        assert (await policy_of(world, client, token=guest))["allowed_types"] == [ASK]
        for change in ({"can_broadcast": True}, {"daily_quota": 1}, {}):
            refused = await patch(world, client, change, token=guest)
            assert (refused.status_code, refused.json()["code"]) == (403, "ownership_required")
        assert (await patch(world, client, {"can_broadcast": True})).status_code == 200

    in_world(scenario)


def test_by_the_clients_spec_a_guest_takes_from_its_policy_and_gives_nothing_back(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        guest, hub = await world.add_account("guest"), await world.make_hub(visibility="public")
        client = (await world.call("POST", "/v1/clients", {"hub_id": hub["id"], "name": "g"}, token=guest)).json()

        async def say(spec: dict[str, Any], token: str | None = guest) -> int:
            etag = (await policy_of(world, client))["etag"]
            more = {"token": token} if token else {}
            path, body = f"/v1/clients/{client['id']}", {"spec": spec}
            return (await world.call("PATCH", path, body, if_match=etag, **more)).status_code

        for more in ({"can_broadcast": True}, {"allowed_types": [ASK, "x"]}, {"connection_type": "developer"}):
            assert await say(more) == 403
        assert await say({"daily_quota": 5}) == 200
        assert in_force(world, client) == Permissions(daily_quota=5)
        for back in ({"daily_quota": None}, {"daily_quota": 6}):
            assert await say(back) == 403
        assert in_force(world, client) == Permissions(daily_quota=5)
        assert await say({"daily_quota": None}, token=None) == 200
        assert in_force(world, client) == Permissions()

    in_world(scenario)


def test_in_a_rotation_both_credentials_follow(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        client = await world.make_client(spec={"daily_quota": 3})
        assert (await world.call("POST", f"/v1/clients/{client['id']}/rotate", {})).status_code == 201
        entries = world.services.directory.credentials_of
        assert [entry.permissions.daily_quota for entry in entries(client["id"])] == [3, 3]
        assert (await patch(world, client, {"daily_quota": 4})).status_code == 200
        assert [entry.permissions.daily_quota for entry in entries(client["id"])] == [4, 4]

    in_world(scenario)
