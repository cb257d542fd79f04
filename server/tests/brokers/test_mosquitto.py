# SPDX-License-Identifier: Apache-2.0
"""A real Mosquitto is told who may connect; what it then does is seen from a client's side."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import uvloop

from thalovant.protocol.mqtt.client_events import Arrived, Event, NotTaken, Subscribed
from thalovant.protocol.mqtt.packets import Connect
from thalovant_server.broker_socket import BrokerSocket, BrokerTarget, client_context, open_socket
from thalovant_server.brokers.base import Account, ListedUser, Listing, Secret
from thalovant_server.brokers.dynamic_security import ANSWERS, REQUESTS
from thalovant_server.brokers.mosquitto import Mosquitto
from thalovant_server.brokers.names import BrokerAddress, Namespace
from thalovant_server.brokers.wished import client_grants, server_grants
from thalovant_server.errors import (
    AccountRefusedError,
    BrokerLoginError,
)
from thalovant_server.testing.mosquitto import MosquittoProcess

PASSWORD = Secret("the-password-of-a-client-0123456789abcdef")
ROOTS = (f"root{number}" for number in itertools.count())


def target_of(process: MosquittoProcess, ca: Path | None = None) -> BrokerTarget:
    return BrokerTarget(BrokerAddress.parse(process.url), client_context(ca or process.ca_file))


def broker_of(process: MosquittoProcess, namespace: Namespace, **more: Any) -> Mosquitto:
    user, password = process.admin
    return Mosquitto(target_of(process), user, Secret(password), namespace, **more)


def account(namespace: Namespace, name: str = "anna") -> Account:
    prefix = namespace.topic(f"hubs/hub-1/clients/{name}")
    return Account(f"{namespace.root}-key-of-{name}", namespace.role(name, 1), client_grants(prefix))


def right(account: Account) -> Listing:
    """What the broker lists when it has this account and no other."""
    return Listing([ListedUser(account.user, account.role, frozenset({account.role}))], {account.role: account.grants})


@dataclass
class Client:
    """A raw MQTT client; what happens to it is kept in order."""

    socket: BrokerSocket = field(init=False)
    events: asyncio.Queue[Event] = field(default_factory=asyncio.Queue)

    async def subscribed(self, topic: str) -> int:
        self.socket.subscribe([(topic.encode(), 1)])
        while not isinstance(event := await self.events.get(), Subscribed):
            pass
        return event.codes[0]

    async def published(self, topic: str) -> int:
        """The reason code of a publish: 0 when it was taken. Asked of MQTT 5 alone."""
        self.socket.publish(topic.encode(), b"x")
        mark = self.socket.connection.queued
        while not self.socket.connection.settled(mark):
            await asyncio.sleep(0)
        while not self.events.empty():
            event = self.events.get_nowait()
            if isinstance(event, NotTaken):
                return event.code
        return 0

    async def heard(self) -> Arrived:
        while not isinstance(event := await self.events.get(), Arrived):
            pass
        return event


@asynccontextmanager
async def client_of(process: MosquittoProcess, user: str, password: str) -> AsyncIterator[Client]:
    client = Client()
    login = Connect(f"client-{user}", True, 60, user, password.encode())
    client.socket = await open_socket(target_of(process), login, client.events.put_nowait)
    try:
        yield client
    finally:
        await client.socket.close()


async def told(process: MosquittoProcess, *commands: dict[str, Any]) -> list[dict[str, Any]]:
    """What somebody else does to the broker by hand."""
    user, password = process.admin
    async with client_of(process, user, password) as admin:
        assert await admin.subscribed(ANSWERS) < 0x80
        admin.socket.publish(REQUESTS.encode(), json.dumps({"commands": commands}).encode())
        return json.loads((await admin.heard()).payload)["responses"]


def run(scenario: Callable[[Mosquitto, Namespace], Awaitable[None]], process: MosquittoProcess, **more: Any) -> None:
    """Run a scenario with a topic root of its own."""

    async def main() -> None:
        namespace = Namespace(next(ROOTS))
        broker = broker_of(process, namespace, **more)
        await broker.check()
        try:
            async with asyncio.timeout(60):
                await scenario(broker, namespace)
        finally:
            await broker.close()

    uvloop.run(main())


def test_an_account_is_made_and_may_do_exactly_its_own(mosquitto: MosquittoProcess) -> None:
    async def scenario(broker: Mosquitto, namespace: Namespace) -> None:
        anna = account(namespace)
        assert await broker.ensure(anna, PASSWORD) == "made"
        own = namespace.topic("hubs/hub-1/clients/anna")
        async with client_of(mosquitto, anna.user, PASSWORD.text) as client:
            assert [await client.subscribed(f"{own}/{each}") for each in ("out", "s2c", "status")] == [1, 1, 1]
            assert [await client.subscribed(each) for each in ("#", "+/#", f"{own}/in", f"{own}/+", "$SYS/#")] == (
                [0x87] * 5
            )
            assert [await client.published(f"{own}/{each}") for each in ("in", "c2s", "status")] == [0x10, 0x10, 0]
            others = (f"{own}/out", f"{own}/s2c", own, namespace.topic("hubs/hub-1/clients/ben/in"), REQUESTS)
            assert [await client.published(each) for each in others] == [0x87] * 5

    run(scenario, mosquitto)


def test_what_is_there_and_right_is_left_alone_with_its_connection(mosquitto: MosquittoProcess) -> None:
    async def scenario(broker: Mosquitto, namespace: Namespace) -> None:
        anna = account(namespace)
        await broker.ensure(anna, PASSWORD)
        async with client_of(mosquitto, anna.user, PASSWORD.text) as client:
            assert await broker.ensure(anna, PASSWORD) == "there"
            assert await client.subscribed(next(iter(anna.grants.subscribe))) == 1
        assert await broker.list() == right(anna)

    run(scenario, mosquitto)


def test_the_hubs_account_is_listed_as_it_was_asked_for(mosquitto: MosquittoProcess) -> None:
    async def scenario(broker: Mosquitto, namespace: Namespace) -> None:
        hubs = Account(namespace.server, namespace.server, server_grants(namespace))
        await broker.ensure(hubs, PASSWORD)
        assert (await broker.list()).roles == {namespace.server: hubs.grants}

    run(scenario, mosquitto)


DRIFTS: dict[str, Callable[[Account], list[dict[str, Any]]]] = {
    "its role grants more": lambda a: [
        {"command": "addRoleACL", "rolename": a.role, "acltype": "subscribePattern", "topic": "#", "allow": True}
    ],
    "its role grants less": lambda a: [{"command": "modifyRole", "rolename": a.role, "acls": []}],
    "its role is gone": lambda a: [
        {"command": "removeClientRole", "username": a.user, "rolename": a.role},
        {"command": "deleteRole", "rolename": a.role},
    ],
    "it is gone": lambda a: [{"command": "deleteClient", "username": a.user}],
    "it has another role": lambda a: [
        {"command": "createRole", "rolename": f"other-{a.user}"},
        {"command": "addClientRole", "username": a.user, "rolename": f"other-{a.user}"},
    ],
    "it is in a group": lambda a: [
        {"command": "createGroup", "groupname": f"group-{a.user}"},
        {"command": "addGroupClient", "username": a.user, "groupname": f"group-{a.user}"},
    ],
    "it is disabled": lambda a: [{"command": "disableClient", "username": a.user}],
    "it has another text name": lambda a: [{"command": "modifyClient", "username": a.user, "textname": "Anna"}],
    "it has no role": lambda a: [{"command": "removeClientRole", "username": a.user, "rolename": a.role}],
}


@pytest.mark.parametrize("drift", DRIFTS)
def test_what_was_changed_by_hand_is_seen_and_made_right_again(mosquitto: MosquittoProcess, drift: str) -> None:
    async def scenario(broker: Mosquitto, namespace: Namespace) -> None:
        anna = account(namespace)
        await broker.ensure(anna, PASSWORD)
        assert not any("error" in each for each in await told(mosquitto, *DRIFTS[drift](anna)))
        assert await broker.list() != right(anna)
        assert await broker.ensure(anna, PASSWORD) == "mended"
        assert await broker.list() == right(anna)
        async with client_of(mosquitto, anna.user, PASSWORD.text) as client:
            assert await client.subscribed("#") == 0x87

    run(scenario, mosquitto)


def test_a_password_is_set_again_only_when_that_is_asked_for(mosquitto: MosquittoProcess) -> None:
    async def scenario(broker: Mosquitto, namespace: Namespace) -> None:
        anna = account(namespace)
        await broker.ensure(anna, PASSWORD)
        assert await broker.ensure(anna, Secret("x" * 32)) == "there"
        with pytest.raises(BrokerLoginError):
            async with client_of(mosquitto, anna.user, "x" * 32):
                pass
        assert await broker.ensure(anna, Secret("x" * 32), resets_password=True) == "mended"
        async with client_of(mosquitto, anna.user, "x" * 32):
            pass

    run(scenario, mosquitto)


def test_removal_cuts_the_connection_and_leaves_nothing(mosquitto: MosquittoProcess) -> None:
    async def scenario(broker: Mosquitto, namespace: Namespace) -> None:
        anna = account(namespace)
        await broker.ensure(anna, PASSWORD)
        async with client_of(mosquitto, anna.user, PASSWORD.text) as client:
            await broker.remove(anna.user, anna.role)
            await asyncio.wait_for(asyncio.shield(client.socket.closed), 5)
        await broker.remove(anna.user, anna.role)
        assert await broker.list() == Listing([], {anna.role: anna.grants})
        await broker.remove_role(anna.role)
        await broker.remove_role(anna.role)
        assert await broker.list() == Listing([], {})

    run(scenario, mosquitto)


def test_a_kicked_client_may_come_back(mosquitto: MosquittoProcess) -> None:
    async def scenario(broker: Mosquitto, namespace: Namespace) -> None:
        anna = account(namespace)
        await broker.ensure(anna, PASSWORD)
        async with client_of(mosquitto, anna.user, PASSWORD.text) as client:
            await broker.kick(anna.user)
            await asyncio.wait_for(asyncio.shield(client.socket.closed), 5)
        async with client_of(mosquitto, anna.user, PASSWORD.text):
            pass

    run(scenario, mosquitto)


def test_a_user_of_somebody_else_is_neither_taken_nor_removed(mosquitto: MosquittoProcess) -> None:
    async def scenario(broker: Mosquitto, namespace: Namespace) -> None:
        anna = account(namespace)
        foreign = {"command": "createClient", "username": anna.user, "password": "theirs", "textname": "a thermostat"}
        await told(mosquitto, foreign)
        with pytest.raises(AccountRefusedError, match="not ours"):
            await broker.ensure(anna, PASSWORD)
        assert await broker.list() == Listing([], {})  # no half of it
        await broker.remove(anna.user, anna.role)
        async with client_of(mosquitto, anna.user, "theirs"):
            pass

    run(scenario, mosquitto)


def test_many_pages_are_listed(mosquitto: MosquittoProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(broker: Mosquitto, namespace: Namespace) -> None:
        accounts = [account(namespace, f"client{number}") for number in range(7)]
        for each in accounts:
            await broker.ensure(each, PASSWORD)
        listing = await broker.list()
        assert {each.name for each in listing.users} == {each.user for each in accounts}
        assert listing.roles == {each.role: each.grants for each in accounts}

    monkeypatch.setattr("thalovant_server.brokers.mosquitto.PAGE", 3)
    run(scenario, mosquitto)
