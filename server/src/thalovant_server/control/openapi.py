# SPDX-License-Identifier: Apache-2.0
"""The API document: what the routes declare, and what is true of all of them, written once.

`python -m thalovant_server.control.openapi` prints it as `contract/control-plane.openapi.json` holds it: the same for
every server of this version, so that SDKs and tests have one to hold themselves to.
"""

from __future__ import annotations

import json
import sys
from http import HTTPStatus
from typing import Any, cast

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from pydantic import BaseModel

from thalovant_server.control.problems import FieldError, Problem

PROBLEM_JSON = "application/problem+json"
PROBLEM = "#/components/schemas/Problem"
DESCRIPTION = """\
Accounts, hubs, clients and their identities of a self-hosted Thalovant.

Sign in with `POST /v1/auth/token` and send the token as `Authorization: Bearer <token>`. Every refusal is
problem+json with a `code` for programs and a `detail` for people. Lists come in pages: send `meta.next` back as
`cursor`. A change of a hub or client needs its `etag` as `If-Match`. A `POST` with an `Idempotency-Key` may be
repeated. Members that you do not know are to be ignored.
"""
TAGS = [
    {"name": "auth", "description": "Signing in and out; tokens."},
    {"name": "users", "description": "People's accounts: invitations and passwords."},
    {"name": "hubs", "description": "Hubs, for their owners and, where they are public, for everybody."},
    {"name": "clients", "description": "Clients of hubs, each with a credential of its own."},
    {"name": "audit", "description": "Who did what to which hub or client, and what was denied."},
    {"name": "presence", "description": "Which clients are online."},
    {"name": "operations", "description": "What takes longer than its request."},
    {"name": "server", "description": "The server itself."},
]
# What each refusal means, and the codes that it may have.
REFUSALS = {
    400: (
        "The request cannot be carried out as it is.",
        "bad_request immutable_field unknown_client authorization_pending slow_down access_denied expired_token",
    ),
    401: ("Nobody is signed in, or the login failed.", "invalid_token invalid_credentials"),
    403: (
        "The token may not do this.",
        "insufficient_scopes ownership_required token_limited_to_hubs admin_required session_required "
        "wrong_password other_site",
    ),
    404: (
        "There is no such thing, or not for this caller.",
        "hub_not_found client_not_found credential_not_found token_not_found user_not_found "
        "invitation_not_found device_code_not_found operation_not_found no_own_authority "
        "not_found",
    ),
    408: ("The body did not arrive in time.", "body_timeout"),
    409: (
        "Something else stands in the way.",
        "slug_in_use access_key_in_use idempotency_key_reused idempotency_result_gone rotation_in_progress no_rotation "
        "new_credential_unused too_many_tokens email_in_use account_disabled last_admin password_changed_meanwhile",
    ),
    412: ("No etag was sent as `If-Match`, or not the present one: read again, then repeat.", "etag_mismatch"),
    413: ("The body is too large.", "body_too_large"),
    422: (
        "The request is not of the right shape; `errors` says where.",
        "validation_failed malformed_json body_too_complex invalid_cursor invalid_scope invalid_idempotency_key",
    ),
    429: (
        "Too much at once: wait for `retry_after_seconds`.",
        "login_rate_limited too_many_watchers device_login_rate_limited",
    ),
    503: (
        "The server is busy or going down: try again in a moment.",
        "overloaded storage_unavailable too_many_watchers",
    ),
}


def told(model: type[BaseModel] | None, *refusals: int) -> dict[int | str, dict[str, Any]]:
    """What a route declares: the shape of its answer, and the refusals that only it and few others have."""
    answer: dict[int | str, dict[str, Any]] = {"2XX": {"model": model, "description": "Done"}} if model else {}
    return {**answer, **{status: {} for status in refusals}}


def operation_id(route: APIRoute) -> str:
    """Name an operation as its function is named, for those who generate clients."""
    return route.name


def install(app: FastAPI) -> None:
    """Have ``app`` serve the document."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = document(app)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # as FastAPI's own documentation does


def document(app: FastAPI) -> dict[str, Any]:
    """Return the document of an application."""
    made = get_openapi(
        title=app.title, version=app.version, description=DESCRIPTION, routes=app.routes, tags=cast("Any", TAGS)
    )
    schemas = made["components"]["schemas"]
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    schemas["Problem"] = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas["Problem"].pop("$defs", None)
    schemas["FieldError"] = FieldError.model_json_schema()
    made["components"]["responses"] = {_name(status): _refusal(status) for status in REFUSALS}
    for item in made["paths"].values():
        for operation in item.values():
            _complete(operation)
    return made


def _complete(operation: dict[str, Any]) -> None:
    """Fill in what follows from what an operation declares: who may call it, who may be refused, and how."""
    needed = sorted({scope for way in operation.get("security", ()) for some in way.values() for scope in some})
    if needed:
        operation["description"] += f" Needs the scope {' and '.join(f'`{scope}`' for scope in needed)}."
    responses: dict[str, Any] = operation["responses"]
    declared = {int(status) for status in responses if status.isdigit() and int(status) in REFUSALS}
    statuses = declared | {422, 503}
    if "security" in operation:
        statuses |= {401, 403}
    if "requestBody" in operation:
        statuses |= {408, 413}
    done = {status: answer for status, answer in responses.items() if not status.isdigit() or int(status) < 400}
    _name_success(done)
    operation["responses"] = {**done, **{str(status): _reference(status) for status in sorted(statuses)}}


def _name_success(responses: dict[str, Any]) -> None:
    """The route's own success status gets the shape that it told of."""
    told_of = responses.pop("2XX", None)
    if told_of is not None:
        status = next(iter(responses))
        responses[status] = told_of


def _reference(status: int) -> dict[str, str]:
    return {"$ref": f"#/components/responses/{_name(status)}"}


def _name(status: int) -> str:
    return HTTPStatus(status).phrase.replace(" ", "")


def _refusal(status: int) -> dict[str, Any]:
    description, codes = REFUSALS[status][0], REFUSALS[status][1].split()
    title = HTTPStatus(status).phrase
    example = {"type": "about:blank", "title": title, "status": status, "detail": description, "code": codes[0]}
    body = {"schema": {"$ref": PROBLEM}, "example": example}
    said = f"{description} Codes: {', '.join(f'`{code}`' for code in codes)}."
    return {"description": said, "content": {PROBLEM_JSON: body}}


def text_of(made: dict[str, Any]) -> str:
    """Return a document as it is written to a file."""
    return json.dumps(made, indent=2, ensure_ascii=False) + "\n"


def main() -> None:
    """Print the document of this version; it needs no server and no database."""
    from thalovant_server import __version__
    from thalovant_server.control.app import create_app

    class _Nothing:
        version = __version__

    sys.stdout.write(text_of(create_app(cast("Any", _Nothing())).openapi()))


if __name__ == "__main__":
    main()
