# SPDX-License-Identifier: Apache-2.0
"""The audit log over the API: what is in it, who sees which of it, newest first, page by page."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from sqlalchemy import event

from thalovant_server.bootstrap import ADMIN_EMAIL
from thalovant_server.store import audit
from thalovant_server.store.audit import Reader, Wanted
from thalovant_server.testing.control import World

Run = Callable[[Callable[[World], Awaitable[None]]], None]
Entry = dict[str, Any]


async def entries(world: World, query: str = "", **more: Any) -> list[Entry]:
    answer = await world.call("GET", f"/v1/audit?{query}", **more)
    assert answer.status_code == 200, answer.text
    return list(answer.json()["data"])


async def change_hub(world: World, hub: Entry, **fields: Any) -> Entry:
    answer = await world.call("PATCH", f"/v1/hubs/{hub['id']}", fields, if_match=hub["etag"])
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def test_the_first_start_is_the_servers_own_doing(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        hub, account = (await entries(world))[-2:]
        assert (account["action"], account["actor"]["kind"], account["target"]["name"]) == (
            "account.created", "server", ADMIN_EMAIL,
        )  # fmt: skip
        assert (hub["action"], hub["actor"]["kind"], hub["target"]["name"]) == ("hub.created", "server", "demo")

    in_world(scenario)


def test_a_hub_leaves_an_entry_for_each_step_of_its_life(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        spec = {"version": "1", "agent": "echo", "password": "planted-secret"}
        hub = await world.make_hub("kitchen", spec=spec)
        await world.make_client(hub["id"])
        hub = await change_hub(world, hub, active=False, spec={"agent": "helper"})
        await world.call("DELETE", f"/v1/hubs/{hub['id']}", if_match=hub["etag"])
        removed, changed, client, created = await entries(world, f"hub_id={hub['id']}")
        assert [each["action"] for each in (created, client, changed, removed)] == [
            "hub.created", "client.created", "hub.changed", "hub.removed",
        ]  # fmt: skip
        assert created["before"] is None
        assert created["after"]["spec"]["agent"] == "echo"
        assert "password" not in created["after"]["spec"]
        assert changed["before"] == {"active": True, "spec": {"agent": "echo"}}
        assert changed["after"] == {"active": False, "spec": {"agent": "helper"}}
        assert (removed["before"]["name"], removed["before"]["clients"], removed["after"]) == ("kitchen", 1, None)

    in_world(scenario)


def test_an_entry_names_who_from_where_by_which_token(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        login = (await world.log_in()).json()
        hub = await world.call("POST", "/v1/hubs", {"name": "a", "spec": {"version": "1"}}, token=login["access_token"])
        made, signed_in, *_ = await entries(world)
        assert made["actor"]["name"] == ADMIN_EMAIL
        assert made["actor"]["token_id"] == login["token_id"]
        assert made["address"] == "192.0.2.1"
        assert made["at"] == hub.json()["created_at"]
        assert (made["outcome"], made["code"], made["times"]) == ("done", None, 1)
        assert signed_in["action"] == "token.created"
        assert signed_in["target"] == {"kind": "token", "id": login["token_id"], "name": "session"}
        assert signed_in["after"]["kind"] == "session"

    in_world(scenario)


def test_a_token_is_revoked_once(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        token_id = (await world.log_in()).json()["token_id"]
        for _ in range(2):
            await world.call("DELETE", f"/v1/auth/api-tokens/{token_id}")
        revoked = await entries(world, "action=token.revoked")
        assert [each["target"]["id"] for each in revoked] == [token_id]

    in_world(scenario)


def test_what_was_refused_or_replayed_is_no_change(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        hub = await world.make_hub("kitchen")
        before = await entries(world, "outcome=done")
        stale = await world.call("PATCH", f"/v1/hubs/{hub['id']}", {"active": False}, if_match='W/"7"')
        twin = await world.call("POST", "/v1/hubs", {"name": "x", "slug": "kitchen", "spec": {"version": "1"}})
        assert (stale.status_code, twin.status_code) == (412, 409)
        assert await entries(world, "outcome=done") == before
        for _ in range(2):
            body = {"name": "again", "spec": {"version": "1"}}
            await world.call("POST", "/v1/hubs", body, idempotency_key="one-and-the-same")
        assert len(await entries(world, "outcome=done")) == len(before) + 1

    in_world(scenario)


def test_pages_join_without_a_gap(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        for name in "abcde":
            await world.make_hub(name)
        everything, found, query = await entries(world), [], "limit=2"
        while query:
            answer = (await world.call("GET", f"/v1/audit?{query}")).json()
            found += answer["data"]
            following = answer["links"]["next"]
            query = following.partition("?")[2] if following else ""
        assert found == everything
        ids = [int(each["id"]) for each in found]
        assert ids == sorted(ids, reverse=True)

    in_world(scenario)


def test_the_next_page_keeps_the_filters(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        for name in "abc":
            await world.make_client(name=name)
        first = (await world.call("GET", "/v1/audit?limit=2&action=client.created")).json()
        second = (await world.call("GET", first["links"]["next"])).json()
        assert [each["target"]["name"] for each in first["data"] + second["data"]] == ["c", "b", "a"]
        of_one = await entries(world, f"client_id={second['data'][0]['client_id']}")
        assert [each["target"]["name"] for each in of_one] == ["a"]

    in_world(scenario)


def test_everybody_sees_what_concerns_them_and_their_hubs(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        ada, eve = await world.add_account("ada"), await world.add_account("eve")
        hub = (await world.call("POST", "/v1/hubs", _public_hub("of-ada"), token=ada)).json()
        await world.call("POST", "/v1/clients", {"hub_id": hub["id"], "name": "of-eve"}, token=eve)
        await world.make_hub("of-admin")
        names_of_ada = [each["target"]["name"] for each in await entries(world, token=ada)]
        names_of_eve = [each["target"]["name"] for each in await entries(world, token=eve)]
        assert names_of_ada == ["of-eve", "of-ada", "session"]
        assert names_of_eve == ["of-eve", "session"]
        assert {"of-admin", "of-ada", "of-eve"} <= {each["target"]["name"] for each in await entries(world)}

    in_world(scenario)


def test_what_a_removed_hub_went_through_stays_its_owners_to_see(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        ada = await world.add_account("ada")
        hub = (await world.call("POST", "/v1/hubs", _public_hub("gone"), token=ada)).json()
        await world.call("DELETE", f"/v1/hubs/{hub['id']}", token=ada, if_match=hub["etag"])
        seen = await entries(world, f"hub_id={hub['id']}", token=ada)
        assert [each["action"] for each in seen] == ["hub.removed", "hub.created"]

    in_world(scenario)


@pytest.mark.parametrize("account", [None, "user-ada"])
def test_a_limited_reader_sees_its_hubs_alone(in_world: Run, account: str | None) -> None:
    async def scenario(world: World) -> None:
        ada = await world.add_account("ada")
        mine = [(await world.call("POST", "/v1/hubs", _public_hub(name), token=ada)).json()["id"] for name in "ab"]
        others = (await world.make_hub("of-admin"))["id"]
        reader = Reader(account, frozenset([mine[0], others]))
        async with world.services.database.read() as connection:
            seen = await audit.newest_first(connection, reader, Wanted(), before=0, limit=10)
        assert {each.hub_id for each in seen} == ({mine[0]} if account else {mine[0], others})

    in_world(scenario)


def test_a_token_without_the_scope_is_refused(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        token = await world.token_for(scope="hubs:write clients:write")
        answer = await world.call("GET", "/v1/audit", token=token)
        assert (answer.status_code, answer.json()["code"]) == (403, "insufficient_scopes")

    in_world(scenario)


READERS = {"everything": Reader(None), "own": Reader("user-ada"), "limited": Reader("user-ada", frozenset(["hub-x"]))}
ASKED = {
    "all": Wanted(),
    "hub": Wanted(hub_id="x"),
    "client": Wanted(client_id="x"),
    "action": Wanted(action="x"),
    "outcome": Wanted(outcome="denied"),
}


async def plan_of(world: World, reader: Reader, wanted: Wanted) -> list[str]:
    """How the database finds a page: a SCAN would read the whole log."""
    async with world.services.database.read() as connection:
        sent: list[tuple[str, Any]] = []

        def note(_c: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
            sent.append((statement, parameters))

        event.listen(connection.sync_connection, "before_cursor_execute", note)
        await audit.newest_first(connection, reader, wanted, before=9, limit=3)
        statement, parameters = sent[0]
        plan = await connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
        return [str(step.detail) for step in plan]


@pytest.mark.parametrize("reader", READERS)
def test_a_page_reads_few_rows_of_a_long_log(in_world: Run, reader: str) -> None:
    async def scenario(world: World) -> None:
        for asked, wanted in ASKED.items():
            steps = await plan_of(world, READERS[reader], wanted)
            assert not [step for step in steps if step.startswith(("SCAN audit", "SCAN entry"))], (asked, steps)

    in_world(scenario)


def _public_hub(name: str) -> Entry:
    return {"name": name, "visibility": "public", "spec": {"version": "1"}}
