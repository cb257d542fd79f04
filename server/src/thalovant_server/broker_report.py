# SPDX-License-Identifier: Apache-2.0
"""How it is with the outside broker, from those who know: the link, the keeper of accounts, and our own Mosquitto.

One sentence and one word of it are the broker's health; the numbers are for metrics. It asks nobody over a network.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

State = Literal["connected", "away", "refused", "another_server", "missing"]
STATES: tuple[State, ...] = ("connected", "away", "refused", "another_server", "missing")


class LinkState(Protocol):
    """How the hubs' connection to the broker is, as `gateways.broker_link.state` has it."""

    @property
    def standing(self) -> Literal["connected", "away", "refused", "another_server"]:
        """In a word."""

    @property
    def since(self) -> int:
        """Microseconds since 1970 from which on it has been like that."""

    @property
    def fault(self) -> str:
        """What is wrong, as the rest of a sentence about the broker; "" when connected."""

    @property
    def reconnects(self) -> int:
        """How often it was up again after it had been lost."""

    @property
    def sessions(self) -> int:
        """Sessions of clients on it."""


class AccountsState(Protocol):
    """How far the broker is with the accounts that it shall have, as `brokers.provisioner` has it."""

    @property
    def fault(self) -> str:
        """Why the broker cannot be told of accounts just now, a sentence; "" when it can."""

    @property
    def wished(self) -> int:
        """Accounts that it shall have."""

    @property
    def accounts(self) -> int:
        """Accounts that it has."""

    @property
    def refused(self) -> int:
        """Accounts that it would not take."""

    @property
    def queued(self) -> int:
        """Changes that it has still to be told of."""

    @property
    def repaired(self) -> int:
        """Accounts that were not as they should be, and are again, since the start."""


class ChildState(Protocol):
    """How our own broker's process is, as `brokers.mosquitto_child` has it."""

    @property
    def fault(self) -> str:
        """Why it is not up, for people; "" when it is."""

    @property
    def restarts(self) -> int:
        """How often it was started again, since the start."""


@dataclass(frozen=True, slots=True)
class BrokerHealth:
    """In a word, since when (microseconds since 1970, None where there is no such time), and what is wrong."""

    state: State
    since: int | None
    fault: str


@dataclass(frozen=True, slots=True)
class BrokerReport:
    """Where to ask.

    Args:
        link: of the hubs' connection.
        accounts: of what the broker is told of clients.
        child: of our own Mosquitto; None where the broker is another's.
    """

    link: Callable[[], LinkState]
    accounts: Callable[[], AccountsState]
    child: Callable[[], ChildState] | None = None

    def health(self) -> BrokerHealth:
        """How it is just now. A link that is up says so, also where the broker cannot be told of new clients."""
        link = self.link()
        if link.standing == "connected":
            fault = self.accounts().fault
            told = f"cannot be told of clients: {fault}" if fault else ""
            return BrokerHealth("connected", link.since, told)
        own = self.child().fault if self.child is not None else ""
        return BrokerHealth(link.standing, link.since, own or link.fault)


NO_BROKER = BrokerHealth(
    "missing",
    None,
    "a hub meets its clients at an outside broker, and this start names none: start with --broker or --broker-url",
)
