# SPDX-License-Identifier: Apache-2.0
"""The ruler for a broker: bare MQTT clients at QoS 1 over TLS, one of which sends back what the others say.

On our codec and socket, without a hub and without a thought; the one that sends back in a process of its own.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path

import uvloop

from thalovant.protocol.mqtt.client_events import Arrived, Event
from thalovant.protocol.mqtt.packets import Connect
from thalovant_server.broker_socket import BrokerSocket, BrokerTarget, client_context, open_socket
from thalovant_server.brokers.admin_connection import AdminConnection
from thalovant_server.brokers.base import Secret
from thalovant_server.brokers.dynamic_security import Command
from thalovant_server.brokers.names import BrokerAddress
from thalovant_server.testing.mosquitto import MosquittoProcess

SIZE = 300  # bytes: what a sealed ask is, and each frame of its answer
PASSWORD = "only-for-this-bench-and-its-broker"
ECHO = "bench-echo"


def target_of(url: str, ca_file: str) -> BrokerTarget:
    """A broker to dial."""
    return BrokerTarget(BrokerAddress.parse(url), client_context(Path(ca_file)))


async def let_in(broker: MosquittoProcess, count: int) -> None:
    """Make so many users, and the one that sends back."""
    user, password = broker.admin
    admin = await AdminConnection.open(target_of(broker.url, str(broker.ca_file)), user, Secret(password))
    kinds = ("publishClientSend", "publishClientReceive", "subscribePattern")
    rights = [{"acltype": kind, "topic": "bench/#", "allow": True} for kind in kinds]
    commands = [Command("createRole", {"rolename": "bench", "acls": rights})]
    for name in (ECHO, *(f"bench-{number}" for number in range(count))):
        fields = {"username": name, "password": PASSWORD, "roles": [{"rolename": "bench"}]}
        commands.append(Command("createClient", fields))
    for command in commands:
        (answer,) = await admin.ask([command])
        assert answer.error is None, answer.error
    await admin.close()


class Asker:
    """One client that says something and waits until it is back."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._back: asyncio.Future[None] | None = None
        self._said = b""
        self._socket: BrokerSocket | None = None

    async def connect(self, target: BrokerTarget) -> None:
        """Log in and listen."""
        self._socket = await _open(target, f"bench-{self._number}", f"bench/{self._number}/out", self._heard)

    async def ask(self) -> float:
        """Seconds of one round trip."""
        assert self._socket is not None
        self._back = asyncio.get_running_loop().create_future()
        self._said = os.urandom(SIZE)
        began = time.perf_counter()
        self._socket.publish(f"bench/{self._number}/in".encode(), self._said)
        await self._back
        return time.perf_counter() - began

    async def close(self) -> None:
        """Say goodbye."""
        assert self._socket is not None
        await self._socket.close()

    def _heard(self, event: Event) -> None:
        assert isinstance(event, Arrived) and event.payload == self._said and self._back is not None
        self._back.set_result(None)


async def _open(target: BrokerTarget, name: str, topic: str, heard: object) -> BrokerSocket:
    subscribed = asyncio.Event()

    def happened(event: Event) -> None:
        if isinstance(event, Arrived):
            heard(event)  # type: ignore[operator]
        else:
            subscribed.set()

    socket = await open_socket(target, Connect(name, True, 60, name, PASSWORD.encode()), happened)
    socket.subscribe([(topic.encode(), 1)])
    await subscribed.wait()
    return socket


async def serve(url: str, ca_file: str) -> None:
    """Send back whatever is said below ``bench/+/in``, until standard input ends."""
    sockets: list[BrokerSocket] = []

    def heard(event: Arrived) -> None:
        sockets[0].publish(event.topic.replace(b"/in", b"/out"), event.payload)

    sockets.append(await _open(target_of(url, ca_file), ECHO, "bench/+/in", heard))
    print("here", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await sockets[0].close()


async def _ask(broker: MosquittoProcess, clients: int, rounds: int) -> list[float]:
    target = target_of(broker.url, str(broker.ca_file))
    askers = [Asker(number) for number in range(clients)]
    await asyncio.gather(*(asker.connect(target) for asker in askers))
    took: list[float] = []
    for _ in range(rounds):
        took += await asyncio.gather(*(asker.ask() for asker in askers))
    await asyncio.gather(*(asker.close() for asker in askers))
    return took[clients:]  # the first round warms


def measure(broker: MosquittoProcess, clients: int, rounds: int) -> list[float]:
    """Seconds of each round trip, all clients at once in each round; `let_in` has made them."""
    command = [sys.executable, "-m", "bench.bare_mqtt", broker.url, str(broker.ca_file)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as echo:
        assert echo.stdin is not None and echo.stdout is not None
        assert echo.stdout.readline() == "here\n"
        took = uvloop.run(_ask(broker, clients, rounds))
        echo.stdin.close()
    return took


if __name__ == "__main__":
    uvloop.run(serve(*sys.argv[1:3]))
