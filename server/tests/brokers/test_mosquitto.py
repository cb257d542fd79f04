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
from typing import Any, TypeVar

import pytest
import uvloop

from thalovant.protocol.mqtt.client_events import Arrived, Event, NotTaken, Subscribed
from thalovant.protocol.mqtt.packets import Connect
from thalovant_server.broker_socket import BrokerSocket, BrokerTarget, client_context, open_socket
from thalovant_server.brokers.admin_connection import AdminConnection
from thalovant_server.brokers.base import Account, ListedUser, Listing, Secret
from thalovant_server.brokers.dynamic_security import ANSWERS, KINDS, REQUESTS, Command
from thalovant_server.brokers.mosquitto import Mosquitto
from thalovant_server.brokers.names import BrokerAddress, Namespace
from thalovant_server.brokers.wished import client_grants, server_grants
from thalovant_server.errors import AccountRefusedError, BrokerAwayError, BrokerLoginError, BrokerRefusedError
from thalovant_server.testing.mosquitto import MosquittoProcess

E = TypeVar("E")

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
        return (await self.next(Subscribed)).codes[0]

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
        return await self.next(Arrived)

    async def next(self, kind: type[E]) -> E:
        """The next event of a kind."""
        async with asyncio.timeout(10):
            while not isinstance(event := await self.events.get(), kind):
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


def altered(folder: Path, alter: Callable[[str], str]) -> MosquittoProcess:
    """A Mosquitto with another configuration than ours."""
    process = MosquittoProcess(folder / "mosquitto")
    path = process.folder / "mosquitto.conf"
    path.write_text(alter(path.read_text()))
    return process


def refusal(broker: Mosquitto) -> str:
    """What `check` says of a broker that will not do."""

    async def main() -> str:
        try:
            with pytest.raises(BrokerRefusedError) as caught:
                await broker.check()
        finally:
            await broker.close()
        return caught.value.sentence

    return uvloop.run(main())


def test_a_wrong_password_is_told_with_the_options_to_look_at(mosquitto: MosquittoProcess) -> None:
    broker = Mosquitto(target_of(mosquitto), mosquitto.admin[0], Secret("wrong"), Namespace("x"))
    said = refusal(broker)
    assert "--broker-user (thalovant-admin)" in said and "--broker-password-file" in said
    assert "wrong" not in said


def test_a_user_who_may_not_administer_is_told_what_it_lacks(mosquitto: MosquittoProcess) -> None:
    uvloop.run(told(mosquitto, {"command": "createClient", "username": "powerless", "password": "p" * 20}))
    said = refusal(Mosquitto(target_of(mosquitto), "powerless", Secret("p" * 20), Namespace("x")))
    assert "lets powerless log in, and not administer it" in said and "$CONTROL/dynamic-security/#" in said


def test_a_user_who_may_listen_and_not_command_is_told_the_same(mosquitto: MosquittoProcess) -> None:
    acls = [
        {"acltype": kind, "topic": "$CONTROL/dynamic-security/#", "allow": True}
        for kind in ("subscribePattern", "publishClientReceive")
    ]
    commands: list[dict[str, Any]] = [
        {"command": "createRole", "rolename": "listener", "acls": acls},
        {"command": "createClient", "username": "mute", "password": "p" * 20, "roles": [{"rolename": "listener"}]},
    ]
    uvloop.run(told(mosquitto, *commands))
    said = refusal(Mosquitto(target_of(mosquitto), "mute", Secret("p" * 20), Namespace("x")))
    assert "lets mute log in, and not administer it" in said


def test_an_authority_that_did_not_sign_its_certificate_is_told(mosquitto: MosquittoProcess, tmp_path: Path) -> None:
    other = MosquittoProcess(tmp_path / "other")
    target = target_of(mosquitto, other.ca_file)
    assert "--broker-ca" in refusal(Mosquitto(target, "x", Secret("x"), Namespace("x")))


def test_a_broker_without_the_plugin_is_told_within_seconds(tmp_path: Path) -> None:
    def alter(text: str) -> str:
        lines = [line for line in text.splitlines() if not line.startswith(("plugin", "allow_anonymous"))]
        return "\n".join([*lines, "allow_anonymous true", ""])

    with altered(tmp_path, alter) as process:
        assert "dynamic-security plugin" in refusal(broker_of(process, Namespace("x")))


def test_a_broker_that_hangs_is_away_and_not_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(broker: Mosquitto, namespace: Namespace) -> None:
        process.freeze()
        try:
            with pytest.raises(BrokerAwayError, match="did not answer"):
                await broker.check()
        finally:
            process.thaw()
        await broker.check()

    monkeypatch.setattr("thalovant_server.brokers.admin_connection.ANSWER_SECONDS", 0.3)
    with MosquittoProcess(tmp_path / "mosquitto") as process:
        run(scenario, process)


def test_a_broker_that_hangs_is_not_taken_for_one_where_no_other_server_is(mosquitto: MosquittoProcess) -> None:
    async def scenario(broker: Mosquitto, namespace: Namespace) -> None:
        mosquitto.freeze()
        try:
            with pytest.raises(BrokerAwayError, match=r"did not answer within 0\.2 s"):
                await broker.read_retained(namespace.presence, 0.2)
        finally:
            mosquitto.thaw()
        assert await broker.read_retained(namespace.presence, 10) is None

    run(scenario, mosquitto)


def test_a_broker_that_hangs_before_its_first_answer_is_not_taken_for_one_without_the_plugin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        user, password = process.admin
        connection = await AdminConnection.open(target_of(process), user, Secret(password))
        process.freeze()
        try:
            with pytest.raises(BrokerAwayError, match="did not answer"):
                await connection.ask([Command("getDefaultACLAccess")])
        finally:
            process.thaw()

    with MosquittoProcess(tmp_path / "mosquitto") as process:
        monkeypatch.setattr("thalovant_server.brokers.admin_connection.FIRST_ANSWER_SECONDS", 0.5)
        uvloop.run(main())


OPEN = {"command": "setDefaultACLAccess", "acls": [{"acltype": kind, "allow": True} for kind in KINDS]}


async def defaults(process: MosquittoProcess) -> list[bool]:
    """What the broker allows to everybody, of each kind."""
    (response,) = await told(process, {"command": "getDefaultACLAccess"})
    return [each["allow"] for each in response["data"]["acls"]]


def test_what_our_own_broker_allows_to_everybody_is_denied(tmp_path: Path) -> None:
    async def scenario(broker: Mosquitto, namespace: Namespace) -> None:
        await told(process, OPEN)
        await broker.check()
        assert broker.findings == ()
        assert await defaults(process) == [False] * 4

    with MosquittoProcess(tmp_path / "mosquitto") as process:
        run(scenario, process, is_ours=True)


def test_on_a_broker_that_allows_everything_ours_may_do_their_own_alone(tmp_path: Path) -> None:
    async def scenario(broker: Mosquitto, namespace: Namespace) -> None:
        anna = account(namespace)
        await broker.ensure(anna, PASSWORD)
        await told(process, OPEN)
        await broker.check()
        assert (await broker.list()).roles == {anna.role: None}  # by now it has to deny more
        assert await broker.ensure(anna, PASSWORD) == "mended"
        assert await broker.list() == right(anna)
        assert "allows everybody by default to publish, receive, subscribe, unsubscribe" in broker.findings[0]
        async with client_of(process, anna.user, PASSWORD.text) as client:
            await refused_all_that_is_not_its_own(client, namespace)
            assert await client.published("$other/topic") == 0x10  # what the finding says stays open
        assert await defaults(process) == [True] * 4  # not ours to change

    with MosquittoProcess(tmp_path / "mosquitto") as process:
        run(scenario, process)


async def refused_all_that_is_not_its_own(client: Client, namespace: Namespace) -> None:
    own = namespace.topic("hubs/hub-1/clients/anna")
    neighbour = namespace.topic("hubs/hub-1/clients/ben")
    filters = (
        "#",
        "+/#",
        "/#",
        f"{own}/in",
        f"{own}/+",
        f"{neighbour}/out",
        "$SYS/#",
        "$CONTROL/#",
        "$other/topic",
        "home/light",
    )
    assert [await client.subscribed(each) for each in filters] == [0x87] * len(filters)
    shared = (f"$share/g/{neighbour}/out", f"$share/g/{own}/out", "$share/g/#")
    assert [await client.subscribed(each) for each in shared] == [0x87] * 3
    topics = (f"{own}/out", f"{neighbour}/in", "home/light", REQUESTS, "$SYS/broker/uptime")
    assert [await client.published(each) for each in topics] == [0x87] * len(topics)
    assert await client.subscribed(f"{own}/out") == 1
    assert await client.published(f"{own}/in") in (0, 0x10)


def test_a_retained_message_is_read_and_none_is_none(mosquitto: MosquittoProcess) -> None:
    async def scenario(broker: Mosquitto, namespace: Namespace) -> None:
        hubs = Account(namespace.server, namespace.server, server_grants(namespace))
        await broker.ensure(hubs, PASSWORD)
        assert await broker.read_retained(namespace.presence, 10) is None
        async with client_of(mosquitto, hubs.user, PASSWORD.text) as client:
            client.socket.publish(namespace.presence.encode(), b"online 1", retain=True)
            assert await broker.read_retained(namespace.presence, 10) == b"online 1"
        assert await broker.list() is not None  # the connection goes on

    run(scenario, mosquitto)


def test_the_connection_is_let_go_when_nothing_is_said_and_opened_again(mosquitto: MosquittoProcess) -> None:
    async def scenario(broker: Mosquitto, namespace: Namespace) -> None:
        first = broker._connection
        assert first is not None and first._socket is not None
        await asyncio.wait_for(asyncio.shield(first._socket.closed), 5)
        await broker.check()
        assert broker._connection is not None and broker._connection is not first

    run(scenario, mosquitto, idle_seconds=0.05)


def test_whoever_else_administers_it_does_not_disturb(mosquitto: MosquittoProcess) -> None:
    """The administrator's second connection ends the first one here: what is interrupted is asked again."""

    async def scenario(broker: Mosquitto, namespace: Namespace) -> None:
        anna = account(namespace)
        for _ in range(3):
            await told(mosquitto, {"command": "listClients", "correlationData": "not ours"})
            await broker.ensure(anna, PASSWORD)
        assert await broker.list() == right(anna)

    run(scenario, mosquitto)
