# SPDX-License-Identifier: Apache-2.0
"""The provisioner before a real Mosquitto: what it wishes is there, whatever happens to the broker meanwhile."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import uvloop

from thalovant.protocol.mqtt.packets import Connect
from thalovant_server.broker_socket import BrokerSocket, BrokerTarget, client_context, open_socket
from thalovant_server.brokers.base import Secret
from thalovant_server.brokers.mosquitto import Mosquitto
from thalovant_server.brokers.names import BrokerAddress, Namespace
from thalovant_server.brokers.provisioner import Patience, Provisioner
from thalovant_server.directory import Directory
from thalovant_server.testing.brokers import broker_credential, broker_password, link_hub, stored_broker_password
from thalovant_server.testing.directory import directory_of
from thalovant_server.testing.mosquitto import MosquittoProcess

ROOTS = (f"root{number}" for number in itertools.count())
PATIENT = 20.0


@dataclass
class World:
    process: MosquittoProcess
    namespace: Namespace
    directory: Directory
    broker: Mosquitto
    provisioner: Provisioner

    async def connected(self, number: int) -> BrokerSocket:
        """Log in as a client."""
        return await log_in(self.process, broker_credential(number, self.namespace).access_key, broker_password(number))

    async def users(self) -> set[str]:
        return {each.name for each in (await self.broker.list()).users}


async def log_in(process: MosquittoProcess, user: str, password: str) -> BrokerSocket:
    target = BrokerTarget(BrokerAddress.parse(process.url), client_context(process.ca_file))
    return await open_socket(target, Connect("x", True, 60, user, password.encode()), lambda event: None)


def run(scenario: Callable[[World], Awaitable[None]], process: MosquittoProcess, clients: int = 0, **more: Any) -> None:
    async def main() -> None:
        namespace = Namespace(next(ROOTS))
        directory = directory_of(
            [link_hub()], [broker_credential(number, namespace) for number in range(1, clients + 1)]
        )
        user, password = process.admin
        target = BrokerTarget(BrokerAddress.parse(process.url), client_context(process.ca_file))
        broker = Mosquitto(target, user, Secret(password), namespace)
        provisioner = Provisioner(
            broker, directory, stored_broker_password, namespace, server_password=Secret("server" * 8),
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
        assert await world.provisioner.has(1, PATIENT)
        world.directory.put_credential(broker_credential(3, world.namespace))
        assert await world.provisioner.has(3, PATIENT)
        for number in (1, 2, 3):
            assert await world.provisioner.has(number, PATIENT)
            await (await world.connected(number)).close()
        await (await log_in(mosquitto, world.namespace.server, "server" * 8)).close()
        assert world.provisioner.state.accounts == world.provisioner.state.wished == 4

    run(scenario, mosquitto, clients=2)


def test_a_removed_clients_connection_is_cut_and_in_the_end_nothing_of_it_is_left(mosquitto: MosquittoProcess) -> None:
    async def scenario(world: World) -> None:
        assert await world.provisioner.has(1, PATIENT)
        client = await world.connected(1)
        world.directory.remove_client("client-1")
        await client.closed
        await world.provisioner.reconcile()
        while world.provisioner.queued:
            await asyncio.sleep(0.01)
        listing = await world.broker.list()
        assert [each.name for each in listing.users] == list(listing.roles) == [world.namespace.server]

    run(scenario, mosquitto, clients=1)


def test_a_broker_that_forgot_the_hubs_is_looked_at_at_once(mosquitto: MosquittoProcess) -> None:
    """It was installed anew; the next look is an hour away."""

    async def scenario(world: World) -> None:
        assert await world.provisioner.has(1, PATIENT)
        await world.provisioner.reconcile()
        key = broker_credential(1, world.namespace).access_key
        for user in (key, world.namespace.server):
            [role] = [each.mark for each in (await world.broker.list()).users if each.name == user]
            await world.broker.remove(user, role)
        assert await world.users() == set()
        await world.provisioner.ensure_server_account()
        while key not in await world.users():
            pass
        await (await world.connected(1)).close()

    run(scenario, mosquitto, clients=1)
