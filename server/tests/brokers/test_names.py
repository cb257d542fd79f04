# SPDX-License-Identifier: Apache-2.0
"""Addresses, topic roots, and names that can only be ours."""

from __future__ import annotations

import re

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from thalovant_server.brokers.names import ROOT_LENGTH, BrokerAddress, Namespace, check_root

segments = st.from_regex(r"[A-Za-z0-9_-]{1,12}", fullmatch=True)
roots = st.lists(segments, max_size=4).map("/".join)


@pytest.mark.parametrize(
    ("url", "host", "port", "shown"),
    [
        ("mqtts://broker.example.test", "broker.example.test", 8883, "mqtts://broker.example.test:8883"),
        ("mqtts://broker.example.test:8884/", "broker.example.test", 8884, "mqtts://broker.example.test:8884"),
        ("ssl://10.0.0.7:1", "10.0.0.7", 1, "mqtts://10.0.0.7:1"),
        ("mqtts://[::1]:8883", "::1", 8883, "mqtts://[::1]:8883"),
    ],
)
def test_an_address_and_how_it_is_shown(url: str, host: str, port: int, shown: str) -> None:
    address = BrokerAddress.parse(url)
    assert (address.host, address.port, str(address)) == (host, port, shown)
    assert BrokerAddress.parse(str(address)) == address


@pytest.mark.parametrize(
    "url",
    ["mqtt://h:1883", "tcp://h", "wss://h", "h:8883", "", "mqtts://", "mqtts://h/path", "mqtts://h?q=1", "mqtts://h#f"],
)
def test_what_is_no_address_of_a_broker(url: str) -> None:
    with pytest.raises(ValueError, match="mqtts://HOST:PORT"):
        BrokerAddress.parse(url)


def test_a_password_in_an_address_is_refused_and_not_repeated() -> None:
    with pytest.raises(ValueError, match="options of their own") as refused:
        BrokerAddress.parse("mqtts://user:hidden-secret@h:8883")
    assert "hidden-secret" not in str(refused.value)


@pytest.mark.parametrize("port", ["x", "65536", "-1"])
def test_a_port_that_is_none(port: str) -> None:
    with pytest.raises(ValueError, match=r"(?i)port"):
        BrokerAddress.parse(f"mqtts://h:{port}")


@given(roots)
def test_a_plain_root_is_taken_as_it_is(root: str) -> None:
    assume(len(root) <= ROOT_LENGTH)
    assert check_root(root) == root
    assert check_root(f"/{root}/") == root


@pytest.mark.parametrize("root", ["#", "a/#", "+", "a/+/b", "$SYS", "a b", "a//b", "é", "a\0", "a\n", "a.b", "a:b"])
def test_a_root_that_reaches_what_is_not_ours(root: str) -> None:
    with pytest.raises(ValueError, match="topic root"):
        check_root(root)


def test_a_root_that_is_too_long() -> None:
    assert len(check_root("a" * ROOT_LENGTH)) == ROOT_LENGTH
    with pytest.raises(ValueError, match="100 characters"):
        check_root("a" * (ROOT_LENGTH + 1))


@given(st.text(max_size=40))
def test_whatever_is_taken_can_be_in_a_topic(text: str) -> None:
    try:
        root = check_root(text)
    except ValueError:
        return
    assert re.fullmatch(r"([A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*)?", root)


def test_names_without_a_root_are_those_of_the_published_page() -> None:
    names = Namespace()
    assert names.topic("hubs/h/clients/c") == "hubs/h/clients/c"
    assert names.server == "thalovant:server"
    assert names.role("client-1", 2) == "thalovant:client-1.2"
    assert names.presence == "server/status"
    assert names.has("hubs/h/clients/c")
    assert not names.has("home/hubs/h/clients/c")


def test_names_below_a_root() -> None:
    names = Namespace("home/voice")
    assert names.topic("hubs/h/clients/c") == "home/voice/hubs/h/clients/c"
    assert names.server == "thalovant.home.voice:server"
    assert names.presence == "home/voice/server/status"
    assert names.has("home/voice/hubs/h/clients/c")
    assert not names.has("hubs/h/clients/c")
    assert not names.has("home/voice/hubs-of-others/h")


@given(roots, roots, st.integers(1, 9))
def test_nothing_of_one_root_is_taken_for_another_ones(mine: str, other: str, number: int) -> None:
    assume(mine != other)
    role = Namespace(mine).role("client-1", number)
    assert Namespace(mine).owns(role)
    assert not Namespace(other).owns(role)
    assert Namespace(mine).server != Namespace(other).server
    assert Namespace(mine).presence != Namespace(other).presence


@pytest.mark.parametrize("role", ["admin", "thalovant", "thalovant-admin", "thalovantx:client-1.1", "", ":client-1.1"])
def test_roles_of_others_are_not_ours(role: str) -> None:
    assert not Namespace().owns(role)
