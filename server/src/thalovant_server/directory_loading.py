# SPDX-License-Identifier: Apache-2.0
"""From committed rows to the directory's entries, and the directory as it is filled at start. Changes nothing."""

from __future__ import annotations

from thalovant_server import client_spec, former_keys, hub_spec
from thalovant_server.directory import CredentialEntry, Directory, HubEntry, Stretch
from thalovant_server.errors import DataDamagedError
from thalovant_server.former_keys import End, FormerHolder
from thalovant_server.store import credentials, former_credentials, hubs
from thalovant_server.store.credentials import CredentialKeeper, LiveCredential
from thalovant_server.store.database import Database
from thalovant_server.store.former_credentials import FormerCredential
from thalovant_server.store.hubs import HubRecord
from thalovant_server.store.sealing import SealBrokenError
from thalovant_server.wall_clock import Clock, now


async def open_directory(database: Database, *, node_id: str, stretch: Stretch, clock: Clock = now) -> Directory:
    """Return a directory of all that is committed; `start()` it when the loop is to stretch keys.

    Args:
        database: where hubs and credentials are.
        node_id: the server's node id.
        stretch: password and node id to pre-shared key (`thalovant.protocol.noise.stretch`).
        clock: says when a credential's grace is over.

    Raises:
        DataDamagedError: a row cannot be read, or a sealed key does not open.
    """
    directory = Directory(CredentialKeeper(database), node_id=node_id, stretch=stretch, clock=clock)
    try:
        async with database.read() as connection:
            rows = await hubs.all_of_them(connection)
            live = await credentials.all_of_them(connection, database.sealer)
            over = await former_credentials.newest(connection, former_keys.MOST)
        directory.load(
            [hub_entry(row) for row in rows],
            [credential_entry(row) for row in live],
            [(key_hash, former_holder(former)) for key_hash, former in over],
        )
    except (SealBrokenError, ValueError, TypeError, LookupError, AttributeError) as error:
        raise DataDamagedError(database.path, f"a row of it cannot be read ({type(error).__name__})") from error
    return directory


def hub_entry(hub: HubRecord) -> HubEntry:
    """Return what the data plane needs of a hub."""
    return HubEntry(
        id=hub.id,
        slug=hub.slug,
        name=hub.name,
        agent=hub_spec.agent(hub.spec),
        protocols=hub_spec.carriers(hub.spec),
        active=hub.active,
        max_message=hub_spec.max_message(hub.spec),
        mqtt_via=hub_spec.mqtt_via(hub.spec),
    )


def former_holder(former: FormerCredential) -> FormerHolder:
    """Return what the data plane needs of a credential that is over."""
    end: End = former.why if former.why in ("removed", "hub_removed") else "rotated_out"
    return FormerHolder(former.client_id, former.client_name, former.hub_id, end)


def credential_entry(live: LiveCredential) -> CredentialEntry:
    """Return what the data plane needs of a credential."""
    return CredentialEntry(
        id=live.id,
        client_id=live.client_id,
        hub_id=live.hub_id,
        access_key=live.access_key,
        client_name=live.client_name,
        site_id=live.site_id,
        topic_prefix=live.topic_prefix,
        mqtt_password_hash=live.mqtt_password_hash,
        psk=live.psk,
        pinned_key=live.pinned_key,
        active=live.active,
        permissions=client_spec.permissions(live.spec),
        expires_at=live.expires_at,
        number=live.number,
        has_broker_password=live.has_broker_password,
    )
