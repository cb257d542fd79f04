# SPDX-License-Identifier: Apache-2.0
"""A credential as it is given out: its secrets taken or minted, its row, and the identity that goes out with it once.

For a client's first one and for those that a rotation makes (architecture decision 4, contract 3.4.3). Stretching the
password is not on this path (decision 7): the directory queues it after the commit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from thalovant.protocol.topics import hub_topics
from thalovant_server import client_spec, hub_spec
from thalovant_server.brokers.names import Namespace
from thalovant_server.control import operations
from thalovant_server.control.services import Services
from thalovant_server.directory import CredentialEntry
from thalovant_server.endpoints import Endpoints
from thalovant_server.errors import ApiError, ForbiddenTextError
from thalovant_server.identifiers import check_machine_secret, new_secret, topic_prefix
from thalovant_server.store import credentials, former_credentials
from thalovant_server.store.clients import ClientRecord
from thalovant_server.store.credentials import AccessKeyTakenError, NewCredential
from thalovant_server.store.database import Transaction
from thalovant_server.store.hubs import HubRecord


@dataclass(frozen=True, slots=True)
class Secrets:
    """What a client brings, or is given, to prove itself with."""

    access_key: str = field(repr=False)
    password: str = field(repr=False)


def secrets_of(spec: Mapping[str, Any]) -> Secrets:
    """Return the secrets that a request brought in its spec, minted where it brought none.

    Raises:
        ForbiddenTextError: one is not 32 to 256 URL-safe characters.
    """
    return Secrets(_secret(spec, "apiKey"), _secret(spec, "password"))


async def give(
    services: Services, transaction: Transaction, hub: HubRecord, client: ClientRecord, secrets: Secrets, now: int
) -> dict[str, Any]:
    """Write the credential that `client.credentials_made` counts as the last one; return what an answer tells of it.

    That is its `initial_identify` and, if an outside broker has to take it up, the `operation` of that.

    An access key that was another account's is in use for as long as it is remembered: or that account would no longer
    find what became of it. The directory hears of it after the commit.

    Raises:
        ApiError: 409 `access_key_in_use`.
    """
    new = _new(hub, client, secrets, services.endpoints, now)
    former = await former_credentials.find(transaction.connection, services.database.sealer, new.access_key)
    if former is not None and former.owner_id != client.owner_id:
        raise _in_use()
    try:
        credential_id = await credentials.add(transaction.connection, services.database.sealer, new)
    except AccessKeyTakenError:
        raise _in_use() from None
    entry = _entry(services, credential_id, client, new)
    transaction.after_commit(partial(services.directory.put_credential, entry))
    told = {"initial_identify": initial_identify(hub, client, new, services.endpoints)}
    if new.has_broker_password and hub.active and client.active:
        begun = await operations.begin(services, transaction, client, credential_id, now)
        told["operation"] = operations.shown(begun)
    return told


def _in_use() -> ApiError:
    return ApiError(409, "This access key is in use; take another", "access_key_in_use")


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
    has_mqtt, via = credential.mqtt_password is not None, hub_spec.mqtt_via(hub.spec)
    if authorities := endpoints.authorities_for(via if has_mqtt else "embedded"):
        identity["ca_pem"] = authorities
    if credential.mqtt_password is not None:
        identity["mqtt"] = _mqtt_block(credential, credential.mqtt_password, endpoints.mqtt_for(via))
    return identity


def _secret(spec: Mapping[str, Any], key: str) -> str:
    given = spec.get(key)
    if given is None:
        return new_secret()
    if not isinstance(given, str):
        raise ForbiddenTextError(f"spec.{key}", "must be a text")
    return check_machine_secret(f"spec.{key}", given)


def _new(hub: HubRecord, client: ClientRecord, secrets: Secrets, endpoints: Endpoints, now: int) -> NewCredential:
    return NewCredential(
        client_id=client.id,
        number=client.credentials_made,
        access_key=secrets.access_key,
        topic_prefix=_topic_prefix(hub, client, endpoints),
        password=secrets.password,
        mqtt_password=new_secret() if _has_mqtt(hub, endpoints) else None,
        created_at=now,
        keeps_mqtt_password=hub_spec.mqtt_via(hub.spec) == "link",
    )


def _has_mqtt(hub: HubRecord, endpoints: Endpoints) -> bool:
    """Tell whether a hub's clients may come over MQTT; not where it wants an outside broker and there is none."""
    return "mqtt" in hub_spec.carriers(hub.spec) and bool(endpoints.mqtt_for(hub_spec.mqtt_via(hub.spec)))


def _topic_prefix(hub: HubRecord, client: ClientRecord, endpoints: Endpoints) -> str:
    prefix = topic_prefix(hub.id, client.id, client.credentials_made)
    return Namespace(endpoints.broker_root).topic(prefix) if hub_spec.mqtt_via(hub.spec) == "link" else prefix


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
        number=credential.number,
        has_broker_password=credential.has_broker_password,
    )


def _mqtt_block(credential: NewCredential, password: str, endpoint: str) -> dict[str, Any]:
    topics, _ = hub_topics(credential.topic_prefix)
    return {
        "endpoint": endpoint,
        "username": credential.access_key,
        "password": password,
        "topic_prefix": credential.topic_prefix,
        "c2s_topic": topics.c2s,
        "s2c_topic": topics.s2c,
        "status_topic": topics.status,
        "qos": 1,
        "tls": True,
    }
