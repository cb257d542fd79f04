# SPDX-License-Identifier: Apache-2.0
"""The broker's health in a word and a sentence: the nearest cause is the one that is told."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from thalovant_server.broker_report import NO_BROKER, STATES, BrokerHealth, BrokerReport


@dataclass(frozen=True)
class Link:
    """As the link has it."""

    standing: str = "connected"
    since: int = 7
    fault: str = ""
    reconnects: int = 0
    sessions: int = 0


@dataclass(frozen=True)
class Accounts:
    """As the keeper of accounts has it."""

    fault: str = ""
    wished: int = 0
    accounts: int = 0
    refused: int = 0
    queued: int = 0
    repaired: int = 0


@dataclass(frozen=True)
class Child:
    """As our own broker has it."""

    fault: str = ""
    restarts: int = 0


def report(link: Link, accounts: Accounts = Accounts(), child: Child | None = None) -> BrokerHealth:
    return BrokerReport(lambda: link, lambda: accounts, None if child is None else lambda: child).health()  # type: ignore[arg-type,return-value]


def test_a_link_that_is_up_is_well() -> None:
    assert report(Link()) == report(Link(), child=Child(restarts=3)) == BrokerHealth("connected", 7, "")


@pytest.mark.parametrize("standing", ["away", "refused", "another_server"])
def test_a_link_that_is_down_says_why(standing: str) -> None:
    assert report(Link(standing, 9, "closed the connection")) == BrokerHealth(standing, 9, "closed the connection")  # type: ignore[arg-type]


def test_our_own_broker_that_is_down_is_the_cause() -> None:
    found = report(Link("away", 9, "cannot be reached"), Accounts("cannot be reached"), Child("Mosquitto ended"))
    assert found == BrokerHealth("away", 9, "Mosquitto ended")
    assert report(Link("away", 9, "cannot be reached"), child=Child()).fault == "cannot be reached"


def test_a_broker_that_takes_no_accounts_is_connected_and_says_so() -> None:
    found = report(Link(), Accounts("The broker does not accept the user."))
    assert found.state == "connected"
    assert found.fault == "cannot be told of clients: The broker does not accept the user."


def test_a_server_without_a_broker_that_a_hub_needs_says_what_to_type() -> None:
    assert NO_BROKER.state in STATES and "--broker-url" in NO_BROKER.fault
