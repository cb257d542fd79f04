# SPDX-License-Identifier: Apache-2.0
"""Device login (contract 4.4, RFC 8628): a program without a keyboard asks, a person who is signed in says yes.

The program gets a token once. It has no scope that was not asked for, and none that the one who approved lacks.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from thalovant_server.control import scopes, tokens
from thalovant_server.control.answers import time_text
from thalovant_server.control.auditing import Target, record
from thalovant_server.control.callers import Caller, check_still_good
from thalovant_server.control.schemas import DeviceApproval, DeviceRequest
from thalovant_server.control.services import Services
from thalovant_server.control.users import check_display_name
from thalovant_server.errors import ApiError, Overloaded
from thalovant_server.identifiers import new_id, new_secret
from thalovant_server.source_address import source_of
from thalovant_server.store import accounts, device_logins
from thalovant_server.store.database import Transaction
from thalovant_server.store.device_logins import APPROVED, DENIED, PENDING, DeviceLogin
from thalovant_server.store.tokens import DEVICE, TokenRecord
from thalovant_server.wall_clock import SECOND

PAGE = "/v1/device"
DEFAULT_SCOPES = ("hubs:read", "clients:write")
SECONDS = 15 * 60
INTERVAL_SECONDS = 5
EARLY_SECONDS = 0.5  # how much too early a question may come: clocks and networks are not that exact
TOKEN_SECONDS = 90 * 24 * 60 * 60
MOST_OF_ONE_SOURCE = 10
MOST = 1_000
CODE_LETTERS = "BCDFGHJKLMNPQRSTVWXZ"  # no vowels, so no words; nothing that looks like a digit (RFC 8628, 6.1)
CODE_LENGTH = 8


def shown_code(user_code: str) -> str:
    """Return a user code as people see it."""
    return f"{user_code[:4]}-{user_code[4:]}"


def typed_code(text: str) -> str:
    """Return the user code that somebody typed, in whatever case and with whatever between the letters."""
    return "".join(letter for letter in text.upper() if letter.isalnum())[: CODE_LENGTH + 1]


# -- what the program asks


async def authorize(services: Services, body: DeviceRequest, address: str) -> dict[str, Any]:
    """Begin a device login; return its codes.

    Raises:
        ApiError: 400 `unknown_client`; 422 `invalid_scope`; 429 `device_login_rate_limited`, too many begin there.
        ForbiddenTextError: the name of the client is not fit to be shown.
        Overloaded: too many wait.
    """
    if body.client_id is not None:
        raise ApiError(400, "No client is registered here: leave client_id out", "unknown_client")
    if body.client_name is not None:
        check_display_name("client_name", body.client_name)
    asked = scopes.known(body.scopes or DEFAULT_SCOPES, "scopes")
    device_code, now = new_secret(), services.clock()
    login = DeviceLogin(
        _new_user_code(), " ".join(asked), body.client_name, source_of(address)[:64], now, now + SECONDS * SECOND
    )

    async def work(transaction: Transaction) -> None:
        await device_logins.forget_expired(transaction.connection, now)
        await _make_room(transaction.connection, login.address)
        await device_logins.add(transaction.connection, services.database.sealer, login, device_code)

    _check_pace(services, login.address)
    await services.database.write(work)
    page = services.endpoints.api_url + PAGE
    return {
        "device_code": device_code,
        "user_code": shown_code(login.user_code),
        "verification_uri": page,
        "verification_uri_complete": f"{page}?user_code={shown_code(login.user_code)}",
        "interval": INTERVAL_SECONDS,
        "expires_in": SECONDS,
    }


def _new_user_code() -> str:
    return "".join(secrets.choice(CODE_LETTERS) for _ in range(CODE_LENGTH))


async def _make_room(connection: AsyncConnection, address: str) -> None:
    """People may share an address: the oldest that nobody answered leaves, rather than that a newcomer is refused."""
    await device_logins.keep_newest_pending(connection, address, MOST_OF_ONE_SOURCE - 1)
    if await device_logins.count(connection) >= MOST:
        raise Overloaded("Too many device logins are under way. Try again in a few minutes.", 60)


def _check_pace(services: Services, address: str) -> None:
    """So each stays for a minute at least, but for the first few, and a flood costs few writes."""
    try:
        services.device_logins.check(address)
    except ApiError as error:
        detail = "Too many device logins begin at this address. Try again in a few seconds."
        wait = error.retry_after_seconds
        raise ApiError(429, detail, "device_login_rate_limited", retry_after_seconds=wait) from None
    services.device_logins.wrong(address)


async def poll(services: Services, device_code: str, address: str) -> dict[str, Any]:
    """Return the token of a device login that was approved, once.

    Raises:
        ApiError: 400 with `error`: `authorization_pending`, `slow_down`, `access_denied` or `expired_token`.
    """
    sealer, now = services.database.sealer, services.clock()
    async with services.database.read() as connection:
        login = await device_logins.by_device_code(connection, sealer, device_code)
    if login is None or login.expires_at <= now:
        raise _not_yet("expired_token", "This device login is not known, was used, or has expired: begin another")
    if login.state == DENIED:
        raise _not_yet("access_denied", "This device login was denied")
    if login.state == PENDING:
        raise await _pending(services, login, now)
    secret = tokens.PREFIX + new_secret()

    async def work(transaction: Transaction) -> TokenRecord:
        return await _take(services, transaction.connection, device_code, secret, address)

    made = await services.database.write(work)
    return {"access_token": secret, "token_type": "bearer", "token_id": made.id, **tokens.shown(services, made)}


def _not_yet(error: str, detail: str) -> ApiError:
    """The status is exactly 400: programs understand no other one as "not yet" (contract 4.4)."""
    return ApiError(400, detail, error, members={"error": error})


async def _pending(services: Services, login: DeviceLogin, now: int) -> ApiError:
    earliest = (login.polled_at or 0) + (INTERVAL_SECONDS - EARLY_SECONDS) * SECOND
    if now < earliest:  # not written down: asking too often costs no write
        return _not_yet("slow_down", f"Ask every {INTERVAL_SECONDS} s at most")
    values = {"polled_at": now}
    await services.database.write(lambda it: device_logins.change(it.connection, login.user_code, values))
    return _not_yet("authorization_pending", "Nobody has answered yet")


async def _take(
    services: Services, connection: AsyncConnection, device_code: str, secret: str, address: str
) -> TokenRecord:
    login = await device_logins.by_device_code(connection, services.database.sealer, device_code)
    account = None if login is None else await accounts.by_id(connection, login.account_id or "")
    if login is None or account is None or not account.active:
        raise _not_yet("expired_token", "This device login was used, or its account is disabled: begin another")
    await device_logins.remove(connection, login.user_code)
    made = TokenRecord(
        new_id("tok"), account.id, login.scopes, services.clock(), login.token_expires_at,
        kind=DEVICE, name=login.client_name or "device", hub_ids=login.hub_ids,
    )  # fmt: skip
    by = Caller(account, made.id, scopes.with_implied(made.scopes.split()), address)
    await tokens.add(services, connection, by, made, secret)
    return made


# -- what the person says


async def described(services: Services, caller: Caller, code: str) -> dict[str, Any]:
    """Return who asks for what, before anybody approves it.

    Raises:
        ApiError: 404 `device_code_not_found`, unknown, expired or answered; 429 `login_rate_limited`, too many guesses.
    """
    return shown(await waiting(services, caller, code))


def shown(login: DeviceLogin) -> dict[str, Any]:
    """Return a device login as whoever may approve it sees it."""
    return {
        "user_code": shown_code(login.user_code),
        "scopes": login.scopes.split(),
        "client_name": login.client_name,
        "client_id": None,
        "client_verified": False,  # anybody may call itself anything
        "device_name": None,
        "address": login.address,
        "created_at": time_text(login.created_at),
        "expires_at": time_text(login.expires_at),
    }


async def waiting(services: Services, caller: Caller, code: str) -> DeviceLogin:
    """Return the device login that waits with this code, however it was typed.

    Wrong codes are counted for the account, so nobody's guessing keeps another from answering.

    Raises:
        ApiError: 404 `device_code_not_found`; 429 `login_rate_limited`.
    """
    who = ("user-code", caller.id)
    services.guesses.check(who)
    services.guesses.wrong(who)  # before it is looked at: many at once are no way round
    async with services.database.read() as connection:
        login = await device_logins.by_user_code(connection, typed_code(code))
    if login is None or login.state != PENDING or login.expires_at <= services.clock():
        raise _not_found()
    services.guesses.forgive(who)
    return login


def _not_found() -> ApiError:
    return ApiError(404, "No device login waits with this code: it expired, or was answered", "device_code_not_found")


async def approve(services: Services, caller: Caller, code: str, body: DeviceApproval) -> dict[str, Any]:
    """Let the program sign in as the caller; return what it will get.

    Raises:
        ApiError: 403 `insufficient_scopes`; 404 `device_code_not_found` or `hub_not_found`; 429 `login_rate_limited`.
    """
    login = await waiting(services, caller, code)
    granted = _granted(caller, login, body.scopes)
    now = services.clock()
    ends = [now + TOKEN_SECONDS * SECOND, tokens.last_moment(caller)]

    async def work(transaction: Transaction) -> dict[str, Any]:
        connection = transaction.connection
        await check_still_good(connection, caller, services.clock())
        await _still_pending(connection, login)
        values = {
            "state": APPROVED,
            "account_id": caller.id,
            "scopes": " ".join(granted),
            "hub_ids": await tokens.granted_hubs(connection, caller, body.hub_ids),
            "token_expires_at": min(end for end in ends if end is not None),
        }
        await device_logins.change(connection, login.user_code, values)
        after = {"client_name": login.client_name, "scopes": granted, "hub_ids": values["hub_ids"]}
        after["asked_from"] = login.address
        await record(connection, caller, "login.device_approved", _target(caller), at=now, after=after)
        return {**shown(login), "scopes": granted, "hub_ids": values["hub_ids"]}

    return await services.database.write(work)


def _granted(caller: Caller, login: DeviceLogin, named: Iterable[str] | None) -> list[str]:
    """Never more than was asked for, nor than the caller has."""
    asked = login.scopes.split()
    wanted = asked if named is None else scopes.known(named, "scopes")
    granted = [scope for scope in wanted if scope in caller.scopes and scope in scopes.with_implied(asked)]
    if not granted or (named is not None and granted != wanted):
        raise ApiError(403, "Insufficient scopes", "insufficient_scopes")
    return granted


async def deny(services: Services, caller: Caller, code: str) -> None:
    """Refuse a device login; the program is told.

    Raises:
        ApiError: 404 `device_code_not_found`; 429 `login_rate_limited`.
    """
    login = await waiting(services, caller, code)

    async def work(transaction: Transaction) -> None:
        connection = transaction.connection
        await check_still_good(connection, caller, services.clock())
        await _still_pending(connection, login)
        await device_logins.change(connection, login.user_code, {"state": DENIED, "account_id": caller.id})
        asked = {"client_name": login.client_name, "scopes": login.scopes.split(), "asked_from": login.address}
        await record(connection, caller, "login.device_denied", _target(caller), at=services.clock(), after=asked)

    await services.database.write(work)


async def _still_pending(connection: AsyncConnection, login: DeviceLogin) -> None:
    now = await device_logins.by_user_code(connection, login.user_code)
    if now is None or now.state != PENDING:
        raise _not_found()


def _target(caller: Caller) -> Target:
    return Target("account", caller.id, caller.account.email, caller.id)
