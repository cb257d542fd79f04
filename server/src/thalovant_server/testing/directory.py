# SPDX-License-Identifier: Apache-2.0
"""A real directory without a database, for tests of the data plane. Everything stays in memory."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable

from thalovant_server.directory import CredentialEntry, Directory, HubEntry, Stretch
from thalovant_server.wall_clock import Clock, now


class MemoryStore:
    """Keeps pins, passwords and stretched keys in dictionaries, each by credential id."""

    def __init__(self, passwords: dict[int, str] | None = None) -> None:
        self.passwords = dict(passwords or {})
        self.pins: dict[int, bytes] = {}
        self.psks: dict[int, bytes] = {}

    async def pin_key(self, credential_id: int, key: bytes) -> bytes | None:
        """Pin the first key."""
        return self.pins.setdefault(credential_id, key)

    async def password(self, credential_id: int) -> str | None:
        """Return the password given to the constructor."""
        return self.passwords.get(credential_id)

    async def keep_psk(self, credential_id: int, psk: bytes) -> None:
        """Keep the stretched key."""
        self.psks[credential_id] = psk

    def mqtt_password_matches(self, password: bytes, expected: bytes) -> bool:
        """Compare with `mqtt_password_hash`."""
        return hmac.compare_digest(mqtt_password_hash(password), expected)

    def former_key_hash(self, access_key: str) -> bytes:
        """Hash it without a key."""
        return hashlib.sha256(access_key.encode("utf-8", "replace")).digest()


def mqtt_password_hash(password: bytes) -> bytes:
    """Return what a `CredentialEntry` holds for a broker password in a directory made here."""
    return hashlib.sha256(password).digest()


def cheap_stretch(password: str, node_id: str) -> bytes:
    """Stand in for argon2id where its cost is not the point."""
    return hashlib.sha256(f"{node_id}\x00{password}".encode()).digest()


def directory_of(
    hubs: Iterable[HubEntry],
    credentials: Iterable[CredentialEntry],
    *,
    store: MemoryStore | None = None,
    node_id: str = "test-node",
    stretch: Stretch = cheap_stretch,
    clock: Clock = now,
) -> Directory:
    """Return a directory of these hubs and credentials; `start()` it where keys have to be stretched."""
    directory = Directory(store or MemoryStore(), node_id=node_id, stretch=stretch, clock=clock)
    directory.load(hubs, credentials)
    return directory
