# SPDX-License-Identifier: Apache-2.0
"""What a client's life is: made with a credential of its own, shown without it, removed (contract 3.4, 4.1).

The answer to a creation is the only place where secrets go out. Stretching the password is not on this path
(architecture decision 7): the directory queues it after the commit.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from thalovant.protocol.topics import hub_topics
from thalovant_server import client_spec, hub_spec
from thalovant_server.control import grants
from thalovant_server.control.answers import check_etag, etag, time_text
from thalovant_server.control.auditing import client_target, record
from thalovant_server.control.callers import Caller
from thalovant_server.control.hubs import owner_of_new, visible_hub
from thalovant_server.control.replay import Made, Repeatable, once
from thalovant_server.control.schemas import NewClient
from thalovant_server.control.services import Services
from thalovant_server.directory import CredentialEntry
from thalovant_server.endpoints import Endpoints
from thalovant_server.errors import ApiError, ForbiddenTextError
from thalovant_server.identifiers import (
    SITE_ID_LENGTH,
    check_machine_secret,
    check_name,
    new_id,
    new_secret,
    site_id_from,
    topic_prefix,
)
from thalovant_server.spec_bounds import check_bounds
from thalovant_server.spec_keys import without_secrets
from thalovant_server.store import clients, credentials, hubs, idempotency
from thalovant_server.store.clients import ClientRecord
from thalovant_server.store.credentials import AccessKeyTakenError, NewCredential
from thalovant_server.store.database import Transaction
from thalovant_server.store.hubs import HubRecord


def shown(client: ClientRecord, *, with_spec: bool = True) -> dict[str, Any]:
    """Return a client as its owner sees it: without any secret."""
    resource = {
        "id": client.id,
        "hub_id": client.hub_id,
        "name": client.name,
        "active": client.active,
        "owner_id": client.owner_id,
        "etag": etag(client.revision),
        "created_at": time_text(client.created_at),
        "updated_at": time_text(client.updated_at),
    }
    return {**resource, "spec": client.spec} if with_spec else resource


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A request for a client, checked; its secrets minted where it brought none."""

    body: NewClient
    site_id: str
    spec: dict[str, Any]
    access_key: str
    password: str = field(repr=False)


# -- making


async def create(services: Services, caller: Caller, body: NewClient, request: Repeatable) -> bytes:
    """Make a client and its first credential; return the JSON answer, `initial_identify` included.

    Raises:
        ApiError: 403, 404, 409 `access_key_in_use`, and what a replay raises.
        ForbiddenTextError: a name or a part of the spec is not usable.
    """
    wanted = _checked(body)
    now = services.clock()

    async def work(transaction: Transaction) -> bytes:
        make = partial(_make, services, transaction, caller, wanted, now)
        return await once(transaction, services.database.sealer, request, now, make)

    return await services.database.write(work)


def _checked(body: NewClient) -> _Wanted:
    check_name("name", body.name)
    given = body.spec
    site_id = _text(given, "siteId")
    site_id = site_id_from(body.name) if site_id is None else site_id
    check_name("spec.siteId", site_id, longest=SITE_ID_LENGTH)
    version = given.get("version", "1")
    if not isinstance(version, str) or not 1 <= len(version) <= 64:
        raise ForbiddenTextError("spec.version", 'must be a text such as "1"')
    client_spec.check_permissions(given)
    spec = {**without_secrets(given), "version": version, "siteId": site_id}
    check_bounds(spec)
    return _Wanted(body, site_id, spec, _secret(given, "apiKey"), _secret(given, "password"))


def _text(spec: dict[str, Any], key: str) -> str | None:
    value = spec.get(key)
    if value is not None and not isinstance(value, str):
        raise ForbiddenTextError(f"spec.{key}", "must be a text")
    return value


def _secret(spec: dict[str, Any], key: str) -> str:
    given = _text(spec, key)
    return new_secret() if given is None else check_machine_secret(f"spec.{key}", given)


async def _make(services: Services, transaction: Transaction, caller: Caller, wanted: _Wanted, now: int) -> Made:
    connection = transaction.connection
    hub = await visible_hub(connection, caller, wanted.body.hub_id)
    owner_id = await owner_of_new(connection, caller, wanted.body.owner_id)
    wanted = replace(wanted, spec=grants.of_new_client(caller, hub, wanted.spec))
    client = await clients.add(connection, _row(wanted, owner_id, now))
    credential = _first_credential(hub, client, wanted)
    try:
        credential_id = await credentials.add(connection, services.database.sealer, credential)
    except AccessKeyTakenError:
        raise ApiError(409, "This access key is in use; take another", "access_key_in_use") from None
    entry = _entry(services, credential_id, client, credential)
    await record(connection, caller, "client.created", client_target(client), at=now, after=shown(client))
    transaction.after_commit(partial(services.directory.put_credential, entry))
    identity = initial_identify(hub, client, credential, services.endpoints)
    return client.id, {**shown(client), "initial_identify": identity}


def _row(wanted: _Wanted, owner_id: str, now: int) -> dict[str, Any]:
    return {
        "id": new_id("client"),
        "hub_id": wanted.body.hub_id,
        "owner_id": owner_id,
        "name": wanted.body.name,
        "site_id": wanted.site_id,
        "active": wanted.body.active,
        "spec": wanted.spec,
        "credentials_made": 1,
        "revision": 1,
        "created_at": now,
        "updated_at": now,
    }


def _first_credential(hub: HubRecord, client: ClientRecord, wanted: _Wanted) -> NewCredential:
    return NewCredential(
        client_id=client.id,
        number=1,
        access_key=wanted.access_key,
        topic_prefix=topic_prefix(hub.id, client.id, 1),
        password=wanted.password,
        mqtt_password=new_secret() if "mqtt" in hub_spec.carriers(hub.spec) else None,
        created_at=client.created_at,
    )


def _entry(services: Services, credential_id: int, client: ClientRecord, credential: NewCredential) -> CredentialEntry:
    return CredentialEntry(
        id=credential_id,
        client_id=client.id,
        hub_id=client.hub_id,
        access_key=credential.access_key,
        client_name=client.name,
        site_id=client.site_id,
        topic_prefix=credential.topic_prefix,
        mqtt_password_hash=credentials.hash_mqtt_password(services.database.sealer, credential.mqtt_password),
        active=client.active,
        permissions=client_spec.permissions(client.spec),
    )


def initial_identify(
    hub: HubRecord, client: ClientRecord, credential: NewCredential, endpoints: Endpoints
) -> dict[str, Any]:
    """Return all that a client needs to connect (contract 3.4.3). `mqtt` is there when it has a broker password."""
    over_wss = "wss" in hub_spec.carriers(hub.spec)
    identity: dict[str, Any] = {
        "access_key": credential.access_key,
        "password": credential.password,
        "site_id": client.site_id,
        "default_master": endpoints.wss_for(hub.id) if over_wss else endpoints.https_for(hub.id),
        "default_port": endpoints.api_port,
    }
    if endpoints.ca_pem:
        identity["ca_pem"] = endpoints.ca_pem
    if credential.mqtt_password is not None:
        identity["mqtt"] = _mqtt_block(credential, credential.mqtt_password, endpoints)
    return identity


def _mqtt_block(credential: NewCredential, password: str, endpoints: Endpoints) -> dict[str, Any]:
    topics, _ = hub_topics(credential.topic_prefix)
    return {
        "endpoint": endpoints.mqtt_url,
        "username": credential.access_key,
        "password": password,
        "topic_prefix": credential.topic_prefix,
        "c2s_topic": topics.c2s,
        "s2c_topic": topics.s2c,
        "status_topic": topics.status,
        "qos": 1,
        "tls": True,
    }


# -- showing and removing


async def visible_client(connection: AsyncConnection, caller: Caller, client_id: str) -> ClientRecord:
    """Return a client that the caller, or the owner of its hub, may see.

    Raises:
        ApiError: 404.
    """
    client = await clients.by_id(connection, client_id)
    if client is not None and not caller.owns(client.owner_id, client.hub_id):
        hub = await hubs.by_id(connection, client.hub_id)
        client = client if hub is not None and caller.owns(hub.owner_id, hub.id) else None
    if client is None:
        raise ApiError(404, "Client not found", "client_not_found")
    return client


async def remove(services: Services, caller: Caller, client_id: str, if_match: str | None) -> None:
    """Remove a client; its live sessions are cut at once, and no kept answer holds its secrets any longer.

    Raises:
        ApiError: 404, 412.
    """

    async def work(transaction: Transaction) -> None:
        connection = transaction.connection
        client = await visible_client(connection, caller, client_id)
        check_etag(if_match, client.revision)
        await idempotency.forget_answers_about(connection, [client_id])
        await clients.remove(connection, client_id)
        target = client_target(client)
        await record(connection, caller, "client.removed", target, at=services.clock(), before=shown(client))
        transaction.after_commit(partial(services.directory.remove_client, client_id))

    await services.database.write(work)


async def reset_key(services: Services, caller: Caller, client_id: str, number: int) -> None:
    """Forget the key that is pinned for one credential: the next one to come with its password is pinned anew.

    Raises:
        ApiError: 404, there is no such client, or none of its credentials has this number.
    """

    async def work(transaction: Transaction) -> None:
        client = await visible_client(transaction.connection, caller, client_id)
        known = 1 <= number <= client.credentials_made
        found = await credentials.reset_key(transaction.connection, client_id, number) if known else None
        if found is None:
            raise ApiError(404, "Credential not found", "credential_not_found")
        target, now = client_target(client), services.clock()
        await record(transaction.connection, caller, "credential.key_reset", target, at=now, after={"number": number})
        transaction.after_commit(partial(services.directory.reset_key, found))

    await services.database.write(work)
