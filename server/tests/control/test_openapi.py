# SPDX-License-Identifier: Apache-2.0
"""The API document: the published one is this version's, and it says of each route what there is to say."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

import thalovant_server
from thalovant_server.bootstrap import ADMIN_EMAIL
from thalovant_server.control.app import create_app
from thalovant_server.control.openapi import REFUSALS
from thalovant_server.testing.control import PASSWORD, World

ROOT = Path(__file__).parents[3]
PUBLISHED = ROOT / "contract" / "control-plane.openapi.json"
DOCUMENT: dict[str, Any] = json.loads(PUBLISHED.read_text())
OPERATIONS = {
    one["operationId"]: (method.upper(), path, one)
    for path, item in DOCUMENT["paths"].items()
    for method, one in item.items()
}
# Whoever adds a route that needs no token, or that the document does not tell of, says so here.
UNLISTED = {"/v1/openapi.json", "/v1/docs", "/v1/ca.pem", "/v1/device"}
OPEN_TO_ALL = {
    "audit_key",
    "log_in",
    "accept_invitation",
    "begin_device_login",
    "poll_device_login",
    "list_public_hubs",
    "get_public_hub",
    "health",
    "certificate_authority",
}

SIGN_IN = {"email": ADMIN_EMAIL, "password": PASSWORD}

InWorld = Callable[[Callable[[World], Awaitable[None]]], None]


def test_the_published_document_is_the_one_of_this_version() -> None:
    made = subprocess.run(
        [sys.executable, "-m", "thalovant_server.control.openapi"], capture_output=True, text=True, check=True
    )
    assert made.stdout == PUBLISHED.read_text(), "write it again:  make openapi"


def test_a_server_serves_that_document(in_world: InWorld) -> None:
    async def scenario(world: World) -> None:
        served = (await world.call("GET", "/v1/openapi.json", token=None)).json()
        assert {**served, "info": DOCUMENT["info"]} == DOCUMENT

    in_world(scenario)


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_says_what_it_does_and_how_it_is_refused(name: str) -> None:
    _, path, operation = OPERATIONS[name]
    assert operation["summary"] and operation["description"].endswith((".", ")"))
    statuses = set(operation["responses"])
    assert {"422", "503"} <= statuses
    assert ("404" in statuses) or "{" not in path
    assert ("401" in statuses and "403" in statuses) == bool(operation.get("security")) or name == "log_in"
    assert ({"408", "413"} <= statuses) == ("requestBody" in operation)
    assert any(status.startswith("2") for status in statuses)


def test_an_operation_names_the_scope_that_it_is_refused_without(in_world: InWorld) -> None:
    async def scenario(world: World) -> None:
        narrow, told = await world.token_for(scope="memory:read"), 0
        for method, path, operation in OPERATIONS.values():
            [needed] = [way["HTTPBearer"] for way in operation.get("security", [])] or [[]]
            assert re.findall(r"Needs the scope `(.*)`\.", operation["description"]) == needed
            if needed:
                answer = await world.call(method, re.sub(r"\{\w+\}", "1", path), token=narrow)
                assert (answer.status_code, answer.json()["code"]) == (403, "insufficient_scopes")
                told += 1
        assert told > 25

    in_world(scenario)


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_answer_has_a_shape(name: str) -> None:
    for status, answer in OPERATIONS[name][2]["responses"].items():
        if status.startswith("2") and status != "204" and name != "get_operation":
            (content,) = answer["content"].values()
            assert content["schema"], f"{name} {status} says nothing of its body"


def test_only_these_operations_need_no_token() -> None:
    assert {name for name, (_, _, operation) in OPERATIONS.items() if not operation.get("security")} == OPEN_TO_ALL


def paths(app: Any) -> set[str]:
    """Of all routes, those of included routers too."""
    found = set()
    for route in app.routes:
        within = getattr(route, "original_router", None)
        found |= {route.path} if within is None else paths(within)
    return found


def test_only_these_routes_are_not_in_the_document(in_world: InWorld) -> None:
    async def scenario(world: World) -> None:
        assert paths(create_app(world.services)) - DOCUMENT["paths"].keys() == UNLISTED

    in_world(scenario)


@pytest.mark.parametrize("name", sorted(set(OPERATIONS) - OPEN_TO_ALL))
@pytest.mark.parametrize("token", [None, "nonsense", ""], ids=["none", "made up", "empty"])
def test_every_other_route_refuses_without_a_token(in_world: InWorld, name: str, token: str | None) -> None:
    async def scenario(world: World) -> None:
        method, path, operation = OPERATIONS[name]
        body = {"name": "x", "spec": {"version": "1"}, "hub_id": "x"} if "requestBody" in operation else None
        answer = await world.call(
            method, re.sub(r"\{number\}", "1", re.sub(r"\{(?!number)\w+\}", "x", path)), body, token=token
        )
        assert answer.status_code == 401, answer.text
        assert answer.json()["code"] == "invalid_token"
        assert not world.changes

    in_world(scenario)


async def of_a_client(world: World, name: str, example: Any) -> Any:
    """Send the example of a body that is about a client."""
    client = await world.make_client()
    path = f"/v1/clients/{client['id']}"
    if name == "ClientChange":
        return await world.call("PATCH", path, example, if_match=client["etag"])
    rotated = await world.call("POST", f"{path}/rotate", example if name == "Rotation" else {})
    if name == "Rotation":
        return rotated
    (_, new) = world.services.directory.credentials_of(client["id"])
    world.services.uses.note(new.id, "wss", "192.0.2.1")
    return await world.call("POST", f"{path}/rotate/finish", example)


@pytest.mark.parametrize(
    "name", ["Login", "NewToken", "NewHub", "HubChange", "NewClient", "ClientChange", "Rotation", "RotationEnd"]
)
def test_the_example_of_a_body_is_taken(in_world: InWorld, name: str) -> None:
    (example,) = DOCUMENT["components"]["schemas"][name]["examples"]

    async def scenario(world: World) -> None:
        demo = (await world.call("GET", "/v1/hubs/demo")).json()
        if name == "Login":
            answer = await world.call("POST", "/v1/auth/token", {**example, **SIGN_IN}, token=None)
        elif name == "NewToken":
            answer = await world.call("POST", "/v1/auth/api-tokens", example)
        elif name == "NewHub":
            answer = await world.call("POST", "/v1/hubs", example)
        elif name == "HubChange":
            answer = await world.call("PATCH", f"/v1/hubs/{demo['id']}", example, if_match=demo["etag"])
        elif name == "NewClient":
            answer = await world.call("POST", "/v1/clients", {**example, "hub_id": demo["id"]})
        else:
            answer = await of_a_client(world, name, example)
        assert answer.is_success, answer.text

    in_world(scenario)


def test_every_code_in_the_document_is_one_of_the_server_and_the_other_way_round() -> None:
    sources = Path(thalovant_server.__file__).parent
    text = "\n".join(file.read_text() for file in sources.rglob("*.py") if file.name != "openapi.py")
    told = {code for _, codes in REFUSALS.values() for code in codes.split()}
    assert not {code for code in told if f'"{code}"' not in text}
    raised = set(re.findall(r'ApiError\(\s*(?!500)\d{3},\s*(?:f?"[^"]*"|\w+),\s*"([a-z_]+)"', text))
    assert len(raised) > 10 and raised <= told, raised - told
