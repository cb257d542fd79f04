# SPDX-License-Identifier: Apache-2.0
"""mosquitto_pub and mosquitto_sub with an identity's broker credential: own topics, and nothing else."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest

from rig import mosquitto
from thalovant import ThalovantControlPlane
from thalovant_server.testing import ServerProcess

pytestmark = pytest.mark.foreign

REFUSED_SUBSCRIPTIONS = (
    "#", "+/#", "hubs/#", "hubs/+/clients/+/s2c", "$SYS/#", "$CONTROL/#", "{neighbour}/s2c", "{neighbour}/out",
    "{neighbour}/status", "{neighbour}/c2s", "{neighbour}/in", "$share/g/{neighbour}/s2c", "{own}/c2s", "{own}/in",
    "{own}/s2c/", "{own}/#", "{own}/+", "$share/g/#", "{own}/s2c\u0301", "{neighbour}/#",
)  # fmt: skip
HELLO = json.dumps({"msg_type": "hello", "payload": {"pubkey": "", "session": {"session_id": "s"}, "site_id": "x"}})
REFUSED_PUBLISHES = (
    "{neighbour}/c2s",
    "{neighbour}/in",
    "{neighbour}/status",
    "{own}/s2c",
    "{own}/out",
    "other",
    "$SYS/broker/load",
    "$CONTROL/dynamic-security/v1",
    "hubs/somebody-elses/clients/own/c2s",
)


@pytest.fixture(scope="module")
def identities(api: ThalovantControlPlane, server: ServerProcess) -> tuple[Any, Any]:
    """An identity of one's own, and a neighbour's."""
    hub = server.ready["hub_id"]
    return tuple(api.create_client_identity(hub, name=name).identity.mqtt for name in ("own", "neighbour"))


@pytest.fixture(scope="module")
def address(server: ServerProcess) -> list[str]:
    """The options that every call shares."""
    host, port = server.ready["mqtt_endpoint"].removeprefix("mqtts://").rsplit(":", 1)
    return ["-h", host, "-p", port, "--cafile", server.ready["ca_file"], "-V", "mqttv311", "-q", "1"]


def credential(mqtt: Any) -> list[str]:
    return ["-u", mqtt.username, "-P", mqtt.password]


def finished(process: subprocess.Popen[str]) -> tuple[int, str]:
    output, _ = process.communicate(timeout=20)
    return process.returncode, output


def fill(topic: str, identities: tuple[Any, Any]) -> str:
    own, neighbour = identities
    return topic.format(own=own.topic_prefix, neighbour=neighbour.topic_prefix)


def subscribed(process: subprocess.Popen[str]) -> None:
    """Wait until mosquitto_sub, started with -d, has its SUBACK."""
    assert process.stdout is not None
    for line in process.stdout:
        if "Subscribed" in line:
            return
    raise AssertionError("no SUBACK")


@pytest.mark.parametrize("version", ["mqttv311", "mqttv5"])
@pytest.mark.parametrize(("spelling", "answer"), [("c2s", "s2c"), ("in", "out")])
def test_a_clear_hello_is_answered_in_its_own_spelling(
    spelling: str, answer: str, version: str, identities: tuple[Any, Any], address: list[str]
) -> None:
    prefix = identities[0].topic_prefix
    code, output = finished(mosquitto(
        "mosquitto_rr", *address, "-V", version, *credential(identities[0]), "-W", "10",
        "-t", f"{prefix}/{spelling}", "-e", f"{prefix}/{answer}", "-m", HELLO,
    ))  # fmt: skip
    assert code == 0, output
    hello = json.loads(output.splitlines()[0])
    assert hello["msg_type"] == "hello"
    assert hello["payload"]["node_id"]


def test_the_answer_to_a_hello_reaches_no_other_connection(identities: tuple[Any, Any], address: list[str]) -> None:
    prefix = identities[0].topic_prefix
    with mosquitto(
        "mosquitto_sub", *address, *credential(identities[0]), "-i", "listener", "-t", f"{prefix}/s2c",
        "-t", f"{prefix}/status", "-F", "%t %p", "-d", "-W", "20",
    ) as listener:  # fmt: skip
        subscribed(listener)
        for topic, message in ((f"{prefix}/c2s", HELLO), (f"{prefix}/status", "online")):
            assert finished(
                mosquitto("mosquitto_pub", *address, *credential(identities[0]), "-t", topic, "-m", message)
            )[0] == 0  # fmt: skip
        assert listener.stdout is not None
        seen = []
        for line in listener.stdout:  # the status comes after the hello: when it is here, the hello was answered
            seen.append(line)
            if line.startswith(f"{prefix}/status"):
                break
        listener.kill()
    assert not any(line.startswith(f"{prefix}/s2c ") for line in seen)


def test_presence_is_retained_on_the_own_status_topic(identities: tuple[Any, Any], address: list[str]) -> None:
    own = identities[0]
    status = f"{own.topic_prefix}/status"
    with mosquitto(
        "mosquitto_sub", *address, *credential(own), "-i", "watcher", "-t", status, "-d", "-W", "15"
    ) as watcher:
        subscribed(watcher)
        code, _ = finished(mosquitto("mosquitto_pub", *address, *credential(own), "-t", status, "-m", "online", "-r"))
        assert code == 0
        assert watcher.stdout is not None
        assert any(line.strip() == "online" for line in watcher.stdout)
        watcher.kill()


@pytest.mark.parametrize("topic", REFUSED_SUBSCRIPTIONS)
def test_a_subscription_to_anything_else_is_refused(
    topic: str, identities: tuple[Any, Any], address: list[str]
) -> None:
    filled = fill(topic, identities)
    code, output = finished(mosquitto("mosquitto_sub", *address, *credential(identities[0]), "-t", filled, "-W", "5"))
    assert "All subscription requests were denied" in output, (code, output)


@pytest.mark.parametrize("topic", ["{own}/s2c", "{own}/out", "{own}/status"])
def test_a_subscription_to_an_own_topic_is_granted(topic: str, identities: tuple[Any, Any], address: list[str]) -> None:
    filled = fill(topic, identities)
    with mosquitto("mosquitto_sub", *address, *credential(identities[0]), "-t", filled, "-d", "-W", "10") as listener:
        subscribed(listener)
        listener.kill()


@pytest.mark.parametrize("topic", REFUSED_PUBLISHES)
def test_a_publish_to_anything_else_ends_the_connection(
    topic: str, identities: tuple[Any, Any], address: list[str]
) -> None:
    own, neighbour = identities
    with mosquitto(
        "mosquitto_sub", *address, *credential(neighbour), "-d", "-W", "20", "-t", f"{neighbour.topic_prefix}/s2c",
        "-t", f"{neighbour.topic_prefix}/out", "-t", f"{neighbour.topic_prefix}/status",
    ) as witness:  # fmt: skip
        subscribed(witness)
        code, output = finished(
            mosquitto("mosquitto_pub", *address, *credential(own), "-t", fill(topic, identities), "-m", "x")
        )
        assert code != 0, output
        witness.kill()
        assert "PUBLISH" not in witness.communicate(timeout=10)[0]


@pytest.mark.parametrize("version", ["mqttv311", "mqttv5"])
@pytest.mark.parametrize("password", ["own", "wrong"])
def test_a_will_at_a_neighbour_is_refused_and_never_published(
    password: str, version: str, identities: tuple[Any, Any], address: list[str]
) -> None:
    own, neighbour = identities
    status = f"{neighbour.topic_prefix}/status"
    with mosquitto(
        "mosquitto_sub", *address, *credential(neighbour), "-i", "will-witness", "-t", status, "-d", "-W", "20"
    ) as witness:
        subscribed(witness)
        code, output = finished(
            mosquitto(
                "mosquitto_sub", *address, "-V", version, "-u", own.username, "-W", "5",
                "-t", f"{own.topic_prefix}/s2c",
                "-P", own.password if password == "own" else "wrong",
                "--will-topic", status, "--will-payload", "offline", "--will-retain",
            )
        )  # fmt: skip
        assert code != 0 and ("not authori" in output.lower() or "bad user name" in output.lower()), output
        witness.kill()
        assert "PUBLISH" not in witness.communicate(timeout=10)[0]


@pytest.mark.parametrize("change", ["password", "username", "case", "empty"])
def test_a_wrong_credential_is_refused(change: str, identities: tuple[Any, Any], address: list[str]) -> None:
    own, neighbour = identities
    user, password = {
        "password": (own.username, neighbour.password),
        "username": (neighbour.username, own.password),
        "case": (own.username.swapcase(), own.password),
        "empty": (own.username, ""),
    }[change]
    code, output = finished(
        mosquitto("mosquitto_sub", *address, "-u", user, "-P", password, "-t", f"{own.topic_prefix}/s2c", "-W", "5")
    )
    assert "not authorised" in output.lower(), (code, output)


def test_in_mqtt_5_whoever_is_refused_is_told_why(identities: tuple[Any, Any], address: list[str]) -> None:
    own, neighbour = identities
    five = [*address, "-V", "mqttv5"]
    _, output = finished(
        mosquitto("mosquitto_pub", *five, *credential(own), "-t", f"{neighbour.topic_prefix}/c2s", "-m", "x")
    )
    assert "not authorized" in output.lower(), output
    login = ["-u", own.username, "-P", neighbour.password]
    _, output = finished(mosquitto("mosquitto_pub", *five, *login, "-t", f"{own.topic_prefix}/c2s", "-m", "x"))
    assert "bad user name or password" in output.lower(), output
    _, output = finished(mosquitto("mosquitto_sub", *five, *credential(own), "-t", "#", "-W", "5"))
    assert "All subscription requests were denied" in output, output


def test_a_plain_connection_is_refused(identities: tuple[Any, Any], address: list[str]) -> None:
    at = address.index("--cafile")
    plain = [*address[:at], *address[at + 2 :]]
    code, _ = finished(
        mosquitto(
            "mosquitto_sub",
            *plain,
            *credential(identities[0]),
            "-t",
            f"{identities[0].topic_prefix}/s2c",
            "-W",
            "5",
        )
    )
    assert code != 0


def test_a_neighbours_client_id_takes_nothing_over(identities: tuple[Any, Any], address: list[str]) -> None:
    own, neighbour = identities
    topic = f"{neighbour.topic_prefix}/status"
    with mosquitto(
        "mosquitto_sub", *address, *credential(neighbour), "-i", "same-id", "-t", topic, "-d", "-W", "20"
    ) as witness:
        subscribed(witness)
        with mosquitto(
            "mosquitto_sub", *address, *credential(own), "-i", "same-id", "-d", "-W", "10",
            "-t", f"{own.topic_prefix}/status",
        ) as thief:  # fmt: skip
            subscribed(thief)
            finished(mosquitto("mosquitto_pub", *address, *credential(neighbour), "-t", topic, "-m", "online"))
            assert witness.stdout is not None
            assert any(line.strip() == "online" for line in witness.stdout)
            thief.kill()
        witness.kill()
