# SPDX-License-Identifier: Apache-2.0
"""Every refusal as problem+json: a string `detail`, a `code`, and nothing of the request (contract 1.5)."""

from __future__ import annotations

import http
from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, Match, Route

from thalovant_server.control.answers import HEADERS
from thalovant_server.control.refusals import note_refusal
from thalovant_server.errors import ApiError, ForbiddenAgentError, ForbiddenTextError, Overloaded, StorageError

MOST_ERRORS = 20
LONGEST_LOCATION = 80
STORAGE_RETRY_SECONDS = 5
_CODES = {400: "bad_request", 404: "not_found", 405: "method_not_allowed", 413: "body_too_large"}


class FieldError(BaseModel):
    """One fault of a request: where, what, of which type."""

    loc: list[str | int]
    msg: str
    type: str


class Problem(BaseModel):
    """The body of every refusal."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    retry_after_seconds: int | None = None
    errors: list[FieldError] | None = None


def problem(error: ApiError) -> Response:
    """Return the response of a refusal."""
    headers = {**HEADERS, **error.headers}
    body: dict[str, Any] = {
        "type": "about:blank",
        "title": http.HTTPStatus(error.status).phrase,
        "status": error.status,
        "detail": error.detail,
        "code": error.code,
        **error.members,
    }
    if error.retry_after_seconds is not None:
        body["retry_after_seconds"] = error.retry_after_seconds
        headers["retry-after"] = str(error.retry_after_seconds)
    return Response(orjson.dumps(body), error.status, headers=headers, media_type="application/problem+json")


def invalid(errors: Sequence[Mapping[str, Any]]) -> ApiError:
    """Return the refusal of a request that is not of the right shape; ``errors`` have loc, msg and type.

    Only the parts named there are kept: a value of the request may be a secret.
    """
    kept = [_field_error(error) for error in errors[:MOST_ERRORS]]
    where = ".".join(str(part) for part in kept[0]["loc"][1:]) if kept else ""
    first = f": {where} {kept[0]['msg']}".replace(":  ", ": ") if kept else ""
    return ApiError(422, f"Schema validation failed{first}", "validation_failed", members={"errors": kept})


def install(app: FastAPI, routes: Sequence[BaseRoute] = ()) -> None:
    """Make ``app`` answer every error as a problem. ``routes`` are those of which a refused method is told."""
    app.state.routes = [route for route in routes if isinstance(route, Route)]
    app.add_exception_handler(ApiError, _on_api_error)
    app.add_exception_handler(ForbiddenTextError, _on_forbidden_text)
    app.add_exception_handler(Overloaded, _on_overloaded)
    app.add_exception_handler(StorageError, _on_storage_error)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http_exception)


def _field_error(error: Mapping[str, Any]) -> dict[str, Any]:
    location = [part if isinstance(part, int) else str(part)[:LONGEST_LOCATION] for part in error["loc"]]
    return {"loc": location, "msg": str(error["msg"]), "type": str(error["type"])}


async def _on_api_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)  # noqa: S101 - as it was registered
    note_refusal(request, error.status, error.code, error.hides)
    return problem(error)


async def _on_forbidden_text(request: Request, error: Exception) -> Response:
    assert isinstance(error, ForbiddenTextError)  # noqa: S101
    if isinstance(error, ForbiddenAgentError):  # no slip of the pen: that way lies running code
        note_refusal(request, http.HTTPStatus.FORBIDDEN, "agent_not_allowed")
    location = ["body", *error.field.split(".")]
    return problem(invalid([{"loc": location, "msg": error.rule, "type": error.code}]))


async def _on_overloaded(_: Request, error: Exception) -> Response:
    assert isinstance(error, Overloaded)  # noqa: S101
    return problem(ApiError(503, error.sentence, error.code, retry_after_seconds=error.retry_after_seconds))


async def _on_storage_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, StorageError)  # noqa: S101
    detail = "The server cannot reach its data just now. Try again in a moment."
    return problem(ApiError(503, detail, error.code, retry_after_seconds=STORAGE_RETRY_SECONDS))


async def _on_invalid(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101
    return problem(invalid(error.errors()))


async def _on_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101
    code = _CODES.get(error.status_code, "refused")
    headers = _allowed(request) if error.status_code == http.HTTPStatus.METHOD_NOT_ALLOWED else error.headers
    return problem(ApiError(error.status_code, str(error.detail), code, headers=headers))


def _allowed(request: Request) -> dict[str, str]:
    """Every method that the address takes (RFC 9110, 10.2.1); the framework names those of one route alone.

    An address that has a route to itself, such as ``/v1/clients/lookup``, is no client's.
    """
    matching = [route for route in request.app.state.routes if route.matches(request.scope)[0] is Match.PARTIAL]
    own = [route for route in matching if route.path == request.url.path] or matching
    return {"allow": ", ".join(sorted({method for route in own for method in route.methods or ()}))}
