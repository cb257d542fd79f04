# SPDX-License-Identifier: Apache-2.0
"""Signing in: a password becomes a token (contract 3.1). What else a token may come from is in `tokens`."""

from __future__ import annotations

from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from thalovant_server.control import auditing, scopes
from thalovant_server.control.callers import Caller
from thalovant_server.control.schemas import Login
from thalovant_server.control.services import Services
from thalovant_server.denials import Denial
from thalovant_server.errors import ApiError, Overloaded
from thalovant_server.identifiers import new_id, new_secret
from thalovant_server.store import accounts, idempotency, tokens
from thalovant_server.store.accounts import AccountRecord, fold_email
from thalovant_server.store.database import Transaction
from thalovant_server.store.tokens import TokenRecord
from thalovant_server.wall_clock import SECOND

KEEP_EXPIRED_SECONDS = 24 * 60 * 60


async def log_in(services: Services, body: Login, address: str) -> dict[str, Any]:
    """Return a fresh token for the right password.

    Args:
        services: the parts behind the API.
        body: what was sent.
        address: where from.

    Raises:
        ApiError: 401 `invalid_credentials`, 422 `invalid_scope`, 429 `login_rate_limited`.
        Overloaded: too many logins at this moment.
    """
    granted = scopes.asked_for(body.scope)
    account = await account_of(services, body.email, body.password, address)
    token, now = new_secret(), services.clock()
    expires_at = now + services.token_seconds * SECOND
    record = TokenRecord(new_id("tok"), account.id, " ".join(granted), now, expires_at)

    async def work(transaction: Transaction) -> None:
        await _check_still(transaction.connection, account)
        await tokens.forget_expired(transaction.connection, now - KEEP_EXPIRED_SECONDS * SECOND)
        await idempotency.forget_expired(transaction.connection, now)  # here: not on the path of a creation
        await tokens.add(transaction.connection, services.database.sealer, record, token)
        caller = Caller(account, record.id, scopes.with_implied(granted), address)
        await auditing.record(
            transaction.connection,
            caller,
            "token.created",
            auditing.token_target(record),
            at=now,
            after=auditing.audited_token(record),
        )

    await services.database.write(work)
    return {
        "access_token": token,
        "token_type": "bearer",
        "expires_in": services.token_seconds,
        "scopes": granted,
        "token_id": record.id,
    }


async def _check_still(connection: AsyncConnection, account: AccountRecord) -> None:
    """Meanwhile its password may be another one, or it is disabled: what was signed in by then is over."""
    now = await accounts.by_id(connection, account.id)
    if now is None or not now.active or now.password_phc != account.password_phc:
        raise _wrong()


def _wrong() -> ApiError:
    return ApiError(401, "Invalid email or password", "invalid_credentials")


async def account_of(services: Services, email: str, password: str, address: str) -> AccountRecord:
    """Return the account that has this e-mail address and password, and is on.

    Raises:
        ApiError: 401 `invalid_credentials`, 429 `login_rate_limited`.
        Overloaded: too many logins at this moment.
    """
    email = fold_email(email)
    try:
        return await _judged(services, email, password, address)
    except ApiError as error:
        services.denials.note(
            Denial(action="login.refused", code=error.code, address=address, target=("account", email))
        )
        raise


async def _judged(services: Services, email: str, password: str, address: str) -> AccountRecord:
    attempt = services.throttle.admit(address, email)
    try:
        if attempt.slow:
            await services.throttle.slow_down(attempt)
        account = await _find_account(services, email)
        phc = account.password_phc if account else None
        right = await services.hasher.verify(password, phc or None)  # an invited account has none yet
    except Overloaded:
        services.throttle.forgive(attempt)  # it was not judged
        raise
    if account is None or not right or not account.active:
        raise _wrong()
    services.throttle.succeeded(attempt)
    return account


async def _find_account(services: Services, email: str) -> AccountRecord | None:
    async with services.database.read() as connection:
        return await accounts.by_email(connection, email)
