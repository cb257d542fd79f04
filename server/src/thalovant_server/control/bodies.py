# SPDX-License-Identifier: Apache-2.0
"""Bounds on request bodies, before anything parses them into models: size, time, and the shape of the JSON.

A pure ASGI layer. What passes is strict JSON of bounded depth, whose strings are valid Unicode and whose numbers
can be written back. One parser decides: what it read is written anew for whoever reads the body next.
"""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from thalovant_server.control.problems import problem
from thalovant_server.errors import ApiError

MOST_BYTES = 256 * 1024
MOST_DEPTH = 32
MOST_VALUES = 10_000
LONGEST_STRING = 16_384
BEYOND_INTEGERS = 2.0**63
SECONDS = 20.0


class BodyBounds:
    """Reads the whole body within bounds, then hands it on as one piece."""

    def __init__(self, app: ASGIApp, *, seconds: float = SECONDS) -> None:
        self._app = app
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, as ASGI has it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            async with asyncio.timeout(self._seconds):
                body = await _read(scope, receive)
            if body:
                body = orjson.dumps(check_json(body))
        except TimeoutError:
            await problem(ApiError(408, "The body did not arrive in time.", "body_timeout"))(scope, receive, send)
        except ApiError as error:
            await problem(error)(scope, receive, send)
        except _GoneError:
            return
        else:
            await self._app(scope, _replay(body, receive), send)


class _GoneError(Exception):
    """The sender left before the body was there."""


def check_json(body: bytes) -> dict[str, Any]:
    """Return the body as an object.

    Raises:
        ApiError: 422, it is not JSON, no object, or larger in some way than a request has reason to be.
    """
    try:
        parsed = orjson.loads(body)
    except ValueError:
        raise ApiError(422, "The body is not valid JSON.", "malformed_json") from None
    if not isinstance(parsed, dict):
        raise ApiError(422, "The body must be a JSON object.", "malformed_json")
    _check_shape(parsed)
    return parsed


def _check_shape(parsed: dict[str, Any]) -> None:
    level: list[Any] = [parsed]
    seen = 0
    for _ in range(MOST_DEPTH):
        seen += len(level)
        if seen > MOST_VALUES:
            raise ApiError(422, f"The body holds more than {MOST_VALUES} values.", "body_too_complex")
        level = [child for value in level for child in _children(value)]
        if not level:
            return
    raise ApiError(422, f"The body is nested deeper than {MOST_DEPTH} levels.", "body_too_complex")


def _children(value: Any) -> list[Any]:
    if isinstance(value, float) and abs(value) >= BEYOND_INTEGERS:  # how orjson reads an integer that is too long
        raise ApiError(422, "A number of the body does not fit into 64 bits.", "malformed_json")
    if isinstance(value, str):
        if len(value) > LONGEST_STRING or "\x00" in value:
            raise ApiError(
                422, f"A text of the body is longer than {LONGEST_STRING} or holds a NUL.", "body_too_complex"
            )
        return []
    if isinstance(value, dict):
        return [*value.keys(), *value.values()]
    return value if isinstance(value, list) else []


async def _read(scope: Scope, receive: Receive) -> bytes:
    declared = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
    if not declared.isdigit() or int(declared) > MOST_BYTES:
        raise _too_large()
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise _GoneError
        body += message.get("body", b"")
        if len(body) > MOST_BYTES:
            raise _too_large()
        if not message.get("more_body", False):
            return bytes(body)


def _too_large() -> ApiError:
    return ApiError(413, f"The body is larger than {MOST_BYTES} bytes.", "body_too_large")


def _replay(body: bytes, receive: Receive) -> Receive:
    pieces = [body]

    async def again() -> Message:
        if pieces:
            return {"type": "http.request", "body": pieces.pop(), "more_body": False}
        return await receive()

    return again
