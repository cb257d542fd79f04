# SPDX-License-Identifier: Apache-2.0
"""Who may call what: one rule for each route, held against callers who may not and against one who may.

Whoever adds a route adds its rule to `RULES`; a route without one fails `test_every_route_has_a_rule`.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx2
import pytest

from thalovant_server.control.app import create_app
from thalovant_server.control.scopes import ALL, with_implied
from thalovant_server.store import device_logins, operations
from thalovant_server.store.operations import OperationRecord
from thalovant_server.testing.control import World

Run = Callable[[Callable[[World], Awaitable[None]]], None]


@dataclass(frozen=True)
class Rule:
    """What a route asks of its caller.

    scope: what the token must have; None when any token will do.
    other: the status that an account gets which is neither the owner nor an admin, with every scope.
    limited: the status that the owner gets with a token for another hub, and an admin with such a token.
    works: the status that the owner gets with that one scope.
    streams: the answer has no end, so nobody here asks who would get it.
    body, query: to send; `{hub_id}` and the like are filled in.

    Whatever the status, nothing of the owner's hub, client or token may show in the answers to `other` and `limited`.
    """

    scope: str | None
    other: int
    limited: int
    works: int = 200
    body: dict[str, Any] | None = None
    query: dict[str, str] = field(default_factory=dict)
    streams: bool = False


OPEN = None  # whoever comes, with or without a token
RULES: dict[str, Rule | None] = {
    "GET /v1/health": OPEN,
    "GET /v1/metrics": Rule("hubs:inspect", other=403, limited=403),
    "GET /v1/ca": OPEN,
    "GET /v1/ca.pem": OPEN,
    "GET /v1/docs": OPEN,
    "GET /v1/openapi.json": OPEN,
    "GET /v1/public/hubs": OPEN,
    "GET /v1/public/hubs/{reference}": OPEN,
    "POST /v1/auth/token": OPEN,
    "GET /v1/users/profile": Rule(None, other=200, limited=200),
    "GET /v1/operations/{operation_id}": Rule(None, other=404, limited=404),
    "POST /v1/auth/api-tokens": Rule(
        "tokens:write", other=404, limited=404, works=201,
        body={"name": "x", "scopes": ["tokens:write"], "hub_ids": ["{hub_id}"], "expires_in_seconds": 60},
    ),
    "GET /v1/auth/api-tokens": Rule("tokens:write", other=403, limited=200, query={"owner_id": "{owner_id}"}),
    "DELETE /v1/auth/api-tokens/{token_id}": Rule(None, other=404, limited=404, works=204),
    "POST /v1/auth/invitations/accept": OPEN,
    "GET /v1/device": OPEN,
    "POST /v1/device": OPEN,
    "POST /v1/auth/device/authorize": OPEN,
    "POST /v1/auth/device/token": OPEN,
    # Whoever shows the code may be answered by any account: the code is what is secret.
    "GET /v1/auth/device/codes/{user_code}": Rule(None, other=200, limited=200),
    "POST /v1/auth/device/codes/{user_code}/approve": Rule("tokens:write", other=200, limited=200, body={}),
    "POST /v1/auth/device/codes/{user_code}/deny": Rule("tokens:write", other=204, limited=204, works=204),
    "POST /v1/users/me/password": Rule(  # with a wrong one: the right one would end the sessions of this test
        None, other=403, limited=403, works=403,
        body={"current_password": "guess", "new_password": "a new long password"},
    ),
    "GET /v1/users": Rule("users:read", other=403, limited=403),
    # A token invites nobody, whatever its scopes: test_users has what a sign-in with the password may.
    "POST /v1/users": Rule(
        "users:write", other=403, limited=403, works=403, body={"email": "{number}{hub_id}@example.test"}
    ),
    "PATCH /v1/users/{user_id}": Rule("users:write", other=403, limited=403, body={"active": True}),
    "POST /v1/users/{user_id}/invite": Rule("users:write", other=403, limited=403, works=403),
    "GET /v1/hubs": Rule("hubs:read", other=200, limited=200),
    "GET /v1/hubs/{hub_id}": Rule("hubs:read", other=404, limited=404),
    "POST /v1/hubs": Rule(
        "hubs:write", other=403, limited=403, works=201,
        body={"name": "x", "spec": {"version": "1"}, "owner_id": "{owner_id}"},
    ),
    "PATCH /v1/hubs/{hub_id}": Rule("hubs:write", other=404, limited=404, body={"active": True}),
    "DELETE /v1/hubs/{hub_id}": Rule("hubs:write", other=404, limited=404, works=204),
    "GET /v1/clients": Rule("clients:read", other=200, limited=200),
    "GET /v1/clients/{client_id}": Rule("clients:read", other=404, limited=404),
    "POST /v1/clients": Rule(
        "clients:write", other=404, limited=404, works=201, body={"hub_id": "{hub_id}", "name": "x"}
    ),
    "DELETE /v1/clients/{client_id}": Rule("clients:write", other=404, limited=404, works=204),
    "POST /v1/clients/{client_id}/credentials/{number}/reset-key": Rule(
        "clients:write", other=404, limited=404, works=204
    ),
    "PATCH /v1/clients/{client_id}": Rule("clients:write", other=404, limited=404, body={"name": "x"}),
    "POST /v1/clients/lookup": Rule(
        "clients:read", other=404, limited=404, body={"access_key": "{access_key}"}
    ),
    "POST /v1/clients/{client_id}/rotate": Rule("clients:write", other=404, limited=404, works=201, body={}),
    "POST /v1/clients/{client_id}/rotate/finish": Rule("clients:write", other=404, limited=404, works=409, body={}),
    "POST /v1/clients/{client_id}/rotate/cancel": Rule("clients:write", other=404, limited=404, works=409),
    "GET /v1/clients/{client_id}/policy": Rule("clients:read", other=404, limited=404),
    "PATCH /v1/clients/{client_id}/policy": Rule("clients:write", other=404, limited=404, body={"daily_quota": 9}),
    "GET /v1/clients/{client_id}/presence": Rule("clients:read", other=404, limited=404),
    "GET /v1/hubs/{hub_id}/presence": Rule("clients:read", other=404, limited=404),
    "GET /v1/hubs/{hub_id}/presence/events": Rule("clients:read", other=404, limited=404, streams=True),
    "GET /v1/audit/key": OPEN,
    "GET /v1/audit/export": Rule("audit:read", other=200, limited=200),
    "GET /v1/audit": Rule("audit:read", other=200, limited=200),
}  # fmt: skip


@dataclass(frozen=True)
class Owner:
    """An account with a hub, a client and a token, made anew for each call: an earlier one may have removed them."""

    world: World
    token: str
    email: str

    async def things(self) -> dict[str, str]:
        """What fills the braces of paths, bodies and queries. (A parameter that is missing here is to be added.)"""
        hub = await self._made("/v1/hubs", {"name": "private thing", "spec": {"version": "1"}})
        client = await self._made("/v1/clients", {"hub_id": hub["id"], "name": "private thing"})
        # As narrow as can be, so that whoever has any scope may revoke it.
        body = {"name": "private thing", "scopes": ["hubs:preview"], "hub_ids": [hub["id"]], "expires_in_seconds": 60}
        token = await self._made("/v1/auth/api-tokens", body)
        return {
            "hub_id": hub["id"],
            "reference": hub["slug"],
            "client_id": client["id"],
            "access_key": client["initial_identify"]["access_key"],
            "number": "1",
            "token_id": token["id"],
            "owner_id": hub["owner_id"],
            "user_id": await self._somebody(hub["id"]),
            "operation_id": await self._operation(hub, client),
            "user_code": await self._user_code(),
        }

    async def _operation(self, hub: dict[str, Any], client: dict[str, Any]) -> str:
        """One on the client, as if the hub were at an outside broker."""
        record = OperationRecord(
            f"op-of-{client['id']}", "client.admission", "requested", client["owner_id"], hub["id"], client["id"], 0, 1,
            None, None, 1, 1, 10**18, None,
        )  # fmt: skip
        database = self.world.services.database
        await database.write(lambda transaction: operations.add(transaction.connection, record))
        return record.id

    async def _somebody(self, name: str) -> str:
        """Another account, invited; by the admin, whoever the owner is."""
        answer = await self.world.call("POST", "/v1/users", {"email": f"{name}@example.test"})
        return str(answer.json()["id"])

    async def _user_code(self) -> str:
        """Of a device that asks for something that every token of this test may give."""
        await self.world.services.database.write(  # of one address so many wait and no more
            lambda transaction: device_logins.forget_expired(transaction.connection, 10**18)
        )
        body = {"scopes": list(ALL)}
        return str((await self.world.call("POST", "/v1/auth/device/authorize", body, token=None)).json()["user_code"])

    async def other_hub(self) -> str:
        return str((await self._made("/v1/hubs", {"name": "elsewhere", "spec": {"version": "1"}}))["id"])

    async def narrow(self, scopes: list[str], hub_ids: list[str] | None = None) -> str:
        body = {"name": "narrow", "scopes": scopes, "hub_ids": hub_ids}
        return str((await self._made("/v1/auth/api-tokens", body))["access_token"])

    async def _made(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        answer = await self.world.call("POST", path, body, token=self.token)
        assert answer.status_code == 201, answer.text
        return dict(answer.json())


def routes_of(app: Any) -> Iterator[str]:
    for route in app.routes:
        within = getattr(route, "original_router", None)
        if within is not None:
            yield from routes_of(within)
        else:
            yield from (f"{method} {route.path}" for method in sorted((route.methods or set()) - {"HEAD"}))


GUARDED = {route: rule for route, rule in RULES.items() if rule is not None}


def filled(template: Any, things: dict[str, str]) -> Any:
    if isinstance(template, dict):
        return {name: filled(value, things) for name, value in template.items()}
    if isinstance(template, list):
        return [filled(value, things) for value in template]
    return re.sub(r"\{(\w+)\}", lambda found: things[found[1]], template) if isinstance(template, str) else template


async def call(world: World, route: str, rule: Rule, things: dict[str, str], token: str | None) -> httpx2.Response:
    method, path = route.split(" ")
    query = "&".join(f"{name}={filled(value, things)}" for name, value in rule.query.items())
    target = filled(path, things) + (f"?{query}" if query else "")
    return await world.call(method, target, filled(rule.body, things), token=token, if_match='W/"1"')


async def answers(
    world: World, owner: Owner, token: Callable[[str, Rule], Awaitable[str | None]]
) -> AsyncIterator[tuple[str, Rule, httpx2.Response, dict[str, str]]]:
    """What each guarded route answers to the token that is given for it, about things of the owner."""
    things = await owner.things()
    for route, rule in GUARDED.items():
        answer = await call(world, route, rule, things, await token(route, rule))
        yield route, rule, answer, things
        if answer.is_success and not route.startswith("GET "):
            things = await things_anew(owner)


async def things_anew(owner: Owner) -> dict[str, str]:
    """Other things than before, for what was asked may have changed those."""
    owner.world.clock.seconds += 60  # throttles forget, and what was made for the routes before expires
    return await owner.things()


def shows(answer: httpx2.Response, things: dict[str, str]) -> list[str]:
    """What of the owner's an answer shows."""
    return [name for name in ("hub_id", "client_id", "token_id", "reference") if things[name] in answer.text]


async def admin_of(world: World) -> Owner:
    token = await world.token_for()
    return Owner(world, token, "admin@thalovant.local")


async def user_of(world: World) -> Owner:
    return Owner(world, await world.add_account("ann"), "ann@example.test")


def test_every_route_has_a_rule(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        routes = set(routes_of(create_app(world.services)))
        unruled = sorted(routes - RULES.keys())
        assert not unruled, (
            f"{unruled} have no rule: add each to RULES in {__file__}, as OPEN when no token is needed, else as "
            "Rule(scope, other=..., limited=...) with what an account that owns nothing gets, and a token limited to "
            "another hub; new names in braces go into Owner.things()"
        )
        assert not RULES.keys() - routes, "these routes are gone: take them out of RULES"

    in_world(scenario)


def test_no_token_is_a_401(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        async def none(_: str, __: Rule) -> None:
            return None

        wrong = {}
        async for route, _, answer, _ in answers(world, await admin_of(world), none):
            if (answer.status_code, answer.json().get("code")) != (401, "invalid_token"):
                wrong[route] = (answer.status_code, answer.text)
        assert not wrong

    in_world(scenario)


def test_every_scope_but_the_right_one_is_a_403(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        owner = await admin_of(world)
        made: dict[str | None, str] = {}

        async def lacking(_: str, rule: Rule) -> str:
            if rule.scope not in made:
                without = [scope for scope in ALL if rule.scope not in with_implied([scope])]
                made[rule.scope] = await owner.narrow(without)
            return made[rule.scope]

        wrong = {}
        async for route, rule, answer, _ in answers(world, owner, lacking):
            if rule.scope is not None and (answer.status_code, answer.json()["detail"]) != (403, "Insufficient scopes"):
                wrong[route] = (answer.status_code, answer.text)
        assert not wrong

    in_world(scenario)


def test_another_account_gets_nothing(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        stranger = await world.add_account("bob")

        async def every_scope(_: str, __: Rule) -> str:
            return stranger

        wrong = {}
        async for route, rule, answer, things in answers(world, await admin_of(world), every_scope):
            if answer.status_code != rule.other or shows(answer, things):
                wrong[route] = (answer.status_code, shows(answer, things), answer.text)
        assert not wrong

    in_world(scenario)


@pytest.mark.parametrize("whose", [admin_of, user_of], ids=["an admin's", "a user's"])
def test_a_token_that_is_limited_to_another_hub_gets_nothing(
    in_world: Run, whose: Callable[[World], Awaitable[Owner]]
) -> None:
    async def scenario(world: World) -> None:
        owner = await whose(world)
        limited = await owner.narrow(list(ALL), [await owner.other_hub()])

        async def token(_: str, __: Rule) -> str:
            return limited

        wrong = {}
        async for route, rule, answer, things in answers(world, owner, token):
            if answer.status_code != rule.limited or shows(answer, things):
                wrong[route] = (answer.status_code, shows(answer, things), answer.text)
        assert not wrong

    in_world(scenario)


@pytest.mark.parametrize("limited", [False, True], ids=["", "limited to this hub"])
def test_the_owner_gets_it_with_that_one_scope(in_world: Run, *, limited: bool) -> None:
    async def scenario(world: World) -> None:
        owner = await admin_of(world)
        wrong, things = {}, await owner.things()
        for route, rule in GUARDED.items():
            if rule.streams or (limited and rule.limited == 403):  # or not for a token with limits, whichever hub
                continue
            only = await owner.narrow([rule.scope or "hubs:preview"], [things["hub_id"]] if limited else None)
            answer = await call(world, route, rule, things, only)
            if answer.status_code != rule.works:
                wrong[route] = (answer.status_code, answer.text)
            if not route.startswith("GET "):
                things = await things_anew(owner)
        assert not wrong

    in_world(scenario)
