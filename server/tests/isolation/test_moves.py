# SPDX-License-Identifier: Apache-2.0
"""The matrix as data: complete, each move by a name of its own, and written as meant."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from thalovant.protocol.errors import MqttError
from thalovant.protocol.mqtt.framing import PacketReader
from thalovant.protocol.mqtt.packets import Connect, Packet, Publish, Subscribe
from thalovant.protocol.mqtt.versions import CODECS
from thalovant_server.isolation.moves import Kind, Move, moves, stale
from thalovant_server.isolation.packets import Wire

# `design/targets.md`, "Isolation", word by word: what MQTT has of it.
SUBSCRIBES = (
    "#", "+/#", "hubs/#", "hubs/+/clients/+/s2c", "neighbour/s2c", "neighbour/out", "neighbour/status", "neighbour/c2s",
    "neighbour/in", "$SYS/#", "$CONTROL/#", "$share/g/neighbour/s2c", "own/c2s", "own/in", "own/s2c/ (trailing slash)",
    "own/s2c with a NUL", "own/s2c that is not in normal form C", "own/s2c in overlong UTF-8",
)  # fmt: skip
PUBLISHES = (
    "neighbour/c2s, QoS 1", "neighbour/in, QoS 1", "neighbour/s2c, QoS 1", "neighbour/out, QoS 1",
    "neighbour/status, QoS 1", "own/s2c", "own/c2s, retained", "$SYS/broker/clients/total", "the empty topic", "own/+",
    "own/#", "own topic below another hub",
)  # fmt: skip
CONNECTS = (
    "connect with a neighbour's client id", "log in as a neighbour with its client id and a wrong password",
    "log in with an empty password", "log in with the key in the wrong case", "connect with a client id of 64 KiB",
    "connect with a user name of 64 KiB", "connect with a password of 64 KiB", "connect with a will of 64 KiB",
    "connect with a will at neighbour/status", "log in with a will and a wrong password",
    "log in with a clean start, the own client id and a wrong password",
)  # fmt: skip


def read(data: bytes, wire: Wire) -> Packet:
    (packet,) = PacketReader(1 << 20, CODECS[wire.level]).feed(data)
    return packet


def named(name: str) -> Move:
    return next(each for each in moves() if each.name == name)


def test_every_move_of_the_design_is_there() -> None:
    names = {each.name for each in moves()}
    assert names >= {f"subscribe to {each}" for each in SUBSCRIBES} | {f"publish to {each}" for each in PUBLISHES}
    assert names >= set(CONNECTS)


def test_each_move_has_a_name_of_its_own_and_says_what_it_is_for() -> None:
    names = [each.name for each in moves()]
    assert len(set(names)) == len(names) and all(each.gain for each in moves())


def test_failed_logins_come_last() -> None:
    """A throttle that they wake must not refuse the good logins of the other moves."""
    failed = [each.password != "{own_password}" or each.username != "{own_name}" for each in moves()]
    last_good = max(index for index, each in enumerate(failed) if not each)
    assert last_good < len(failed) and not any(
        failed[index] and len(moves()[index].username + moves()[index].password) < 1000 for index in range(last_good)
    )


@pytest.mark.parametrize("level", [4, 5])
def test_what_can_be_valid_is_what_was_meant(level: int, rig: SimpleNamespace) -> None:
    wire, scene = Wire(level), rig.SCENE
    login = read(named("publish to own/s2c").connect(scene, wire), wire)
    assert isinstance(login, Connect) and (login.username, login.password) == ("key-A", b"secret-A")
    assert login.level == level and login.clean_session
    asked = read(named("subscribe to neighbour/s2c").then(scene, wire), wire)
    assert isinstance(asked, Subscribe) and asked.filters == ((b"hubs/h1/clients/b/s2c", 0),)
    said = read(named("publish to neighbour/status, QoS 2").then(scene, wire), wire)
    assert isinstance(said, Publish) and (said.topic, said.payload) == (b"hubs/h1/clients/b/status", b"offline")
    assert (said.qos, said.retain) == (2, True)
    other = read(named("publish to own topic below another hub").then(scene, wire), wire)
    assert isinstance(other, Publish) and other.topic == b"hubs/somebody-elses/clients/a/c2s"
    will = read(named("connect with a will at neighbour/c2s").connect(scene, wire), wire)
    assert isinstance(will, Connect) and will.will is not None and will.will.topic == b"hubs/h1/clients/b/c2s"
    swapped = read(named("log in with the key in the wrong case").connect(scene, wire), wire)
    assert isinstance(swapped, Connect) and (swapped.username, swapped.password) == ("KEY-a", b"secret-A")


@pytest.mark.parametrize("level", [4, 5])
@pytest.mark.parametrize(
    "name",
    ["subscribe to own/s2c with a NUL", "subscribe to own/s2c in overlong UTF-8", "publish to own/#",
     "publish to own/c2s with a NUL"],
)  # fmt: skip
def test_what_is_no_packet_is_written_all_the_same(name: str, level: int, rig: SimpleNamespace) -> None:
    with pytest.raises(MqttError):
        read(named(name).then(rig.SCENE, Wire(level)), Wire(level))


def test_no_secret_is_shown(rig: SimpleNamespace) -> None:
    assert "secret" not in repr(rig.SCENE) and "key-A" not in repr(rig.SCENE)
    assert stale("a revoked credential").kind is Kind.CONNECT
