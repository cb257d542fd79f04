# SPDX-License-Identifier: Apache-2.0
"""API tokens: for programs, with a name, some scopes, perhaps some hubs only and an end; made, listed, revoked.

A token never makes a wider one: no scope, no hub that it lacks, and nothing that outlives it. Who is signed in with a
password is bound by the same but for the time: a session is short, what it makes may last.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from thalovant_server.control import scopes
from thalovant_server.control.answers import time_text
from thalovant_server.control.auditing import audited_token, record, token_target
from thalovant_server.control.callers import Caller, check_still_good
from thalovant_server.control.hubs import may_see
from thalovant_server.control.schemas import NewToken
from thalovant_server.control.services import Services
from thalovant_server.errors import ApiError, ForbiddenTextError
from thalovant_server.identifiers import check_name, new_id, new_secret
from thalovant_server.store import hubs, tokens
from thalovant_server.store.database import Transaction
from thalovant_server.store.tokens import API, DEVICE, SESSION, TokenRecord
from thalovant_server.wall_clock import SECOND

PREFIX = "tvpat_"
LASTING = (API, DEVICE)
MOST_TOKENS = 100


def shown(services: Services, token: TokenRecord) -> dict[str, Any]:
    """Return a token as its owner sees it: without itself."""
    used_at = services.token_use.last(token.id, token.last_used_at)
    return {
        "id": token.id,
        "kind": token.kind,
        "name": token.name,
        "scopes": token.scopes.split(),
        "hub_ids": token.hub_ids,
        "created_at": time_text(token.created_at),
        "expires_at": None if token.expires_at is None else time_text(token.expires_at),
        "last_used_at": None if used_at is None else time_text(used_at),
    }


# -- making


async def create(services: Services, caller: Caller, body: NewToken) -> dict[str, Any]:
    """Make an API token; return it, this once, with what there is to know of it.

    Raises:
        ApiError: 401 `invalid_token`, meanwhile revoked; 403 `insufficient_scopes`, the caller lacks one;
            404 `hub_not_found`; 409 `too_many_tokens`; 422 `invalid_scope`.
        ForbiddenTextError: the name is not usable, or it would outlive the token that makes it.
    """
    check_name("name", body.name)
    granted = granted_scopes(caller, body.scopes)
    now = services.clock()
    expires_at = None if body.expires_in_seconds is None else now + body.expires_in_seconds * SECOND
    expires_at = _within_the_makers_time(caller, expires_at)
    secret = PREFIX + new_secret()

    async def work(transaction: Transaction) -> TokenRecord:
        await check_still_good(transaction.connection, caller, services.clock())
        hub_ids = await granted_hubs(transaction.connection, caller, body.hub_ids)
        made = TokenRecord(
            new_id("tok"), caller.id, " ".join(granted), now, expires_at, kind=API, name=body.name, hub_ids=hub_ids
        )
        await add(services, transaction.connection, caller, made, secret)
        return made

    made = await services.database.write(work)
    return {"access_token": secret, "token_type": "bearer", "token_id": made.id, **shown(services, made)}


async def add(services: Services, connection: AsyncConnection, caller: Caller, made: TokenRecord, secret: str) -> None:
    """Write a token that lasts, and that ``caller`` made it.

    Raises:
        ApiError: 409 `too_many_tokens`.
    """
    if await tokens.count_good(connection, made.account_id, LASTING, made.created_at) >= MOST_TOKENS:
        detail = f"An account has at most {MOST_TOKENS} tokens: revoke one that is not used any more"
        raise ApiError(409, detail, "too_many_tokens")
    await tokens.add(connection, services.database.sealer, made, secret)
    await record(connection, caller, "token.created", token_target(made), at=made.created_at, after=audited_token(made))


def granted_scopes(caller: Caller, named: Iterable[str]) -> list[str]:
    """Return these scopes, in our order, when the caller has each of them.

    Raises:
        ApiError: 403 `insufficient_scopes`, 422 `invalid_scope`.
    """
    granted = scopes.known(named, "scopes")
    if not set(granted) <= caller.scopes:
        raise ApiError(403, "Insufficient scopes", "insufficient_scopes")
    return granted


async def granted_hubs(connection: AsyncConnection, caller: Caller, hub_ids: Iterable[str] | None) -> list[str] | None:
    """Return these hubs when the caller may act on each; for None what the caller's own token is limited to, if so.

    Raises:
        ApiError: 404 `hub_not_found`.
    """
    if hub_ids is None:
        return None if caller.hub_ids is None else sorted(caller.hub_ids)
    for hub_id in hub_ids:
        hub = await hubs.by_id(connection, hub_id)
        if hub is None or not may_see(caller, hub):
            raise ApiError(404, "Hub not found: `thalovant hubs` lists those you may use", "hub_not_found")
    return sorted(set(hub_ids))


def _within_the_makers_time(caller: Caller, expires_at: int | None) -> int | None:
    end = last_moment(caller)
    if end is not None and (expires_at is None or expires_at > end):
        raise ForbiddenTextError("expires_in_seconds", f"must end before the token that is in use: {time_text(end)}")
    return expires_at


def last_moment(caller: Caller) -> int | None:
    """Return when what the caller makes has to end, in microseconds; None is never. A session is no bound."""
    return None if caller.kind == SESSION else caller.expires_at


# -- revoking


async def revoke(services: Services, caller: Caller, token_id: str) -> None:
    """Make one of the caller's tokens good for nothing; an admin may revoke anybody's.

    A token may always revoke itself, and another one that can do no more than itself: a narrow one that leaked must
    not take the broad one away.

    Raises:
        ApiError: 404, there is no such token, or it is not the caller's, or good for other hubs; 403, it has scopes
            that this one lacks.
    """

    async def work(transaction: Transaction) -> None:
        connection, now = transaction.connection, services.clock()
        token = await tokens.by_id(connection, token_id)
        if token is None or not (token_id == caller.token_id or _may_know(caller, token)):
            raise ApiError(404, "Token not found", "token_not_found")
        if token_id != caller.token_id and not scopes.with_implied(token.scopes.split()) <= caller.scopes:
            raise ApiError(403, "Insufficient scopes", "insufficient_scopes")
        if token.revoked_at is None:
            await tokens.revoke(connection, token_id, now)
            await record(connection, caller, "token.revoked", token_target(token), at=now, before=audited_token(token))

    await services.database.write(work)


def _may_know(caller: Caller, token: TokenRecord) -> bool:
    if not caller.speaks_for(token.account_id):
        return False
    return caller.hub_ids is None or (token.hub_ids is not None and caller.hub_ids >= set(token.hub_ids))
