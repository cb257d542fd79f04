# SPDX-License-Identifier: Apache-2.0
"""What can be asked of an outside broker, whichever it is: who may connect there, and to which topics.

One account is one user with one role; what a role does not grant is denied, of all four kinds (publish, receive,
subscribe, unsubscribe). Everything here may be asked twice: of a command that was interrupted nobody knows whether it
was carried out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

Ensured = Literal["made", "mended", "there"]
"""What `Broker.ensure` had to do."""


@dataclass(frozen=True, slots=True)
class Grants:
    """Topics and topic filters. `publish`: it may publish to; `receive`: it may hear; `subscribe`: filters it may
    subscribe to and unsubscribe from, literally. With `patterns` they hold wildcards and stand for all that they match.
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
class ListedUser:
    """A user that has to do with us, as the broker has it.

    Args:
        name: it logs in with.
        mark: the role that we made it for; None: we did not make it, somebody gave it a role of ours.
        roles: those of ours that it has.
        plain: whether it has no others, and is in no group.
        enabled: whether it may log in.
    """

    name: str
    mark: str | None
    roles: frozenset[str]
    plain: bool = True
    enabled: bool = True


@dataclass(frozen=True, slots=True)
class Listing:
    """Everything of ours at a broker. `roles`: each with its grants, None where it is not as we write them."""

    users: Sequence[ListedUser] = ()
    roles: Mapping[str, Grants | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a kind of broker can do.

    Args:
        kicks: whether it can end a connection without ending the account.
        one_connection_per_user: whether a user's second connection ends only its own first one; None: that is set
            where we cannot look.
    """

    kicks: bool
    one_connection_per_user: bool | None


@dataclass(frozen=True, slots=True)
class Secret:
    """An account's password."""

    text: str = field(repr=False)


class Broker(Protocol):
    """One outside broker. Every method raises `BrokerAwayError` when it cannot be asked just now, and
    `BrokerRefusedError` when it does not let us in or lacks what we need.
    """

    @property
    def capabilities(self) -> Capabilities:
        """What it can do."""
        ...

    @property
    def findings(self) -> Sequence[str]:
        """What `check` found open that we do not close: each the rest of a sentence about the broker."""
        ...

    async def check(self) -> None:
        """See that we may tell it what we need to, and what it allows to everybody."""

    async def ensure(self, account: Account, password: Secret, *, resets_password: bool = False) -> Ensured:
        """Have exactly this account: made, or made right, enabled. One that is as it should be keeps its connection,
        and its password: `resets_password` sets that, too.

        Raises:
            AccountRefusedError: not this one; there is a user of that name that is not ours, for example.
        """
        ...

    async def remove(self, user: str, role: str) -> None:
        """Have this user no longer; its connections end. No error when it is gone.

        A user that we did not make stays, unless it has this role. The role itself stays, too.
        """

    async def remove_role(self, role: str) -> None:
        """Have a role of ours no longer, which no user has. No error when it is gone."""

    async def kick(self, user: str) -> None:
        """End the user's connection; it may come back."""

    async def list(self) -> Listing:
        """Return all accounts and roles of ours."""
        ...

    async def read_retained(self, topic: str, seconds: float) -> bytes | None:
        """Return the retained message of a topic, None when there is none. No answer within that time: it is away."""
        ...

    async def close(self) -> None:
        """Let go of the connection."""
