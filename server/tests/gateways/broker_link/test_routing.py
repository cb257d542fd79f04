# SPDX-License-Identifier: Apache-2.0
"""Whose a topic is."""

from __future__ import annotations

from types import SimpleNamespace

from thalovant_server.brokers.names import Namespace
from thalovant_server.gateways.broker_link.routing import Routing


def test_a_prefix_is_its_credentials_until_that_is_gone(rig: SimpleNamespace) -> None:
    routing = Routing(Namespace())
    one, other = rig.credential("a"), rig.credential("b")
    routing.add(one)
    routing.add(other)
    routing.add(one)
    assert len(routing) == 2
    assert routing.find(b"hubs/h1/clients/a") == one.id and routing.find(b"hubs/h1/clients/b") == other.id
    assert routing.find(b"hubs/h1/clients/c") is None and routing.find(b"") is None
    assert routing.remove(one.id) == b"hubs/h1/clients/a"
    assert routing.remove(one.id) is None
    assert routing.find(b"hubs/h1/clients/a") is None and len(routing) == 1


def test_a_changed_prefix_is_followed(rig: SimpleNamespace) -> None:
    routing = Routing(Namespace())
    routing.add(rig.credential("a"))
    routing.add(rig.credential("a", topic_prefix="hubs/h1/clients/a.2"))
    assert routing.find(b"hubs/h1/clients/a") is None
    assert routing.find(b"hubs/h1/clients/a.2") == rig.credential("a").id


def test_what_lies_outside_of_our_root_is_nobodys(rig: SimpleNamespace) -> None:
    routing = Routing(Namespace("house"))
    routing.add(rig.credential("a"))
    routing.add(rig.credential("b", root="house"))
    assert len(routing) == 1 and routing.find(b"house/hubs/h1/clients/b") is not None
