# SPDX-License-Identifier: Apache-2.0
"""Denied attempts in the audit log: which, with what, how many of them; and that they hold nothing up."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from thalovant_server.bootstrap import ADMIN_EMAIL
from thalovant_server.control.denied import BATCH, DenialWriter
from thalovant_server.control.strangers import StrangersShare
from thalovant_server.denials import MORE, Denial
from thalovant_server.errors import StorageError
from thalovant_server.repeats import KINDS_PER_SOURCE, Line, Told
from thalovant_server.testing.control import World

Run = Callable[[Callable[[World], Awaitable[None]]], None]
Entry = dict[str, Any]


async def denied(world: World, query: str = "", **more: Any) -> list[Entry]:
    answer = await world.call("GET", f"/v1/audit?outcome=denied&{query}", **more)
    return list(answer.json()["data"])


def test_a_wrong_password_names_the_account_that_it_was_tried_on(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        assert (await world.log_in(f" {ADMIN_EMAIL.upper()}", "planted-password")).status_code == 401
        [entry] = await denied(world)
        assert (entry["action"], entry["code"]) == ("login.refused", "invalid_credentials")
        assert entry["target"]["kind"] == "account" and entry["target"]["name"] == ADMIN_EMAIL
        assert (entry["actor"]["kind"], entry["address"], entry["times"]) == ("nobody", "192.0.2.1", 1)

    in_world(scenario)


def test_what_was_typed_as_an_address_is_kept_only_if_an_account_has_it(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        await world.log_in("my-own-password", "x")
        [entry] = await denied(world)
        assert (entry["action"], entry["target"]) == ("login.refused", None)
        assert b"my-own-password" not in world.services.database.path.read_bytes()

    in_world(scenario)


def test_a_throttled_login_is_there_too(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        for _ in range(21):
            answer = await world.log_in("nobody@example.test", "wrong")
        assert answer.status_code == 429
        world.services.denials.close()
        codes = [(each["code"], each["times"]) for each in await denied(world, "action=login.refused")]
        assert codes[::-1][:2] == [("invalid_credentials", 1), ("login_rate_limited", 1)]
        assert codes[0][0] == "invalid_credentials" and codes[0][1] > 10  # the number of the others

    in_world(scenario)


def test_a_request_without_a_good_token_is_nobodys(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        await world.call("GET", "/v1/hubs", token=None)
        await world.call("DELETE", "/v1/clients/planted", token="planted-token")
        entries = await denied(world)
        assert [each["after"]["what"] for each in entries] == ["DELETE /v1/clients/{client_id}", "GET /v1/hubs"]
        assert {(each["action"], each["code"], each["client_id"]) for each in entries} == {
            ("request.refused", "invalid_token", None)
        }
        entry = entries[0]
        assert entry["actor"] == {"kind": "nobody", "id": None, "name": None, "token_id": None}

    in_world(scenario)


def test_a_token_that_is_over_is_named(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        login = (await world.log_in()).json()
        await world.call("DELETE", f"/v1/auth/api-tokens/{login['token_id']}")
        assert (await world.call("GET", "/v1/hubs", token=login["access_token"])).status_code == 401
        [entry] = await denied(world)
        assert (entry["code"], entry["actor"]["token_id"]) == ("invalid_token", login["token_id"])

    in_world(scenario)


def test_a_token_that_may_not_is_named(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        narrow = (await world.log_in(scope="hubs:read")).json()
        hub = await world.demo()
        await world.call("DELETE", f"/v1/hubs/{hub['id']}", token=narrow["access_token"])
        [entry] = await denied(world)
        assert (entry["code"], entry["actor"]["token_id"]) == ("insufficient_scopes", narrow["token_id"])
        assert entry["actor"]["name"] == ADMIN_EMAIL
        assert (entry["target"], entry["hub_id"]) == ({"kind": "hub", "id": hub["id"], "name": "demo"}, hub["id"])

    in_world(scenario)


def test_an_owner_sees_who_reached_for_its_hub_and_clients(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        ada, eve = await world.add_account("ada"), await world.add_account("eve")
        hub = (await world.call("POST", "/v1/hubs", {"name": "a", "spec": {"version": "1"}}, token=ada)).json()
        client = (await world.call("POST", "/v1/clients", {"hub_id": hub["id"], "name": "b"}, token=ada)).json()
        for path in (f"/v1/hubs/{hub['id']}", f"/v1/hubs/{hub['slug']}", f"/v1/clients/{client['id']}"):
            assert (await world.call("GET", path, token=eve)).status_code == 404
        answer = await world.call("POST", "/v1/clients", {"hub_id": hub["id"], "name": "c"}, token=eve)
        assert answer.status_code == 404
        seen = await denied(world, token=ada)
        assert [each["target"]["name"] for each in seen] == ["a", "b", "a", "a"]
        assert {each["actor"]["name"] for each in seen} == {"eve@example.test"}
        assert {each["hub_id"] for each in seen} == {hub["id"]}
        assert seen[1]["client_id"] == client["id"]
        assert seen[0]["after"] == {"what": "POST /v1/clients"}

    in_world(scenario)


def test_what_is_not_there_or_is_ones_own_is_no_denial(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        client = await world.make_client()
        answers = [
            await world.call("GET", "/v1/clients/planted-id"),
            await world.call("GET", "/v1/hubs/planted-id"),
            await world.call("POST", f"/v1/clients/{client['id']}/credentials/9/reset-key"),
            await world.call("DELETE", f"/v1/clients/{client['id']}", if_match='W/"9"'),
            await world.call("POST", "/v1/hubs", {"name": ""}),
        ]
        assert [each.status_code for each in answers] == [404, 404, 404, 412, 422]
        assert await denied(world) == []

    in_world(scenario)


@pytest.mark.parametrize("member", [{"agent": "os:system"}, {"agent_module": "os"}], ids=["agent", "module"])
def test_a_hub_that_names_code_as_its_agent_is_one(in_world: Run, member: dict[str, str]) -> None:
    async def scenario(world: World) -> None:
        answer = await world.call("POST", "/v1/hubs", {"name": "a", "spec": {"version": "1", **member}})
        assert answer.status_code == 422
        [entry] = await denied(world)
        assert (entry["code"], entry["after"]) == ("agent_not_allowed", {"what": "POST /v1/hubs"})
        assert "os" not in (entry["after"]["what"], entry["target"])

    in_world(scenario)


def test_a_flood_is_a_few_entries(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        narrow = await world.token_for(scope="hubs:read")
        for number in range(40):
            await world.call("DELETE", f"/v1/hubs/hub-{number}", token=narrow)
            await world.call("DELETE", f"/v1/clients/client-{number}", token=None)
        world.services.denials.close()
        entries = await denied(world)
        assert len(entries) <= KINDS_PER_SOURCE + 3
        assert sum(each["times"] for each in entries) == 80
        assert [each["times"] for each in entries if each["code"] == MORE] == [40 - KINDS_PER_SOURCE]

    in_world(scenario)


def test_nobody_hides_what_it_reaches_for_in_a_flood(in_world: Run) -> None:
    """Neither who it is, with requests for what is not there, nor with what strangers do meanwhile."""

    async def scenario(world: World) -> None:
        for number in range(2_000):
            world.services.denials.note(
                Denial(
                    action="request.refused",
                    code="invalid_token",
                    address=f"2001:db8:0:{number // 10:x}::1",
                    what=str(number),
                )
            )
        victim, eve = await world.make_client(), await world.add_account("eve")
        for number in range(KINDS_PER_SOURCE):
            await world.call("GET", f"/v1/clients/client-{number}", token=eve)
        await world.call("GET", f"/v1/clients/{victim['id']}", token=eve)
        world.services.denials.close()
        of_eve = [each for each in await denied(world) if each["actor"]["id"] == "user-eve"]
        assert [(each["code"], each["times"]) for each in of_eve] == [(MORE, 1)]

    in_world(scenario)


def _line(**fields: Any) -> Line[Denial]:
    return Line(Denial(action="session.refused", code="unknown_key", address="192.0.2.1", **fields), Told.ONCE)


def test_what_the_writer_takes_is_bounded_and_the_rest_is_a_number(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        writer = DenialWriter(world.services.database, world.clock.micros, most_waiting=3)
        for _ in range(10):
            writer.put(_line())
        await writer.flush()
        number, *written = await denied(world)
        assert (number["action"], number["code"], number["times"]) == ("session.refused", MORE, 7)
        assert [each["code"] for each in written] == ["unknown_key"] * 3

    in_world(scenario)


def test_strangers_of_any_number_add_only_so_much_to_a_log_that_forgets_nothing(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        client = await world.make_client()
        writer = DenialWriter(world.services.database, world.clock.micros, strangers=StrangersShare(5, 6.0))

        async def a_minute_of(strangers: int) -> list[tuple[str, int]]:
            before = len(await denied(world, "limit=1000"))
            for number in range(strangers):
                writer.put(_line(fingerprint=f"{number:x}"))
            writer.put(_line(client_id=client["id"], proven=True))
            await writer.flush()
            world.clock.seconds += 60
            return [(each["code"], each["times"]) for each in (await denied(world, "limit=1000"))[: -before or None]]

        assert await a_minute_of(5) == [("unknown_key", 1)] * 6
        for _ in range(3):  # the minute brought room for the burst again, and no more
            assert await a_minute_of(50) == [(MORE, 45)] + [("unknown_key", 1)] * 6
        [known] = await denied(world, f"client_id={client['id']}&limit=1")
        assert known["actor"]["id"] == client["id"]

    in_world(scenario)


def test_what_strangers_did_beyond_their_share_is_one_number_a_minute(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        database = world.services.database
        writer = DenialWriter(database, world.clock.micros, strangers=StrangersShare(0, 6.0))
        for _ in range(119):  # of which each is a batch of its own
            writer.put(_line())
            await database.write(writer._write_batch)
            world.clock.seconds += 1
        assert [each["times"] for each in await denied(world)] == [60, 1]
        await writer.stop()
        assert [each["times"] for each in await denied(world)] == [58, 60, 1]

    in_world(scenario)


def test_the_writer_writes_in_batches_and_all_of_it_at_the_stop(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        writer = DenialWriter(world.services.database, world.clock.micros)
        writer.start()
        for number in range(2 * BATCH + 1):
            writer.put(_line(carrier=f"{number}"))
        await writer.stop()
        found = await denied(world, "limit=1000")
        assert [each["after"]["carrier"] for each in found] == [str(n) for n in reversed(range(2 * BATCH + 1))]

    in_world(scenario)


def test_what_could_not_be_written_waits(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        database = world.services.database
        writer = DenialWriter(database, world.clock.micros)
        writer.put(_line())

        async def fails(_: Any) -> Any:
            raise StorageError("the disk is full")

        works, database.write = database.write, fails  # type: ignore[method-assign]
        with pytest.raises(StorageError):
            await writer.flush()
        database.write = works  # type: ignore[method-assign]
        await writer.flush()
        await writer.flush()
        assert len(await denied(world)) == 1

    in_world(scenario)
