# SPDX-License-Identifier: Apache-2.0
"""Routes of signing in and out, and of who is signed in (contract 3.1, 3.7)."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from thalovant_server.control import login
from thalovant_server.control.answers import HEADERS, Json
from thalovant_server.control.callers import AnyCaller, address_of
from thalovant_server.control.openapi import told
from thalovant_server.control.resources import Profile, Token
from thalovant_server.control.schemas import Login
from thalovant_server.control.services import GivenServices

router = APIRouter(tags=["auth"])


@router.post("/v1/auth/token", responses=told(Token, 401, 429))
async def log_in(services: GivenServices, request: Request, body: Login) -> Response:
    """Sign in with e-mail address and password."""
    return Json(await login.log_in(services, body, address_of(request)))


@router.delete("/v1/auth/api-tokens/{token_id}", status_code=204, responses=told(None, 404))
async def revoke_token(services: GivenServices, caller: AnyCaller, token_id: str) -> Response:
    """Revoke a token, the one in use or another of the same account that can do no more."""
    await login.revoke(services, caller, token_id)
    return Response(status_code=204, headers=HEADERS)


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
