# SPDX-License-Identifier: Apache-2.0
"""The control plane's HTTP without I/O: calls become requests, answers objects or errors (contract 1).

It holds the token. It sends nothing, follows no redirect, and writes no secret into an error.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import urlencode

from thalovant.api_address import refuse_unencrypted
from thalovant.errors import ThalovantAPIError, ThalovantAuthError, api_error_from_response

MAX_ANSWER = 16 * 1024 * 1024
"""Bytes of one answer; no page of the contract comes near it."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ApiRequest:
    """One request of the contract: a path below the root, and what goes with it."""

    method: str
    path: str
    query: Mapping[str, str | int | None] = field(default_factory=dict)
    body: Mapping[str, Any] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    signed: bool = True
    connection_type: str | None = None
    """The kind of connection being created: a 422 about it has its own error (contract 3.4.5)."""


@dataclass(frozen=True, slots=True)
class Pause:
    """A call that polls asks to be resumed after so many seconds."""

    seconds: float


Call = Generator[ApiRequest | Pause, dict[str, Any], T]
"""A call as its steps: it yields requests and pauses, gets each answer's object, and returns the result."""


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """What goes on the wire."""

    method: str
    url: str
    headers: dict[str, str] = field(repr=False)
    content: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """What came back, header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)


class ApiSession:
    """Who is signed in where: writes requests and reads answers."""

    def __init__(self, root: str, *, access_token: str | None, token_id: str | None, user_agent: str) -> None:
        self.root = root
        self.access_token = access_token
        self.token_id = token_id
        self.user_agent = user_agent

    def write(self, request: ApiRequest) -> HttpRequest:
        """Turn a step into HTTP (contract 1.1 to 1.3).

        Raises ThalovantAuthError when it needs a token and there is none, ThalovantAPIError when it must not
        be sent unencrypted or cannot be written; nothing is sent in either case.
        """
        if request.signed or request.body is not None:
            refuse_unencrypted(self.root)
        headers = {"accept": "application/json", "user-agent": self.user_agent}
        if request.signed:
            headers["authorization"] = f"Bearer {self._token()}"
        content = None if request.body is None else _json(request.body)
        if content is not None:
            headers["content-type"] = "application/json"
        headers |= {name: _header(name, value) for name, value in request.headers.items()}
        return HttpRequest(request.method, self.root + request.path + _query(request.query), headers, content)

    def read(self, request: ApiRequest, answer: HttpAnswer) -> dict[str, Any]:
        """Read an answer (contract 1.4, 1.5): an object, an empty one for an empty body, or an error raised."""
        if not 200 <= answer.status < 300:
            raise api_error_from_response(
                answer.status, answer.headers, answer.body, connection_type=request.connection_type
            )
        if not answer.body.strip():
            return {}
        try:
            value = json.loads(answer.body)
        except (ValueError, RecursionError):
            # `from None`: the parser's error carries the whole answer.
            raise ThalovantAPIError("The Thalovant API answered no JSON.", status_code=answer.status) from None
        if not isinstance(value, dict):
            raise ThalovantAPIError("The Thalovant API answered no JSON object.", status_code=answer.status)
        return value

    def remember(self, answer: Mapping[str, Any]) -> None:
        """Keep the token of a sign-in; an answer without `token_id` clears the old one (contract 3.1)."""
        token, token_id = answer.get("access_token"), answer.get("token_id")
        if not isinstance(token, str) or not token:
            raise ThalovantAPIError("The Thalovant API answered the sign-in without an access token.")
        self.access_token = token
        self.token_id = token_id if isinstance(token_id, str) and token_id else None

    def forget(self) -> None:
        """Drop the token."""
        self.access_token = None
        self.token_id = None

    def _token(self) -> str:
        if not self.access_token:
            raise ThalovantAuthError(
                f"Not signed in to {self.root}: type `thalovant login {self.root} --ca DIR/ca.pem` (DIR: the server's "
                f"data directory), or call login(email, password)."
            )
        if not _is_header_text(self.access_token):
            raise ThalovantAuthError("The access token holds characters that no header may hold.")
        return self.access_token


def _json(body: Mapping[str, Any]) -> bytes:
    try:
        return json.dumps(body, allow_nan=False, separators=(",", ":")).encode("ascii")
    except (TypeError, ValueError, RecursionError):
        raise ThalovantAPIError("The request holds something that JSON cannot say; nothing was sent.") from None


def _header(name: str, value: str) -> str:
    if not _is_header_text(value):
        raise ThalovantAPIError(f"The {name} holds characters that no header may hold; nothing was sent.")
    return value


def _is_header_text(value: object) -> bool:
    return isinstance(value, str) and value.isascii() and value.isprintable() and bool(value.strip())


def _query(query: Mapping[str, str | int | None]) -> str:
    given = {name: value for name, value in query.items() if value is not None}
    return f"?{urlencode(given, errors='replace')}" if given else ""
