# SPDX-License-Identifier: Apache-2.0
"""The provisioner before a real Mosquitto: what it wishes is there, whatever happens to the broker meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import uvloop

from thalovant.protocol.mqtt.client_window import ClientWindow
from thalovant.protocol.mqtt.packets import Connect
from thalovant.protocol.mqtt.v5 import V5
from thalovant.protocol.mqtt.v311 import V311
from thalovant_server.broker_socket import BrokerSocket, BrokerTarget, Resumption, client_context, open_socket
from thalovant_server.brokers.base import Secret
from thalovant_server.brokers.dynamic_security import Command
from thalovant_server.brokers.mosquitto import Mosquitto
from thalovant_server.brokers.names import BrokerAddress, Namespace
from thalovant_server.brokers.provisioner import Patience, Provisioner
from thalovant_server.directory import Directory
from thalovant_server.errors import BrokerLoginError
from thalovant_server.testing.brokers import broker_credential, broker_password, link_hub, stored_broker_password
from thalovant_server.testing.directory import directory_of
from thalovant_server.testing.mosquitto import MosquittoProcess

ROOTS = (f"root{number}" for number in itertools.count())
PATIENT = 20.0
SERVER_PASSWORD = "server" * 8


@dataclass
class World:
    process: MosquittoProcess
    namespace: Namespace
    directory: Directory
    broker: Mosquitto
    provisioner: Provisioner

    async def connected(self, number: int, level: int = 5) -> BrokerSocket:
        """Log in as a client."""
        user = broker_credential(number, self.namespace).access_key
        return await log_in(self.process, user, broker_password(number), level)

    async def by_hand(self, *commands: Command) -> None:
        """Do something to the broker that the provisioner did not."""
        assert all(each.error is None for each in await self.broker._ask(*commands))

    async def settled(self) -> None:
        """Until two comparisons found nothing more to do: the second one removes the roles of those who went."""
        for _ in range(3):
            await self.provisioner.reconcile()
            await until(lambda: not self.provisioner.queued)

    async def users(self) -> set[str]:
        return {each.name for each in (await self.broker.list()).users}


async def log_in(process: MosquittoProcess, user: str, password: str, level: int = 5) -> BrokerSocket:
    """A connection of that user, in that version of MQTT."""
    target = BrokerTarget(BrokerAddress.parse(process.url), client_context(process.ca_file))
    window = ClientWindow((V5 if level == 5 else V311).encode_publish, 10, 16)
    login = Connect("x", True, 60, user, password.encode())
    return await open_socket(target, login, lambda event: None, resumption=Resumption(window, level))


async def until(is_so: Callable[[], bool]) -> None:
    """What the broker does is seen from outside alone: look again until it is so."""
    while not is_so():
        await asyncio.sleep(0.005)


def run(scenario: Callable[[World], Awaitable[None]], process: MosquittoProcess, clients: int = 0, **more: Any) -> None:
    """Run a scenario with a topic root and so many clients of its own."""

    async def main() -> None:
        namespace = Namespace(next(ROOTS))
        numbers = range(1, clients + 1)
        directory = directory_of([link_hub()], [broker_credential(number, namespace) for number in numbers])
        user, password = process.admin
        target = BrokerTarget(BrokerAddress.parse(process.url), client_context(process.ca_file))
        broker = Mosquitto(target, user, Secret(password), namespace)
        provisioner = Provisioner(
            broker, directory, stored_broker_password, namespace, server_password=Secret(SERVER_PASSWORD),
            check_seconds=3600.0, patience=Patience(0.02, 0.1), **more,
        )  # fmt: skip
        provisioner.start()
        try:
            async with asyncio.timeout(60):
                await scenario(World(process, namespace, directory, broker, provisioner))
        finally:
            await provisioner.stop()

    uvloop.run(main())


def test_accounts_of_the_start_and_later_ones_are_made(mosquitto: MosquittoProcess) -> None:
    async def scenario(world: World) -> None:
        world.directory.put_credential(broker_credential(3, world.namespace))
        for number in (1, 2, 3):
            assert await world.provisioner.has(number, PATIENT)
            await (await world.connected(number)).close()
        await world.settled()
        await (await log_in(mosquitto, world.namespace.server, SERVER_PASSWORD)).close()
        assert world.provisioner.state.accounts == world.provisioner.state.wished == 4

    run(scenario, mosquitto, clients=2)


@pytest.mark.parametrize("level", [4, 5])
def test_a_removed_clients_connection_is_cut_and_in_the_end_nothing_of_it_is_left(
    mosquitto: MosquittoProcess, level: int
) -> None:
    async def scenario(world: World) -> None:
        assert await world.provisioner.has(1, PATIENT)
        client = await world.connected(1, level)
        world.directory.remove_client("client-1")
        await client.closed
        with pytest.raises(BrokerLoginError):
            await world.connected(1)
        await world.settled()
        listing = await world.broker.list()
        assert [each.name for each in listing.users] == list(listing.roles) == [world.namespace.server]

    run(scenario, mosquitto, clients=1)


def test_each_of_a_rotated_pair_connects_until_the_older_one_is_over(mosquitto: MosquittoProcess) -> None:
    async def scenario(world: World) -> None:
        assert await world.provisioner.has(1, PATIENT)
        older = await world.connected(1)
        prefix = world.namespace.topic("hubs/hub-1/clients/client-1.2")
        world.directory.put_credential(
            broker_credential(2, world.namespace, client_id="client-1", number=2, topic_prefix=prefix)
        )
        assert await world.provisioner.has(2, PATIENT)
        newer = await world.connected(2)
        assert not older.over
        world.directory.remove_credential(1)
        await older.closed
        assert not newer.over
        await newer.close()

    run(scenario, mosquitto, clients=1)


def test_a_removal_overtakes_two_hundred_creations(mosquitto: MosquittoProcess) -> None:
    async def scenario(world: World) -> None:
        assert await world.provisioner.has(1, PATIENT)
        client = await world.connected(1)
        for number in range(10, 210):
            world.directory.put_credential(broker_credential(number, world.namespace))
        assert await world.provisioner.has(10, PATIENT)
        world.directory.remove_client("client-1")
        await client.closed
        assert world.provisioner.queued > 150

    run(scenario, mosquitto, clients=1)


def test_what_is_changed_by_hand_is_repaired_and_what_is_not_ours_stays(mosquitto: MosquittoProcess) -> None:
    async def scenario(world: World) -> None:
        await world.settled()
        mine = broker_credential(1, world.namespace)
        role = world.namespace.role(mine.client_id, 1)
        await world.by_hand(
            Command("addRoleACL", {"rolename": role, "acltype": "subscribePattern", "topic": "#", "allow": True}),
            Command("disableClient", {"username": broker_credential(2, world.namespace).access_key}),
            Command("createRole", {"rolename": "thermostat", "textname": role}),
            Command(
                "createClient", {"username": "a-thermostat", "password": "t", "roles": [{"rolename": "thermostat"}]}
            ),
            Command("createClient", {"username": "left-over", "password": "t", "textname": f"{role}0"}),
        )
        await world.settled()
        assert world.provisioner.state.repaired == 5  # three of the start, two now
        assert await world.users() == {mine.access_key, broker_credential(2, world.namespace).access_key, (
            world.namespace.server
        )}  # fmt: skip
        await (await world.connected(2)).close()
        await (await log_in(mosquitto, "a-thermostat", "t")).close()

    run(scenario, mosquitto, clients=2)


def test_a_broker_that_was_wiped_gets_everything_back_with_the_same_passwords(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        await world.settled()
        world.process.stop()
        world.process.wipe()
        world.process.start()
        await world.settled()
        for number in (1, 2, 3):
            await (await world.connected(number)).close()
        await (await log_in(world.process, world.namespace.server, SERVER_PASSWORD)).close()

    with MosquittoProcess(tmp_path / "mosquitto") as process:
        run(scenario, process, clients=3)


def test_a_broker_that_comes_later_gets_everything_and_one_that_dies_meanwhile_the_rest(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        await until(lambda: world.provisioner.state.is_away)
        assert "cannot be reached" in world.provisioner.state.fault
        world.process.start()
        assert await world.provisioner.has(5, PATIENT)
        world.process.kill()
        await until(lambda: world.provisioner.state.is_away)
        assert world.provisioner.queued
        world.process.start()
        await world.settled()
        assert len(await world.users()) == world.provisioner.state.accounts == 41
        for number in (1, 20, 40):
            await (await world.connected(number)).close()

    process = MosquittoProcess(tmp_path / "mosquitto")
    with contextlib.ExitStack() as stack:
        stack.push(process.__exit__)
        run(scenario, process, clients=40)


def test_a_broker_that_forgot_the_hubs_is_looked_at_at_once(mosquitto: MosquittoProcess) -> None:
    """It was installed anew; the next look is an hour away."""

    async def scenario(world: World) -> None:
        await world.settled()
        mine = broker_credential(1, world.namespace)
        await world.broker.remove(mine.access_key, world.namespace.role(mine.client_id, 1))
        await world.broker.remove(world.namespace.server, world.namespace.server)
        assert await world.users() == set()
        await world.provisioner.ensure_server_account()
        async with asyncio.timeout(PATIENT):
            while mine.access_key not in await world.users():
                pass
        await (await world.connected(1)).close()

    run(scenario, mosquitto, clients=1)
