# SPDX-License-Identifier: Apache-2.0
"""The endpoint with clients that we did not write: mosquitto_pub and mosquitto_sub."""

import asyncio
from asyncio.subprocess import PIPE, STDOUT, Process
from types import SimpleNamespace
from typing import Any

import pytest
import uvloop

pytestmark = pytest.mark.foreign


STARTED: list[Process] = []


def run(main: Any) -> None:
    async def bounded() -> None:
        try:
            await asyncio.wait_for(main, 30)
        finally:
            while STARTED:
                process = STARTED.pop()
                if process.returncode is None:
                    process.kill()
                await process.wait()

    uvloop.run(bounded())


async def start(
    endpoint: Any, program: str, *arguments: str, key: str = "key-a", password: str = "broker-password"
) -> Process:
    login = ["-h", "127.0.0.1", "-p", str(endpoint.port), "-u", key, "-P", password, "-d"]
    command = ["stdbuf", "-oL", f"mosquitto_{program}", *login, *arguments]
    STARTED.append(await asyncio.create_subprocess_exec(*command, stdout=PIPE, stderr=STDOUT))
    return STARTED[-1]


async def finished(process: Process) -> tuple[int | None, str]:
    out, _ = await process.communicate()
    return process.returncode, out.decode()


async def until(process: Process, text: str) -> None:
    assert process.stdout is not None
    async for line in process.stdout:
        if text in line.decode():
            return
    raise AssertionError(f"it ended before it said {text!r}")


@pytest.fixture(params=["mqttv311", "mqttv5"])
def version(request: pytest.FixtureRequest) -> list[str]:
    """The options that choose a version of MQTT."""
    return ["-V", request.param]


@pytest.mark.parametrize("qos", ["0", "1", "2"])
def test_a_publisher_gets_through_with_every_qos(rig: SimpleNamespace, qos: str, version: list[str]) -> None:
    async def main() -> None:
        async with rig.Endpoint() as endpoint:
            watcher = await endpoint.login("a", "watcher")
            await endpoint.subscribe(watcher, "a", "status", qos=0)
            topic = rig.topic("a", "status").decode()
            code, out = await finished(
                await start(endpoint, "pub", *version, "-t", topic, "-m", "online", "-q", qos, "-r")
            )
            assert code == 0, out
            got = await watcher.receive()
            assert got.payload == b"online"  # type: ignore[union-attr]

    run(main())


def test_a_subscriber_hears_its_hub(rig: SimpleNamespace, version: list[str]) -> None:
    async def main() -> None:
        async with rig.Endpoint() as endpoint:
            out, into = rig.topic("a", "out").decode(), rig.topic("a", "in").decode()
            listener = await start(endpoint, "sub", *version, "-t", out, "-q", "2", "-C", "1", "-i", "listener")
            await until(listener, "Subscribed")
            (connection,) = endpoint.gateway._roster.of_credential(1)
            connection.deliver("out", [b"the answer"])
            code, said = await finished(listener)
            assert code == 0 and "the answer" in said
            assert (await finished(await start(endpoint, "pub", "-t", into, "-m", "x")))[0] == 0

    run(main())


def test_a_foreign_filter_is_refused_in_words(rig: SimpleNamespace, version: list[str]) -> None:
    async def main() -> None:
        async with rig.Endpoint() as endpoint:
            foreign = rig.topic("b", "out").decode()
            listener = await start(endpoint, "sub", *version, "-t", "#", "-t", foreign, "-C", "1")
            code, said = await finished(listener)
            assert "All subscription requests were denied" in said or "128" in said
            assert code != 0 or "denied" in said

    run(main())


@pytest.mark.parametrize(("key", "password"), [("key-a", "wrong"), ("nobody", "broker-password")])
def test_a_bad_login_is_not_authorised(rig: SimpleNamespace, key: str, password: str) -> None:
    async def main() -> None:
        async with rig.Endpoint() as endpoint:
            topic = rig.topic("a", "status").decode()
            process = await start(endpoint, "pub", "-t", topic, "-m", "online", key=key, password=password)
            code, said = await finished(process)
            assert code == 5 and "not authorised" in said

    run(main())


def test_another_version_of_mqtt_is_named(rig: SimpleNamespace) -> None:
    async def main() -> None:
        async with rig.Endpoint() as endpoint:
            topic = rig.topic("a", "status").decode()
            code, said = await finished(await start(endpoint, "pub", "-V", "mqttv31", "-t", topic, "-m", "online"))
            assert code != 0 and "unacceptable protocol" in said.lower()

    run(main())


def test_the_will_of_a_client_that_is_killed_is_published(rig: SimpleNamespace, version: list[str]) -> None:
    async def main() -> None:
        async with rig.Endpoint() as endpoint:
            status = rig.topic("a", "status").decode()
            watcher = await endpoint.login("a", "watcher")
            await endpoint.subscribe(watcher, "a", "status", qos=0)
            will = ["--will-topic", status, "--will-payload", "offline", "--will-retain"]
            device = await start(endpoint, "sub", *version, "-t", rig.topic("a", "out").decode(), *will)
            await until(device, "Subscribed")
            device.kill()
            await device.communicate()
            got = await watcher.receive()
            assert got.payload == b"offline"  # type: ignore[union-attr]

    run(main())


@pytest.mark.parametrize(("key", "password"), [("key-a", "wrong"), ("nobody", "broker-password")])
def test_in_mqtt_5_a_bad_login_is_named(rig: SimpleNamespace, key: str, password: str) -> None:
    async def main() -> None:
        async with rig.Endpoint() as endpoint:
            topic = rig.topic("a", "status").decode()
            process = await start(
                endpoint, "pub", "-V", "mqttv5", "-t", topic, "-m", "online", key=key, password=password
            )
            code, said = await finished(process)
            assert code != 0 and "bad user name or password" in said.lower()

    run(main())


def test_in_mqtt_5_a_denied_publish_is_named(rig: SimpleNamespace) -> None:
    async def main() -> None:
        async with rig.Endpoint() as endpoint:
            foreign = rig.topic("b", "in").decode()
            _, said = await finished(await start(endpoint, "pub", "-V", "5", "-q", "1", "-t", foreign, "-m", "x"))
            assert "not authorized" in said.lower()

    run(main())
