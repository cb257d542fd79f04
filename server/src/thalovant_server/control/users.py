# SPDX-License-Identifier: Apache-2.0
"""Accounts of people, as an admin keeps them: invited, shown, disabled, given a role. Nobody sees their passwords.

Disabling an account ends its tokens at once. Its hubs and clients stay as they are: what a device may do does not hang
on whether a person may sign in.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from thalovant_server.control.answers import time_text
from thalovant_server.control.auditing import account_target, changes, record
from thalovant_server.control.callers import Caller
from thalovant_server.control.schemas import NewUser, UserChange
from thalovant_server.control.services import Services
from thalovant_server.errors import ApiError, ForbiddenTextError
from thalovant_server.identifiers import NAME_LENGTH, new_id, new_secret
from thalovant_server.store import accounts, device_logins, invitations, tokens
from thalovant_server.store.accounts import ADMIN, AccountRecord, fold_email
from thalovant_server.store.database import Transaction
from thalovant_server.store.tokens import API, DEVICE, SESSION
from thalovant_server.wall_clock import SECOND

INVITATION_PREFIX = "tvinv_"
INVITATION_SECONDS = 7 * 24 * 60 * 60
LONGEST_EMAIL = 320
_EMAIL = re.compile(r"[^\s@]+@[^\s@]+")
_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def shown(account: AccountRecord) -> dict[str, Any]:
    """Return an account as admins see it."""
    return {
        "id": account.id,
        "email": account.email,
        "display_name": account.display_name,
        "role": account.role,
        "active": account.active,
        "invited": not account.password_phc,
        "created_at": time_text(account.created_at),
    }


def check_display_name(field: str, text: str) -> str:
    """Return ``text`` when people may be shown it as a name.

    Raises:
        ForbiddenTextError: it is blank, too long, not composed, or holds characters that are not seen.
    """
    if not text.strip() or len(text) > NAME_LENGTH:
        raise ForbiddenTextError(field, f"must have 1 to {NAME_LENGTH} characters")
    if any(unicodedata.category(each) in _UNSEEN for each in text) or not unicodedata.is_normalized("NFC", text):
        raise ForbiddenTextError(field, "must not contain control characters, and must be composed (NFC)")
    return text


# -- inviting


async def invite(services: Services, caller: Caller, body: NewUser) -> dict[str, Any]:
    """Make an account that nobody can sign in to yet; return it with a one-time invitation.

    Raises:
        ApiError: 403 `session_required`; 409 `email_in_use`.
        ForbiddenTextError: the e-mail address or the name is not usable.
    """
    _only_in_a_session(caller)
    email = _checked_email(body.email)
    name = email.partition("@")[0] if body.display_name is None else body.display_name
    made = AccountRecord(new_id("user"), email, "", name[:NAME_LENGTH], body.role, True, services.clock())
    check_display_name("display_name", name)

    async def work(transaction: Transaction) -> dict[str, Any]:
        if await accounts.by_email(transaction.connection, email) is not None:
            raise ApiError(409, "Another account has this e-mail address", "email_in_use")
        await accounts.add(transaction.connection, made)
        return await _invited(services, transaction.connection, caller, made)

    return await services.database.write(work)


async def invite_again(services: Services, caller: Caller, account_id: str) -> dict[str, Any]:
    """Give out another invitation to an account; the password that it has, if any, is good until that is accepted.

    Raises:
        ApiError: 403 `session_required`; 404 `user_not_found`; 409 `account_disabled`.
    """

    _only_in_a_session(caller)

    async def work(transaction: Transaction) -> dict[str, Any]:
        account = await _account(transaction.connection, account_id)
        if not account.active:
            raise ApiError(409, "This account is disabled: enable it first", "account_disabled")
        return await _invited(services, transaction.connection, caller, account)

    return await services.database.write(work)


async def _invited(
    services: Services, connection: AsyncConnection, caller: Caller, account: AccountRecord
) -> dict[str, Any]:
    token, now = INVITATION_PREFIX + new_secret(), services.clock()
    expires_at = now + INVITATION_SECONDS * SECOND
    sealer = services.database.sealer
    await invitations.put(connection, sealer, account.id, token, now=now, expires_at=expires_at)
    await record(connection, caller, "account.invited", account_target(account), at=now, after=shown(account))
    return {**shown(account), "invitation_token": token, "invitation_expires_at": time_text(expires_at)}


def _checked_email(email: str) -> str:
    folded = fold_email(email)
    unseen = any(unicodedata.category(each) in _UNSEEN for each in folded)
    if unseen or len(folded) > LONGEST_EMAIL or not _EMAIL.fullmatch(folded):
        raise ForbiddenTextError("email", "must be an e-mail address such as ann@example.org")
    if not unicodedata.is_normalized("NFC", folded):
        raise ForbiddenTextError("email", "must be in Unicode's composed form (NFC)")
    return folded


def _only_in_a_session(caller: Caller) -> None:
    """What would give a token more than it has (an account to sign in to, a new admin) takes the admin's password."""
    if caller.kind != SESSION:
        raise ApiError(403, "Sign in with your password to do this: a token may not", "session_required")


# -- changing


async def change(services: Services, caller: Caller, account_id: str, body: UserChange) -> dict[str, Any]:
    """Change an account; return it as it is now.

    Raises:
        ApiError: 403 `session_required`; 404 `user_not_found`; 409 `last_admin`, nobody could sign in as an admin.
        ForbiddenTextError: the name is not usable.
    """
    values = body.model_dump(exclude_none=True)
    if body.display_name is not None:
        check_display_name("display_name", body.display_name)

    async def work(transaction: Transaction) -> dict[str, Any]:
        connection = transaction.connection
        account = await _account(connection, account_id)
        if account.role != ADMIN and body.role == ADMIN:
            _only_in_a_session(caller)
        changed = await accounts.change(connection, account_id, values) if values else account
        before, after = changes(shown(account), shown(changed))
        if before:
            await _follow_up(services, connection, account, changed)
            action, now = _action(account, changed), services.clock()
            await record(connection, caller, action, account_target(changed), at=now, before=before, after=after)
        return shown(changed)

    return await services.database.write(work)


async def _follow_up(
    services: Services, connection: AsyncConnection, before: AccountRecord, after: AccountRecord
) -> None:
    loses_an_admin = before.role == ADMIN and before.active and not (after.role == ADMIN and after.active)
    if loses_an_admin and not await accounts.count_working_admins(connection):
        raise ApiError(409, "This is the last admin who can sign in: make another one first", "last_admin")
    if not after.active:
        await tokens.revoke_all(connection, after.id, services.clock(), kinds=(SESSION, API, DEVICE))
        await invitations.remove(connection, after.id)
        await device_logins.remove_of_account(connection, after.id)


def _action(before: AccountRecord, after: AccountRecord) -> str:
    if before.active == after.active:
        return "account.changed"
    return "account.enabled" if after.active else "account.disabled"


async def _account(connection: AsyncConnection, account_id: str) -> AccountRecord:
    account = await accounts.by_id(connection, account_id)
    if account is None:
        raise ApiError(404, "User not found: `thalovant users` lists them", "user_not_found")
    return account
