# SPDX-License-Identifier: Apache-2.0
"""Clients behind a router that translates their address: seen as one, served as two, and found again elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROADS = ("mqtt", "wss", "https")
SEEN_AS, SEEN_LATER_AS = "10.9.1.200", "10.9.1.201"


@pytest.mark.parametrize("road", ROADS)
def test_two_clients_behind_one_address_hear_their_own_answers(
    land: Any, server: Any, make_identity: Callable[..., Path], far_client: Callable[..., Any], road: str
) -> None:
    one, two = (far_client(land.cabin, make_identity(land.cabin, f"{n}-{road}"), protocol=road) for n in "ab")
    for turn in range(3):
        one.tell("ask", text=f"one {road} {turn}", timeout=20)
        two.tell("ask", text=f"two {road} {turn}", timeout=20)
        assert one.hear("answered")["text"] == f"one {road} {turn}: run 1"
        assert two.hear("answered")["text"] == f"two {road} {turn}: run 1"
    assert all(text.startswith("one") for text in one("heard", "heard")["heard"])
    assert all(text.startswith("two") for text in two("heard", "heard")["heard"])
    if road == "mqtt":
        assert any(f"remote={SEEN_AS}:" in line for line in server.output), "the address was not translated"


@pytest.mark.parametrize("road", ROADS)
def test_a_client_whose_address_changes_is_answered_once_more(
    land: Any, make_identity: Callable[..., Path], far_client: Callable[..., Any], road: str
) -> None:
    """What it had open leads nowhere from one moment to the next, and nobody tells either side."""
    client = far_client(land.cabin, make_identity(land.cabin, f"moved-{road}"), protocol=road)
    assert client("ask", "answered", text=f"here {road}", timeout=20)["text"] == f"here {road}: run 1"
    device = land.to_hub.near
    try:
        land.router.run("ip", "address", "add", f"{SEEN_LATER_AS}/24", "dev", device)
        land.router.run("ip", "address", "del", f"{SEEN_AS}/24", "dev", device)
        land.masquerade_as(SEEN_LATER_AS)
        land.hub.run("ip", "neighbour", "flush", "to", SEEN_AS)  # what it remembers would still find the old mapping
        client.tell("ask", text=f"there {road}", timeout=60)
        assert client.hear("answered")["text"] == f"there {road}: run 1"
    finally:
        land.router.run("ip", "address", "add", f"{SEEN_AS}/24", "dev", device)
        land.router.run("ip", "address", "del", f"{SEEN_LATER_AS}/24", "dev", device)
        land.masquerade_as(SEEN_AS)


def test_a_router_that_swallows_mqtt_is_gone_around(
    land: Any, server: Any, make_identity: Callable[..., Path], far_client: Callable[..., Any]
) -> None:
    try:
        land.masquerade_as(SEEN_AS, swallowed_port=server.ready["mqtt_endpoint"].rpartition(":")[2])
        client = far_client(land.cabin, make_identity(land.cabin, "around"), protocols=ROADS)
        assert client("ask", "answered", text="which way", timeout=40)["text"] == "which way: run 1"
        assert "wss" in client("where", "where")["carrier"]
    finally:
        land.masquerade_as(SEEN_AS)
