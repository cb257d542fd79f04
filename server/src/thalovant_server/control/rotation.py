# SPDX-License-Identifier: Apache-2.0
"""A client changes its credential without an outage: the old one works on for a grace, then only the new one does.

At most two live at a time (architecture decision 4). The client itself, its etag and its permissions stay as they are;
a paused client, or one of a hub that is off, may be rotated and stays so.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import orjson

from thalovant_server.control import new_credential, operations
from thalovant_server.control.auditing import client_target, record
from thalovant_server.control.callers import Caller
from thalovant_server.control.client_resource import life_shown, read_whole
from thalovant_server.control.clients import visible_client
from thalovant_server.control.new_credential import Secrets
from thalovant_server.control.replay import Made, Repeatable, once
from thalovant_server.control.schemas import Rotation
from thalovant_server.control.services import Services
from thalovant_server.errors import ApiError
from thalovant_server.store import client_credentials, clients, former_credentials, hubs
from thalovant_server.store.client_credentials import CredentialRecord
from thalovant_server.store.clients import ClientRecord
from thalovant_server.store.credentials import answer_about
from thalovant_server.store.database import Transaction
from thalovant_server.store.former_credentials import Why
from thalovant_server.wall_clock import SECOND


async def rotate(services: Services, caller: Caller, client_id: str, body: Rotation, request: Repeatable) -> bytes:
    """Give a client a new credential; return the JSON answer, `initial_identify` included.

    The old one works on for `grace_seconds`; with 0 every one that the client has ends at once.

    Raises:
        ApiError: 404, 409 `rotation_in_progress` or `access_key_in_use`, and what a replay raises.
        ForbiddenTextError: a secret that was brought is not usable.
    """
    secrets, is_quiet = new_credential.secrets_of(body.spec or {}), services.operations.is_quiet()

    async def work(transaction: Transaction) -> bytes:
        client, now = await visible_client(transaction.connection, caller, client_id), services.clock()
        change = _Change(services, transaction, caller, client, now)
        make = partial(change.rotate, secrets, body.grace_seconds)
        return await once(transaction, services.database.sealer, request, now, make)

    return await operations.up_to_date(services, await services.database.write(work), is_quiet=is_quiet)


async def finish(services: Services, caller: Caller, client_id: str, *, force: bool) -> bytes:
    """End the grace now: only the new credential is left; return the client as the JSON answer.

    Raises:
        ApiError: 404; 409 `no_rotation`; 409 `new_credential_unused`, unless forced.
    """

    async def work(transaction: Transaction) -> bytes:
        client = await visible_client(transaction.connection, caller, client_id)
        return await _Change(services, transaction, caller, client, services.clock()).finish(force)

    return await services.database.write(work)


async def cancel(services: Services, caller: Caller, client_id: str) -> bytes:
    """Drop the new credential: only the old one is left, without an end; return the client as the JSON answer.

    Raises:
        ApiError: 404; 409 `no_rotation`.
    """

    async def work(transaction: Transaction) -> bytes:
        client = await visible_client(transaction.connection, caller, client_id)
        return await _Change(services, transaction, caller, client, services.clock()).cancel()

    return await services.database.write(work)


class _Change:
    """One change of a client's credentials, within one transaction."""

    def __init__(
        self, services: Services, transaction: Transaction, caller: Caller, client: ClientRecord, now: int
    ) -> None:
        self._services, self._transaction, self._caller = services, transaction, caller
        self._connection = transaction.connection
        self._client, self._now = client, now

    async def rotate(self, secrets: Secrets, grace_seconds: int) -> Made:
        live = await self._live()
        if grace_seconds and len(live) > 1:
            raise ApiError(
                409,
                "A rotation is under way: finish or cancel it first, or rotate with grace_seconds 0 to replace both",
                "rotation_in_progress",
            )
        number = self._client.credentials_made + 1
        client = await clients.change(self._connection, self._client.id, {"credentials_made": number})
        hub = await hubs.by_id(self._connection, client.hub_id)
        assert hub is not None, "a client's hub is there"  # noqa: S101 - a foreign key holds it
        if grace_seconds:
            await self._set_end(live[0], self._now + grace_seconds * SECOND)
        given = await new_credential.give(
            self._services, self._transaction, hub, client, secrets, self._now
        )  # before the old ones end: their access keys are not taken again
        if not grace_seconds:
            await self._end(live, "replaced")
        return answer_about(client.id, number), {**await self._told("rotated", live), **given}

    async def finish(self, force: bool) -> bytes:
        live = await self._two()
        if not force and self._services.uses.last(live[-1]) is None:
            raise ApiError(
                409,
                "The new credential has not been used yet: without the old one the client would be locked out. Wait "
                "until it has connected, or force it",
                "new_credential_unused",
            )
        await self._end(live[:-1], "rotated")
        return orjson.dumps(await self._told("finished", live))

    async def cancel(self) -> bytes:
        live = await self._two()
        await self._end(live[1:], "cancelled")
        await self._set_end(live[0], None)
        return orjson.dumps(await self._told("cancelled", live))

    async def _live(self) -> list[CredentialRecord]:
        return await client_credentials.of_client(self._connection, self._client.id, self._now)

    async def _two(self) -> list[CredentialRecord]:
        live = await self._live()
        if len(live) < 2:
            raise ApiError(409, "No rotation is under way: the client has one credential", "no_rotation")
        return live

    async def _set_end(self, credential: CredentialRecord, expires_at: int | None) -> None:
        await client_credentials.set_end(self._connection, credential.id, expires_at)
        self._transaction.after_commit(partial(self._services.directory.set_end, credential.id, expires_at))

    async def _end(self, ended: list[CredentialRecord], why: Why) -> None:
        ids, sealer = [each.id for each in ended], self._services.database.sealer
        await former_credentials.end(self._connection, sealer, ids, why, self._now)
        for each in ids:
            self._transaction.after_commit(partial(self._services.directory.remove_credential, each))

    async def _told(self, what: str, before: list[CredentialRecord]) -> dict[str, Any]:
        """Record the change; return the client as it is now."""
        await record(
            self._connection, self._caller, f"credential.{what}", client_target(self._client), at=self._now,
            before={"credentials": [life_shown(each) for each in before]},
            after={"credentials": [life_shown(each) for each in await self._live()]},
        )  # fmt: skip
        return await read_whole(self._connection, self._services, self._client)
