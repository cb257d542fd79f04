# SPDX-License-Identifier: Apache-2.0
"""Refusals as bodies: what each error becomes, and that nothing of the request gets into one."""

from __future__ import annotations

from typing import Any

import httpx2
import orjson
import pytest
import uvloop
from fastapi import FastAPI
from pydantic import BaseModel

from thalovant_server.control.problems import LONGEST_LOCATION, MOST_ERRORS, Problem, install, invalid, problem
from thalovant_server.errors import ApiError, ForbiddenTextError, Overloaded, StorageError


class Wanted(BaseModel):
    """A body of a route of these tests."""

    count: int


def answer_of(error: Exception, body: Any = None) -> httpx2.Response:
    """Ask an application whose one route raises ``error``."""
    app = FastAPI()
    install(app)

    @app.post("/")
    async def fail(wanted: Wanted) -> None:
        raise error

    async def main() -> httpx2.Response:
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="https://hub.test") as http:
            return await http.post("/", json={"count": 1} if body is None else body)

    return uvloop.run(main())


def test_a_refusal_has_every_member_and_its_headers() -> None:
    error = ApiError(429, "Wait.", "slow_down", retry_after_seconds=7, headers={"x-more": "1"}, members={"field": "a"})
    answer = problem(error)
    assert orjson.loads(bytes(answer.body)) == {
        "type": "about:blank",
        "title": "Too Many Requests",
        "status": 429,
        "detail": "Wait.",
        "code": "slow_down",
        "field": "a",
        "retry_after_seconds": 7,
    }
    assert answer.headers["content-type"] == "application/problem+json"
    assert (answer.headers["retry-after"], answer.headers["x-more"]) == ("7", "1")
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (ApiError(409, "Another one.", "taken"), 409, "taken"),
        (ForbiddenTextError("spec.name", "must not be blank"), 422, "validation_failed"),
        (Overloaded("Too many.", 3), 503, "overloaded"),
        (StorageError("The database /inside/path is full."), 503, "storage_unavailable"),
    ],
)
def test_each_error_becomes_its_problem(error: Exception, status: int, code: str) -> None:
    answer = answer_of(error)
    told = Problem.model_validate(answer.json())
    assert (answer.status_code, told.status, told.code) == (status, status, code)
    assert ("retry-after" in answer.headers) == (status == 503)
    assert "/inside/path" not in answer.text


def test_a_text_that_is_forbidden_is_located_in_the_body() -> None:
    told = answer_of(ForbiddenTextError("spec.name", "must not be blank")).json()
    assert told["errors"] == [{"loc": ["body", "spec", "name"], "msg": "must not be blank", "type": "forbidden_text"}]
    assert told["detail"] == "Schema validation failed: spec.name must not be blank"


def test_a_value_of_the_request_is_never_repeated() -> None:
    answer = answer_of(RuntimeError(), {"count": "secret-of-the-request"})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["loc"] == ["body", "count"]
    assert "secret-of-the-request" not in answer.text


def test_errors_and_their_places_are_bounded() -> None:
    error = invalid([{"loc": ["body", "k" * 1000, 3], "msg": "bad", "type": "t", "input": "secret"}] * 100)
    assert len(error.members["errors"]) == MOST_ERRORS  # type: ignore[arg-type]
    assert error.members["errors"][0] == {  # type: ignore[index]
        "loc": ["body", "k" * LONGEST_LOCATION, 3],
        "msg": "bad",
        "type": "t",
    }
    assert invalid([]).detail == "Schema validation failed"


def test_a_method_that_is_not_taken_is_told_all_that_are(in_world: Any) -> None:
    async def scenario(world: Any) -> None:
        for path, methods in (
            ("/v1/hubs", "GET, POST"),
            ("/v1/hubs/x", "DELETE, GET, PATCH"),
            ("/v1/health", "GET"),
            ("/v1/clients/lookup", "POST"),
        ):
            answer = await world.call("OPTIONS", path)
            assert (answer.status_code, answer.headers["allow"]) == (405, methods)

    in_world(scenario)
