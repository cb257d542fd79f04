# SPDX-License-Identifier: Apache-2.0
"""Bounds on request bodies, before anything parses them into models: size, time, and the shape of the JSON.

A pure ASGI layer. What passes is strict JSON of bounded depth, whose strings are valid Unicode and whose numbers can
be written back; and the forms of the pages that are named here, as they came. One parser decides: what it read is
written anew for whoever reads the body next.
"""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from thalovant_server.control.problems import problem
from thalovant_server.errors import ApiError

MOST_BYTES = 256 * 1024
MOST_BYTES_OF_STRANGERS = 8 * 1024
MOST_BYTES_HELD = 48 * 1024 * 1024
MOST_BYTES_HELD_OF_STRANGERS = 16 * 1024 * 1024
MOST_DEPTH = 32
MOST_VALUES = 10_000
LONGEST_STRING = 16_384
BEYOND_INTEGERS = 2.0**63
SECONDS = 20.0
RETRY_SECONDS = 5
LONGEST_LENGTH = 20  # digits
FORMS = frozenset({"/v1/device"})
FORM = b"application/x-www-form-urlencoded"
_HANG_UP = {"connection": "close"}  # what is still to come of the body would fill the buffers below us


class _Room:
    """How long one body may be, and how many bytes of all such bodies are held at once."""

    def __init__(self, most: int, most_held: int) -> None:
        self.most = most
        self._left = most_held

    def take(self, size: int) -> None:
        if size > self._left:
            raise ApiError(
                503,
                "Too many requests at this moment.",
                "overloaded",
                retry_after_seconds=RETRY_SECONDS,
                headers=_HANG_UP,
            )
        self._left -= size

    def give_back(self, size: int) -> None:
        self._left += size


class BodyBounds:
    """Reads the whole body within bounds, then hands it on as one piece.

    A request without a bearer token has no reason to be long. Whether a token is good is not known yet: bodies that
    come with one have room of their own, so that made-up tokens do not keep people from signing in.

    Args:
        app: the application behind.
        seconds: within which a body must be there.
        held: bytes of all bodies with a bearer token.
        held_of_strangers: bytes of all bodies without one.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        seconds: float = SECONDS,
        held: int = MOST_BYTES_HELD,
        held_of_strangers: int = MOST_BYTES_HELD_OF_STRANGERS,
    ) -> None:
        self._app = app
        self._seconds = seconds
        self._callers = _Room(MOST_BYTES, held)
        self._strangers = _Room(MOST_BYTES_OF_STRANGERS, held_of_strangers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, as ASGI has it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        room = self._callers if _has_bearer(scope) else self._strangers
        held = _Held(room)
        try:
            await self._serve(scope, receive, send, held)
        finally:
            room.give_back(held.size)

    async def _serve(self, scope: Scope, receive: Receive, send: Send, held: _Held) -> None:
        try:
            async with asyncio.timeout(self._seconds):
                body = await _read(scope, receive, held)
            if body and not _is_form(scope):
                body = orjson.dumps(check_json(body))
        except TimeoutError:
            late = ApiError(408, "The body did not arrive in time.", "body_timeout", headers=_HANG_UP)
            await problem(late)(scope, receive, send)
        except ApiError as error:
            await problem(error)(scope, receive, send)
        except _GoneError:
            return
        else:
            await self._app(scope, _replay(body, receive), send)


class _Held:
    """The bytes of one body, each counted before it is kept."""

    def __init__(self, room: _Room) -> None:
        self._room = room
        self.size = 0
        self.most = room.most

    def take(self, size: int) -> None:
        if self.size + size > self.most:
            raise _too_large(self.most)
        self._room.take(size)
        self.size += size


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


def _is_form(scope: Scope) -> bool:
    """Whether it is what a page of ours sends: short, and read by that page's own parser."""
    given = next((value for name, value in scope["headers"] if name == b"content-type"), b"")
    return scope["path"] in FORMS and given.partition(b";")[0].strip().lower() == FORM


def _has_bearer(scope: Scope) -> bool:
    given = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
    kind, _, token = given.partition(b" ")
    return kind.lower() == b"bearer" and bool(token.strip())


async def _read(scope: Scope, receive: Receive, held: _Held) -> bytes:
    declared = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
    if not declared.isdigit() or len(declared) > LONGEST_LENGTH or int(declared) > held.most:
        raise _too_large(held.most)
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise _GoneError
        piece = message.get("body", b"")
        held.take(len(piece))
        body += piece
        if not message.get("more_body", False):
            return bytes(body)


def _too_large(most: int) -> ApiError:
    return ApiError(413, f"The body is larger than {most} bytes.", "body_too_large", headers=_HANG_UP)


def _replay(body: bytes, receive: Receive) -> Receive:
    pieces = [body]

    async def again() -> Message:
        if pieces:
            return {"type": "http.request", "body": pieces.pop(), "more_body": False}
        return await receive()

    return again
