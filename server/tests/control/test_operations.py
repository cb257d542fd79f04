# SPDX-License-Identifier: Apache-2.0
"""What an outside broker still has to take up: an operation, from `requested` to its one end, over restarts too."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import uvloop

from thalovant import (
    AsyncThalovantControlPlane,
    ThalovantAdmissionFailedError,
    ThalovantAdmissionTimeoutError,
    ThalovantAPIError,
)
from thalovant.operation import OperationResource
from thalovant_server.control import operation_keeper
from thalovant_server.control.operation_keeper import ALLOWED_MICROSECONDS, KEPT_MICROSECONDS
from thalovant_server.directory import CredentialEntry
from thalovant_server.errors import StorageError
from thalovant_server.store import operations as rows
from thalovant_server.testing.control import BROKER_ENDPOINTS, ENDPOINTS, ScriptedAdmission, World, open_world
from thalovant_server.wall_clock import SECOND

Run = Callable[[Callable[[World], Awaitable[None]]], None]
Event = Callable[[World, dict[str, Any]], Awaitable[None]]
MEMBERS = {
    "id", "kind", "aggregate_type", "aggregate_id", "status", "details", "git_commit_sha", "error_code",
    "error_message", "created_at", "updated_at", "committed_at", "applied_at", "ready_at", "terminal_at", "links",
}  # fmt: skip
LINK = {"version": "1", "protocols": {"mqtt": {"enabled": True, "via": "link"}}}


async def behind(world: World, admission: ScriptedAdmission | None = None, **fields: Any) -> str:
    """A hub at the outside broker; its id."""
    world.services.endpoints = BROKER_ENDPOINTS
    world.services.admission = admission
    return str((await world.make_hub("behind", spec=LINK, **fields))["id"])


def busy() -> ScriptedAdmission:
    """A broker that has a lot to do, so that no answer waits for it."""
    return ScriptedAdmission(queued=1)


def credential(world: World, client: dict[str, Any]) -> CredentialEntry:
    """The newest credential of a client."""
    return world.services.directory.credentials_of(client["id"])[-1]


async def asked(world: World, operation: dict[str, Any]) -> dict[str, Any]:
    """The operation as the API tells of it now."""
    answer = await world.call("GET", operation["links"]["self"])
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def states(world: World, *clients: dict[str, Any]) -> list[str]:
    return [(await asked(world, each["operation"]))["status"] for each in clients]


# -- beginning


def test_a_new_client_is_requested_until_the_broker_has_it(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        admission = busy()
        client = await world.make_client(await behind(world, admission))
        operation = client["operation"]
        assert operation.keys() == MEMBERS
        assert (operation["kind"], operation["status"]) == ("client.admission", "requested")
        assert (operation["aggregate_type"], operation["aggregate_id"]) == ("client", client["id"])
        assert operation["details"] == {"hub_id": client["hub_id"], "client_id": client["id"], "credential": 1}
        assert operation["links"]["client"] == f"/v1/clients/{client['id']}"
        assert operation["created_at"] == operation["committed_at"] == client["created_at"]
        assert [operation[name] for name in ("applied_at", "ready_at", "terminal_at", "error_code")] == [None] * 4
        assert await asked(world, operation) == operation
        world.clock.seconds += 3
        admission.take(credential(world, client).id)
        await world.services.operations.look()
        ready = await asked(world, operation)
        assert (ready["status"], ready["error_code"], ready["error_message"]) == ("ready", None, None)
        assert ready["applied_at"] == ready["ready_at"] == ready["terminal_at"] == ready["updated_at"]
        assert ready["ready_at"] > ready["created_at"] == operation["created_at"]

    in_world(scenario)


def test_our_sdk_reads_each_state(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        client = await world.make_client(await behind(world, busy()))
        read = OperationResource.from_dict(client["operation"])
        assert not read.is_ready and not read.is_failed
        world.services.operations.told(credential(world, client).id, "ready")
        await world.services.operations.look()
        read = OperationResource.from_dict(await asked(world, client["operation"]))
        assert read.is_ready and read.ready_at == read.terminal_at and read.links["self"] == f"/v1/operations/{read.id}"

    in_world(scenario)


def test_a_broker_with_nothing_else_to_do_is_waited_for_and_the_first_answer_is_ready(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        admission = ScriptedAdmission(takes_all=True)
        client = await world.make_client(await behind(world, admission))
        assert client["operation"]["status"] == "ready"
        assert await asked(world, client["operation"]) == client["operation"]
        assert client["initial_identify"]["mqtt"]["password"]

    in_world(scenario)


def test_the_wait_is_short_when_the_broker_does_not_answer_and_none_at_all_when_it_is_busy(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        admission = ScriptedAdmission()
        hub_id = await behind(world, admission)
        assert (await world.make_client(hub_id))["operation"]["status"] == "requested"
        assert [wait for wait in admission.waits if wait] == [0.25]
        admission.queued, admission.waits = 7, []
        assert (await world.make_client(hub_id))["operation"]["status"] == "requested"
        assert not any(admission.waits)

    in_world(scenario)


def test_a_rotation_has_an_operation_of_its_own(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        admission = busy()
        client = await world.make_client(await behind(world, admission))
        rotated = (await world.call("POST", f"/v1/clients/{client['id']}/rotate", {})).json()
        operation = rotated["operation"]
        assert operation["id"] != client["operation"]["id"]
        assert (operation["kind"], operation["details"]["credential"]) == ("credential.admission", 2)
        admission.take(credential(world, client).id)
        await world.services.operations.look()
        assert await states(world, rotated, client) == ["ready", "requested"]

    in_world(scenario)


@pytest.mark.parametrize("which", ["embedded", "off", "hub asleep", "client paused", "no broker"])
def test_what_no_broker_has_to_take_up_has_no_operation(in_world: Run, which: str) -> None:
    async def scenario(world: World) -> None:
        hub_id = await behind(world, ScriptedAdmission(takes_all=True), active=which != "hub asleep")
        if which in ("embedded", "off"):
            mqtt = {"enabled": which != "off", "via": "embedded"}
            hub_id = (await world.make_hub("other", spec={"version": "1", "protocols": {"mqtt": mqtt}}))["id"]
        if which == "no broker":
            world.services.endpoints = ENDPOINTS
        client = await world.make_client(hub_id, active=which != "client paused")
        rotated = (await world.call("POST", f"/v1/clients/{client['id']}/rotate", {})).json()
        assert "operation" not in client and "operation" not in rotated
        assert ("mqtt" in client["initial_identify"]) is (which not in ("off", "no broker"))

    in_world(scenario)


def test_a_replay_tells_of_the_same_operation_as_it_is_now(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        admission = busy()
        body = {"hub_id": await behind(world, admission), "name": "lamp"}
        first = (await world.call("POST", "/v1/clients", body, idempotency_key="k")).json()
        admission.take(credential(world, first).id)
        await world.services.operations.look()
        again = (await world.call("POST", "/v1/clients", body, idempotency_key="k")).json()
        assert again["operation"] == await asked(world, first["operation"])
        assert again["operation"]["status"] == "ready"
        assert {**again, "operation": None} == {**first, "operation": None}

    in_world(scenario)


# -- ending


async def removed(world: World, client: dict[str, Any]) -> None:
    await world.call("DELETE", f"/v1/clients/{client['id']}", if_match=client["etag"])


async def replaced(world: World, client: dict[str, Any]) -> None:
    await world.call("POST", f"/v1/clients/{client['id']}/rotate", {"grace_seconds": 0})


async def paused(world: World, client: dict[str, Any]) -> None:
    await world.call("PATCH", f"/v1/clients/{client['id']}", {"active": False}, if_match=client["etag"])


async def hub_changed(world: World, client: dict[str, Any], change: dict[str, Any]) -> None:
    path = f"/v1/hubs/{client['hub_id']}"
    etag = (await world.call("GET", path)).json()["etag"]
    assert (await world.call("PATCH", path, change, if_match=etag)).status_code == 200


async def moved(world: World, client: dict[str, Any]) -> None:
    await hub_changed(world, client, {"spec": {"protocols": {"mqtt": {"via": "embedded"}}}})


async def turned_off(world: World, client: dict[str, Any]) -> None:
    await hub_changed(world, client, {"active": False})


async def hub_removed(world: World, client: dict[str, Any]) -> None:
    path = f"/v1/hubs/{client['hub_id']}"
    await world.call("DELETE", path, if_match=(await world.call("GET", path)).json()["etag"])


async def refused(world: World, client: dict[str, Any]) -> None:
    world.services.operations.told(credential(world, client).id, "The broker at b:1 will not do it: full.")


async def late(world: World, _: dict[str, Any]) -> None:
    world.clock.seconds += ALLOWED_MICROSECONDS / SECOND


@pytest.mark.parametrize(
    ("event", "status", "code", "said"),
    [
        (removed, "failed", "credential_ended", "removed"),
        (replaced, "failed", "credential_ended", "replaced"),
        (hub_removed, "failed", "credential_ended", "removed"),
        (paused, "failed", "client_paused", "Resume it"),
        (moved, "failed", "hub_left_the_broker", "elsewhere"),
        (turned_off, "failed", "hub_left_the_broker", "turned off"),
        (refused, "failed", "broker_refused", "The broker at b:1 will not do it: full."),
        (late, "timed_out", "admission_timed_out", "thalovant-server health"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_happens_meanwhile_is_the_end_with_a_code_and_a_sentence(
    in_world: Run, event: Event, status: str, code: str, said: str
) -> None:
    async def scenario(world: World) -> None:
        client = await world.make_client(await behind(world, busy()))
        await event(world, client)
        await world.services.operations.look()
        failed = await asked(world, client["operation"])
        assert (failed["status"], failed["error_code"]) == (status, code)
        assert said in failed["error_message"] and failed["error_message"].endswith(".")
        assert failed["terminal_at"] is not None and failed["ready_at"] is None
        assert OperationResource.from_dict(failed).is_failed

    in_world(scenario)


def test_a_broker_is_given_its_time(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        client = await world.make_client(await behind(world, busy()))
        world.clock.seconds += ALLOWED_MICROSECONDS / SECOND - 1
        await world.services.operations.look()
        assert await states(world, client) == ["requested"]

    in_world(scenario)


def test_an_operation_ends_once(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        client = await world.make_client(await behind(world, ScriptedAdmission(takes_all=True)))
        for event in (removed, late):
            await event(world, client)
            await world.services.operations.look()
        late_end = rows.End(client["operation"]["id"], "failed", "x", "y")
        database = world.services.database
        await database.write(lambda transaction: rows.end(transaction.connection, [late_end], 1))
        assert await asked(world, client["operation"]) == client["operation"]

    in_world(scenario)


def test_the_keeper_itself_hears_of_what_the_broker_did_and_of_changes(
    in_world: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operation_keeper, "LOOK_SECONDS", 60)

    async def scenario(world: World) -> None:
        hub_id = await behind(world, busy())
        lamp, door, bell = [await world.make_client(hub_id) for _ in range(3)]
        world.services.operations.told(credential(world, lamp).id, "ready")
        world.services.operations.told(999, "ready")  # nobody asked
        await removed(world, door)
        async with asyncio.timeout(10):
            while await states(world, lamp, door, bell) != ["ready", "failed", "requested"]:
                pass
            await moved(world, bell)
            while await states(world, bell) != ["failed"]:
                pass

    in_world(scenario)


def test_what_nobody_told_of_is_seen_all_the_same(in_world: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operation_keeper, "LOOK_SECONDS", 0.01)

    async def scenario(world: World) -> None:
        admission = busy()
        client = await world.make_client(await behind(world, admission))
        admission.takes_all = True
        async with asyncio.timeout(10):
            while await states(world, client) != ["ready"]:
                pass

    in_world(scenario)


def test_a_database_that_cannot_be_written_just_now_is_tried_again(
    in_world: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operation_keeper, "AGAIN_SECONDS", 0.01)
    end, faults = rows.end, [StorageError("The disk is full."), StorageError("The disk is full.")]

    async def full_at_first(*args: Any) -> None:
        if faults:
            raise faults.pop()
        await end(*args)

    async def scenario(world: World) -> None:
        client = await world.make_client(await behind(world, busy()))
        monkeypatch.setattr(operation_keeper.operations, "end", full_at_first)
        world.services.operations.told(credential(world, client).id, "ready")
        async with asyncio.timeout(10):
            while await states(world, client) != ["ready"]:
                pass
        assert not faults

    in_world(scenario)


# -- through our SDK


def sdk(world: World) -> AsyncThalovantControlPlane:
    return AsyncThalovantControlPlane(ENDPOINTS.api_url, access_token=world.token, session=world.http)


def test_the_sdk_waits_until_a_new_identity_is_let_in(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        admission = busy()
        hub_id = await behind(world, admission)
        async with sdk(world) as api:
            result = await api.create_client_identity(hub_id, name="lamp")
            assert result.operation is not None and result.operation.status == "requested"
            assert result.identity.mqtt is not None and result.identity.mqtt.endpoint == BROKER_ENDPOINTS.broker_url
            waiting = asyncio.ensure_future(api.wait_for_admission(result, poll_interval=0.001))
            assert (await api.get_operation(result.operation.id)).status == "requested"
            assert not waiting.done()
            world.services.operations.told(credential(world, result.client).id, "ready")
            await asyncio.wait_for(waiting, 10)
            for reference in (result.operation, result.operation.id, result.operation.links["self"] or ""):
                assert (await api.wait_for_operation(reference)).is_ready

    in_world(scenario)


def test_the_sdk_says_why_a_new_identity_is_not_let_in(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        hub_id = await behind(world, busy())
        async with sdk(world) as api:
            result = await api.create_client_identity(hub_id, name="lamp")
            assert result.operation is not None
            with pytest.raises(ThalovantAdmissionTimeoutError):
                await api.wait_for_admission(result, timeout=0.01, poll_interval=0.001)
            await refused(world, result.client)
            with pytest.raises(ThalovantAdmissionFailedError, match="full") as failed:
                await api.wait_for_admission(result, poll_interval=0.001)
            assert failed.value.error_code == "broker_refused"
            with pytest.raises(ThalovantAPIError) as unknown:
                await api.get_operation("op-nothing")
            assert (unknown.value.status_code, unknown.value.code) == (404, "operation_not_found")

    in_world(scenario)


# -- over restarts, and forgotten


def test_an_operation_goes_on_after_a_restart_of_the_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operation_keeper, "LOOK_SECONDS", 0.01)

    async def begin() -> list[dict[str, Any]]:
        async with open_world(tmp_path) as world:
            hub_id = await behind(world, busy())
            return [await world.make_client(hub_id, name=name) for name in ("lamp", "door", "bell")]

    async def go_on(clients: list[dict[str, Any]]) -> None:
        async with open_world(tmp_path) as world:
            admission = busy()
            world.services.endpoints, world.services.admission = BROKER_ENDPOINTS, admission
            admission.take(credential(world, clients[0]).id)
            await removed(world, clients[1])
            async with asyncio.timeout(10):
                while await states(world, *clients) != ["ready", "failed", "requested"]:
                    pass

    uvloop.run(go_on(uvloop.run(begin())))


def test_what_ended_long_ago_is_forgotten_and_what_goes_on_is_not(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        hub_id = await behind(world, busy())
        first, second = [await world.make_client(hub_id) for _ in range(2)]
        await end(world, first)
        world.clock.seconds += KEPT_MICROSECONDS / SECOND
        world.token = await world.token_for()
        await world.services.operations.look()
        assert await states(world, first, second) == ["ready", "timed_out"]
        world.clock.seconds += 1
        third, fourth = [await world.make_client(hub_id) for _ in range(2)]
        await end(world, third)
        gone = await world.call("GET", first["operation"]["links"]["self"])
        assert (gone.status_code, gone.json()["code"]) == (404, "operation_not_found")
        assert await states(world, second, third, fourth) == ["timed_out", "ready", "requested"]

    in_world(scenario)


async def end(world: World, client: dict[str, Any]) -> None:
    """The broker has it."""
    world.services.operations.told(credential(world, client).id, "ready")
    await world.services.operations.look()


# -- who may see it


def test_the_owners_of_the_client_and_of_its_hub_see_it_and_nobody_else(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        tokens = {name: await world.add_account(name) for name in ("ann", "bob", "eve")}
        hub_id = await behind(world, busy(), owner_id="user-ann", visibility="public")
        made = await world.call("POST", "/v1/clients", {"hub_id": hub_id, "name": "lamp"}, token=tokens["bob"])
        path = made.json()["operation"]["links"]["self"]
        tokens["admin"] = world.token
        answers = {name: await world.call("GET", path, token=token) for name, token in tokens.items()}
        statuses = {name: answer.status_code for name, answer in answers.items()}
        assert statuses == {"ann": 200, "bob": 200, "eve": 404, "admin": 200}
        unknown = await world.call("GET", "/v1/operations/op-nothing", token=tokens["eve"])
        assert unknown.json() == answers["eve"].json()

    in_world(scenario)
