# SPDX-License-Identifier: Apache-2.0
"""The audit log as a signed file, from the API: whole, oldest first, what its reader may see; never shortened."""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
import pytest

from thalovant_server.audit_export import verify
from thalovant_server.control import audit
from thalovant_server.control.answers import time_text
from thalovant_server.testing.control import World

Run = Callable[[Callable[[World], Awaitable[None]]], None]


async def export(world: World, query: str = "", **more: Any) -> list[bytes]:
    answer = await world.call("GET", f"/v1/audit/export?{query}", **more)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("application/x-ndjson")
    return answer.content.splitlines(keepends=True)


def test_an_export_is_the_whole_log_oldest_first_and_good(in_world: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "BATCH", 2)

    async def scenario(world: World) -> None:
        for name in "abcde":
            await world.make_hub(name)
        await world.log_in(password="wrong")
        lines = await export(world)
        key = (await world.call("GET", "/v1/audit/key", token=None)).json()["public_key"]
        listed = (await world.call("GET", "/v1/audit")).json()["data"]
        assert [orjson.loads(line) for line in lines[:-1]] == listed[::-1]
        assert verify(lines, key).entries == len(listed)

    in_world(scenario)


def test_an_export_holds_what_was_asked_for_and_says_so(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        times = []
        for name in "abc":
            world.clock.seconds += 60
            times.append(time_text(world.clock.micros()))
            await world.make_hub(name)
        lines = await export(world, f"since={times[1]}&until={times[2]}&action=hub.created")
        assert [orjson.loads(line)["target"]["name"] for line in lines[:-1]] == ["b"]
        assert verify(lines).filters == {"since": times[1], "until": times[2], "action": "hub.created"}

    in_world(scenario)


@pytest.mark.parametrize("since", ["0001-01-01T00:00:00%2B14:00", "9999-12-31T23:59:59-14:00", "2026-01-01T00:00:00"])
def test_any_moment_may_be_asked_for(in_world: Run, since: str) -> None:
    async def scenario(world: World) -> None:
        assert verify(await export(world, f"since={since}")).filters["since"]

    in_world(scenario)


def test_what_is_no_moment_is_refused(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        for text in ("yesterday", "0.5", "-1", "1790000000", ""):
            assert (await world.call("GET", f"/v1/audit/export?since={text}")).status_code == 422, text
        assert (await world.call("GET", "/v1/audit/export?since=2026-11-01")).status_code == 200

    in_world(scenario)


def test_an_export_holds_only_what_its_reader_may_see(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        ada = await world.add_account("ada")
        await world.make_hub("of-admin")
        lines = await export(world, token=ada)
        assert [orjson.loads(line)["action"] for line in lines[:-1]] == ["token.created"]
        narrow = await world.token_for(scope="hubs:write")
        assert (await world.call("GET", "/v1/audit/export", token=narrow)).status_code == 403

    in_world(scenario)


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE audit SET address = 'x'",
        "DELETE FROM audit",
        "REPLACE INTO audit (seq, at, action, outcome, actor_kind, times) VALUES (1, 1, 'a', 'done', 'server', 1)",
    ],
    ids=["update", "delete", "replace"],
)
def test_the_log_is_only_added_to(in_world: Run, change: str) -> None:
    async def scenario(world: World) -> None:
        database = sqlite3.connect(world.services.database.path)
        try:
            before = database.execute("SELECT * FROM audit").fetchall()
            with pytest.raises(sqlite3.IntegrityError, match="append-only"):
                database.execute(change)
            assert before and database.execute("SELECT * FROM audit").fetchall() == before
        finally:
            database.close()

    in_world(scenario)


def test_the_key_that_signs_is_made_once_and_sealed(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        key = await audit.signing_key(world.services)
        assert key == await audit.signing_key(world.services)
        assert key not in world.services.database.path.read_bytes()

    in_world(scenario)


def test_an_export_of_one_who_does_not_see_everything_says_whose_it_is(in_world: Run) -> None:
    """Nobody may take it for the whole log."""

    async def scenario(world: World) -> None:
        hub, ann = await world.make_hub("one"), await world.add_account("ann")
        asked = {"name": "auditor", "scopes": ["audit:read"], "hub_ids": [hub["id"]]}
        limited = (await world.call("POST", "/v1/auth/api-tokens", asked)).json()["access_token"]
        assert verify(await export(world, token=limited)).filters == {"limited_to_hubs": hub["id"]}
        assert verify(await export(world, token=ann)).filters == {"seen_by": "user-ann"}
        assert verify(await export(world)).filters == {}

    in_world(scenario)
