# SPDX-License-Identifier: Apache-2.0
"""Another server on the same topics is noticed; a dead one, and one's own past, keep nobody out for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import pytest

from thalovant_server.errors import BrokerTakenError
from thalovant_server.gateways.broker_link.lookout import look_out
from thalovant_server.gateways.broker_link.presence import instance_of, is_another, is_past, offline, online

MINE, PAST, OTHER = b"me.2", b"me.1", b"another.1"


def look(said: Iterable[bytes | None], *, patience: float = 3.0, is_ours: bool = False) -> float:
    """Look at what is retained, one after the other and then the last one for ever; return the seconds waited."""
    left = list(said)
    waited: list[float] = []

    async def read() -> bytes | None:
        return left.pop(0) if len(left) > 1 else left[0]

    async def pause(seconds: float) -> None:
        waited.append(seconds)

    asyncio.run(look_out("broker:8883", read, MINE, patience, is_ours=is_ours, pause=pause))
    return sum(waited)


@pytest.mark.parametrize("said", [None, b"", online(MINE), offline(MINE), offline(OTHER), offline(PAST)])
def test_nobody_there_is_not_waited_for(said: bytes | None) -> None:
    assert look([said]) == 0


def test_the_last_will_of_a_dead_server_is_waited_for() -> None:
    assert look([online(OTHER), online(OTHER), offline(OTHER)]) == 2


@pytest.mark.parametrize("is_ours", [False, True])
def test_another_server_that_stays_is_an_error_that_says_what_to_do(is_ours: bool) -> None:
    with pytest.raises(BrokerTakenError, match=r"by another thalovant-server.*--broker-root NAME.*server/status"):
        look([online(OTHER)], is_ours=is_ours)


def test_what_this_server_said_before_a_power_cut_keeps_it_out_only_as_long_as_a_will_takes() -> None:
    assert look([online(PAST)]) == 3
    assert look([online(PAST)], is_ours=True) == 0


def test_what_a_process_calls_itself_names_its_server_and_no_other_process() -> None:
    first, second, other = instance_of("node"), instance_of("node"), instance_of("another node")
    assert is_past(online(first), second) and is_past(online(second), first)
    assert is_another(online(other), first) and not is_past(online(other), first)


def test_a_process_is_told_from_another_of_the_same_server_and_that_from_another_servers() -> None:
    assert is_another(online(PAST), MINE) and is_past(online(PAST), MINE)
    assert is_another(online(OTHER), MINE) and not is_past(online(OTHER), MINE)
    for said in (None, online(MINE), offline(PAST), offline(MINE)):
        assert not is_another(said, MINE) and not is_past(said, MINE)
