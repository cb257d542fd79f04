# SPDX-License-Identifier: Apache-2.0
"""What a hub's life is: made, shown, changed, removed; and that the data plane hears of each (contract 3.3, 4.3)."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import orjson
from sqlalchemy.ext.asyncio import AsyncConnection

from thalovant_server import hub_spec
from thalovant_server.control.answers import check_etag, etag, time_text
from thalovant_server.control.auditing import changes, hub_target, record
from thalovant_server.control.callers import Caller, refuse_limited
from thalovant_server.control.replay import Made, Repeatable, once
from thalovant_server.control.schemas import HubChange, NewHub
from thalovant_server.control.services import Services
from thalovant_server.directory_loading import hub_entry
from thalovant_server.endpoints import Endpoints
from thalovant_server.errors import ApiError, ForbiddenTextError
from thalovant_server.identifiers import check_name, is_slug, new_id, slug_from
from thalovant_server.spec_keys import without_secrets
from thalovant_server.store import accounts, client_credentials, former_credentials, hubs, idempotency
from thalovant_server.store.database import Transaction
from thalovant_server.store.hubs import PUBLIC, HubRecord

DEFAULT_NAMESPACE = "default"
_UNCHANGEABLE = ("name", "namespace", "domain", "slug", "owner_id")
_CHANGEABLE = ("active", "visibility", "capacity_profile")
_CHOSEN = ("name", "slug", "namespace", "owner_id", *_CHANGEABLE)


def shown(hub: HubRecord, endpoints: Endpoints) -> dict[str, Any]:
    """Return a hub as its owner sees it."""
    return {
        **publicly_shown(hub, endpoints),
        "spec": without_secrets(hub.spec),
        "owner_id": hub.owner_id,
        "namespace": hub.namespace,
        "capacity_profile": hub.capacity_profile,
        "is_locked": False,
        "runtime_group_id": None,
        "etag": etag(hub.revision),
        "created_at": time_text(hub.created_at),
        "updated_at": time_text(hub.updated_at),
    }


def audited(hub: HubRecord) -> dict[str, Any]:
    """Return what the audit log keeps of a hub: what somebody chose, without secrets."""
    chosen = {name: getattr(hub, name) for name in _CHOSEN}
    return {**chosen, "spec": without_secrets(hub.spec)}


def publicly_shown(hub: HubRecord, endpoints: Endpoints) -> dict[str, Any]:
    """Return a hub as anybody sees it."""
    return {
        "id": hub.id,
        "slug": hub.slug,
        "title": hub_spec.title(hub.spec, hub.name),
        "name": hub.name,
        "domain": endpoints.domain,
        "active": hub.active,
        "visibility": hub.visibility,
        "spec": hub_spec.public_part(hub.spec),
        "data_plane_endpoints": data_plane_endpoints(hub, endpoints),
    }


def shown_to(caller: Caller, hub: HubRecord, endpoints: Endpoints) -> dict[str, Any]:
    """Return a hub that the caller may see: the whole spec for its owner only."""
    whole = shown(hub, endpoints)
    return whole if caller.owns(hub.owner_id, hub.id) else {**whole, "spec": hub_spec.public_part(hub.spec)}


def data_plane_endpoints(hub: HubRecord, endpoints: Endpoints) -> dict[str, str]:
    """Return the addresses of a hub, of those carriers that are on."""
    every = {
        "wss": endpoints.wss_for(hub.id),
        "https": endpoints.https_for(hub.id),
        "mqtt": endpoints.mqtt_for(hub_spec.mqtt_via(hub.spec)),
    }
    on = hub_spec.carriers(hub.spec)
    return {carrier: address for carrier, address in every.items() if carrier in on and address}


def not_found(*, hides: str | None = None) -> ApiError:
    """Return the refusal for a hub that is not there or, if it ``hides`` one, not for this caller."""
    return ApiError(404, "Hub not found: `thalovant hubs` lists those you may use", "hub_not_found", hides=hides)


def is_public(hub: HubRecord) -> bool:
    """Tell whether anybody may see a hub."""
    return hub.visibility == PUBLIC and hub.active


def may_see(caller: Caller, hub: HubRecord) -> bool:
    """Tell whether a caller may see a hub, and make clients of its own there."""
    return caller.reaches(hub.id) and (caller.speaks_for(hub.owner_id) or is_public(hub))


async def referred_hub(connection: AsyncConnection, reference: str, visible: Callable[[HubRecord], bool]) -> HubRecord:
    """Return the hub with this id or, among those that are visible, this slug; an id wins.

    Raises:
        ApiError: 404.
    """
    for hub in await hubs.by_reference(connection, reference):
        if visible(hub):
            return hub
    raise not_found()


async def owns_client_or_hub(connection: AsyncConnection, caller: Caller, owner_id: str, hub_id: str) -> bool:
    """Tell whether the caller may see what belongs to a client of that owner: as it, or as the owner of its hub."""
    if caller.owns(owner_id, hub_id):
        return True
    hub = await hubs.by_id(connection, hub_id)
    return hub is not None and caller.owns(hub.owner_id, hub.id)


async def visible_hub(connection: AsyncConnection, caller: Caller, hub_id: str) -> HubRecord:
    """Return a hub that the caller may see.

    Raises:
        ApiError: 404.
    """
    hub = await hubs.by_id(connection, hub_id)
    if hub is None:
        raise not_found()
    if not may_see(caller, hub):
        raise not_found(hides=hub.id)
    return hub


async def owner_of_new(connection: AsyncConnection, caller: Caller, owner_id: str | None) -> str:
    """Return who will own what the caller makes.

    Raises:
        ApiError: 403 for another account, unless the caller is an admin.
        ForbiddenTextError: there is no such account.
    """
    if owner_id is None or owner_id == caller.id:
        return caller.id
    if not caller.is_admin:
        raise ownership_required()
    if await accounts.by_id(connection, owner_id) is None:
        raise ForbiddenTextError("owner_id", "names no account of this server")
    return owner_id


def ownership_required() -> ApiError:
    """Return the refusal for what belongs to another account."""
    return ApiError(403, "Ownership required", "ownership_required")


# -- making


async def create(services: Services, caller: Caller, body: NewHub, request: Repeatable) -> bytes:
    """Make a hub; return the JSON answer.

    Raises:
        ApiError: 403, 409 `slug_in_use`, and what a replay raises.
        ForbiddenTextError: a name or a part of the spec is not usable, or it wants a broker that there is not.
    """
    refuse_limited(caller)
    _check_new(services, body)
    spec = hub_spec.checked_spec(body.spec, services.agents, via=services.endpoints.default_via)
    _check_road(services.endpoints, None, spec)
    now = services.clock()

    async def work(transaction: Transaction) -> bytes:
        make = partial(_make, services, transaction, caller, body, spec, now)
        return await once(transaction, services.database.sealer, request, now, make)

    return await services.database.write(work)


def _check_new(services: Services, body: NewHub) -> None:
    check_name("name", body.name)
    if body.namespace is not None:
        check_name("namespace", body.namespace)
    if body.slug is not None and not is_slug(body.slug):
        raise ForbiddenTextError("slug", "must be 1 to 63 of a-z 0-9 -, with no hyphen at either end")
    if body.domain not in (None, services.endpoints.domain):
        raise ForbiddenTextError("domain", f"is this server's own: {services.endpoints.domain}, or leave it out")


async def _make(
    services: Services, transaction: Transaction, caller: Caller, body: NewHub, spec: dict[str, Any], now: int
) -> Made:
    connection = transaction.connection
    values = {
        "id": new_id("hub"),
        "slug": await _free_slug(connection, body),
        "name": body.name,
        "owner_id": await owner_of_new(connection, caller, body.owner_id),
        "namespace": body.namespace or DEFAULT_NAMESPACE,
        "active": body.active,
        "visibility": body.visibility,
        "capacity_profile": body.capacity_profile,
        "spec": spec,
        "revision": 1,
        "created_at": now,
        "updated_at": now,
    }
    hub = await hubs.add(connection, values)
    await record(connection, caller, "hub.created", hub_target(hub), at=now, after=audited(hub))
    transaction.after_commit(partial(services.directory.put_hub, hub_entry(hub)))
    return hub.id, shown(hub, services.endpoints)


async def _free_slug(connection: AsyncConnection, body: NewHub) -> str:
    if body.slug is not None:
        if await hubs.slug_is_taken(connection, body.slug):
            raise ApiError(409, "Another hub has this slug", "slug_in_use")
        return body.slug
    base = slug_from(body.name)
    if not await hubs.slug_is_taken(connection, base):
        return base
    for size in itertools.count(4):  # a random end instead of a count: no long search behind many of one name
        slug = f"{base}-{new_id('')[1 : 1 + size].lower()}"
        if not await hubs.slug_is_taken(connection, slug):
            return slug
    raise AssertionError("unreachable: the count has no end")


# -- changing and removing


async def change(services: Services, caller: Caller, hub_id: str, body: HubChange, if_match: str | None) -> bytes:
    """Change a hub; return it as it is now, as the JSON answer: what cannot be shown is never committed.

    Raises:
        ApiError: 400 for what cannot change, 403, 404, 412.
        ForbiddenTextError: a part of the spec is not usable.
    """

    async def work(transaction: Transaction) -> bytes:
        connection = transaction.connection
        hub = await _own_hub(connection, caller, hub_id)
        check_etag(if_match, hub.revision)
        _refuse_unchangeable(hub, services.endpoints, body)
        was, hub = hub, await hubs.change(connection, hub_id, _changed(services, hub, body))
        before, after = changes(audited(was), audited(hub))
        target = hub_target(hub)
        await record(connection, caller, "hub.changed", target, at=hub.updated_at, before=before, after=after)
        transaction.after_commit(partial(services.directory.put_hub, hub_entry(hub)))
        return orjson.dumps(shown(hub, services.endpoints))

    return await services.database.write(work)


async def remove(services: Services, caller: Caller, hub_id: str, if_match: str | None) -> None:
    """Remove a hub with its clients; they are cut off at once.

    Raises:
        ApiError: 403, 404, 412.
    """

    async def work(transaction: Transaction) -> None:
        connection = transaction.connection
        hub = await _own_hub(connection, caller, hub_id)
        check_etag(if_match, hub.revision)
        await idempotency.forget_answers_about(connection, [hub_id])
        ids, now = await client_credentials.ids_of_hub(connection, hub_id), services.clock()
        ended = await former_credentials.end(connection, services.database.sealer, ids, "hub_removed", now)
        await hubs.remove(connection, hub_id)
        before = {**audited(hub), "clients": len({each.client_id for each in ended})}
        await record(connection, caller, "hub.removed", hub_target(hub), at=now, before=before)
        transaction.after_commit(partial(services.directory.remove_hub, hub_id))

    await services.database.write(work)


async def _own_hub(connection: AsyncConnection, caller: Caller, hub_id: str) -> HubRecord:
    hub = await visible_hub(connection, caller, hub_id)
    if not caller.owns(hub.owner_id, hub.id):
        raise ownership_required()
    return hub


def _refuse_unchangeable(hub: HubRecord, endpoints: Endpoints, body: HubChange) -> None:
    now = {name: getattr(hub, name, endpoints.domain) for name in _UNCHANGEABLE}
    for name in _UNCHANGEABLE:
        if getattr(body, name) not in (None, now[name]):
            raise ApiError(400, f"{name} cannot be changed", "immutable_field", members={"field": name})


def _changed(services: Services, hub: HubRecord, body: HubChange) -> Mapping[str, Any]:
    values: dict[str, Any] = {"revision": hub.revision + 1, "updated_at": services.clock()}
    for name in _CHANGEABLE:
        if getattr(body, name) is not None:
            values[name] = getattr(body, name)
    if body.spec is not None:
        values["spec"] = hub_spec.checked_spec(hub_spec.merged_spec(hub.spec, body.spec), services.agents)
        _check_road(services.endpoints, hub.spec, values["spec"])
    return values


def _check_road(endpoints: Endpoints, before: Mapping[str, Any] | None, after: Mapping[str, Any]) -> None:
    """Refuse to lead a hub's clients to a broker that there is not; one that was led there before stays as it is."""
    if endpoints.broker_url or hub_spec.mqtt_via(after) != "link":
        return
    was_link = before is not None and hub_spec.mqtt_via(before) == "link"
    was_on = before is not None and "mqtt" in hub_spec.carriers(before)
    if not was_link or ("mqtt" in hub_spec.carriers(after) and not was_on):
        raise ForbiddenTextError(
            "spec.protocols.mqtt.via",
            'is "link", and this server has no outside broker. Start it with one (thalovant-server up --broker '
            "mosquitto, or --broker-url mqtts://HOST:PORT), or let the hub meet its clients here: thalovant hubs set "
            "HUB --mqtt embedded",
        )
