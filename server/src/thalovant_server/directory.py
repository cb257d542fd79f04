# SPDX-License-Identifier: Apache-2.0
"""The data plane's view of who may connect: hubs and credentials in memory, fed by committed changes only.

Look-ups are dictionary look-ups on the event loop. Changes are told to subscribers synchronously, in the
order of the commits. Knows no carrier, no account and no HTTP; what it must write it hands to a
`CredentialStore`.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol

from thalovant_server.errors import CredentialGone
from thalovant_server.former_keys import End, FormerHolder, FormerKeys
from thalovant_server.stretching import StretchQueue
from thalovant_server.wall_clock import Clock, now

DEFAULT_MAX_MESSAGE = 4 * 1024 * 1024
DEFAULT_ALLOWED_TYPES = frozenset({"recognizer_loop:utterance"})
CARRIERS = ("wss", "https", "mqtt")
MqttVia = Literal["embedded", "link"]
"""Where a hub meets its MQTT clients: at the endpoint of this server, or at an outside broker."""

_log = logging.getLogger(__name__)

Stretch = Callable[[str, str], bytes]
"""Password and node id to the 32-byte pre-shared key; blocking and costly (`noise.stretch`)."""


@dataclass(slots=True, frozen=True)
class RateLimit:
    """So many messages at once, and as many again in each so many seconds, evenly spread."""

    messages: int
    per_seconds: int


@dataclass(slots=True, frozen=True)
class Permissions:
    """What a client may send (data-plane contract 11), and how much of it.

    `allowed_types`: the only bus message types it may send. `can_*`: grants of kinds of frames. `blocked_skills` and
    `blocked_intents` (``skill:intent``): what it may not reach. `daily_quota`: asks a day, UTC. None is no bound.
    """

    allowed_types: frozenset[str] = DEFAULT_ALLOWED_TYPES
    can_broadcast: bool = False
    can_propagate: bool = True
    can_escalate: bool = True
    blocked_skills: frozenset[str] = frozenset()
    blocked_intents: frozenset[str] = frozenset()
    rate_limit: RateLimit | None = None
    daily_quota: int | None = None


@dataclass(slots=True, frozen=True)
class HubEntry:
    """One hub. `protocols`: those of ``wss``, ``https``, ``mqtt`` that are on; `max_message`: bytes.

    `mqtt_via`: where its MQTT is, when that is on.
    """

    id: str
    slug: str
    name: str
    agent: str | None
    protocols: frozenset[str]
    active: bool
    max_message: int = DEFAULT_MAX_MESSAGE
    mqtt_via: MqttVia = "embedded"

    def serves_mqtt(self, via: MqttVia) -> bool:
        """Tell whether its clients may come over MQTT on this road."""
        return self.active and "mqtt" in self.protocols and self.mqtt_via == via


@dataclass(slots=True, frozen=True)
class CredentialEntry:
    """One live credential of a client. A snapshot: ask the directory again for what may have changed.

    `mqtt_password_hash` is None when the credential was made while its hub had MQTT off: it then has no way
    in there. `expires_at`: microseconds since 1970 at which the grace that a rotation left it ends; None: no end.
    `number` counts the credentials that its client ever had, from 1. `has_broker_password`: the store can tell its
    broker password, for an outside broker to have it.
    """

    id: int
    client_id: str
    hub_id: str
    access_key: str
    client_name: str
    site_id: str
    topic_prefix: str
    mqtt_password_hash: bytes | None = field(default=None, repr=False)
    psk: bytes | None = field(default=None, repr=False)
    pinned_key: bytes | None = None
    active: bool = True
    permissions: Permissions = Permissions()
    expires_at: int | None = None
    number: int = 1
    has_broker_password: bool = False


@dataclass(slots=True, frozen=True)
class Change:
    """A committed change: of a hub (`credential_id` and `client_id` None), or of one credential.

    A key that is pinned or a password that is stretched is no change.
    """

    kind: Literal["hub", "credential"]
    action: Literal["created", "changed", "removed"]
    hub_id: str
    client_id: str | None = None
    credential_id: int | None = None


class CredentialStore(Protocol):
    """What the directory needs of the store."""

    async def pin_key(self, credential_id: int, key: bytes) -> bytes | None:
        """Pin ``key`` unless one is; return the key that is pinned now, None when the credential is gone."""

    async def password(self, credential_id: int) -> str | None:
        """Return the password that waits to be stretched, None when the credential is gone."""

    async def keep_psk(self, credential_id: int, psk: bytes) -> None:
        """Keep the stretched key, sealed, and forget the password."""

    def mqtt_password_matches(self, password: bytes, expected: bytes) -> bool:
        """Tell in constant time whether ``expected`` is the keyed hash of ``password``."""

    def former_key_hash(self, access_key: str) -> bytes:
        """Return the keyed hash that a former access key is remembered by."""


class Directory:
    """Hubs and credentials, by id and by access key.

    Args:
        store: writes pins and stretched keys.
        node_id: the server's node id, salt of the stretching.
        stretch: makes the pre-shared key; runs in one thread of its own.
        clock: says when a credential's grace is over.
    """

    def __init__(self, store: CredentialStore, *, node_id: str, stretch: Stretch, clock: Clock = now) -> None:
        self._store = store
        self._node_id = node_id
        self._stretch = stretch
        self._clock = clock
        self._hubs: dict[str, HubEntry] = {}  # oldest first
        self._credentials: dict[int, CredentialEntry] = {}
        self._by_access_key: dict[str, int] = {}
        self._by_client: dict[str, dict[int, None]] = {}
        self._by_hub: dict[str, dict[int, None]] = {}
        self._subscribers: list[Callable[[Change], None]] = []
        self._former = FormerKeys()
        self._resets = 0
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="stretch")
        self._queue = StretchQueue(self._stretch_one)

    # -- life

    def load(
        self,
        hubs: Iterable[HubEntry],
        credentials: Iterable[CredentialEntry],
        former: Iterable[tuple[bytes, FormerHolder]] = (),
    ) -> None:
        """Take in what is committed at start, hubs and former keys (by their hashes) oldest first; tells nobody."""
        self._former.load(former)
        for hub in hubs:
            self._hubs[hub.id] = hub
        for credential in credentials:
            self._index(credential)

    def start(self) -> None:
        """Start stretching; call on the running loop."""
        self._queue.start()
        for credential in self._credentials.values():
            if credential.psk is None:
                self._queue.later(credential.id)

    async def stop(self) -> None:
        """End stretching; whoever waits gets `Overloaded`."""
        await self._queue.stop()
        await asyncio.to_thread(self._thread.shutdown, wait=True, cancel_futures=True)

    # -- questions

    def credential(self, access_key: str) -> CredentialEntry | None:
        """Return the live credential with this access key; one whose grace is over is none."""
        credential_id = self._by_access_key.get(access_key)
        return None if credential_id is None else self.credential_by_id(credential_id)

    def former_holder(self, access_key: str) -> FormerHolder | None:
        """Return who had this access key, of one that is over; None of a live and of an unknown one."""
        credential_id = self._by_access_key.get(access_key)
        if credential_id is None:
            return self._former.find(self._store.former_key_hash(access_key))
        is_live = self.credential_by_id(credential_id) is not None
        return None if is_live else _holder(self._credentials[credential_id], "rotated_out")  # removed in a moment

    def credential_by_id(self, credential_id: int) -> CredentialEntry | None:
        """Return the credential as it is now; None when it is gone or its grace is over."""
        found = self._credentials.get(credential_id)
        is_over = found is not None and found.expires_at is not None and found.expires_at <= self._clock()
        return None if is_over else found

    def credentials_of(self, client_id: str) -> list[CredentialEntry]:
        """Return the credentials of a client, oldest first, those whose grace is over too until they are removed."""
        return [self._credentials[each] for each in sorted(self._by_client.get(client_id, ()))]

    def credentials_at(self, hub_id: str) -> list[CredentialEntry]:
        """Return the credentials of a hub's clients, as `credentials_of` does."""
        return [self._credentials[each] for each in sorted(self._by_hub.get(hub_id, ()))]

    def hub(self, hub_id: str) -> HubEntry | None:
        """Return the hub with this id."""
        return self._hubs.get(hub_id)

    def hubs(self) -> list[HubEntry]:
        """Return every hub, oldest first."""
        return list(self._hubs.values())

    def default_hub(self) -> HubEntry | None:
        """Return the hub that the root path serves: the oldest active one (architecture decision 13)."""
        return next((hub for hub in self._hubs.values() if hub.active), None)

    def check_mqtt_password(self, credential: CredentialEntry, password: bytes) -> bool:
        """Tell in constant time whether this is the credential's broker password; never when it has none."""
        expected = credential.mqtt_password_hash
        matches = self._store.mqtt_password_matches(password, expected or bytes(32))
        return matches and expected is not None

    # -- what a connecting client needs

    async def psk(self, credential: CredentialEntry) -> bytes:
        """Return the credential's 32-byte pre-shared key; stretches it first, before those nobody waits for.

        Raises:
            Overloaded: more than about 100 wait already. Not a refusal of the credential.
            CredentialGone: it was removed meanwhile.
        """
        current = self._credentials.get(credential.id)
        if current is None:
            raise CredentialGone
        return current.psk if current.psk is not None else await self._queue.now(credential.id)

    async def pin_key(self, credential_id: int, key: bytes) -> bool:
        """Pin the client's static key if none is pinned yet; tell whether ``key`` is the pinned one.

        When this returns True the pin is committed.
        """
        current = self._credentials.get(credential_id)
        if current is None:
            return False
        if current.pinned_key is None:
            resets = self._resets
            pinned = await self._store.pin_key(credential_id, key)
            if resets != self._resets:  # what the store said may be undone already
                return await self.pin_key(credential_id, key)
            current = self._update(credential_id, pinned_key=pinned)
        return current is not None and _same(current.pinned_key, key)

    async def _stretch_one(self, credential_id: int) -> bytes:
        entry = self._credentials.get(credential_id)
        if entry is not None and entry.psk is not None:
            return entry.psk
        password = await self._store.password(credential_id)
        if password is None:
            raise CredentialGone
        loop = asyncio.get_running_loop()
        psk = await loop.run_in_executor(self._thread, self._stretch, password, self._node_id)
        await self._store.keep_psk(credential_id, psk)
        self._update(credential_id, psk=psk)
        return psk

    # -- committed changes

    def subscribe(self, callback: Callable[[Change], None]) -> Callable[[], None]:
        """Call ``callback`` with each change, on the loop, after it is in force; returns how to end that."""
        self._subscribers.append(callback)

        def unsubscribe() -> None:
            if callback in self._subscribers:
                self._subscribers.remove(callback)

        return unsubscribe

    def put_hub(self, hub: HubEntry) -> None:
        """Take in a hub that was created or changed."""
        action: Literal["created", "changed"] = "changed" if hub.id in self._hubs else "created"
        self._hubs[hub.id] = hub
        self._tell(Change("hub", action, hub.id))

    def put_credential(self, credential: CredentialEntry) -> None:
        """Take in a credential that was created or changed; one not stretched yet is put into the queue."""
        action: Literal["created", "changed"] = "changed" if credential.id in self._credentials else "created"
        self._index(credential)
        if credential.psk is None:
            self._queue.later(credential.id)
        self._tell(Change("credential", action, credential.hub_id, credential.client_id, credential.id))

    def change_client(
        self, client_id: str, *, client_name: str, site_id: str, active: bool, permissions: Permissions
    ) -> None:
        """Take in what changed of a client: all of its credentials have it before anybody is told."""
        ids = sorted(self._by_client.get(client_id, ()))
        for credential_id in ids:
            self._credentials[credential_id] = replace(
                self._credentials[credential_id],
                client_name=client_name, site_id=site_id, active=active, permissions=permissions,
            )  # fmt: skip
        for credential_id in ids:
            self._tell_changed(credential_id)

    def set_end(self, credential_id: int, expires_at: int | None) -> None:
        """Take in when a credential's grace ends (microseconds since 1970), or that it has no end any longer."""
        entry = self._credentials.get(credential_id)
        if entry is not None:
            self._credentials[credential_id] = replace(entry, expires_at=expires_at)
            self._tell_changed(credential_id)

    def reset_key(self, credential_id: int) -> None:
        """Take in that no key is pinned for a credential any longer; sessions that are open stay."""
        self._resets += 1
        entry = self._credentials.get(credential_id)
        if entry is not None:
            self._credentials[credential_id] = replace(entry, pinned_key=None)
            self._tell_changed(credential_id)

    def remove_credential(self, credential_id: int) -> None:
        """Forget one credential of a client, if it is still there."""
        if credential_id in self._credentials:
            self._remove_credential(credential_id, "rotated_out")

    def remove_client(self, client_id: str) -> None:
        """Forget a client: each of its credentials is removed."""
        for credential_id in list(self._by_client.get(client_id, ())):
            self._remove_credential(credential_id, "removed")

    def remove_hub(self, hub_id: str) -> None:
        """Forget a hub and every credential of its clients."""
        for credential_id in list(self._by_hub.get(hub_id, ())):
            self._remove_credential(credential_id, "hub_removed")
        if self._hubs.pop(hub_id, None) is not None:
            self._tell(Change("hub", "removed", hub_id))

    def _remove_credential(self, credential_id: int, end: End) -> None:
        entry = self._credentials.pop(credential_id)
        del self._by_access_key[entry.access_key]
        self._former.add(self._store.former_key_hash(entry.access_key), _holder(entry, end))
        for index, key in ((self._by_client, entry.client_id), (self._by_hub, entry.hub_id)):
            del index[key][credential_id]
            if not index[key]:
                del index[key]
        self._queue.forget(credential_id)
        self._tell(Change("credential", "removed", entry.hub_id, entry.client_id, credential_id))

    def _index(self, entry: CredentialEntry) -> None:
        self._credentials[entry.id] = entry
        self._by_access_key[entry.access_key] = entry.id
        self._by_client.setdefault(entry.client_id, {})[entry.id] = None
        self._by_hub.setdefault(entry.hub_id, {})[entry.id] = None

    def _update(
        self, credential_id: int, *, pinned_key: bytes | None = None, psk: bytes | None = None
    ) -> CredentialEntry | None:
        entry = self._credentials.get(credential_id)
        if entry is None:
            return None
        entry = replace(entry, pinned_key=pinned_key or entry.pinned_key, psk=psk or entry.psk)
        self._credentials[credential_id] = entry
        return entry

    def _tell_changed(self, credential_id: int) -> None:
        entry = self._credentials.get(credential_id)  # a subscriber may have removed it
        if entry is not None:
            self._tell(Change("credential", "changed", entry.hub_id, entry.client_id, credential_id))

    def _tell(self, change: Change) -> None:
        for callback in tuple(self._subscribers):
            try:
                callback(change)
            except Exception:  # noqa: BLE001 - its fault must not keep a revocation from the others
                _log.exception("a subscriber of the directory failed at %s %s", change.kind, change.action)


def _holder(entry: CredentialEntry, end: End) -> FormerHolder:
    return FormerHolder(entry.client_id, entry.client_name, entry.hub_id, end)


def _same(pinned: bytes | None, key: bytes) -> bool:
    return pinned is not None and hmac.compare_digest(pinned, key)
