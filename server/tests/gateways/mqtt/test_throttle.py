# SPDX-License-Identifier: Apache-2.0
"""Failed logins over MQTT, from an address that counts as far away, over real sockets."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
import uvloop

from thalovant.protocol.mqtt import packets as mqtt
from thalovant.protocol.mqtt.versions import CODECS
from thalovant_server.hub import throttle
from thalovant_server.hub.throttle import PER_PAIR, PER_SOURCE, ConnectThrottle

NO = {4: 5, 5: 0x86}
LATER = {4: 3, 5: 0x9F}


def run(main: Any) -> None:
    uvloop.run(asyncio.wait_for(main, 20))


@pytest.fixture
def far(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no second machine here: that 127.0.0.1 is treated as an address like others is mocked."""
    monkeypatch.setattr(throttle, "is_this_machine", lambda address: False)


async def knock(rig: SimpleNamespace, endpoint: Any, level: int, **fields: Any) -> int:
    """The code of the CONNACK."""
    client = await endpoint.dial(CODECS[level])
    answer = await client.ask(rig.connect(level=level, **fields))
    assert isinstance(answer, mqtt.Connack)
    if answer.code:
        assert await client.gone()
    return answer.code


@pytest.mark.usefixtures("far")
@pytest.mark.parametrize("level", [4, 5])
def test_who_guesses_is_refused_for_a_while_and_who_was_here_is_not(rig: SimpleNamespace, level: int) -> None:
    async def main() -> None:
        async with rig.Endpoint() as endpoint:
            assert await knock(rig, endpoint, level, name="a") == 0
            answers = [await knock(rig, endpoint, level, username=f"guess-{n}") for n in range(PER_SOURCE.burst + 1)]
            assert answers == [NO[level]] * PER_SOURCE.burst + [LATER[level]]
            assert await knock(rig, endpoint, level, name="b") == 0
            assert await knock(rig, endpoint, level, name="a") == 0

    run(main())


@pytest.mark.usefixtures("far")
@pytest.mark.parametrize("level", [4, 5])
def test_a_password_is_not_guessed_for_long_and_nobody_else_is_shut_out(rig: SimpleNamespace, level: int) -> None:
    async def main() -> None:
        async with rig.Endpoint() as endpoint:
            wrong = {"name": "b", "password": b"guess"}
            answers = [await knock(rig, endpoint, level, **wrong) for _ in range(PER_PAIR.burst + 1)]
            assert answers == [NO[level]] * PER_PAIR.burst + [LATER[level]]
            assert await knock(rig, endpoint, level, name="b") == 0  # who knows it is let in at the same address
            assert await knock(rig, endpoint, level, name="a") == 0

    run(main())


@pytest.mark.parametrize("level", [4, 5])
def test_this_machine_waits_for_a_no_and_not_for_a_yes(rig: SimpleNamespace, level: int) -> None:
    async def main() -> None:
        async with rig.Endpoint() as endpoint:
            endpoint.hub.throttle = ConnectThrottle(hold_back=0.05)
            held: list[float] = []
            failed = endpoint.hub.failed
            endpoint.hub.failed = lambda *who: held.append(failed(*who)) or held[-1]
            for _ in range(PER_PAIR.burst + 2):
                assert await knock(rig, endpoint, level, password=b"wrong") == NO[level]
            assert held == [0.0] * PER_PAIR.burst + [0.05] * 2
            assert await knock(rig, endpoint, level) == 0

    run(main())


def test_who_hangs_up_before_a_slow_no_leaves_nothing_behind(rig: SimpleNamespace) -> None:
    async def main() -> None:
        async with rig.Endpoint() as endpoint:
            endpoint.hub.throttle = ConnectThrottle(hold_back=3600)
            for _ in range(PER_PAIR.burst):
                await knock(rig, endpoint, 4, password=b"wrong")
            client = await endpoint.dial()
            await client.send(rig.connect(password=b"wrong"))
            (waiting,) = endpoint.gateway._open
            client.abort()
            await asyncio.wait_for(waiting.gone, 5)

    run(main())
