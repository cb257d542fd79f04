# SPDX-License-Identifier: Apache-2.0
"""Stock MQTT clients at the endpoint: what each sees of its own topics, of everybody else's, and of a refusal.

paho-mqtt (3.1.1 and 5, over TCP and WebSocket), gmqtt and aiomqtt (asyncio), mqtt.js (3.1.1 and 5, both ways), each
in an environment of its own. The mosquitto clients have a file of their own.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import pytest

from rig import Foreign, ForeignError
from thalovant import MqttBrokerCredentials, ThalovantControlPlane
from thalovant_server.testing import ServerProcess

pytestmark = pytest.mark.foreign

NOT_AUTHORIZED = 0x87
HELLO = json.dumps({"msg_type": "hello", "payload": {}})


@dataclass(frozen=True)
class Kind:
    """A client, the MQTT version it speaks, and the path of the WebSocket if it takes that road."""

    name: str
    version: int
    path: str | None = None

    def __str__(self) -> str:
        return f"{self.name}-{'5' if self.version == 5 else '3.1.1'}{'-ws' if self.path else ''}"


KINDS = [
    *(Kind(name, version, path) for name in ("paho", "mqttjs") for version in (4, 5) for path in (None, "/mqtt")),
    *(Kind(name, version) for name in ("gmqtt", "aiomqtt") for version in (4, 5)),
]
FIVES = [kind for kind in KINDS if kind.version == 5]
# The asyncio clients keep to themselves what CONNACK and PUBACK said, aiomqtt also what DISCONNECT did.
TELLS_ACKNOWLEDGEMENTS = [kind for kind in FIVES if kind.name in ("paho", "mqttjs")]
TELLS_ENDINGS = [kind for kind in FIVES if kind.name != "aiomqtt"]
OTHERS = ("#", "+/+/+/+/s2c", "hubs/#", "$SYS/#", "$share/g/hubs/x/clients/y/s2c")


@dataclass(frozen=True)
class Device:
    """The broker credentials of one client, and where it dials."""

    mqtt: MqttBrokerCredentials
    server: ServerProcess

    def dial(self, kind: Kind, **more: Any) -> dict[str, Any]:
        """The arguments of `connect`."""
        ready = self.server.ready
        address = urlsplit(ready["api_url"] if kind.path else ready["mqtt_endpoint"])
        return {
            "host": address.hostname, "port": address.port, "path": kind.path, "version": kind.version,
            "ca": ready["ca_file"], "username": self.mqtt.username, "password": self.mqtt.password,
            "client_id": f"device-{kind}", **more,
        }  # fmt: skip


@pytest.fixture
def make_device(api: ThalovantControlPlane, server: ServerProcess) -> Callable[[str], Device]:
    """A client with broker credentials."""

    def make(name: str) -> Device:
        identity = api.create_client_identity(server.ready["hub_id"], name=name).identity
        assert identity.mqtt is not None
        return Device(identity.mqtt, server)

    return make


@pytest.fixture
def start() -> Iterator[Callable[[Kind], Foreign]]:
    """Start a client's process."""
    started: list[Foreign] = []

    def begin(kind: Kind) -> Foreign:
        started.append(Foreign(kind.name))
        return started[-1]

    yield begin
    for each in started:
        each.close()


Make = Callable[[str], Device]
Start = Callable[[Kind], Foreign]


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_a_device_keeps_its_presence_and_hears_its_own_topics(kind: Kind, make_device: Make, start: Start) -> None:
    device, client = make_device("device"), start(kind)
    mqtt = device.mqtt
    answer = client("connect", **device.dial(kind, will=mqtt.status_topic))
    assert (answer["code"], answer["present"]) == (0, False)
    assert client("subscribe", topic=mqtt.s2c_topic, qos=1) == [1]
    assert client("subscribe", topic=mqtt.status_topic, qos=2) == [1], "at most QoS 1 is granted"
    assert client("publish", topic=mqtt.status_topic, payload="online", retain=True)["code"] in (0, None)
    said = client("message")
    assert (said["topic"], said["payload"]) == (mqtt.status_topic, "online")
    client("publish", topic=mqtt.c2s_topic, payload=HELLO)
    hello, offer = client("message"), client("message")
    assert {hello["topic"], offer["topic"]} == {mqtt.s2c_topic}
    assert json.loads(hello["payload"])["msg_type"] == "hello"
    assert json.loads(offer["payload"])["msg_type"] == "shake"
    assert not hello["retain"] and hello["qos"] == 1
    client("disconnect")


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_a_device_that_vanishes_is_told_offline(kind: Kind, make_device: Make, start: Start) -> None:
    device, client, watcher = make_device("device"), start(kind), start(Kind("paho", 5))
    status = device.mqtt.status_topic
    client("connect", **device.dial(kind, will=status))
    client("subscribe", topic=status)
    client("publish", topic=status, payload="online", retain=True)
    assert client("message")["payload"] == "online"
    watcher("connect", **device.dial(Kind("paho", 5), client_id="watcher"))
    watcher("subscribe", topic=status)
    retained = watcher("message")
    assert (retained["payload"], retained["retain"]) == ("online", True)
    client.vanish()
    said = watcher("message")
    assert (said["payload"], said["retain"]) == ("offline", False)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_nobody_elses_topics_are_granted(kind: Kind, make_device: Make, start: Start) -> None:
    device, neighbour, client = make_device("device"), make_device("neighbour"), start(kind)
    client("connect", **device.dial(kind))
    for topic in (*OTHERS, neighbour.mqtt.s2c_topic, neighbour.mqtt.status_topic, device.mqtt.c2s_topic):
        try:
            (code,) = client("subscribe", topic=topic)
        except ForeignError as error:  # a client may know by itself that the server offers no such filter
            assert kind.version == 5 and ("$share" in topic or "#" in topic or "+" in topic), error
        else:
            assert code >= 0x80, topic


@pytest.mark.parametrize("kind", TELLS_ACKNOWLEDGEMENTS, ids=str)
def test_a_denied_publish_is_told_and_the_connection_stays(kind: Kind, make_device: Make, start: Start) -> None:
    device, neighbour, client, other = make_device("device"), make_device("neighbour"), start(kind), start(kind)
    other("connect", **neighbour.dial(kind))
    other("subscribe", topic=neighbour.mqtt.s2c_topic)
    client("connect", **device.dial(kind))
    for topic in (neighbour.mqtt.c2s_topic, neighbour.mqtt.s2c_topic, device.mqtt.s2c_topic, "weather"):
        denied = client("publish", topic=topic, payload="x", qos=1)
        assert denied["code"] == NOT_AUTHORIZED, topic
        assert denied["reason"], "says what to do"
        assert neighbour.mqtt.username not in denied["reason"]
    assert client("publish", topic=device.mqtt.status_topic, payload="online", qos=1)["code"] == 0
    other("publish", topic=neighbour.mqtt.c2s_topic, payload=HELLO)
    assert json.loads(other("message")["payload"])["msg_type"] == "hello", "the first thing that the neighbour hears"


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.version == 4], ids=str)
def test_a_denied_publish_ends_a_connection_of_3_1_1(kind: Kind, make_device: Make, start: Start) -> None:
    device, client = make_device("device"), start(kind)
    client("connect", **device.dial(kind))
    client("publish", topic="weather", payload="x", qos=0)
    client("ended")


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_a_wrong_password_is_refused(kind: Kind, make_device: Make, start: Start) -> None:
    device, client = make_device("device"), start(kind)
    answer = client("connect", **device.dial(kind, password="wrong"))
    expected = {0x86, 0x87} if kind.version == 5 else {4, 5, 0x86, 0x87}  # paho translates
    assert answer["code"] in expected


@pytest.mark.parametrize("kind", TELLS_ACKNOWLEDGEMENTS, ids=str)
def test_connack_says_what_is_offered(kind: Kind, make_device: Make, start: Start) -> None:
    device, client = make_device("device"), start(kind)
    answer = client("connect", **device.dial(kind, client_id="", properties={"SessionExpiryInterval": 60}))
    told = answer["properties"]
    assert told["SessionExpiryInterval"] == 0
    assert told["AssignedClientIdentifier"]
    assert told["MaximumPacketSize"] == 256 * 1024
    assert not told["WildcardSubscriptionAvailable"]
    assert not told["SharedSubscriptionAvailable"]


@pytest.mark.parametrize("kind", TELLS_ENDINGS, ids=str)
def test_a_takeover_and_a_revocation_say_why(
    kind: Kind, make_device: Make, start: Start, api: ThalovantControlPlane, server: ServerProcess
) -> None:
    made = api.create_client_identity(server.ready["hub_id"], name="device")
    assert made.identity.mqtt is not None
    device, first, second = Device(made.identity.mqtt, server), start(kind), start(kind)
    first("connect", **device.dial(kind, client_id="same"))
    second("connect", **device.dial(kind, client_id="same"))
    assert first("ended")["code"] == 0x8E
    api.delete_client(made.client_id)
    assert second("ended")["code"] in (0x87, 0x98)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_quality_of_service_two_and_large_payloads_pass(kind: Kind, make_device: Make, start: Start) -> None:
    device, client = make_device("device"), start(kind)
    client("connect", **device.dial(kind))
    client("subscribe", topic=device.mqtt.s2c_topic)
    user = [["firmware", "1.2"], ["firmware", "beta"]] if kind.version == 5 else None
    padding = "x" * 60_000
    hello = json.dumps({"msg_type": "hello", "payload": {"padding": padding}})
    assert client("publish", topic=device.mqtt.c2s_topic, payload=hello, qos=2, user=user)["code"] in (0, None)
    assert json.loads(client("message")["payload"])["msg_type"] == "hello"
