# SPDX-License-Identifier: Apache-2.0
"""The page of a device login for people with a browser; this server has no dashboard.

No cookie is set, so no other site can act for somebody: what a form may do is in the form, in a ticket that only the
page before could give out, to whoever knew the password. Forms that come from other sites are refused all the same.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated
from urllib.parse import parse_qs, urlsplit

import orjson
from fastapi import APIRouter, Query, Request, Response

from thalovant_server.control import device, device_form, login, scopes
from thalovant_server.control.answers import HEADERS, time_text
from thalovant_server.control.callers import Caller, address_of
from thalovant_server.control.schemas import DeviceApproval
from thalovant_server.control.services import GivenServices, Services
from thalovant_server.errors import ApiError, ForbiddenTextError, Overloaded
from thalovant_server.store import accounts
from thalovant_server.store.sealing import SealBrokenError
from thalovant_server.wall_clock import SECOND

TICKET_SECONDS = 10 * 60
MOST_FIELDS = 40
LONGEST_PASSWORD = 1024
_TICKET = "device page"  # what it is sealed for
_HEADERS = {
    **HEADERS,
    "content-security-policy": device_form.POLICY,
    "referrer-policy": "same-origin",
    "x-frame-options": "DENY",
    "cross-origin-opener-policy": "same-origin",
}

router = APIRouter(include_in_schema=False)


@dataclass(frozen=True, slots=True)
class _Form:
    """What was filled in, as text."""

    fields: Mapping[str, list[str]]

    def one(self, name: str) -> str:
        """Return a field, "" when it is missing."""
        return self.fields.get(name, [""])[0]


@router.get(device.PAGE)
async def device_page(user_code: Annotated[str, Query(max_length=40)] = "") -> Response:
    """Show the first page; the code of the address is filled in, and nothing is told of it yet."""
    return _html(device_form.sign_in(user_code))


@router.post(device.PAGE)
async def device_step(services: GivenServices, request: Request) -> Response:
    """Take one step: sign in, approve or deny."""
    form = _Form({})
    try:
        _refuse_other_sites(services, request)
        form = _parsed(await request.body())
        return await _step(services, form, address_of(request))
    except ApiError as error:
        return _refused(form, error.detail, error.status, error.retry_after_seconds)
    except ForbiddenTextError as error:
        return _refused(form, str(error), 422)
    except Overloaded as error:
        return _refused(form, error.sentence, 503, error.retry_after_seconds)


async def _step(services: Services, form: _Form, address: str) -> Response:
    step = form.one("step")
    if step == "sign-in":
        return await _sign_in(services, form, address)
    caller, code = await _opened(services, form.one("ticket"), address)
    if step == "approve":
        await device.approve(services, caller, code, _chosen(form))
        return _html(device_form.message("Approved", "The device is signed in. You may close this page."))
    await device.deny(services, caller, code)
    return _html(device_form.message("Denied", "The device is not signed in. You may close this page."))


async def _sign_in(services: Services, form: _Form, address: str) -> Response:
    password = form.one("password")
    if len(password) > LONGEST_PASSWORD:
        raise ApiError(401, "Invalid email or password", "invalid_credentials")
    account = await login.account_of(services, form.one("email"), password, address)
    caller = Caller(account, "", scopes.with_implied(scopes.ALL), address)
    asked = await device.waiting(services, caller, form.one("user_code"))
    now = services.clock()
    ticket = _sealed(services, account.id, account.password_phc, asked.user_code, now + TICKET_SECONDS * SECOND)
    shown = device.shown(asked)
    return _html(device_form.question(shown, shown["scopes"], account.email, ticket, time_text(now)))


def _sealed(services: Services, account_id: str, password_phc: str, user_code: str, until: int) -> str:
    """Return the ticket of one person for one code: it ends in time, and when the password is another one."""
    known_by = services.database.sealer.keyed_hash(password_phc, _TICKET).hex()
    sealed = services.database.sealer.seal(orjson.dumps([account_id, known_by, user_code, until]), _TICKET)
    return base64.urlsafe_b64encode(sealed).decode()


async def _opened(services: Services, ticket: str, address: str) -> tuple[Caller, str]:
    sealer = services.database.sealer
    over = ApiError(401, "This page is too old. Sign in again.", "invalid_credentials")
    try:
        account_id, known_by, user_code, until = orjson.loads(
            sealer.open(base64.urlsafe_b64decode(ticket.encode()), _TICKET)
        )
    except (ValueError, SealBrokenError):
        raise over from None
    async with services.database.read() as connection:
        account = await accounts.by_id(connection, account_id)
    if account is None or not account.active or until <= services.clock():
        raise over
    if not sealer.matches(account.password_phc, _TICKET, bytes.fromhex(known_by)):
        raise over
    return Caller(account, "", scopes.with_implied(scopes.ALL), address), user_code


def _chosen(form: _Form) -> DeviceApproval:
    chosen = form.fields.get("scope", [])
    if not 1 <= len(chosen) <= len(scopes.ALL):
        raise ApiError(
            422, "Nothing was chosen. Sign in again, and choose what the device may do.", "validation_failed"
        )
    return DeviceApproval(scopes=chosen)


def _parsed(body: bytes) -> _Form:
    try:
        return _Form(parse_qs(body.decode("ascii"), max_num_fields=MOST_FIELDS, encoding="utf-8", errors="strict"))
    except ValueError:
        raise ApiError(422, "The form cannot be read.", "validation_failed") from None


def _refuse_other_sites(services: Services, request: Request) -> None:
    """Browsers say where a form comes from; whoever says nothing is no browser, and has nothing to lend."""
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    foreign_site = site not in (None, "same-origin", "none")
    own = (request.headers.get("host"), services.endpoints.domain)
    foreign_origin = origin is not None and urlsplit(origin).netloc not in own
    if foreign_site or foreign_origin:
        raise ApiError(403, "This form was sent by another site. Open the page of this server yourself.", "other_site")


def _refused(form: _Form, detail: str, status: int, retry_after: int | None = None) -> Response:
    answer = _html(device_form.sign_in(form.one("user_code")[:40], form.one("email")[:320], detail), status)
    if retry_after is not None:
        answer.headers["retry-after"] = str(retry_after)
    return answer


def _html(text: str, status: int = 200) -> Response:
    return Response(text, status, headers=_HEADERS, media_type="text/html; charset=utf-8")
