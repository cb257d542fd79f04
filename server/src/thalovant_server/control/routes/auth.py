# SPDX-License-Identifier: Apache-2.0
"""Routes of signing in and out, and of tokens (contract 3.1, 3.7)."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request, Response

from thalovant_server.control import login, tokens
from thalovant_server.control.answers import HEADERS, Json, page, rows_on_a_page
from thalovant_server.control.callers import AnyCaller, TokensWriter, address_of
from thalovant_server.control.hubs import ownership_required
from thalovant_server.control.openapi import told
from thalovant_server.control.places import place_after, place_of
from thalovant_server.control.resources import ApiToken, NewApiToken, Page, Token
from thalovant_server.control.schemas import Login, NewToken
from thalovant_server.control.services import GivenServices
from thalovant_server.store import tokens as rows

router = APIRouter(tags=["auth"])


@router.post("/v1/auth/token", responses=told(Token, 401, 429))
async def log_in(services: GivenServices, request: Request, body: Login) -> Response:
    """Sign in with e-mail address and password."""
    return Json(await login.log_in(services, body, address_of(request)))


@router.post("/v1/auth/api-tokens", status_code=201, responses=told(NewApiToken, 404, 409))
async def create_token(services: GivenServices, caller: TokensWriter, body: NewToken) -> Response:
    """Make an API token, which can do no more than the token in use; the answer holds it, this once."""
    return Json(await tokens.create(services, caller, body), 201)


@router.get("/v1/auth/api-tokens", responses=told(Page[ApiToken]))
async def list_tokens(
    services: GivenServices,
    caller: TokensWriter,
    limit: Annotated[int, Query(ge=1)] = 100,
    cursor: Annotated[str | None, Query(max_length=128)] = None,
    kind: Literal["api", "device", "session"] | None = None,
    owner_id: str | None = None,
) -> Response:
    """List the caller's tokens that are good, oldest first; of `kind` session those of password logins.

    An admin may name another owner. A token that is limited to some hubs sees those limited to hubs among them.
    """
    owner = owner_id or caller.id
    if not caller.speaks_for(owner):
        raise ownership_required()
    limit, kinds = rows_on_a_page(limit), (kind,) if kind else tokens.LASTING
    place, now = place_of(cursor), services.clock()
    async with services.database.read() as connection:
        found = await rows.page(connection, owner, kinds, now=now, after=place, limit=limit + 1, within=caller.hub_ids)
    filters = {"kind": kind, "owner_id": owner_id}
    return page(found, limit, partial(tokens.shown, services), "/v1/auth/api-tokens", filters, place_after)


@router.delete("/v1/auth/api-tokens/{token_id}", status_code=204, responses=told(None, 404))
async def revoke_token(services: GivenServices, caller: AnyCaller, token_id: str) -> Response:
    """Revoke a token, the one in use or another of the same account that can do no more."""
    await tokens.revoke(services, caller, token_id)
    return Response(status_code=204, headers=HEADERS)
