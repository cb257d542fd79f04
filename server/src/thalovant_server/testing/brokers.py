# SPDX-License-Identifier: Apache-2.0
"""A broker in memory that does what a test has written down for it, and directories of clients that meet there."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace

from thalovant_server.brokers.base import Account, Capabilities, Ensured, Grants, ListedUser, Listing, Secret
from thalovant_server.brokers.names import Namespace
from thalovant_server.directory import CARRIERS, CredentialEntry, HubEntry
from thalovant_server.errors import AccountRefusedError, BrokerAwayError, BrokerError


@dataclass
class ScriptedUser:
    """A user in memory."""

    password: str
    mark: str | None
    roles: frozenset[str]
    plain: bool = True
    enabled: bool = True


@dataclass
class ScriptedBroker:
    """Keeps users and roles in dictionaries. `calls` says what was asked of it, in order.

    Args:
        namespace: what is ours there.
        gate: every command waits for it.
        fault: raised by every command while it is set; the command may have been carried out (`interrupts`).
        slowness: seconds that every command takes.
        holds_listing: a listing is made, and given back only when this is set.
    """

    namespace: Namespace
    users: dict[str, ScriptedUser] = field(default_factory=dict)
    roles: dict[str, Grants | None] = field(default_factory=dict)
    calls: list[tuple[str, str]] = field(default_factory=list)
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    fault: BrokerError | None = None
    interrupts: bool = False
    slowness: float = 0.0
    holds_listing: asyncio.Event | None = None
    capabilities: Capabilities = field(default_factory=lambda: Capabilities(kicks=True, one_connection_per_user=True))
    findings: tuple[str, ...] = ()
    is_closed: bool = False

    def __post_init__(self) -> None:
        self.gate.set()

    def go_away(self) -> None:
        """Be away from now on."""
        self.fault = BrokerAwayError("broker:8883", "cannot be reached: nobody is there")

    def come_back(self) -> None:
        """Be there again."""
        self.fault = None

    async def check(self) -> None:
        """See that it is there."""
        await self._called("check", "")

    async def ensure(self, account: Account, password: Secret, *, resets_password: bool = False) -> Ensured:
        """Have this account."""
        if self.interrupts:
            self._put(account, password)
        await self._called("ensure", account.user)
        found = self.users.get(account.user)
        if found is not None and not self._is_ours(found, account.role):
            raise AccountRefusedError("broker:8883", "has a user of the same name already")
        if found is not None and self._is_right(account, found) and not resets_password:
            return "there"
        self._put(account, password if found is None or resets_password else Secret(found.password))
        return "made" if found is None else "mended"

    async def remove(self, user: str, role: str) -> None:
        """Have this user no longer."""
        if self.interrupts:
            self._drop(user, role)
        await self._called("remove", user)
        self._drop(user, role)

    async def remove_role(self, role: str) -> None:
        """Have this role no longer."""
        await self._called("remove_role", role)
        assert not any(role in each.roles for each in self.users.values()), "Mosquitto would die of it"  # noqa: S101
        self.roles.pop(role, None)

    async def kick(self, user: str) -> None:
        """Do nothing: nobody is connected."""
        await self._called("kick", user)

    async def list(self) -> Listing:
        """Everything of ours, as it is when the command comes through."""
        await self._called("list", "")
        users = [
            ListedUser(name, each.mark, ours, each.plain, each.enabled)
            for name, each in self.users.items()
            if (ours := frozenset(filter(self.namespace.owns, each.roles))) or each.mark is not None
        ]
        listing = Listing(users, {name: each for name, each in self.roles.items() if self.namespace.owns(name)})
        if self.holds_listing is not None:
            await self.holds_listing.wait()
        return listing

    async def read_retained(self, topic: str, seconds: float) -> bytes | None:
        """There is nothing."""
        await self._called("read_retained", topic)
        return None

    async def close(self) -> None:
        """Note it."""
        self.is_closed = True

    async def _called(self, name: str, what: str) -> None:
        self.calls.append((name, what))
        await self.gate.wait()
        await asyncio.sleep(self.slowness)
        if self.fault is not None:
            raise self.fault

    def _put(self, account: Account, password: Secret) -> None:
        self.roles[account.role] = account.grants
        self.users[account.user] = ScriptedUser(password.text, account.role, frozenset({account.role}))

    def _drop(self, user: str, role: str) -> None:
        found = self.users.get(user)
        if found is not None and self._is_ours(found, role):
            del self.users[user]

    def _is_ours(self, user: ScriptedUser, role: str) -> bool:
        return user.mark is not None or role in user.roles

    def _is_right(self, account: Account, user: ScriptedUser) -> bool:
        wished = ScriptedUser(user.password, account.role, frozenset({account.role}))
        return user == wished and self.roles.get(account.role) == account.grants


def link_hub(hub_id: str = "hub-1", **fields: object) -> HubEntry:
    """Return a hub that meets its MQTT clients at an outside broker."""
    hub = HubEntry(hub_id, hub_id, hub_id, None, frozenset(CARRIERS), active=True, mqtt_via="link")
    return replace(hub, **fields)  # type: ignore[arg-type]


def broker_credential(
    credential_id: int, namespace: Namespace, hub_id: str = "hub-1", **fields: object
) -> CredentialEntry:
    """Return the first credential of a client that is named after it."""
    client_id, access_key = f"client-{credential_id}", f"key-{namespace.root}-{credential_id}".ljust(32, "x")
    credential = CredentialEntry(
        id=credential_id, client_id=client_id, hub_id=hub_id, access_key=access_key,
        client_name=client_id, site_id=client_id, topic_prefix=namespace.topic(f"hubs/{hub_id}/clients/{client_id}"),
        psk=bytes(32), has_broker_password=True,
    )  # fmt: skip
    return replace(credential, **fields)  # type: ignore[arg-type]


def broker_password(credential_id: int) -> str:
    """Return the broker password of a credential in such a directory."""
    return f"broker-password-of-{credential_id}".ljust(43, "x")


async def stored_broker_password(credential_id: int) -> str | None:
    """Return it as the store does."""
    return broker_password(credential_id)
