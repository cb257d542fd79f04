# SPDX-License-Identifier: Apache-2.0
"""Who calls: the account behind a bearer token, and what that token may do. Logs no token."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from sqlalchemy.ext.asyncio import AsyncConnection

from thalovant_server.control import scopes
from thalovant_server.control.services import GivenServices, Services
from thalovant_server.errors import ApiError
from thalovant_server.store import accounts, tokens
from thalovant_server.store.accounts import ADMIN, AccountRecord
from thalovant_server.store.tokens import SESSION, TokenRecord

LONGEST_TOKEN = 256


@dataclass(frozen=True, slots=True)
class Caller:
    """The account that calls, by which token, with which scopes (implied ones included), and from where.

    `hub_ids`: the only hubs that the token is good for; None when it is not limited to some. `kind` of the token, as
    the store has it; `expires_at` of the token, in microseconds, None when it is good until it is revoked.
    """

    account: AccountRecord
    token_id: str
    scopes: frozenset[str]
    address: str = ""
    hub_ids: frozenset[str] | None = None
    kind: str = SESSION
    expires_at: int | None = None

    @property
    def id(self) -> str:
        """The account's id."""
        return self.account.id

    @property
    def is_admin(self) -> bool:
        """Whether everything on this server is the caller's business."""
        return self.account.role == ADMIN

    def owns(self, owner_id: str, hub_id: str | None = None) -> bool:
        """Tell whether the caller may act on what belongs to this account and, if it is a hub's, to this hub."""
        return self.reaches(hub_id) and self.speaks_for(owner_id)

    def reaches(self, hub_id: str | None) -> bool:
        """Tell whether the token is good for this hub; None is what belongs to no hub."""
        return self.hub_ids is None or hub_id in self.hub_ids

    def speaks_for(self, owner_id: str) -> bool:
        """Tell whether the account may act for this one. Not enough to act on a hub: see `owns`."""
        return self.is_admin or owner_id == self.id


_Bearer = Annotated[HTTPAuthorizationCredentials | None, Depends(HTTPBearer(auto_error=False))]


async def identify(request: Request, services: GivenServices, bearer: _Bearer) -> Caller:
    """Return who calls.

    Raises:
        ApiError: 401 `invalid_token`: no bearer token, an unknown, expired or revoked one, or its account is off.
    """
    found, is_good = await _find(services, bearer.credentials if bearer else "", address_of(request))
    request.state.caller = found  # for whoever tells what it was refused
    if found is None or not is_good:
        raise _invalid_token()
    return found


def _invalid_token() -> ApiError:
    headers = {"www-authenticate": 'Bearer error="invalid_token"'}
    return ApiError(401, "Could not validate credentials", "invalid_token", headers=headers)


def caller_with(scope: str) -> Callable[[Caller], Awaitable[Caller]]:
    """Return a dependency that gives the caller when its token has ``scope``.

    It raises ApiError 403 otherwise, with the wording that SDKs look for (contract 1.5).
    """

    async def check(caller: Annotated[Caller, Depends(identify)]) -> Caller:
        if scope not in caller.scopes:
            raise ApiError(403, "Insufficient scopes", "insufficient_scopes")
        return caller

    return check


def _admin_with(scope: str) -> Callable[[Caller], Awaitable[Caller]]:
    """Return a dependency that gives the caller when it is an admin whose token has ``scope`` and no limits."""
    has_scope = caller_with(scope)

    async def check(caller: Annotated[Caller, Depends(identify)]) -> Caller:
        await has_scope(caller)
        if not caller.is_admin:
            raise ApiError(403, "Only an admin may do this", "admin_required")
        refuse_limited(caller)
        return caller

    return check


async def call_again(request: Request, services: Services, scope: str) -> Caller:
    """Return who calls, as things are now: for an answer that goes on for long.

    Raises:
        ApiError: 401 and 403, as at the beginning.
    """
    return await caller_with(scope)(await identify(request, services, await HTTPBearer(auto_error=False)(request)))


def _scoped(check: Callable[[str], Callable[[Caller], Awaitable[Caller]]], scope: str) -> Any:
    """Return the dependency of a check of this scope, which the API document then tells of."""
    return Security(check(scope), scopes=[scope])


async def check_still_good(connection: AsyncConnection, caller: Caller, now: int) -> None:
    """Look at the caller's token and account again, in the transaction that gives out more of them.

    Whoever comes with the password itself has no token: then that must still be the one.

    Raises:
        ApiError: 401 `invalid_token`: since the request began it was revoked or expired, or the account disabled.
    """
    account = await accounts.by_id(connection, caller.id)
    if account is None or not account.active:
        raise _invalid_token()
    if caller.token_id:
        token = await tokens.by_id(connection, caller.token_id)
        good = token is not None and token.is_good(now)
    else:
        good = account.password_phc == caller.account.password_phc
    if not good:
        raise _invalid_token()


AnyCaller = Annotated[Caller, Depends(identify)]
HubsReader = Annotated[Caller, _scoped(caller_with, scopes.HUBS_READ)]
HubsWriter = Annotated[Caller, _scoped(caller_with, scopes.HUBS_WRITE)]
ClientsReader = Annotated[Caller, _scoped(caller_with, scopes.CLIENTS_READ)]
ClientsWriter = Annotated[Caller, _scoped(caller_with, scopes.CLIENTS_WRITE)]
AuditReader = Annotated[Caller, _scoped(caller_with, scopes.AUDIT_READ)]
UsersReader = Annotated[Caller, _scoped(_admin_with, scopes.USERS_READ)]
UsersWriter = Annotated[Caller, _scoped(_admin_with, scopes.USERS_WRITE)]
MetricsReader = Annotated[Caller, _scoped(_admin_with, scopes.HUBS_INSPECT)]
TokensWriter = Annotated[Caller, _scoped(caller_with, scopes.TOKENS_WRITE)]


def refuse_limited(caller: Caller) -> None:
    """Let pass whose token is not limited to some hubs.

    Raises:
        ApiError: 403 `token_limited_to_hubs`.
    """
    if caller.hub_ids is not None:
        raise ApiError(403, "This token is good for some hubs only, and this is none of them", "token_limited_to_hubs")


def address_of(request: Request) -> str:
    """Return where a request comes from."""
    return request.client.host if request.client else ""


async def _find(services: Services, token: str, address: str) -> tuple[Caller | None, bool]:
    """Whose token it is, and whether that is good."""
    if not token or len(token) > LONGEST_TOKEN:
        return None, False
    database = services.database
    async with database.read() as connection:
        found = await tokens.find(connection, database.sealer, token)
    if found is None:
        return None, False
    record, account = found
    now = services.clock()
    if not record.is_good(now) or not account.active:
        return _caller(record, account, address), False
    services.token_use.note(record.id, now)
    services.throttle.recognise(address, account.email)
    return _caller(record, account, address), True


def _caller(record: TokenRecord, account: AccountRecord, address: str) -> Caller:
    limited = None if record.hub_ids is None else frozenset(record.hub_ids)
    granted = scopes.with_implied(record.scopes.split())
    return Caller(account, record.id, granted, address, limited, record.kind, record.expires_at)
