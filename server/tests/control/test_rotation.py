# SPDX-License-Identifier: Apache-2.0
"""Rotation over the API: a new credential beside the old one, then alone; never three; kept answers lose secrets."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from typing import Any

import httpx2
import pytest

from thalovant_server.control import grace
from thalovant_server.directory_loading import open_directory
from thalovant_server.errors import StorageError
from thalovant_server.testing.control import World
from thalovant_server.testing.directory import cheap_stretch

Run = Callable[[Callable[[World], Awaitable[None]]], None]
HOUR, DAY = 3600, 86400


async def rotate(world: World, client: dict[str, Any], body: Any = None, **headers: str) -> httpx2.Response:
    return await world.call("POST", f"/v1/clients/{client['id']}/rotate", body, **headers)


async def finish(world: World, client: dict[str, Any], **body: Any) -> httpx2.Response:
    return await world.call("POST", f"/v1/clients/{client['id']}/rotate/finish", body or None)


async def cancel(world: World, client: dict[str, Any]) -> httpx2.Response:
    return await world.call("POST", f"/v1/clients/{client['id']}/rotate/cancel")


async def shown(world: World, client: dict[str, Any]) -> dict[str, Any]:
    return dict((await world.call("GET", f"/v1/clients/{client['id']}")).json())


async def credentials(world: World, client: dict[str, Any]) -> list[tuple[int, str]]:
    return [(each["number"], each["state"]) for each in (await shown(world, client))["credentials"]]


async def audited(world: World, action: str) -> list[Any]:
    async with world.services.database.read() as connection:
        found = await connection.exec_driver_sql("SELECT * FROM audit WHERE action = ? ORDER BY seq", (action,))
        return list(found.all())


def is_live(world: World, answer: dict[str, Any]) -> bool:
    return world.services.directory.credential(answer["initial_identify"]["access_key"]) is not None


def refused(answer: httpx2.Response, status: int, code: str) -> None:
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text


def test_a_rotation_gives_a_new_identity_and_leaves_the_old_one_its_grace(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        client = await world.make_client(name="lamp", spec={"siteId": "kitchen"})
        answer = await rotate(world, client)
        assert answer.status_code == 201
        new, old = answer.json()["initial_identify"], client["initial_identify"]
        prefix = f"hubs/{client['hub_id']}/clients/{client['id']}"
        assert (old["mqtt"]["topic_prefix"], new["mqtt"]["topic_prefix"]) == (prefix, f"{prefix}.2")
        for secret in ("access_key", "password"):
            assert old[secret] != new[secret] and len(new[secret]) == 43
        assert old["mqtt"]["password"] != new["mqtt"]["password"]
        same = ("site_id", "default_master", "default_port", "ca_pem")
        assert [new[each] for each in same] == [old[each] for each in same]
        first, second = answer.json()["credentials"]
        assert (first["number"], first["state"], second["number"], second["state"]) == (1, "grace", 2, "current")
        assert (first["expires_at"], second["expires_at"]) == ("2026-09-22T14:13:20.000Z", None)
        assert second["topic_prefix"] == f"{prefix}.2" and second["mqtt"] and not second["key_pinned"]
        assert is_live(world, client) and is_live(world, answer.json())
        unmoved = ("id", "name", "active", "etag", "spec", "updated_at")
        assert [answer.json()[each] for each in unmoved] == [client[each] for each in unmoved]

    in_world(scenario)


def test_the_new_credential_is_pinned_afresh_and_stretched_off_the_path(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        directory, client = world.services.directory, await world.make_client()
        old = directory.credential(client["initial_identify"]["access_key"])
        assert old is not None and await directory.pin_key(old.id, b"a" * 32)
        made = (await rotate(world, client)).json()
        new = directory.credential(made["initial_identify"]["access_key"])
        assert new is not None and new.pinned_key is None
        assert await directory.pin_key(new.id, b"b" * 32)
        assert await directory.psk(new) != await directory.psk(old)
        assert [each["key_pinned"] for each in (await shown(world, client))["credentials"]] == [True, True]

    in_world(scenario)


def test_a_rotation_gives_mqtt_to_an_identity_made_before_it_was_on_and_not_after_it_is_off(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        hub = await world.make_hub()
        client = await world.make_client(hub["id"])
        assert not client["credentials"][0]["mqtt"]
        change = {"spec": {"protocols": {"mqtt": {"enabled": True}}}}
        hub = (await world.call("PATCH", f"/v1/hubs/{hub['id']}", change, if_match=hub["etag"])).json()
        made = (await rotate(world, client, {"grace_seconds": 0})).json()
        entry = world.services.directory.credential(made["initial_identify"]["access_key"])
        password = made["initial_identify"]["mqtt"]["password"]
        assert entry is not None and world.services.directory.check_mqtt_password(entry, password.encode())
        change = {"active": False, "spec": {"protocols": {"mqtt": {"enabled": False}}}}
        await world.call("PATCH", f"/v1/hubs/{hub['id']}", change, if_match=hub["etag"])
        assert "mqtt" not in (await rotate(world, client, {"grace_seconds": 0})).json()["initial_identify"]

    in_world(scenario)


def test_a_third_credential_is_refused_and_a_replacement_of_all_never_is(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        client = await world.make_client()
        second = (await rotate(world, client)).json()
        before = list(world.changes)
        refused(await rotate(world, client), 409, "rotation_in_progress")
        assert world.changes == before and await credentials(world, client) == [(1, "grace"), (2, "current")]
        third = (await rotate(world, client, {"grace_seconds": 0})).json()
        assert [is_live(world, each) for each in (client, second, third)] == [False, False, True]
        assert await credentials(world, client) == [(3, "current")]
        fourth = (await rotate(world, client, {"grace_seconds": 0})).json()
        assert not is_live(world, third) and is_live(world, fourth)
        assert fourth["credentials"][0]["topic_prefix"].endswith(".4")

    in_world(scenario)


def test_a_finish_waits_for_the_new_credential_to_be_used(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        client = await world.make_client()
        made = (await rotate(world, client)).json()
        refused(await finish(world, client), 409, "new_credential_unused")
        assert is_live(world, client)
        old, new = (world.services.directory.credentials_of(client["id"])[n].id for n in (0, 1))
        world.services.uses.note(old, "mqtt", "192.0.2.7")
        refused(await finish(world, client), 409, "new_credential_unused")
        world.services.uses.note(new, "wss", "192.0.2.8")
        answer = await finish(world, client)
        assert answer.status_code == 200
        (left,) = answer.json()["credentials"]
        assert (left["number"], left["state"], left["expires_at"]) == (2, "current", None)
        assert left["last_used"] == {"at": "2026-09-21T14:13:20.000Z", "carrier": "wss", "address": "192.0.2.8"}
        assert not is_live(world, client) and is_live(world, made)

    in_world(scenario)


def test_a_finish_may_be_forced(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        client = await world.make_client()
        await rotate(world, client)
        assert (await finish(world, client, force=True)).status_code == 200
        assert await credentials(world, client) == [(2, "current")]
        assert not is_live(world, client)

    in_world(scenario)


def test_a_cancel_drops_the_new_credential_and_the_old_one_has_no_end_any_longer(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        client = await world.make_client()
        made = (await rotate(world, client, {"grace_seconds": HOUR})).json()
        answer = await cancel(world, client)
        assert answer.status_code == 200 and not is_live(world, made)
        assert [(each["number"], each["expires_at"]) for each in answer.json()["credentials"]] == [(1, None)]
        world.clock.seconds += 2 * HOUR
        assert is_live(world, client)
        again = (await rotate(world, client)).json()
        assert [each["number"] for each in again["credentials"]] == [1, 3]

    in_world(scenario)


def test_without_a_rotation_there_is_nothing_to_finish_or_cancel(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        client = await world.make_client()
        for each in (finish(world, client), finish(world, client, force=True), cancel(world, client)):
            refused(await each, 409, "no_rotation")
        await rotate(world, client, {"grace_seconds": 1})
        world.clock.seconds += 1  # over, whether its removal has come round or not
        for each in (finish(world, client), finish(world, client, force=True), cancel(world, client)):
            refused(await each, 409, "no_rotation")
        assert await credentials(world, client) == [(2, "current")]
        assert (await rotate(world, client)).status_code == 201

    in_world(scenario)


def test_the_grace_ends_for_good_once_and_is_audited(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        client = await world.make_client()
        await rotate(world, client, {"grace_seconds": HOUR})
        world.clock.seconds += HOUR - 1
        await world.services.grace.end_expired()
        assert is_live(world, client) and not await audited(world, "credential.expired")
        world.clock.seconds += 1
        assert not is_live(world, client)
        for _ in range(2):
            await world.services.grace.end_expired()
        (entry,) = await audited(world, "credential.expired")
        assert (entry.actor_kind, entry.client_id, entry.target_name) == ("server", client["id"], "lamp")
        assert len(world.services.directory.credentials_of(client["id"])) == 1
        world.clock.seconds -= HOUR  # a clock set back revives nothing
        assert not is_live(world, client)

    in_world(scenario)


def test_the_keeper_ends_a_grace_by_itself_when_the_clock_jumps(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        client = await world.make_client()
        await rotate(world, client, {"grace_seconds": 30 * DAY})
        over = asyncio.Event()
        world.services.directory.subscribe(lambda change: over.set() if change.action == "removed" else None)
        world.clock.seconds += 31 * DAY
        await asyncio.wait_for(over.wait(), 10)
        assert len(world.services.directory.credentials_of(client["id"])) == 1

    in_world(scenario)


def test_the_keeper_tries_again_when_the_database_fails(in_world: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(world: World) -> None:
        client, database = await world.make_client(), world.services.database
        await rotate(world, client, {"grace_seconds": 1})
        real, failed, over = database.write, [], asyncio.Event()

        async def write(work: Any) -> Any:
            if not failed:
                failed.append(work)
                raise StorageError("the disk is full")
            return await real(work)

        world.services.directory.subscribe(lambda change: over.set() if change.action == "removed" else None)
        monkeypatch.setattr(grace, "AGAIN_SECONDS", 0)
        monkeypatch.setattr(database, "write", write)
        world.clock.seconds += 1
        await asyncio.wait_for(over.wait(), 10)
        assert failed and len(await audited(world, "credential.expired")) == 1

    in_world(scenario)


def test_the_pinned_key_of_one_credential_is_reset_and_not_the_others(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        directory, client = world.services.directory, await world.make_client()
        await rotate(world, client)
        for entry, key in zip(directory.credentials_of(client["id"]), (b"a" * 32, b"b" * 32), strict=True):
            assert await directory.pin_key(entry.id, key)
        assert (await world.call("POST", f"/v1/clients/{client['id']}/credentials/2/reset-key")).status_code == 204
        assert [each["key_pinned"] for each in (await shown(world, client))["credentials"]] == [True, False]
        await finish(world, client, force=True)
        gone = await world.call("POST", f"/v1/clients/{client['id']}/credentials/1/reset-key")
        refused(gone, 404, "credential_not_found")
        assert gone.json()["detail"] == "Credential not found: this client has number 2"

    in_world(scenario)


def test_a_replay_gives_the_first_answer_with_its_secrets(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        client, other = await world.make_client(), await world.make_client()
        bodies = [{"spec": {"apiKey": secrets.token_urlsafe(32), "password": secrets.token_urlsafe(32)}} for _ in "ab"]
        first = await rotate(world, client, bodies[0], idempotency_key="one")
        again = await rotate(world, client, bodies[1], idempotency_key="one")
        assert (again.status_code, again.content) == (201, first.content)
        assert first.json()["initial_identify"]["access_key"] == bodies[0]["spec"]["apiKey"]
        refused(await rotate(world, client, {"grace_seconds": 5}, idempotency_key="one"), 409, "idempotency_key_reused")
        refused(await rotate(world, other, bodies[0], idempotency_key="one"), 409, "idempotency_key_reused")
        assert await credentials(world, client) == [(1, "grace"), (2, "current")]
        assert len(await audited(world, "credential.rotated")) == 1

    in_world(scenario)


def test_kept_answers_lose_the_secrets_of_credentials_that_end_and_of_no_other(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        body = {"hub_id": (await world.demo())["id"], "name": "lamp"}
        create = await world.call("POST", "/v1/clients", body, idempotency_key="made")
        client = create.json()
        second = await rotate(world, client, idempotency_key="second")
        await cancel(world, client)
        refused(await rotate(world, client, idempotency_key="second"), 409, "idempotency_result_gone")
        assert (await world.call("POST", "/v1/clients", body, idempotency_key="made")).content == create.content
        third = await rotate(world, client, idempotency_key="third")
        await finish(world, client, force=True)
        refused(await world.call("POST", "/v1/clients", body, idempotency_key="made"), 409, "idempotency_result_gone")
        assert (await rotate(world, client, idempotency_key="third")).content == third.content
        await world.call("DELETE", f"/v1/clients/{client['id']}", if_match=client["etag"])
        async with world.services.database.read() as connection:
            kept = await connection.exec_driver_sql("SELECT sealed_answer FROM idempotency")
            assert [row.sealed_answer for row in kept] == [None, None, None]
        assert second.status_code == 201

    in_world(scenario)


@pytest.mark.parametrize(
    "body",
    [
        {"grace_seconds": -1}, {"grace_seconds": 2_592_001}, {"grace_seconds": "5"}, {"grace_seconds": None},
        {"spec": {"apiKey": "short"}}, {"spec": {"password": "a/" * 20}}, {"spec": {"apiKey": 5}}, {"spec": []},
    ],
    ids=str,
)  # fmt: skip
def test_an_unusable_request_changes_nothing(in_world: Run, body: Any) -> None:
    async def scenario(world: World) -> None:
        client = await world.make_client()
        before = list(world.changes)
        answer = await rotate(world, client, body)
        assert answer.status_code == 422, answer.text
        assert "short" not in answer.text and "a/a/" not in answer.text
        assert world.changes == before and await credentials(world, client) == [(1, "current")]

    in_world(scenario)


@pytest.mark.parametrize("grace", [0, HOUR])
def test_an_access_key_in_use_is_refused_whosever_it_is(in_world: Run, grace: int) -> None:
    async def scenario(world: World) -> None:
        client, other = await world.make_client(), await world.make_client()
        for taken in (client, other):
            body = {"grace_seconds": grace, "spec": {"apiKey": taken["initial_identify"]["access_key"]}}
            refused(await rotate(world, client, body), 409, "access_key_in_use")
        assert await credentials(world, client) == [(1, "current")]
        assert is_live(world, client) and is_live(world, other)

    in_world(scenario)


def test_only_those_who_own_the_client_rotate_it(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        client, bob = await world.make_client(), await world.add_account("bob")
        path = f"/v1/clients/{client['id']}/rotate"
        reader = await world.token_for(scope="clients:read")
        for end in ("", "/finish", "/cancel"):
            refused(await world.call("POST", path + end, token=bob), 404, "client_not_found")
            refused(await world.call("POST", path + end, token=reader), 403, "insufficient_scopes")
            refused(await world.call("POST", f"/v1/clients/client-none/rotate{end}"), 404, "client_not_found")
        assert await credentials(world, client) == [(1, "current")]

    in_world(scenario)


def test_a_paused_client_is_rotated_and_stays_paused(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        client = await world.make_client(active=False)
        made = (await rotate(world, client)).json()
        assert made["active"] is False
        assert [each.active for each in world.services.directory.credentials_of(client["id"])] == [False, False]

    in_world(scenario)


def test_a_directory_filled_at_start_equals_the_one_fed_by_rotations(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        made = [await world.make_client() for _ in range(4)]
        for client in made:
            await rotate(world, client)
        await finish(world, made[1], force=True)
        await cancel(world, made[2])
        await rotate(world, made[3], {"grace_seconds": 0})
        fed = world.services.directory
        for client in made:
            for entry in fed.credentials_of(client["id"]):
                await fed.psk(entry)
        loaded = await open_directory(world.services.database, node_id="unused", stretch=cheap_stretch)
        for client in made:
            assert loaded.credentials_of(client["id"]) == fed.credentials_of(client["id"]) != []
        await loaded.stop()

    in_world(scenario)


def test_each_change_is_audited_once_and_without_a_secret(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        client = await world.make_client()
        answers = [client, (await rotate(world, client)).json()]
        await cancel(world, client)
        answers.append((await rotate(world, client)).json())
        await finish(world, client, force=True)
        await finish(world, client, force=True)
        for action, times in (("rotated", 2), ("cancelled", 1), ("finished", 1)):
            entries = await audited(world, f"credential.{action}")
            assert len(entries) == times
            for secret in ("access_key", "password"):
                assert not [a for a in answers if a["initial_identify"][secret] in str(entries)]

    in_world(scenario)
