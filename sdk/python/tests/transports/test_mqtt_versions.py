# SPDX-License-Identifier: Apache-2.0
"""MQTT 5 first, 3.1.1 at once where a broker refuses it; and for how long that is remembered."""

from __future__ import annotations

from typing import Any

import pytest

from thalovant.errors import ThalovantConnectionError, ThalovantHubRefusedError
from thalovant.protocol.mqtt import packets
from thalovant.protocol.mqtt.packets import Connack, Publish
from thalovant.protocol.mqtt.v5 import V5
from thalovant.protocol.mqtt.v311 import V311
from thalovant.transports import mqtt

REFUSALS = {
    "return code 1": V311.encode(Connack(False, packets.UNACCEPTABLE_VERSION)),
    "reason code 0x84": V5.encode(Connack(False, 0x84)),
    "another code, in the form of 3.1.1": V311.encode(Connack(False, packets.NOT_AUTHORIZED)),
    "success, in the form of 3.1.1": V311.encode(Connack(False, 0)),
    "no word": b"",
    "a reset": None,
}


class Clock:
    """Stands where `time.monotonic` is looked up."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(mqtt, "time", clock)
    return clock


async def visit(make: Any, watcher: Any, transport: Any = None) -> Any:
    transport = transport or make()
    await transport.open(watcher.on_frame, watcher.losses.put_nowait)
    await transport.close()
    return transport


@pytest.mark.parametrize("refusal", REFUSALS.values(), ids=REFUSALS)
def test_a_broker_that_refuses_5_is_spoken_to_in_3_1_1_at_once(stage: Any, refusal: bytes | None) -> None:
    async def scene(broker: Any, make: Any, watcher: Any) -> None:
        broker.older = refusal
        transport = make()
        await transport.open(watcher.on_frame, watcher.losses.put_nowait)
        transport.send_sealed([b"frame"])
        assert (await broker.next(packets.Connect)).level == transport.level == 4
        assert (await broker.next(Publish)).payload == b"frame"
        assert broker.connections == 2
        await transport.close()
        assert watcher.losses.empty()

    stage(scene, (4,))


def test_a_broker_of_5_is_asked_once(stage: Any) -> None:
    async def scene(broker: Any, make: Any, watcher: Any) -> None:
        transport = await visit(make, watcher)
        assert (broker.connections, transport.level) == (1, 5)

    stage(scene)


def test_a_broker_of_3_1_1_is_not_asked_again_for_ten_minutes(stage: Any, clock: Clock) -> None:
    async def scene(broker: Any, make: Any, watcher: Any) -> None:
        transport = await visit(make, watcher)
        assert broker.connections == 2
        for later in (1, 300, 298):
            clock.now += later
            await visit(make, watcher, transport)
        assert (broker.connections, transport.level) == (5, 4)
        clock.now += 2
        broker.levels = (4, 5)
        await visit(make, watcher, transport)
        assert (broker.connections, transport.level) == (6, 5)

    stage(scene, (4,))


def test_each_transport_finds_out_for_itself(stage: Any) -> None:
    async def scene(broker: Any, make: Any, watcher: Any) -> None:
        await visit(make, watcher)
        broker.levels = (4, 5)
        assert (await visit(make, watcher)).level == 5

    stage(scene, (4,))


def test_a_broker_that_takes_3_1_1_no_longer_is_asked_for_5_the_next_time(stage: Any) -> None:
    """What was remembered was about the login that succeeded; a refused one may have another broker behind it."""

    async def scene(broker: Any, make: Any, watcher: Any) -> None:
        transport = await visit(make, watcher)
        broker.connack = Connack(False, packets.NOT_AUTHORIZED)
        with pytest.raises(ThalovantHubRefusedError):
            await transport.open(watcher.on_frame, watcher.losses.put_nowait)
        broker.levels, broker.connack = (4, 5), Connack(False, 0)
        await visit(make, watcher, transport)
        assert (broker.connections, transport.level) == (4, 5)

    stage(scene, (4,))


@pytest.mark.parametrize(
    ("older", "text"),
    [
        (REFUSALS["return code 1"], "neither MQTT 5 nor MQTT 3.1.1"),
        (b"", "closed the connection. It happened while logging in"),
    ],
)
def test_a_broker_of_neither_version(stage: Any, older: bytes, text: str) -> None:
    async def scene(broker: Any, make: Any, watcher: Any) -> None:
        broker.older = older
        transport = make()
        with pytest.raises(ThalovantConnectionError, match=text):
            await transport.open(watcher.on_frame, watcher.losses.put_nowait)
        assert (broker.connections, transport.level) == (2, None)
        await transport.close()
        assert watcher.losses.empty()

    stage(scene, ())


@pytest.mark.parametrize("connack", [Connack(False, 0x87), Connack(False, 0x80), Connack(False, 0x82), b"\x20\x01"])
def test_any_other_answer_is_no_question_of_version(stage: Any, connack: Any) -> None:
    async def scene(broker: Any, make: Any, watcher: Any) -> None:
        broker.connack = connack
        transport = make(connect_timeout=2.0)  # waited for where the answer never gets whole; TLS has to fit in, too
        with pytest.raises(ThalovantConnectionError):
            await transport.open(watcher.on_frame, watcher.losses.put_nowait)
        assert broker.connections == 1
        await transport.close()

    stage(scene, (5,))


def test_both_attempts_share_the_time_to_connect(stage: Any) -> None:
    async def scene(broker: Any, make: Any, watcher: Any) -> None:
        broker.connack = None  # 3.1.1 is taken, and nothing said
        transport = make(connect_timeout=2.0)
        with pytest.raises(ThalovantConnectionError, match=r"within 2 s"):
            await transport.open(watcher.on_frame, watcher.losses.put_nowait)
        assert broker.connections == 2
        await transport.close()

    stage(scene, (4,))
