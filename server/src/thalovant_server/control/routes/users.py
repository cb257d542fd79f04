# SPDX-License-Identifier: Apache-2.0
"""Routes of people's accounts: invitations, passwords, and what an admin may change."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from thalovant_server.control import joining, users
from thalovant_server.control.answers import HEADERS, Json, page, rows_on_a_page
from thalovant_server.control.callers import AnyCaller, UsersReader, UsersWriter, address_of
from thalovant_server.control.openapi import told
from thalovant_server.control.places import place_after, place_of
from thalovant_server.control.resources import InvitedUser, Page, Profile, User, UserAnswer
from thalovant_server.control.schemas import Acceptance, NewUser, PasswordChange, UserChange
from thalovant_server.control.services import GivenServices
from thalovant_server.store import accounts as rows

router = APIRouter(tags=["users"])


@router.get("/v1/users/profile", responses=told(Profile))
async def profile(caller: AnyCaller) -> Response:
    """Tell who is signed in."""
    account = caller.account
    shown = {
        "id": account.id,
        "email": account.email,
        "display_name": account.display_name,
        "role": account.role,
    }
    return Json({"data": shown})


@router.post("/v1/users/me/password", status_code=204, responses=told(None, 409, 429))
async def change_password(services: GivenServices, caller: AnyCaller, body: PasswordChange) -> Response:
    """Change the password of whoever is signed in; every other sign-in of the account ends, API tokens stay."""
    await joining.change_password(services, caller, body)
    return Response(status_code=204, headers=HEADERS)


@router.post("/v1/auth/invitations/accept", responses=told(UserAnswer, 404, 429))
async def accept_invitation(services: GivenServices, request: Request, body: Acceptance) -> Response:
    """Choose the password of an account with an invitation, which is good once; sign in with it then."""
    return Json(await joining.accept(services, body, address_of(request)))


@router.get("/v1/users", responses=told(Page[User]))
async def list_users(
    services: GivenServices,
    caller: UsersReader,
    limit: Annotated[int, Query(ge=1)] = 100,
    cursor: Annotated[str | None, Query(max_length=128)] = None,
) -> Response:
    """List the accounts of this server, oldest first; for admins."""
    limit = rows_on_a_page(limit)
    async with services.database.read() as connection:
        found = await rows.page(connection, after=place_of(cursor), limit=limit + 1)
    return page(found, limit, users.shown, "/v1/users", {}, place_after)


@router.post("/v1/users", status_code=201, responses=told(InvitedUser, 409))
async def invite_user(services: GivenServices, caller: UsersWriter, body: NewUser) -> Response:
    """Invite somebody, as an admin; the answer holds the invitation, this once. It is good for seven days."""
    return Json(await users.invite(services, caller, body), 201)


@router.post("/v1/users/{user_id}/invite", status_code=201, responses=told(InvitedUser, 404, 409))
async def invite_user_again(services: GivenServices, caller: UsersWriter, user_id: str) -> Response:
    """Give out another invitation, as an admin: the first was lost, or the password is. Earlier ones end."""
    return Json(await users.invite_again(services, caller, user_id), 201)


@router.patch("/v1/users/{user_id}", responses=told(User, 404, 409))
async def change_user(services: GivenServices, caller: UsersWriter, user_id: str, body: UserChange) -> Response:
    """Change an account, as an admin. Disabling it ends its tokens at once; its hubs and clients stay."""
    return Json(await users.change(services, caller, user_id, body))
