# SPDX-License-Identifier: Apache-2.0
"""The provisioner before a broker that does what a test has written down: in which order, how often, and in the end."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from thalovant_server.brokers.base import ListedUser, Secret
from thalovant_server.brokers.names import Namespace
from thalovant_server.brokers.provisioner import Patience, Provisioner
from thalovant_server.brokers.wished import client_grants
from thalovant_server.directory import Directory
from thalovant_server.errors import BrokerRefusedError, BrokerTakenError, StorageError
from thalovant_server.testing.brokers import (
    ScriptedBroker,
    ScriptedUser,
    broker_credential,
    broker_password,
    link_hub,
    stored_broker_password,
)
from thalovant_server.testing.directory import directory_of

NAMESPACE = Namespace("home")
PATIENT = 20.0
SERVER = NAMESPACE.server


def key(number: int) -> str:
    return broker_credential(number, NAMESPACE).access_key


def role(number: int) -> str:
    return NAMESPACE.role(f"client-{number}", 1)


@dataclass
class World:
    broker: ScriptedBroker
    directory: Directory
    provisioner: Provisioner
    told: list[tuple[int, str]] = field(default_factory=list)

    def add(self, *numbers: int) -> None:
        for number in numbers:
            self.directory.put_credential(broker_credential(number, NAMESPACE))

    async def settled(self) -> None:
        """Until two comparisons found nothing more to do: the second one removes the roles of those who went."""
        for _ in range(3):
            await self.provisioner.reconcile()
            while self.provisioner.queued:
                await asyncio.sleep(0)

    def asked(self, *names: str) -> list[tuple[str, str]]:
        return [each for each in self.broker.calls if each[0] in (names or ("ensure", "remove", "remove_role"))]


Scenario = Callable[[World], Awaitable[None]]


def run(scenario: Scenario, clients: int = 0, broker: ScriptedBroker | None = None, **more: Any) -> World:
    """Run a scenario; what it leaves is returned. `before` may change the world before it starts."""
    worlds: list[World] = []

    async def main() -> None:
        directory = directory_of(
            [link_hub()], [broker_credential(number, NAMESPACE) for number in range(1, clients + 1)]
        )
        told: list[tuple[int, str]] = []
        found = broker or ScriptedBroker(NAMESPACE)
        found.gate = asyncio.Event()
        found.gate.set()
        plain: dict[str, Any] = {
            "server_password": Secret("of the server"), "check_seconds": 3600.0, "patience": Patience(0.001, 0.002),
            "passwords": stored_broker_password,
        }  # fmt: skip
        options = {**plain, **more}
        passwords = options.pop("passwords")
        provisioner = Provisioner(
            found, directory, passwords, NAMESPACE, told=lambda *outcome: told.append(outcome), **options
        )
        worlds.append(World(found, directory, provisioner, told))
        provisioner.start()
        try:
            async with asyncio.timeout(PATIENT):
                await scenario(worlds[0])
        finally:
            await provisioner.stop()
        assert found.is_closed

    asyncio.run(main())
    return worlds[0]


# -- what is made and removed


def test_what_is_wished_at_the_start_is_made_and_told() -> None:
    async def scenario(world: World) -> None:
        assert await world.provisioner.has(2, PATIENT)
        await world.settled()
        assert set(world.broker.users) == {SERVER, key(1), key(2)}
        assert world.broker.users[key(1)].password == broker_password(1)
        assert world.broker.users[SERVER].password == "of the server"
        assert world.told == [(1, "ready"), (2, "ready")]

    run(scenario, clients=2)


def test_what_the_broker_has_already_is_told_too_and_not_made_again() -> None:
    async def scenario(world: World) -> None:
        await world.settled()
        assert world.told == [(1, "ready")]
        assert ("ensure", key(1)) not in world.broker.calls
        assert await world.provisioner.has(1, 0)

    user = ScriptedUser("earlier", role(1), frozenset({role(1)}))
    grants = client_grants(broker_credential(1, NAMESPACE).topic_prefix)
    run(scenario, clients=1, broker=ScriptedBroker(NAMESPACE, {key(1): user}, {role(1): grants}))


def test_a_paused_clients_user_goes_and_comes_back_with_the_same_password() -> None:
    async def scenario(world: World) -> None:
        assert await world.provisioner.has(1, PATIENT)
        change(world, active=False)
        await world.settled()
        assert set(world.broker.users) == {SERVER}
        assert not await world.provisioner.has(1, 0)
        change(world, active=True)
        assert await world.provisioner.has(1, PATIENT)
        assert world.broker.users[key(1)].password == broker_password(1)

    def change(world: World, *, active: bool) -> None:
        entry = world.directory.credential_by_id(1)
        assert entry is not None
        world.directory.change_client(
            "client-1", client_name="c", site_id="s", active=active, permissions=entry.permissions
        )

    run(scenario, clients=1)


@pytest.mark.parametrize(
    "change", [{"active": False}, {"protocols": frozenset({"wss"})}, {"mqtt_via": "embedded"}], ids=str
)
def test_a_hub_that_leaves_the_broker_takes_its_users_along_and_brings_them_back(change: dict[str, Any]) -> None:
    async def scenario(world: World) -> None:
        await world.settled()
        world.directory.put_hub(replace(link_hub(), **change))
        await world.settled()
        assert set(world.broker.users) == {SERVER}
        world.directory.put_hub(link_hub())
        await world.settled()
        assert set(world.broker.users) == {SERVER, key(1), key(2)}

    run(scenario, clients=2)


def test_of_a_rotated_pair_each_is_a_user_until_the_older_ones_grace_is_over() -> None:
    async def scenario(world: World) -> None:
        await world.settled()
        prefix = NAMESPACE.topic("hubs/hub-1/clients/client-1.2")
        newer = broker_credential(2, NAMESPACE, client_id="client-1", number=2, topic_prefix=prefix)
        world.directory.put_credential(newer)
        await world.settled()
        assert set(world.broker.users) == {SERVER, key(1), key(2)}
        assert set(world.broker.roles) == {SERVER, role(1), NAMESPACE.role("client-1", 2)}
        world.directory.remove_credential(1)
        await world.settled()
        assert set(world.broker.users) == {SERVER, key(2)}
        assert set(world.broker.roles) == {SERVER, NAMESPACE.role("client-1", 2)}

    run(scenario, clients=1)


def test_who_is_asked_for_and_not_wished_is_not_there() -> None:
    async def scenario(world: World) -> None:
        assert not await world.provisioner.has(77, PATIENT)
        world.broker.gate.clear()
        world.add(1)
        assert not await world.provisioner.has(1, 0.01)
        waiting = asyncio.create_task(world.provisioner.has(1, PATIENT))
        await asyncio.sleep(0)
        world.directory.remove_client("client-1")
        assert not await waiting
        world.broker.gate.set()

    run(scenario)


# -- in which order


def test_a_removal_overtakes_two_hundred_creations_behind_the_one_under_way() -> None:
    async def scenario(world: World) -> None:
        await world.settled()
        world.broker.gate.clear()
        before, asked = len(world.broker.calls), len(world.asked())
        world.add(*range(10, 210))
        while len(world.broker.calls) == before:
            await asyncio.sleep(0)
        world.directory.remove_client("client-1")
        assert world.provisioner.queued == 201
        world.broker.gate.set()
        await world.settled()
        kinds = [name for name, _ in world.asked()[asked:]]
        assert kinds[:3] == ["ensure", "remove", "ensure"]
        assert kinds.count("ensure") == 200

    run(scenario, clients=1)


def test_a_removal_does_not_wait_for_the_pause_after_a_slow_command() -> None:
    async def scenario(world: World) -> None:
        await world.settled()
        world.broker.slowness = 0.2
        world.add(2)
        assert await world.provisioner.has(2, PATIENT)  # now it rests for as long
        world.broker.slowness = 0.0
        world.add(3)
        loop = asyncio.get_running_loop()
        began = loop.time()
        world.directory.remove_client("client-1")
        while key(1) in world.broker.users:
            await asyncio.sleep(0)
        assert loop.time() - began < 0.15

    run(scenario, clients=1)


def test_a_comparison_under_way_holds_up_no_removal_and_does_not_undo_what_happened_meanwhile() -> None:
    async def scenario(world: World) -> None:
        await world.settled()
        world.broker.holds_listing = asyncio.Event()
        compared = asyncio.create_task(world.provisioner.reconcile())
        while world.broker.calls[-1][0] != "list":
            await asyncio.sleep(0)
        world.directory.remove_client("client-1")
        world.add(3)
        assert await world.provisioner.has(3, PATIENT)
        assert set(world.broker.users) == {SERVER, key(2), key(3)}
        world.broker.holds_listing.set()  # it lists what was there when it began
        await compared
        await world.settled()
        assert set(world.broker.users) == {SERVER, key(2), key(3)}
        assert world.asked("ensure")[-1] == ("ensure", key(3))
        assert world.provisioner.state.repaired == 3  # those of the start

    run(scenario, clients=2)


def test_new_accounts_go_ahead_of_repairs() -> None:
    async def scenario(world: World) -> None:
        await world.settled()
        world.broker.users.clear()
        world.broker.gate.clear()
        before = len(world.asked("ensure"))
        compared = asyncio.create_task(world.provisioner.reconcile())
        await asyncio.sleep(0)
        world.broker.gate.set()
        await compared
        world.add(9)
        await world.settled()
        assert ("ensure", key(9)) in world.asked("ensure")[before : before + 2]
        assert len(world.asked("ensure")) == before + 6

    run(scenario, clients=4)


# -- when the broker is not as it should be


def test_a_broker_that_is_away_at_the_start_gets_everything_when_it_comes() -> None:
    async def scenario(world: World) -> None:
        while not world.provisioner.state.is_away:
            await asyncio.sleep(0)
        assert "cannot be reached" in world.provisioner.state.fault
        world.add(2)
        assert world.provisioner.queued == 1
        world.broker.come_back()
        assert await world.provisioner.has(2, PATIENT) and await world.provisioner.has(1, PATIENT)
        state = world.provisioner.state
        assert (state.is_away, state.fault, state.failures) == (False, "", 1)

    broker = ScriptedBroker(NAMESPACE)
    broker.go_away()
    run(scenario, clients=1, broker=broker)


def test_what_changes_while_it_is_away_is_kept_as_a_set() -> None:
    async def scenario(world: World) -> None:
        await world.settled()
        world.broker.go_away()
        for _ in range(50):
            for number in (1, 2, 3):
                world.add(number)
                world.directory.remove_client(f"client-{number}")
        world.add(1)
        assert world.provisioner.queued <= 4
        while not world.provisioner.state.is_away:
            await asyncio.sleep(0)
        world.broker.come_back()
        await world.settled()
        assert set(world.broker.users) == {SERVER, key(1)}

    run(scenario)


def test_away_is_said_once_and_back_once() -> None:
    async def scenario(world: World) -> None:
        await world.settled()
        world.broker.go_away()
        tried = len(world.asked("check"))
        world.add(2)
        while len(world.asked("check")) < tried + 5:
            await asyncio.sleep(0.001)
        world.broker.come_back()
        await world.settled()

    with capture_logs() as logs:
        run(scenario, clients=1)
    assert [each["event"] for each in logs if each["event"] in ("broker_away", "broker_there")] == [
        "broker_there", "broker_away", "broker_there",
    ]  # fmt: skip


def test_an_interrupted_command_is_asked_again_whether_or_not_it_was_carried_out() -> None:
    async def scenario(world: World) -> None:
        await world.settled()
        world.broker.interrupts = True
        world.broker.go_away()
        world.add(2)
        world.directory.remove_client("client-1")
        while not world.provisioner.state.is_away:
            await asyncio.sleep(0)
        assert world.provisioner.queued == 2
        world.broker.interrupts = False
        world.broker.come_back()
        await world.settled()
        assert set(world.broker.users) == {SERVER, key(2)}
        assert set(world.broker.roles) == {SERVER, role(2)}

    run(scenario, clients=1)


def test_a_removal_that_was_interrupted_is_not_asked_again_of_who_may_come_again() -> None:
    async def scenario(world: World) -> None:
        await world.settled()
        entry = world.directory.credential_by_id(1)
        assert entry is not None
        world.broker.gate.clear()
        world.directory.remove_client("client-1")
        while world.broker.calls[-1] != ("remove", key(1)):
            await asyncio.sleep(0)
        world.directory.put_credential(entry)
        world.broker.go_away()
        world.broker.gate.set()
        while not world.provisioner.state.is_away:
            await asyncio.sleep(0)
        world.broker.come_back()
        await world.settled()
        assert world.asked("remove") == [("remove", key(1))]
        assert set(world.broker.users) == {SERVER, key(1)}

    run(scenario, clients=1)


def test_who_is_removed_while_its_account_is_made_is_not_there_when_that_is_done() -> None:
    async def scenario(world: World) -> None:
        await world.settled()
        world.broker.gate.clear()
        world.add(1)
        while world.broker.calls[-1] != ("ensure", key(1)):
            await asyncio.sleep(0)
        world.directory.remove_client("client-1")
        world.broker.gate.set()
        while world.provisioner.queued:
            await asyncio.sleep(0)
        assert world.told == []
        assert world.provisioner.state.accounts == 1
        assert set(world.broker.users) == {SERVER}

    run(scenario)


def test_the_hubs_account_gets_its_password_again_when_it_has_to_be_mended() -> None:
    async def scenario(world: World) -> None:
        await world.settled()
        world.broker.users[SERVER].password = "another"
        world.broker.users[SERVER].enabled = False
        await world.settled()
        assert world.broker.users[SERVER].password == "of the server"

    run(scenario)


def test_an_account_that_is_refused_is_told_and_holds_up_nobody() -> None:
    async def scenario(world: World) -> None:
        assert await world.provisioner.has(2, PATIENT)
        assert not await world.provisioner.has(1, 0)
        await world.settled()
        why = "The broker at broker:8883 has a user of the same name already."
        assert [each for each in world.told if each[0] == 1] == [(1, why)]
        assert world.broker.users[key(1)].password == "theirs"
        assert world.provisioner.state.refused == 1
        del world.broker.users[key(1)]
        await world.settled()
        assert world.told[-1] == (1, "ready")
        assert world.provisioner.state.refused == 0

    broker = ScriptedBroker(NAMESPACE, {key(1): ScriptedUser("theirs", None, frozenset())})
    with capture_logs() as logs:
        run(scenario, clients=2, broker=broker)
    said = [each["event"] for each in logs]
    assert (said.count("broker_account_refused"), said.count("broker_differs")) == (1, 1)


def test_a_password_that_cannot_be_read_is_read_again_at_the_next_comparison() -> None:
    faults = [StorageError("The database is locked.")]

    async def passwords(credential_id: int) -> str | None:
        if faults:
            raise faults.pop()
        return broker_password(credential_id)

    async def scenario(world: World) -> None:
        while faults or world.provisioner.queued:
            await asyncio.sleep(0)
        assert world.told == []
        await world.settled()
        assert world.told == [(1, "ready")]

    run(scenario, clients=1, passwords=passwords)


def test_nothing_is_told_while_another_server_may_be_there_nor_after_one_was_found() -> None:
    faults = [BrokerTakenError("broker:8883", "is served by another thalovant-server")] * 3

    async def look_out() -> None:
        if faults:
            raise faults.pop()

    async def scenario(world: World) -> None:
        while faults:
            assert not world.asked("list", "ensure", "remove")
            await asyncio.sleep(0)
        assert await world.provisioner.has(1, PATIENT)
        world.broker.go_away()
        world.add(2)
        while not world.provisioner.state.is_away:
            await asyncio.sleep(0)
        faults.append(BrokerTakenError("broker:8883", "is served by another thalovant-server"))
        world.broker.come_back()
        assert await world.provisioner.has(2, PATIENT)
        assert not faults

    run(scenario, clients=1, look_out=look_out)


def test_a_server_that_slept_while_another_took_its_place_removes_none_of_that_ones_accounts() -> None:
    faults: list[BrokerTakenError] = []

    async def look_out() -> None:
        if faults:
            raise faults[0]

    async def scenario(world: World) -> None:
        await world.settled()
        faults.append(BrokerTakenError("broker:8883", "is served by another thalovant-server"))
        world.broker.users["theirs"] = ScriptedUser("x", role(7), frozenset({role(7)}))
        comparison = asyncio.create_task(world.provisioner.reconcile())
        while not world.provisioner.state.is_away:
            await asyncio.sleep(0)
        assert "theirs" in world.broker.users and "another thalovant-server" in world.provisioner.state.fault
        faults.clear()
        await comparison
        await world.settled()
        assert "theirs" not in world.broker.users

    run(scenario, clients=1, look_out=look_out)


def test_a_fault_of_whoever_is_told_keeps_nobody_from_anything() -> None:
    async def main() -> None:
        def told(credential_id: int, outcome: str) -> None:
            raise RuntimeError("a mistake")

        directory = directory_of([link_hub()], [broker_credential(each, NAMESPACE) for each in (1, 2)])
        provisioner = Provisioner(
            ScriptedBroker(NAMESPACE), directory, stored_broker_password, NAMESPACE,
            server_password=Secret("x"), check_seconds=3600.0, told=told,
        )  # fmt: skip
        provisioner.start()
        assert await provisioner.has(1, PATIENT) and await provisioner.has(2, PATIENT)
        await provisioner.stop()

    asyncio.run(main())


def test_drift_is_repaired_on_the_period() -> None:
    async def scenario(world: World) -> None:
        assert await world.provisioner.has(1, PATIENT)
        world.broker.users[key(1)].enabled = False
        while not world.broker.users[key(1)].enabled:
            await asyncio.sleep(0.001)

    run(scenario, clients=1, check_seconds=0.01)


def test_a_stranger_with_a_role_of_ours_is_a_finding() -> None:
    async def scenario(world: World) -> None:
        await world.settled()
        (finding,) = world.provisioner.state.findings
        assert "bob" in finding
        del world.broker.users["bob"]
        await world.settled()
        assert world.provisioner.state.findings == ()

    bob = ScriptedUser("theirs", None, frozenset({role(1)}))
    run(scenario, clients=1, broker=ScriptedBroker(NAMESPACE, {"bob": bob}))


def test_what_a_broker_opens_while_it_is_there_is_said_once_for_as_long_as_it_is_open() -> None:
    async def scenario(world: World) -> None:
        await world.settled()
        for opened in (True, True, False, True):
            world.broker.findings = ("allows everybody everything",) if opened else ()
            await world.settled()
            assert world.provisioner.state.findings == world.broker.findings

    with capture_logs() as logs:
        run(scenario)
    assert [each["finding"] for each in logs if each["event"] == "broker_finding"] == 2 * [
        "allows everybody everything"
    ]


def test_our_own_account_is_made_before_anything_else_and_taken_back() -> None:
    async def main() -> None:
        broker = ScriptedBroker(NAMESPACE)
        provisioner = Provisioner(
            broker, directory_of([], []), stored_broker_password, NAMESPACE,
            server_password=Secret("ours"), check_seconds=3600.0,
        )  # fmt: skip
        broker.users[SERVER] = ScriptedUser("of an earlier start", SERVER, frozenset({SERVER}))
        await provisioner.ensure_server_account()
        assert broker.users[SERVER].password == "ours"
        await provisioner.withdraw_server_account()
        assert (broker.users, broker.roles) == ({}, {})
        broker.fault = BrokerRefusedError("broker:8883", "will not do")
        with pytest.raises(BrokerRefusedError):
            await provisioner.ensure_server_account()
        await provisioner.stop()

    asyncio.run(main())


def test_an_end_in_the_middle_leaves_no_task_and_nobody_waiting() -> None:
    async def scenario(world: World) -> None:
        await world.settled()
        world.broker.gate.clear()
        world.add(2)
        waits = asyncio.create_task(world.provisioner.has(2, PATIENT))
        asks = asyncio.create_task(world.provisioner.reconcile())
        await asyncio.sleep(0.01)
        await world.provisioner.stop()
        assert not await waits
        with pytest.raises(asyncio.CancelledError):
            await asks
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run(scenario, clients=1)


def test_a_thousand_accounts_are_looked_at_in_turns_of_the_loop() -> None:
    async def scenario(world: World) -> None:
        compared = asyncio.create_task(world.provisioner.reconcile())
        queued = []
        while not compared.done():
            await asyncio.sleep(0)
            queued.append(world.provisioner.queued)
        grown = [later - earlier for earlier, later in itertools.pairwise(queued)]
        assert max(grown) <= 200
        assert max(queued) > 990

    run(scenario, clients=1000)


# -- whatever happens

ACTIONS = st.lists(
    st.tuples(st.sampled_from(["add", "remove", "pause", "resume", "away", "back", "hub off", "hub on", "turn"]),
              st.integers(1, 4)),
    max_size=25,
)  # fmt: skip


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(ACTIONS)
def test_whatever_happens_in_the_end_the_broker_has_what_the_directory_says(actions: list[tuple[str, int]]) -> None:
    async def scenario(world: World) -> None:
        for action, number in actions:
            await act(world, action, number)
        world.broker.come_back()
        await world.settled()
        wished = {
            each.access_key
            for each in world.directory.credentials_at("hub-1")
            if each.active and (hub := world.directory.hub("hub-1")) is not None and hub.active
        }
        assert set(world.broker.users) == {SERVER, *wished}
        assert {each.mark for each in world.broker.users.values()} == set(world.broker.roles)
        assert (world.provisioner.state.accounts, world.provisioner.queued) == (len(wished) + 1, 0)

    async def act(world: World, action: str, number: int) -> None:
        entry = world.directory.credential_by_id(number)
        if action == "add" and entry is None:
            world.add(number)
        elif action == "remove":
            world.directory.remove_client(f"client-{number}")
        elif action in ("pause", "resume") and entry is not None:
            world.directory.change_client(
                entry.client_id, client_name="c", site_id="s", active=action == "resume", permissions=entry.permissions
            )
        elif action in ("hub off", "hub on"):
            world.directory.put_hub(link_hub(active=action == "hub on"))
        elif action == "away":
            world.broker.interrupts = number % 2 == 0
            world.broker.go_away()
        elif action == "back":
            world.broker.come_back()
        elif action == "turn":
            for _ in range(number):
                await asyncio.sleep(0)

    run(scenario, clients=2)


def test_a_listed_user_of_the_scripted_broker_is_as_mosquitto_lists_it() -> None:
    """The stand-in agrees with `test_mosquitto` on what a right account looks like."""

    async def scenario(world: World) -> None:
        await world.settled()
        listing = await world.broker.list()
        assert ListedUser(key(1), role(1), frozenset({role(1)})) in listing.users

    run(scenario, clients=1)
