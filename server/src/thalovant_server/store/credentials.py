# SPDX-License-Identifier: Apache-2.0
"""Credentials as rows, their secrets sealed or hashed (architecture decisions 4, 6, 7). Mints nothing,
stretches nothing.

A sealed value is bound to its credential by the topic prefix, which no other credential ever has.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Column, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from thalovant_server.store.database import Database, Transaction
from thalovant_server.store.sealing import Sealer
from thalovant_server.store.tables import clients, credentials

_MQTT_PURPOSE = "mqtt-password"
_FORMER_PURPOSE = "former-access-key"


class AccessKeyTakenError(Exception):
    """Another credential has this access key."""


@dataclass(frozen=True, slots=True)
class NewCredential:
    """What a credential is made of. `mqtt_password` is None when the hub has MQTT off.

    `keeps_mqtt_password`: an outside broker has to have it too, so it is kept sealed beside its hash.
    """

    client_id: str
    number: int
    access_key: str
    topic_prefix: str
    password: str = field(repr=False)
    mqtt_password: str | None = field(repr=False)
    created_at: int
    keeps_mqtt_password: bool = False

    @property
    def has_broker_password(self) -> bool:
        """Whether its broker password can be told again."""
        return self.keeps_mqtt_password and self.mqtt_password is not None


@dataclass(frozen=True, slots=True)
class LiveCredential:
    """One credential with what the data plane needs of its client; `psk` is None until it is stretched."""

    id: int
    client_id: str
    hub_id: str
    access_key: str
    client_name: str
    site_id: str
    topic_prefix: str
    active: bool
    pinned_key: bytes | None
    mqtt_password_hash: bytes | None = field(repr=False)
    psk: bytes | None = field(repr=False)
    spec: dict[str, Any]
    expires_at: int | None
    number: int
    has_broker_password: bool


async def add(connection: AsyncConnection, sealer: Sealer, new: NewCredential) -> int:
    """Write a new credential; return its id, which no other ever has.

    Raises:
        AccessKeyTakenError: another credential, of whomever, has the access key; the transaction must end.
    """
    values = {
        "client_id": new.client_id,
        "number": new.number,
        "access_key": new.access_key,
        "topic_prefix": new.topic_prefix,
        "mqtt_password_hash": hash_mqtt_password(sealer, new.mqtt_password),
        "sealed_password": sealer.seal(new.password.encode(), _password_context(new.topic_prefix)),
        "sealed_mqtt_password": _sealed_mqtt_password(sealer, new),
        "created_at": new.created_at,
    }
    try:
        result = await connection.execute(insert(credentials).values(values).returning(credentials.c.id))
    except IntegrityError:  # number and prefix are our own: only the access key can have come before
        raise AccessKeyTakenError from None
    return int(result.scalar_one())


def _sealed_mqtt_password(sealer: Sealer, new: NewCredential) -> bytes | None:
    if new.mqtt_password is None or not new.keeps_mqtt_password:
        return None
    return sealer.seal(new.mqtt_password.encode(), _mqtt_password_context(new.topic_prefix))


def answer_about(client_id: str, number: int) -> str:
    """Return what a kept answer is filed under that holds the secrets of a client's ``number``-th credential."""
    return client_id if number == 1 else f"{client_id}.{number}"


def hash_mqtt_password(sealer: Sealer, password: str | None) -> bytes | None:
    """Return what is kept of a broker password."""
    return None if password is None else sealer.keyed_hash(password, _MQTT_PURPOSE)


async def all_of_them(connection: AsyncConnection, sealer: Sealer) -> list[LiveCredential]:
    """Return every credential, oldest first, with its stretched key opened.

    Raises:
        SealBrokenError: a stretched key does not open.
    """
    query = select(
        credentials.c.id, credentials.c.client_id, clients.c.hub_id, credentials.c.access_key,
        clients.c.name.label("client_name"), clients.c.site_id, credentials.c.topic_prefix, clients.c.active,
        credentials.c.pinned_key, credentials.c.mqtt_password_hash, credentials.c.sealed_psk.label("psk"),
        clients.c.spec, credentials.c.expires_at, credentials.c.number,
        credentials.c.sealed_mqtt_password.is_not(None).label("has_broker_password"),
    ).join(clients, clients.c.id == credentials.c.client_id).order_by(credentials.c.id)  # fmt: skip
    rows = (await connection.execute(query)).all()
    return [_live(sealer, LiveCredential(**row._mapping)) for row in rows]


async def reset_key(connection: AsyncConnection, client_id: str, number: int) -> int | None:
    """Forget the key that is pinned for a client's ``number``-th credential; return its id, None when there is none."""
    mine = (credentials.c.client_id == client_id, credentials.c.number == number)
    change = update(credentials).where(*mine).values(pinned_key=None).returning(credentials.c.id)
    row = (await connection.execute(change)).first()
    return None if row is None else int(row.id)


class CredentialKeeper:
    """Writes what the data plane learns of a credential: the `CredentialStore` of the directory."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._sealer = database.sealer

    async def pin_key(self, credential_id: int, key: bytes) -> bytes | None:
        """Pin ``key`` unless one is; return the key that is pinned now, None when the credential is gone."""

        async def work(transaction: Transaction) -> bytes | None:
            mine = credentials.c.id == credential_id
            free = update(credentials).where(mine, credentials.c.pinned_key.is_(None))
            await transaction.connection.execute(free.values(pinned_key=key))
            row = (await transaction.connection.execute(select(credentials.c.pinned_key).where(mine))).first()
            return None if row is None else row.pinned_key

        return await self._database.write(work)

    async def password(self, credential_id: int) -> str | None:
        """Return the password that waits to be stretched, None when it or the credential is gone."""
        return await self._opened(credential_id, credentials.c.sealed_password, _password_context)

    async def mqtt_password(self, credential_id: int) -> str | None:
        """Return the password that an outside broker has to have; None: the credential is gone, or none is kept.

        Raises:
            SealBrokenError: it does not open.
        """
        return await self._opened(credential_id, credentials.c.sealed_mqtt_password, _mqtt_password_context)

    async def _opened(self, credential_id: int, sealed: Column[Any], context: Callable[[str], str]) -> str | None:
        query = select(credentials.c.topic_prefix, sealed.label("sealed")).where(credentials.c.id == credential_id)
        async with self._database.read() as connection:
            row = (await connection.execute(query)).first()
        if row is None or row.sealed is None:
            return None
        return self._sealer.open(row.sealed, context(row.topic_prefix)).decode()

    async def keep_psk(self, credential_id: int, psk: bytes) -> None:
        """Keep the stretched key, sealed, and forget the password."""
        mine = credentials.c.id == credential_id

        async def work(transaction: Transaction) -> None:
            prefix = (await transaction.connection.execute(select(credentials.c.topic_prefix).where(mine))).scalar()
            if prefix is not None:
                sealed = self._sealer.seal(psk, _psk_context(prefix))
                change = update(credentials).where(mine).values(sealed_psk=sealed, sealed_password=None)
                await transaction.connection.execute(change)

        await self._database.write(work)

    def mqtt_password_matches(self, password: bytes, expected: bytes) -> bool:
        """Tell in constant time whether ``expected`` is what is kept of this broker password."""
        return self._sealer.matches(password, _MQTT_PURPOSE, expected)

    def former_key_hash(self, access_key: str) -> bytes:
        """Return the keyed hash that a former access key is remembered by."""
        return former_key_hash(self._sealer, access_key)


def former_key_hash(sealer: Sealer, access_key: str) -> bytes:
    """Return the keyed hash that an access key is remembered by once its credential is over."""
    return sealer.keyed_hash(access_key.encode("utf-8", "replace"), _FORMER_PURPOSE)


def _live(sealer: Sealer, row: LiveCredential) -> LiveCredential:
    if row.psk is None:
        return row
    psk = sealer.open(row.psk, _psk_context(row.topic_prefix))
    fields = {name: getattr(row, name) for name in LiveCredential.__dataclass_fields__}
    return LiveCredential(**{**fields, "psk": psk})


def _password_context(topic_prefix: str) -> str:
    return f"credential {topic_prefix} password"


def _mqtt_password_context(topic_prefix: str) -> str:
    return f"credential {topic_prefix} mqtt-password"


def _psk_context(topic_prefix: str) -> str:
    return f"credential {topic_prefix} psk"
