# SPDX-License-Identifier: Apache-2.0
"""The few pieces of raw ASGI that the data plane needs: types, a JSON answer, a bounded body.

It will not route or know what is answered. No framework: a published client polls 18 times a second.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from http import HTTPStatus
from typing import Any

import orjson

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]

JSON = b"application/json; charset=UTF-8"
PROBLEM = b"application/problem+json"


class BodyTooLargeError(Exception):
    """The body passes its bound, came too slowly, or the client went away in the middle."""

    code = "body_too_large"


async def answer(
    send: Send,
    status: int,
    body: bytes = b"",
    *,
    content_type: bytes = JSON,
    headers: tuple[tuple[bytes, bytes], ...] = (),
) -> None:
    """Send one whole response."""
    fixed = [(b"content-length", b"%d" % len(body)), (b"cache-control", b"no-store")]
    if body:
        fixed.append((b"content-type", content_type))
    await send({"type": "http.response.start", "status": status, "headers": [*fixed, *headers]})
    await send({"type": "http.response.body", "body": body})


async def answer_json(send: Send, status: int, value: object, headers: tuple[tuple[bytes, bytes], ...] = ()) -> None:
    """Send one JSON response."""
    await answer(send, status, orjson.dumps(value), headers=headers)


async def answer_problem(
    send: Send, status: int, detail: str, code: str, headers: tuple[tuple[bytes, bytes], ...] = ()
) -> None:
    """Send a problem+json response (RFC 9457; contract control plane 1.5)."""
    body = problem_body(status, detail, code)
    await answer(send, status, body, content_type=PROBLEM, headers=headers)


def problem_body(status: int, detail: str, code: str) -> bytes:
    """The JSON of a problem."""
    title = HTTPStatus(status).phrase
    return orjson.dumps({"type": "about:blank", "title": title, "status": status, "detail": detail, "code": code})


async def read_body(receive: Receive, most: int, seconds: float) -> bytes:
    """The whole body.

    Raises:
        BodyTooLargeError: it is longer than `most` bytes, not whole within `seconds`, or broken off.
    """
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(seconds):
            while True:
                message = await receive()
                if message["type"] != "http.request":
                    raise BodyTooLargeError
                part = message.get("body", b"")
                size += len(part)
                if size > most:
                    raise BodyTooLargeError
                parts.append(part)
                if not message.get("more_body", False):
                    return b"".join(parts)
    except TimeoutError:
        raise BodyTooLargeError from None
