# SPDX-License-Identifier: Apache-2.0
"""People and their passwords: chosen with an invitation, changed by whoever knows the present one.

Either ends what was signed in before: password logins and device logins. API tokens stay, for programs use them; they
are listed and revoked one by one.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from thalovant_server.control import users
from thalovant_server.control.auditing import account_target, record
from thalovant_server.control.callers import Caller
from thalovant_server.control.password_rules import check_password
from thalovant_server.control.schemas import Acceptance, PasswordChange
from thalovant_server.control.services import Services
from thalovant_server.errors import ApiError, ForbiddenTextError, Overloaded
from thalovant_server.source_address import source_of
from thalovant_server.store import accounts, device_logins, invitations, tokens
from thalovant_server.store.accounts import AccountRecord
from thalovant_server.store.database import Transaction
from thalovant_server.store.invitations import Invitation
from thalovant_server.store.tokens import DEVICE, SESSION


async def accept(services: Services, body: Acceptance, address: str) -> dict[str, Any]:
    """Give an invited account its password; return the account.

    An invitation that is good is taken however many others were guessed at from the same address: it is too long to
    be guessed, so whoever has it is let in.

    Raises:
        ApiError: 404 `invitation_not_found`; 429 `login_rate_limited`, too many that are none came from there.
        ForbiddenTextError: the password or the name is not usable.
        Overloaded: too many passwords are worked on at this moment.
    """
    async with services.database.read() as connection:
        found = await _good(services, connection, body.token)
    if found is None:
        _count_wrong(services, ("invitation", source_of(address)))
        raise _no_invitation()
    check_password("password", body.password, found.account.email)
    if body.display_name is not None:
        users.check_display_name("display_name", body.display_name)
    phc = await services.hasher.make(body.password)

    async def work(transaction: Transaction) -> dict[str, Any]:
        return await _join(services, transaction.connection, body, phc, address)

    return await services.database.write(work)


async def _join(
    services: Services, connection: AsyncConnection, body: Acceptance, phc: str, address: str
) -> dict[str, Any]:
    found = await _good(services, connection, body.token)
    if found is None:  # somebody else took it while the password was worked on
        raise _no_invitation()
    values = {"password_phc": phc}
    if body.display_name is not None:
        values["display_name"] = body.display_name
    account = await accounts.change(connection, found.account.id, values)
    await invitations.remove(connection, account.id)
    await _end_sign_ins(services, connection, account.id)
    by = Caller(account, "", frozenset(), address)
    await record(
        connection, by, "account.joined", account_target(account), at=services.clock(), after=users.shown(account)
    )
    return {"data": users.shown(account)}


async def _end_sign_ins(services: Services, connection: AsyncConnection, account_id: str, *, but: str = "") -> None:
    await tokens.revoke_all(connection, account_id, services.clock(), kinds=(SESSION, DEVICE), but=but)
    await device_logins.remove_of_account(connection, account_id)


async def _good(services: Services, connection: AsyncConnection, token: str) -> Invitation | None:
    found = await invitations.find(connection, services.database.sealer, token)
    if found is None or found.expires_at <= services.clock() or not found.account.active:
        return None
    return found


def _no_invitation() -> ApiError:
    detail = "This invitation is not known here, was used, or has expired: ask an admin for another"
    return ApiError(404, detail, "invitation_not_found")


def _count_wrong(services: Services, who: tuple[str, str]) -> None:
    services.guesses.check(who)
    services.guesses.wrong(who)


# -- changing one's own


async def change_password(services: Services, caller: Caller, body: PasswordChange) -> None:
    """Change the caller's password; every other sign-in of the account ends, the one in use stays.

    Wrong guesses are counted for the session in use, so who guesses elsewhere keeps nobody from changing the own
    password; those of other tokens for the account, for such a token may make another.

    Raises:
        ApiError: 403 `wrong_password`; 409 `password_changed_meanwhile`; 429 `login_rate_limited`.
        ForbiddenTextError: the new one is not usable.
        Overloaded: too many passwords are worked on at this moment.
    """
    check_password("new_password", body.new_password, caller.account.email)
    if body.new_password == body.current_password:
        raise ForbiddenTextError("new_password", "must be another one than the current password")
    await _check_current(services, caller, body.current_password)
    phc = await services.hasher.make(body.new_password)

    async def work(transaction: Transaction) -> None:
        connection, now = transaction.connection, services.clock()
        if not _is_as_it_was(await accounts.by_id(connection, caller.id), caller.account):
            detail = "The password was changed at the same time: try again with the present one"
            raise ApiError(409, detail, "password_changed_meanwhile")
        account = await accounts.change(connection, caller.id, {"password_phc": phc})
        await _end_sign_ins(services, connection, caller.id, but=caller.token_id)
        await invitations.remove(connection, caller.id)
        await record(connection, caller, "account.password_changed", account_target(account), at=now)

    await services.database.write(work)


async def _check_current(services: Services, caller: Caller, password: str) -> None:
    who = ("password", caller.token_id if caller.kind == SESSION else caller.id)
    services.guesses.check(who)
    services.guesses.wrong(who)  # before it is looked at: many at once are no way round
    try:
        right = await services.hasher.verify(password, caller.account.password_phc or None)
    except Overloaded:
        services.guesses.forgive(who)
        raise
    if not right:
        raise ApiError(403, "This is not the current password", "wrong_password")
    services.guesses.forgive(who)


def _is_as_it_was(now: AccountRecord | None, then: AccountRecord) -> bool:
    return now is not None and replace(now, display_name=then.display_name, role=then.role) == then
