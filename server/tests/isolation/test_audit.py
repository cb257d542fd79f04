# SPDX-License-Identifier: Apache-2.0
"""What was denied stands in the audit log, under the client that tried it, and under no other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import uvloop

from thalovant import ThalovantControlPlane
from thalovant_server.isolation.moves import moves
from thalovant_server.isolation.proof import prove
from thalovant_server.isolation.throwaway import Throwaway, scene_of
from thalovant_server.testing.in_process import InProcessServer

Tried = Callable[..., tuple[list[dict[str, Any]], list[dict[str, Any]]]]


@pytest.fixture
def tried(plane: ThalovantControlPlane, running: InProcessServer) -> Iterator[Tried]:
    """Make these moves over MQTT 5; the denied entries of the attacker, and those of the neighbour."""

    def make(*names: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        hub = running.ready["hub_id"]
        attacker, neighbour = (
            Throwaway(made.client_id or "", made.identity)
            for made in (plane.create_client_identity(hub, name=f"audit-{each}") for each in "ab")
        )
        wanted = [each for each in moves() if each.name in names]
        assert len(wanted) == len(names)
        uvloop.run(prove(scene_of(attacker, neighbour), attacker.dial, wanted, [5]))
        first, second = (
            plane.list_audit(client_id=each.client_id, outcome="denied")["data"] for each in (attacker, neighbour)
        )
        return first, second

    yield make


def test_what_an_attacker_tried_is_under_its_name(tried: Tried, plane: ThalovantControlPlane) -> None:
    own, neighbours = tried("subscribe to #", "publish to neighbour/c2s, QoS 1", "log in with an empty password")
    assert {(each["action"], each["outcome"], each["address"]) for each in own} == {
        ("topic.denied", "denied", "127.0.0.1"),
        ("session.refused", "denied", "127.0.0.1"),
    }
    assert neighbours == []


def test_who_tries_a_neighbours_password_shows_at_the_neighbour(tried: Tried) -> None:
    own, neighbours = tried("log in as a neighbour with the own password")
    assert own == [] and [each["action"] for each in neighbours] == ["session.refused"]


def test_repetitions_are_a_number(tried: Tried) -> None:
    names = [each.name for each in moves() if each.name.startswith("subscribe to neighbour/")]
    own, _ = tried(*names)
    assert len(names) > 4 and len(own) == 1
