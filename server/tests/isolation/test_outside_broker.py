# SPDX-License-Identifier: Apache-2.0
"""The proof against a real Mosquitto that a server of ours joined: as we set it up, and as we would not.

On a broker a "no effect" is no weakness where nobody noticed anything: MQTT 3.1.1 acknowledges what it throws away, and
a will is looked at when it is due.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from thalovant import ThalovantControlPlane
from thalovant.protocol.mqtt.packets import Publish
from thalovant_server.broker_socket import BrokerTarget, client_context
from thalovant_server.brokers.admin_connection import AdminConnection
from thalovant_server.brokers.base import Secret
from thalovant_server.brokers.dynamic_security import KINDS, Command
from thalovant_server.brokers.names import BrokerAddress
from thalovant_server.errors import ProofError
from thalovant_server.isolation import table
from thalovant_server.isolation.attacker import Connection
from thalovant_server.isolation.findings import findings
from thalovant_server.isolation.moves import Kind, Move, moves
from thalovant_server.isolation.packets import Wire
from thalovant_server.isolation.running import SignIn, Target, run
from thalovant_server.isolation.streams import over_tls
from thalovant_server.isolation.verdicts import BROKER, Outcome, Verdict
from thalovant_server.testing import ServerProcess
from thalovant_server.testing.mosquitto import MosquittoProcess

NEVER = ("--broker-check-seconds", "3600")
TAKEOVER = "connect with a neighbour's client id"
# What MQTT 5 has no word for either, and nobody notices: QoS 0, wills, and what concerns nobody but the attacker.
SILENT = {
    "publish to own/c2s, retained", "publish to own/in, retained", "connect with a client id of 64 KiB",
    "connect with a will of 64 KiB", TAKEOVER,
}  # fmt: skip


class Shared:
    """A Mosquitto, and a server that joined it; the clients that the proof makes are its only ones."""

    def __init__(self, broker: MosquittoProcess, server: ServerProcess) -> None:
        self.broker, self.server = broker, server

    @property
    def target(self) -> Target:
        return Target(
            self.server.ready["api_url"],
            SignIn(None, *self.server.admin),
            Path(self.server.ready["ca_file"]).read_text(),
        )

    def allow_everything(self) -> None:
        """As somebody does who administers the broker, too."""
        lines = [{"acltype": kind, "allow": True} for kind in KINDS]
        user, password = self.broker.admin

        async def main() -> None:
            target = BrokerTarget(BrokerAddress.parse(self.broker.url), client_context(self.broker.ca_file))
            connection = await AdminConnection.open(target, user, Secret(password))
            (done,) = await connection.ask([Command("setDefaultACLAccess", {"acls": lines})])
            assert done.error is None
            await connection.close()

        asyncio.run(main())

    def make_client(self) -> None:
        """One that is let in: then the server has looked through the broker."""
        with ThalovantControlPlane(self.server.ready["api_url"], ca_pem=self.target.ca_pem) as plane:
            plane.login(*self.server.admin)
            plane.create_client_identity("demo", name="first")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Shared]]:
    """Start a broker, changed in its configuration, and a server that joins it."""
    with ExitStack() as stack:

        def start(name: str, change: Callable[[str], str] = str, options: Sequence[str] = NEVER) -> Shared:
            folder = tmp_path_factory.mktemp(name)
            broker = MosquittoProcess(folder / "broker")
            configuration = broker.folder / "mosquitto.conf"
            configuration.write_text(change(configuration.read_text()))
            stack.enter_context(broker)
            server = ServerProcess(folder / "data", options=(*broker.options, *options), strict=True)
            return Shared(broker, stack.enter_context(server))

        yield start


@pytest.fixture(scope="module")
def ours(shared: Callable[..., Shared]) -> Shared:
    """Mosquitto as we write its configuration, and a server whose topics begin below a root."""
    return shared("ours", options=(*NEVER, "--broker-root", "home/voice"))


def worked(outcomes: Sequence[Outcome]) -> set[str]:
    return {each.move for each in outcomes if each.verdict is Verdict.WORKED}


def of(outcomes: Sequence[Outcome], level: int) -> dict[str, Outcome]:
    return {each.move: each for each in outcomes if each.level == level}


def test_ours_denies_everything_or_nobody_notices(ours: Shared) -> None:
    """Typed, as an operator does, with the same moves that the server's own endpoint has to deny."""
    typed = subprocess.run(
        [sys.executable, "-m", "thalovant_server", "prove-isolation", "--data", ours.server.data, "--api-port",
         ours.server.ready["api_url"].rpartition(":")[2], "--json"],
        capture_output=True, text=True, timeout=100,
    )  # fmt: skip
    assert typed.returncode == 0, typed.stdout + typed.stderr
    said = json.loads(typed.stdout)
    assert said["isolated"] and said["findings"] == [] and {each["road"] for each in said["moves"]} == {BROKER}
    seen: dict[tuple[str, str], Any] = {(each["move"], each["mqtt"]): each for each in said["moves"]}
    for move in moves():
        for version in ("3.1.1", "5"):
            row = seen.pop((move.name, version))
            assert row["noticed"] == [] and row["verdict"] == expected(move, version), row
    assert {each["verdict"] for each in seen.values()} == {"denied"} and len(seen) == 6
    assert retained(ours) == [b"home/voice/server/status"]  # nothing of what was tried is left there


def expected(move: Move, version: str) -> str:
    """What Mosquitto has to answer to a move, as the standards let it."""
    no_topic = any(mark in move.name for mark in ("empty topic", "own/+", "own/#", "publish to #", "NUL", "overlong"))
    silent = move.name in SILENT or move.name.startswith("connect with a will") or move.qos == 0
    if move.kind is Kind.PUBLISH and version == "3.1.1":
        silent = not no_topic
    return "no effect" if silent else "denied"


def retained(shared: Shared) -> list[bytes]:
    """The topics that the broker keeps something for, below our root, as one who may hear all of it."""
    user, password = shared.broker.admin

    async def main() -> list[bytes]:
        context = client_context(shared.broker.ca_file)
        target = BrokerTarget(BrokerAddress.parse(shared.broker.url), context)
        admin = await AdminConnection.open(target, user, Secret(password))
        grants = [
            {"acltype": kind, "topic": "home/#", "allow": True} for kind in ("subscribePattern", "publishClientReceive")
        ]
        await admin.ask(
            [
                Command("createRole", {"rolename": "reader", "acls": grants}),
                Command(
                    "createClient", {"username": "reader", "password": "r" * 32, "roles": [{"rolename": "reader"}]}
                ),
            ]
        )
        await admin.close()
        wire = Wire(5)
        connection = await Connection.open(over_tls("localhost", shared.broker.port, context), wire)
        await connection.say(wire.connect("reader", "r" * 32, "reader") + wire.subscribe(b"home/#"))
        came = await connection.until_quiet()
        await connection.close()
        return [each.topic for each in came if isinstance(each, Publish)]

    return asyncio.run(main())


def test_a_client_id_that_may_be_taken_is_found(shared: Callable[..., Shared]) -> None:
    loose = shared(
        "loose", lambda text: text.replace("use_username_as_clientid true", "use_username_as_clientid false")
    )
    outcomes = run(loose.target)
    assert worked(outcomes) == {TAKEOVER}
    for level in (4, 5):
        assert of(outcomes, level)[TAKEOVER].noticed == ("the neighbour was disconnected",)
    (finding,) = findings(outcomes)
    assert "use_username_as_clientid true" in finding
    assert f"- {finding}\n\nNOT ISOLATED: 146 moves" in table.as_text(outcomes)


def test_what_is_allowed_by_default_is_found(shared: Callable[..., Shared]) -> None:
    """Somebody opens it after the server has looked: until it looks again, nothing is denied."""
    opened = shared("opened")
    opened.make_client()
    opened.allow_everything()
    outcomes = run(opened.target)
    for level in (4, 5):
        found = of(outcomes, level)
        for segment in ("s2c", "c2s", "status"):
            assert found[f"subscribe to neighbour/{segment}"].verdict is Verdict.WORKED
            assert found[f"connect with a will at neighbour/{segment}"].verdict is Verdict.WORKED
            for qos in (0, 1, 2):
                assert found[f"publish to neighbour/{segment}, QoS {qos}"].verdict is Verdict.WORKED
        assert found[TAKEOVER].verdict is Verdict.NO_EFFECT
    (finding,) = findings(outcomes)
    assert "getDefaultACLAccess" in finding


def test_a_web_socket_is_none_of_the_brokers(ours: Shared) -> None:
    with pytest.raises(ProofError, match="leave --websocket out"):
        run(ours.target, websocket=ours.server.ready["mqtt_websocket_endpoint"])


def test_the_servers_own_endpoint_has_no_findings() -> None:
    assert findings([Outcome("subscribe to #", "hear", 5, "SUBACK 0x00", (), Verdict.WORKED)]) == []
    at_broker = Outcome("subscribe to #", "hear", 5, "SUBACK 0x00", (), Verdict.WORKED, BROKER)
    assert len(findings([at_broker, at_broker])) == 1
