# SPDX-License-Identifier: Apache-2.0
"""Which accounts an outside broker should have, and what makes the ones it has the wished ones. Pure.

Nothing is ever done to a user that we did not make, nor to a role that is not ours.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from thalovant_server.brokers.base import Account, Grants, ListedUser, Listing
from thalovant_server.brokers.names import Namespace
from thalovant_server.directory import Directory

_FROM_CLIENT = ("in", "c2s", "status")
_TO_CLIENT = ("out", "s2c", "status")


@dataclass(frozen=True, slots=True)
class Wish:
    """An account that should be there. `credential_id` None: the hubs' own."""

    credential_id: int | None
    user: str
    role: str
    prefix: str = ""


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to do. ``make`` and ``mend``: the account of `role`; ``remove``: this user, who was made for that role;
    ``orphan``: this role, which nobody has.
    """

    kind: Literal["make", "mend", "remove", "orphan"]
    user: str | None
    role: str


def server_wish(namespace: Namespace) -> Wish:
    """Return the account that the hubs themselves have."""
    return Wish(None, namespace.server, namespace.server)


def wish_of(directory: Directory, namespace: Namespace, credential_id: int) -> Wish | None:
    """Return the account that a credential should have; None: it should have none."""
    credential = directory.credential_by_id(credential_id)
    if credential is None or not credential.active or not credential.has_broker_password:
        return None
    hub = directory.hub(credential.hub_id)
    if hub is None or not hub.serves_mqtt("link") or not namespace.has(credential.topic_prefix):
        return None
    role = namespace.role(credential.client_id, credential.number)
    return Wish(credential.id, credential.access_key, role, credential.topic_prefix)


def account_of(wish: Wish, namespace: Namespace) -> Account:
    """Return an account with what it may do."""
    grants = server_grants(namespace) if wish.credential_id is None else client_grants(wish.prefix)
    return Account(wish.user, wish.role, grants)


def client_grants(prefix: str) -> Grants:
    """Return what a client may do: both spellings of its topics, nothing else (architecture decision 4)."""
    hears = frozenset(f"{prefix}/{each}" for each in _TO_CLIENT)
    return Grants(frozenset(f"{prefix}/{each}" for each in _FROM_CLIENT), hears, hears)


def server_grants(namespace: Namespace) -> Grants:
    """Return what the hubs may do: the other end of every client's topics, and say that they are there."""
    clients = namespace.topic("hubs/+/clients/+")
    hears = frozenset(f"{clients}/{each}" for each in _FROM_CLIENT)
    says = frozenset(f"{clients}/{each}" for each in _TO_CLIENT if each not in _FROM_CLIENT)
    return Grants(says | {namespace.presence}, hears, hears, patterns=True)


class Wishes:
    """The wished accounts, by role, by user and by credential."""

    def __init__(self) -> None:
        self._by_role: dict[str, Wish] = {}
        self._by_user: dict[str, str] = {}
        self._by_credential: dict[int, str] = {}

    def __len__(self) -> int:
        return len(self._by_role)

    def put(self, wish: Wish) -> None:
        """Take in a wish; its role, user and credential are no other one's."""
        self._by_role[wish.role] = wish
        self._by_user[wish.user] = wish.role
        if wish.credential_id is not None:
            self._by_credential[wish.credential_id] = wish.role

    def drop(self, wish: Wish) -> None:
        """Forget a wish."""
        del self._by_role[wish.role]
        del self._by_user[wish.user]
        if wish.credential_id is not None:
            del self._by_credential[wish.credential_id]

    def by_role(self, role: str) -> Wish | None:
        """Return the wish with this role."""
        return self._by_role.get(role)

    def by_user(self, user: str) -> Wish | None:
        """Return the wish with this user."""
        role = self._by_user.get(user)
        return None if role is None else self._by_role[role]

    def by_credential(self, credential_id: int) -> Wish | None:
        """Return the wish of this credential."""
        role = self._by_credential.get(credential_id)
        return None if role is None else self._by_role[role]

    def all(self) -> list[Wish]:
        """Return every wish, oldest first."""
        return list(self._by_role.values())


def compare(wishes: Wishes, namespace: Namespace, listing: Listing) -> Iterator[Step | Wish]:
    """Return, one by one, what makes a broker's accounts the wished ones; for each account that is right, its wish.

    Removals come first. A role that somebody still has is left for the next time. May be iterated while wishes change:
    what comes out is then for the caller to look at again.
    """
    users = {each.name: each for each in listing.users}
    for user in listing.users:
        if user.mark is not None and wishes.by_user(user.name) is None:
            yield Step("remove", user.name, user.mark)
    for wish in wishes.all():
        yield _step_for(wish, account_of(wish, namespace).grants, users.get(wish.user), listing)
    had = frozenset[str]().union(*(each.roles for each in listing.users))
    for role in listing.roles:
        if wishes.by_role(role) is None and role not in had:
            yield Step("orphan", None, role)


def strangers(wishes: Wishes, listing: Listing) -> list[str]:
    """Return the users that are not ours and have a role of ours: somebody gave it to them."""
    return [each.name for each in listing.users if each.mark is None and wishes.by_user(each.name) is None]


def _step_for(wish: Wish, grants: Grants, user: ListedUser | None, listing: Listing) -> Step | Wish:
    if user is None:
        return Step("make", wish.user, wish.role)
    is_plain = user == ListedUser(wish.user, wish.role, frozenset({wish.role}))
    is_right = is_plain and listing.roles.get(wish.role) == grants
    return wish if is_right else Step("mend", wish.user, wish.role)
