# SPDX-License-Identifier: Apache-2.0
"""A client is changed, paused and resumed over the API: checked as at its creation, told at once, audited once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from sqlalchemy import select

from thalovant_server.directory_loading import open_directory
from thalovant_server.store.tables import audit
from thalovant_server.testing.control import World
from thalovant_server.testing.directory import cheap_stretch

Run = Callable[[Callable[[World], Awaitable[None]]], None]


async def patch(world: World, client: dict[str, Any], body: Any, **more: Any) -> Any:
    headers = {"if_match": client["etag"], **more}
    return await world.call("PATCH", f"/v1/clients/{client['id']}", body, **headers)


async def entries(world: World) -> list[Any]:
    """What the log says of clients after their creation."""
    async with world.services.database.read() as connection:
        query = select(audit).where(audit.c.action.startswith("client."), audit.c.action != "client.created")
        return list((await connection.execute(query.order_by(audit.c.seq))).all())


def test_name_and_site_change_for_every_credential_at_once(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        client, directory = await world.make_client(spec={"colour": "red", "deep": {"a": 1}}), world.services.directory
        await world.call("POST", f"/v1/clients/{client['id']}/rotate")
        world.changes.clear()
        seen = []
        directory.subscribe(lambda change: seen.append([e.client_name for e in directory.credentials_of(client["id"])]))
        answer = await patch(world, client, {"name": "lamp 2", "spec": {"siteId": "hall", "deep": {"b": 2}}})
        assert answer.status_code == 200
        changed = answer.json()
        assert (changed["name"], changed["etag"]) == ("lamp 2", 'W/"2"')
        assert changed["spec"] == {"version": "1", "siteId": "hall", "colour": "red", "deep": {"a": 1, "b": 2}}
        assert len(changed["credentials"]) == 2
        assert (await world.call("GET", f"/v1/clients/{client['id']}")).json() == changed
        assert [(each.client_name, each.site_id) for each in directory.credentials_of(client["id"])] == [
            ("lamp 2", "hall")
        ] * 2
        assert seen == [["lamp 2", "lamp 2"]] * 2
        assert [each.action for each in world.changes] == ["changed", "changed"]

    in_world(scenario)


def test_a_pause_is_reversible_and_keeps_credentials_and_topics(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        client, directory = await world.make_client(), world.services.directory
        before = directory.credentials_of(client["id"])
        await directory.psk(before[0])
        before = directory.credentials_of(client["id"])
        paused = await patch(world, client, {"active": False})
        assert paused.json()["active"] is False
        assert [each.active for each in directory.credentials_of(client["id"])] == [False]
        resumed = await patch(world, paused.json(), {"active": True})
        assert resumed.json()["credentials"] == client["credentials"]
        assert directory.credentials_of(client["id"]) == before
        loaded = await open_directory(world.services.database, node_id="unused", stretch=cheap_stretch)
        assert loaded.credentials_of(client["id"]) == before
        await loaded.stop()

    in_world(scenario)


def test_each_change_is_one_entry_with_what_differs(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        client = await world.make_client()
        changed = (await patch(world, client, {"name": "renamed"})).json()
        paused = (await patch(world, changed, {"active": False, "name": "paused"})).json()
        resumed = (await patch(world, paused, {"active": True})).json()
        same = {"name": "paused", "active": True, "spec": dict(resumed["spec"]), "hub_id": client["hub_id"]}
        world.changes.clear()
        for nothing in ({}, same, {"name": None, "active": None, "spec": None}):
            assert (await patch(world, resumed, nothing)).json() == resumed
        assert not world.changes
        found = await entries(world)
        assert [each.action for each in found] == ["client.changed", "client.paused", "client.resumed"]
        assert (found[0].before, found[0].after) == ({"name": "lamp"}, {"name": "renamed"})
        assert found[1].after == {"name": "paused", "active": False}
        assert all(each.address == "192.0.2.1" and each.target_id == client["id"] for each in found)

    in_world(scenario)


@pytest.mark.parametrize(
    "body",
    [
        {"name": ""}, {"name": "a/b"}, {"name": "e\u0301"}, {"name": "a\x01"}, {"name": "x" * 201}, {"name": 5},
        {"active": "yes"}, {"active": 1}, {"spec": []},
        {"spec": {"siteId": "a/b"}}, {"spec": {"siteId": " "}}, {"spec": {"siteId": 7}}, {"spec": {"siteId": "a+"}},
        {"spec": {"connection_type": "a/b"}}, {"spec": {"connection_type": 1}}, {"spec": {"version": ""}},
        {"spec": {"allowed_types": "all"}}, {"spec": {"allowed_types": ["a b"]}}, {"spec": {"can_escalate": "no"}},
        {"spec": {"more": "x" * 65536}},
        {"spec": {"apiKey": "a" * 43}}, {"spec": {"password": "b" * 43}}, {"spec": {"api_key": "c" * 43}},
        {"name": "good", "spec": {"siteId": "a#b"}},
    ],
    ids=lambda body: str(body)[:60],
)  # fmt: skip
def test_what_cannot_be_changes_nothing(in_world: Run, body: Any) -> None:
    async def scenario(world: World) -> None:
        client = await world.make_client()
        before = (await world.call("GET", f"/v1/clients/{client['id']}")).json()
        world.changes.clear()
        answer = await patch(world, client, body)
        assert answer.status_code == 422, answer.text
        assert not [each for each in ("aaaa", "bbbb", "cccc") if each in answer.text]
        assert (await world.call("GET", f"/v1/clients/{client['id']}")).json() == before
        assert not world.changes and not await entries(world)

    in_world(scenario)


def test_unknown_stale_foreign_and_fixed_are_refused_without_a_change(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        client, bob = await world.make_client(), await world.add_account("bob")
        reader, body = await world.token_for(scope="clients:read"), {"name": "new"}
        world.changes.clear()
        for answer, status, code in (
            (await patch(world, {**client, "id": "client-none"}, body), 404, "client_not_found"),
            (await patch(world, client, body, token=bob), 404, "client_not_found"),
            (await patch(world, client, body, token=reader), 403, "insufficient_scopes"),
            (await patch(world, {**client, "etag": 'W/"9"'}, body), 412, "etag_mismatch"),
            (await world.call("PATCH", f"/v1/clients/{client['id']}", body), 412, "etag_mismatch"),
            (await patch(world, client, {**body, "hub_id": "hub-other"}), 400, "immutable_field"),
            (await patch(world, client, {**body, "owner_id": "user-bob"}), 400, "immutable_field"),
        ):
            assert (answer.status_code, answer.json()["code"]) == (status, code)
        for headers, word in (({}, "Send the resource's etag"), ({"if_match": 'W/"9"'}, "Read the resource again")):
            refused = await world.call("PATCH", f"/v1/clients/{client['id']}", body, **headers)
            assert refused.json()["detail"].startswith("ETag mismatch: ") and word in refused.json()["detail"]
        assert (await world.call("GET", f"/v1/clients/{client['id']}")).json()["name"] == "lamp"
        assert not world.changes and not await entries(world)

    in_world(scenario)


def test_a_null_takes_a_key_away_and_secrets_at_depth_are_never_kept(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        client = await world.make_client(spec={"siteId": "hall", "colour": "red"})
        body = {"spec": {"colour": None, "siteId": None, "more": {"token": "hidden", "kept": 1}, "password": None}}
        changed = (await patch(world, client, body)).json()
        assert changed["spec"] == {"version": "1", "siteId": "lamp", "more": {"kept": 1}}
        async with world.services.database.read() as connection:
            assert "hidden" not in str((await connection.exec_driver_sql("SELECT * FROM clients, audit")).all())

    in_world(scenario)


def test_on_a_hub_of_somebody_else_the_owner_of_a_client_gives_it_no_more_than_it_has(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        bob, demo = await world.add_account("bob"), await world.demo()
        made = await world.call("POST", "/v1/clients", {"hub_id": demo["id"], "name": "bobs"}, token=bob)
        client = made.json()
        for more in ({"can_broadcast": True}, {"allowed_types": ["recognizer_loop:utterance", "speak"]}):
            answer = await patch(world, client, {"name": "mine", "spec": more}, token=bob)
            assert (answer.status_code, answer.json()["code"]) == (403, "ownership_required")
        less = await patch(world, client, {"name": "mine", "spec": {"allowed_types": []}}, token=bob)
        assert less.json()["name"] == "mine"
        (entry,) = world.services.directory.credentials_of(client["id"])
        assert entry.permissions.allowed_types == frozenset() and not entry.permissions.can_broadcast

    in_world(scenario)
