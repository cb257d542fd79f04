# SPDX-License-Identifier: Apache-2.0
"""What a client's life is: made with a credential of its own, shown without it, changed, removed (contract 3.4, 4.1).

The answer to a creation, and to a rotation, is the only place where secrets go out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import orjson
from sqlalchemy.ext.asyncio import AsyncConnection

from thalovant_server import client_spec
from thalovant_server.control import grants, new_credential, operations
from thalovant_server.control.answers import check_etag
from thalovant_server.control.auditing import changes, client_target, record
from thalovant_server.control.callers import Caller
from thalovant_server.control.client_resource import read_whole, shown
from thalovant_server.control.hubs import owner_of_new, owns_client_or_hub, visible_hub
from thalovant_server.control.new_credential import Secrets
from thalovant_server.control.replay import Made, Repeatable, once
from thalovant_server.control.schemas import ClientChange, NewClient
from thalovant_server.control.services import Services
from thalovant_server.errors import ApiError, ForbiddenTextError
from thalovant_server.identifiers import SITE_ID_LENGTH, check_name, new_id, site_id_from
from thalovant_server.spec_bounds import check_bounds
from thalovant_server.spec_keys import merged, plain_key, without_secrets
from thalovant_server.store import client_credentials, clients, credentials, former_credentials, hubs
from thalovant_server.store.clients import ClientRecord
from thalovant_server.store.database import Transaction

_CREDENTIAL_KEYS = ("apikey", "password")


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A request for a client, checked; its secrets minted where it brought none."""

    body: NewClient
    spec: dict[str, Any]
    secrets: Secrets


# -- making


async def create(services: Services, caller: Caller, body: NewClient, request: Repeatable) -> bytes:
    """Make a client and its first credential; return the JSON answer, `initial_identify` included.

    Raises:
        ApiError: 403, 404, 409 `access_key_in_use`, and what a replay raises.
        ForbiddenTextError: a name or a part of the spec is not usable.
    """
    check_name("name", body.name)
    wanted = _Wanted(body, _checked_spec(body.name, body.spec), new_credential.secrets_of(body.spec))
    now, is_quiet = services.clock(), services.operations.is_quiet()

    async def work(transaction: Transaction) -> bytes:
        make = partial(_make, services, transaction, caller, wanted, now)
        return await once(transaction, services.database.sealer, request, now, make)

    return await operations.up_to_date(services, await services.database.write(work), is_quiet=is_quiet)


def _checked_spec(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the spec as it is kept: with a version and a site, without secrets."""
    site_id = given.get("siteId")
    if site_id is not None and not isinstance(site_id, str):
        raise ForbiddenTextError("spec.siteId", "must be a text")
    site_id = site_id_from(name) if site_id is None else site_id
    check_name("spec.siteId", site_id, longest=SITE_ID_LENGTH)
    version = given.get("version", "1")
    if not isinstance(version, str) or not 1 <= len(version) <= 64:
        raise ForbiddenTextError("spec.version", 'must be a text such as "1"')
    client_spec.check_permissions(given)
    spec = {**without_secrets(given), "version": version, "siteId": site_id}
    check_bounds(spec)
    return spec


async def _make(services: Services, transaction: Transaction, caller: Caller, wanted: _Wanted, now: int) -> Made:
    connection = transaction.connection
    hub = await visible_hub(connection, caller, wanted.body.hub_id)
    owner_id = await owner_of_new(connection, caller, wanted.body.owner_id)
    wanted = replace(wanted, spec=grants.of_new_client(caller, hub, wanted.spec))
    client = await clients.add(connection, _row(wanted, owner_id, now))
    given = await new_credential.give(services, transaction, hub, client, wanted.secrets, now)
    await record(connection, caller, "client.created", client_target(client), at=now, after=shown(client))
    return client.id, {**await read_whole(connection, services, client), **given}


def _row(wanted: _Wanted, owner_id: str, now: int) -> dict[str, Any]:
    return {
        "id": new_id("client"),
        "hub_id": wanted.body.hub_id,
        "owner_id": owner_id,
        "name": wanted.body.name,
        "site_id": wanted.spec["siteId"],
        "active": wanted.body.active,
        "spec": wanted.spec,
        "credentials_made": 1,
        "revision": 1,
        "created_at": now,
        "updated_at": now,
    }


# -- showing, changing and removing


async def visible_client(connection: AsyncConnection, caller: Caller, client_id: str) -> ClientRecord:
    """Return a client that the caller, or the owner of its hub, may see.

    Raises:
        ApiError: 404.
    """
    client = await clients.by_id(connection, client_id)
    if client is None or not await owns_client_or_hub(connection, caller, client.owner_id, client.hub_id):
        raise ApiError(404, "Client not found", "client_not_found")
    return client


async def change(services: Services, caller: Caller, client_id: str, body: ClientChange, if_match: str | None) -> bytes:
    """Change a client; return it as it is now, as the JSON answer. Live sessions follow at once.

    Raises:
        ApiError: 400 `immutable_field`, 403 for more permissions on somebody else's hub, 404, 412.
        ForbiddenTextError: the name or a part of the spec is not usable.
    """

    async def work(transaction: Transaction) -> bytes:
        client = await visible_client(transaction.connection, caller, client_id)
        check_etag(if_match, client.revision)
        values = _changed(client, body)
        if "spec" in values:
            await _check_raise(transaction.connection, caller, client, values["spec"])
        if values:
            client = await put_change(services, transaction, caller, client, values, _action(values))
        return orjson.dumps(await read_whole(transaction.connection, services, client))

    return await services.database.write(work)


async def put_change(
    services: Services,
    transaction: Transaction,
    caller: Caller,
    client: ClientRecord,
    values: Mapping[str, Any],
    action: str,
) -> ClientRecord:
    """Write checked fields of a client, with one audit entry, and tell the directory; return the client as it is then.

    Args:
        services: the parts behind the API.
        transaction: the one to do it in.
        caller: who changes it.
        client: as it is, read in this transaction.
        values: the fields that differ; a new spec comes with its `site_id`, if that differs.
        action: of the audit entry, such as ``client.changed``.
    """
    now = services.clock()
    moved = {**values, "revision": client.revision + 1, "updated_at": now}
    after = await clients.change(transaction.connection, client.id, moved)
    was, becomes = changes(shown(client), shown(after))
    await record(transaction.connection, caller, action, client_target(after), at=now, before=was, after=becomes)
    told = partial(
        services.directory.change_client, after.id, client_name=after.name, site_id=after.site_id, active=after.active,
        permissions=client_spec.permissions(after.spec),
    )  # fmt: skip
    transaction.after_commit(told)
    return after


def _changed(client: ClientRecord, body: ClientChange) -> dict[str, Any]:
    """Return the fields that differ from what is."""
    for fixed in ("hub_id", "owner_id"):
        if getattr(body, fixed) not in (None, getattr(client, fixed)):
            raise ApiError(400, f"{fixed} cannot be changed", "immutable_field", members={"field": fixed})
    name = client.name if body.name is None else check_name("name", body.name)
    values: dict[str, Any] = {"name": name}
    if body.active is not None:
        values["active"] = body.active
    if body.spec is not None:
        _refuse_credentials(body.spec)
        values["spec"] = _checked_spec(name, merged(client.spec, body.spec))
        values["site_id"] = values["spec"]["siteId"]
    return {field: value for field, value in values.items() if value != getattr(client, field)}


async def _check_raise(
    connection: AsyncConnection, caller: Caller, client: ClientRecord, spec: Mapping[str, Any]
) -> None:
    """A policy belongs to the hub's owner: nobody else gives a client more than it has."""
    hub = await hubs.by_id(connection, client.hub_id)
    assert hub is not None, "a client's hub is there"  # noqa: S101 - a foreign key holds it
    grants.check_raise(caller, hub, client_spec.permissions(client.spec), client_spec.permissions(spec))


def _refuse_credentials(spec: Mapping[str, Any]) -> None:
    for key, value in spec.items():
        if plain_key(key) in _CREDENTIAL_KEYS and value is not None:
            raise ForbiddenTextError(f"spec.{key}", "cannot be changed here: a rotation gives the client another one")


def _action(values: Mapping[str, Any]) -> str:
    if "active" not in values:
        return "client.changed"
    return "client.resumed" if values["active"] else "client.paused"


async def remove(services: Services, caller: Caller, client_id: str, if_match: str | None) -> None:
    """Remove a client; its live sessions are cut at once, and no kept answer holds its secrets any longer.

    Raises:
        ApiError: 404, 412.
    """

    async def work(transaction: Transaction) -> None:
        connection, now = transaction.connection, services.clock()
        client = await visible_client(connection, caller, client_id)
        check_etag(if_match, client.revision)
        ended = await client_credentials.ids_of_client(connection, client_id)
        await former_credentials.end(connection, services.database.sealer, ended, "removed", now)
        await clients.remove(connection, client_id)
        await record(connection, caller, "client.removed", client_target(client), at=now, before=shown(client))
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
        target, now = client_target(client), services.clock()
        if found is None:
            live = await client_credentials.of_client(transaction.connection, client_id, now)
            there = " and ".join(str(each.number) for each in live)
            raise ApiError(404, f"Credential not found: this client has number {there}", "credential_not_found")
        await record(transaction.connection, caller, "credential.key_reset", target, at=now, after={"number": number})
        transaction.after_commit(partial(services.directory.reset_key, found))

    await services.database.write(work)
