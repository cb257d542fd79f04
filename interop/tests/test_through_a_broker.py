# SPDX-License-Identifier: Apache-2.0
"""Clients that we did not write, at a real Mosquitto with our hub behind it: the published SDK and stock MQTT clients.

One broker and one server for the whole file. What the published SDK may know of us is what it knows of any hub.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any
from urllib.parse import urlsplit

import pytest

from rig import AGENTS, ROOT, Foreign, Published, PublishedError, mosquitto
from thalovant import MqttBrokerCredentials, ThalovantControlPlane
from thalovant_server.testing import ServerProcess
from thalovant_server.testing.mosquitto import MosquittoProcess

published_one = pytest.mark.published
foreign = pytest.mark.foreign
HELLO = json.dumps({"msg_type": "hello", "payload": {"pubkey": "", "session": {"session_id": "s"}, "site_id": "x"}})
CLIENTS = [(name, version) for name in ("paho", "mqttjs", "gmqtt", "aiomqtt") for version in (4, 5)]
TELLS_WHY = ("paho", "mqttjs")  # the others keep to themselves what CONNACK and PUBACK said
NOT_AUTHORIZED = 0x87


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MosquittoProcess]:
    """A Mosquitto, as `broker init` sets it up."""
    with MosquittoProcess(tmp_path_factory.mktemp("broker") / "broker") as running:
        yield running


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, broker: MosquittoProcess) -> Iterator[ServerProcess]:
    """A server whose hubs are behind that broker."""
    data = tmp_path_factory.mktemp("server") / "data"
    environment = {"PYTHONPATH": str(AGENTS)}
    with ServerProcess(data, options=broker.options, environment=environment, strict=True) as running:
        yield running


@pytest.fixture
def make_identity(server: ServerProcess, published: Published, tmp_path: Path) -> Callable[..., Path]:
    """Have the published SDK create an identity; its file is answered."""

    def make(name: str, **changes: Any) -> Path:
        email, password = server.admin
        file = tmp_path / f"{name}.json"
        made = published(
            "create_identity", url=server.ready["api_url"], email=email, password=password,
            hub=server.ready["hub_id"], name=name, file=str(file),
        )  # fmt: skip
        assert made["mqtt"] is True
        identity = json.loads(file.read_text())
        block = {**identity["mqtt"], **changes.pop("mqtt", {})}
        file.write_text(json.dumps({**identity, **changes, "mqtt": block}))
        return file

    return make


Make = Callable[..., Path]


def connect(published: Published, file: Path, tmp_path: Path) -> None:
    """Open a client as "c"."""
    published("open_client", key="c", file=str(file), protocol="mqtt", noise=str(tmp_path / "noise"))


def ask_until_answered(published: Published, text: str, tries: int = 8) -> str:
    """Ask again after an error: the published SDK learns of a lost link from a failing ask (contract 10.3)."""
    for _ in range(tries - 1):
        try:
            return str(published("ask", key="c", text=text, timeout=6.0)["text"])
        except PublishedError:
            continue
    return str(published("ask", key="c", text=text)["text"])


# -- the published SDK


@published_one
def test_the_seed_sample_runs_unchanged_but_for_address_and_login(
    server: ServerProcess, published: Published, tmp_path: Path, broker: MosquittoProcess
) -> None:
    email, password = server.admin
    sample = (ROOT / "examples/seed_sample.py").read_text()
    program = tmp_path / "sample.py"
    program.write_text(
        sample.replace("ThalovantControlPlane()", f'ThalovantControlPlane("{server.ready["api_url"]}")')
        .replace('"you@example.com", "password"', f'"{email}", "{password}"')
        .replace('"hub-id"', f'"{server.ready["hub_id"]}"')
    )
    assert published("run_file", file=str(program)).strip() == "Reply over MQTT."


@published_one
def test_it_asks(published: Published, make_identity: Make, tmp_path: Path, broker: MosquittoProcess) -> None:
    file = make_identity("asks")
    assert json.loads(file.read_text())["mqtt"]["endpoint"].endswith(f":{broker.port}")
    connect(published, file, tmp_path)
    for text in ("one", "zwei 二 🙂", "x" * 100_000):
        answer = published("ask", key="c", text=text)
        assert (answer["text"], answer["handled"]) == (text, True)
    assert published("query", key="c", text="and a query")["text"] == "and a query"
    published("close", key="c")


@published_one
@pytest.mark.parametrize("changes", [{"password": "w" * 43}, {"mqtt": {"password": "w" * 43}}], ids=["hub", "broker"])
def test_a_wrong_password_fails_at_once(
    changes: dict[str, Any], published: Published, make_identity: Make, tmp_path: Path
) -> None:
    file = make_identity("wrong", **changes)
    began = monotonic()
    with pytest.raises(PublishedError) as caught:
        connect(published, file, tmp_path)
    assert "ThalovantConnectionError" in caught.value.kinds
    assert monotonic() - began < 10, "it waits for twenty seconds where a hub is silent"


@published_one
def test_what_only_the_hubs_last_word_can_tell_it_fails_at_once(
    published: Published, make_identity: Make, tmp_path: Path
) -> None:
    """That the hub knows it under another key: the handshake is over then, and the hub has no connection to close."""
    file = make_identity("known")
    connect(published, file, tmp_path)
    published("close", key="c")
    began = monotonic()
    with pytest.raises(PublishedError) as caught:
        connect(published, file, tmp_path / "another")
        published("ask", key="c", text="who am I?", timeout=60.0)
    assert "ThalovantConnectionError" in caught.value.kinds
    assert monotonic() - began < 10


@published_one
def test_it_is_cut_while_its_client_is_paused_and_when_it_is_removed(
    published: Published, make_identity: Make, api: ThalovantControlPlane, tmp_path: Path
) -> None:
    file = make_identity("paused")
    connect(published, file, tmp_path)
    client = api.lookup_credential(json.loads(file.read_text())["access_key"])["client"]["id"]
    for change in (api.pause_client, api.delete_client):
        assert ask_until_answered(published, "here") == "here"
        change(client)
        began = monotonic()
        with pytest.raises(PublishedError) as caught:
            published("ask", key="c", text="still here?", timeout=60.0)
        # Which of its own errors it is depends on whether it hears of the end before it has sent, or after that.
        assert {"ThalovantConnectionError", "ThalovantTimeoutError"} & set(caught.value.kinds)
        assert monotonic() - began < 20
        if change == api.pause_client:
            api.resume_client(client)
    published("close", key="c")


# -- stock clients


@dataclass(frozen=True)
class Device:
    """The broker credentials of one client, and where it dials."""

    mqtt: MqttBrokerCredentials
    broker: MosquittoProcess

    def dial(self, version: int, **more: Any) -> dict[str, Any]:
        """The arguments of `connect`."""
        address = urlsplit(self.mqtt.endpoint)
        return {
            "host": address.hostname, "port": address.port, "path": None, "version": version,
            "ca": str(self.broker.ca_file), "username": self.mqtt.username, "password": self.mqtt.password,
            "client_id": "device", **more,
        }  # fmt: skip


@pytest.fixture(scope="module")
def devices(
    api: ThalovantControlPlane, server: ServerProcess, broker: MosquittoProcess
) -> Iterator[tuple[Device, Device]]:
    """A device of one's own, and a neighbour's."""
    made = [api.create_client_identity(server.ready["hub_id"], name=name) for name in ("own", "neighbour")]
    for each in made:
        if each.operation is not None:
            api.wait_for_admission(each.operation, timeout=20, poll_interval=0.1)
    own, neighbour = (Device(each.identity.mqtt, broker) for each in made if each.identity.mqtt is not None)
    yield own, neighbour


@pytest.fixture
def start() -> Iterator[Callable[[str], Foreign]]:
    """Start a client's process."""
    started: list[Foreign] = []

    def begin(name: str) -> Foreign:
        started.append(Foreign(name))
        return started[-1]

    yield begin
    for each in started:
        each.close()


@foreign
@pytest.mark.parametrize(("name", "version"), CLIENTS)
def test_a_device_hears_its_own_topics_and_nobody_elses(
    name: str, version: int, devices: tuple[Device, Device], start: Callable[[str], Foreign]
) -> None:
    """Own topics are heard, another's are refused and silent; the hub greets whoever greets it."""
    own, neighbour = devices
    client, witness = start(name), start("paho")
    mqtt, other = own.mqtt, neighbour.mqtt
    witness("connect", **neighbour.dial(5))
    for topic in (other.s2c_topic, other.status_topic):
        witness("subscribe", topic=topic)
    assert client("connect", **own.dial(version, will=mqtt.status_topic))["code"] == 0
    assert client("subscribe", topic=mqtt.s2c_topic, qos=1) == [1]
    for topic in ("#", "hubs/#", other.s2c_topic, other.status_topic, mqtt.c2s_topic):
        (code,) = client("subscribe", topic=topic)
        assert code >= 0x80, topic
    for topic in (other.c2s_topic, other.s2c_topic, other.status_topic, mqtt.s2c_topic, "weather"):
        denied = client("publish", topic=topic, payload="intruder", qos=1)
        assert version == 4 or name not in TELLS_WHY or denied["code"] == NOT_AUTHORIZED, topic
    client("publish", topic=mqtt.c2s_topic, payload=HELLO)
    hello, offer = client("message"), client("message")
    assert {hello["topic"], offer["topic"]} == {mqtt.s2c_topic}, "and nothing of its own on s2c before it"
    assert [json.loads(each["payload"])["msg_type"] for each in (hello, offer)] == ["hello", "shake"]
    assert (hello["retain"], hello["qos"]) == (False, 1)
    witness("publish", topic=other.status_topic, payload="online", retain=True)
    assert witness("message")["payload"] == "online", "the first thing that the neighbour hears"
    client("disconnect")


@foreign
@pytest.mark.parametrize(("name", "version"), CLIENTS)
def test_a_wrong_login_is_refused(
    name: str, version: int, devices: tuple[Device, Device], start: Callable[[str], Foreign]
) -> None:
    own, _ = devices
    answer = start(name)("connect", **own.dial(version, password="wrong"))
    assert answer["code"] in ({NOT_AUTHORIZED} if version == 5 else {4, 5, 0x86, NOT_AUTHORIZED})


@foreign
@pytest.mark.parametrize("version", ["mqttv311", "mqttv5"])
@pytest.mark.parametrize(("spelling", "answer"), [("c2s", "s2c"), ("in", "out")])
def test_mosquitto_rr_is_greeted(spelling: str, answer: str, version: str, devices: tuple[Device, Device]) -> None:
    own, _ = devices
    prefix = own.mqtt.topic_prefix
    code, output = finished(own, version, "mosquitto_rr", "-t", f"{prefix}/{spelling}", "-e", f"{prefix}/{answer}")
    assert code == 0, output
    assert json.loads(output.splitlines()[0])["payload"]["node_id"]


@foreign
@pytest.mark.parametrize("version", ["mqttv311", "mqttv5"])
def test_mosquitto_sub_may_not_listen_to_others(version: str, devices: tuple[Device, Device]) -> None:
    own, neighbour = devices
    for topic in ("#", "$SYS/#", f"{neighbour.mqtt.topic_prefix}/s2c"):
        _, output = finished(own, version, "mosquitto_sub", "-t", topic, message=None)
        assert "All subscription requests were denied" in output, output


def finished(device: Device, version: str, program: str, *options: str, message: str | None = HELLO) -> tuple[int, str]:
    """Run a program of Mosquitto's with the device's login; its exit code and what it wrote."""
    address = urlsplit(device.mqtt.endpoint)
    said = [] if message is None else ["-m", message]
    process: subprocess.Popen[str] = mosquitto(
        program, "-h", str(address.hostname), "-p", str(address.port), "--cafile", str(device.broker.ca_file),
        "-V", version, "-q", "1", "-W", "8", "-u", device.mqtt.username, "-P", device.mqtt.password, *options, *said,
    )  # fmt: skip
    output, _ = process.communicate(timeout=20)
    return process.returncode, output


# -- what breaks, last in this file: it is one broker and one server


@published_one
@pytest.mark.parametrize("breaks", ["server", "broker"])
def test_it_asks_again_after_a_restart(
    breaks: str, published: Published, make_identity: Make, server: ServerProcess, broker: MosquittoProcess,
    tmp_path: Path,
) -> None:  # fmt: skip
    connect(published, make_identity(f"restart-{breaks}"), tmp_path)
    assert published("ask", key="c", text="before")["text"] == "before"
    if breaks == "server":
        assert server.stop() == 0
        server.start()
    else:
        assert broker.stop() == 0
        broker.start()
    assert ask_until_answered(published, "after") == "after"
    published("close", key="c")
