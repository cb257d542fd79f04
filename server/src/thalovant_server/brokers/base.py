# SPDX-License-Identifier: Apache-2.0
"""What can be asked of an outside broker, whichever it is: who may connect there, and to which topics.

One account is one user with one role; what a role does not grant is denied, of all four kinds (publish, receive,
subscribe, unsubscribe).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Grants:
    """Topics and topic filters. `publish`: it may publish to; `receive`: it may hear; `subscribe`: filters it may
    subscribe to, literally. With `patterns` they hold wildcards and stand for all that they match.
    """

    publish: frozenset[str]
    receive: frozenset[str]
    subscribe: frozenset[str]
    patterns: bool = False


@dataclass(frozen=True, slots=True)
class Account:
    """Somebody who may connect: `user` logs in, `role` is what it is known by as ours (`names.Namespace`)."""

    user: str
    role: str
    grants: Grants


@dataclass(frozen=True, slots=True)
class Listed:
    """An account as the broker has it. `grants` None: it has its role, and the role is not as we write them."""

    user: str | None  # None: a role of ours that nobody has
    role: str | None  # None: the user has no role of ours
    grants: Grants | None
    enabled: bool = True


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a kind of broker can do.

    Args:
        kicks: whether it can end a connection without ending the account.
        one_connection_per_user: whether a user's second connection ends only its own first one.
        batches: how many accounts it writes in about the time of one.
    """

    kicks: bool
    one_connection_per_user: bool
    batches: int = 1


@dataclass(frozen=True, slots=True)
class Secret:
    """An account's password."""

    text: str = field(repr=False)


class Broker(Protocol):
    """One outside broker. Every method raises `BrokerAwayError` when it cannot be asked just now, and
    `BrokerRefusedError` when it will not do it.
    """

    capabilities: Capabilities

    async def check(self) -> None:
        """See that we may tell it what we need to; changes nothing."""

    async def ensure(self, account: Account, password: Secret) -> None:
        """Have exactly this account: made, or made right, enabled. A password that is the same ends no connection."""

    async def remove(self, user: str | None, role: str | None) -> None:
        """Have this user, and this role, no longer; connections of the user end. No error when they are gone."""

    async def kick(self, user: str) -> None:
        """End the user's connection; it may come back."""

    async def list(self) -> Sequence[Listed]:
        """All accounts and roles of ours."""
        ...

    async def read_retained(self, topic: str, seconds: float) -> bytes | None:
        """The retained message of a topic, None when there is none within that time."""

    async def close(self) -> None:
        """Let go of the connection."""
