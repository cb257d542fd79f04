# SPDX-License-Identifier: Apache-2.0
"""The requests of the HTTPS carrier as bytes, and what their answers mean (contract 10.2, docs/wire.md).

An address with the authorization in it is a secret: it is made here and shown nowhere. It keeps the hub's cookies and
opens nothing.
"""

from __future__ import annotations

import base64
import re
from typing import Any, Final
from urllib.parse import quote, unquote, urlencode, urlsplit

import orjson

from thalovant.addresses import authorization_query
from thalovant.diagnoses import Diagnosis, diagnose, diagnosed, of_refusal
from thalovant.errors import ThalovantConnectionError, ThalovantHubRefusedError
from thalovant.transports.http11 import Answer

__all__ = ["HubRequests"]

_WORDS: Final = 200  # of a hub's own that are shown
MAX_COOKIES: Final = 32
MAX_COOKIE: Final = 4096  # bytes of a cookie's name and value (RFC 6265, 6.1)
BINARY: Final = b"application/octet-stream"
FORM: Final = b"application/x-www-form-urlencoded"
GETS: Final = frozenset({"get_messages", "get_binary_messages"})

_COOKIE = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+=[\x20-\x3a\x3c-\x7e]*")
_HOST = re.compile(r"[0-9A-Za-z._:%~-]+")


class HubRequests:
    """Requests to one hub at `base`. Raises `ThalovantConnectionError` for what HTTP cannot carry."""

    def __init__(self, base: str, useragent: str, access_key: str) -> None:
        parts = urlsplit(base)
        self.tls = parts.scheme == "https"
        self.host = parts.hostname or ""
        self.port = parts.port or (443 if self.tls else 80)
        self.where = parts.netloc.rpartition("@")[2]
        self.useragent = _header_value(useragent)
        self._path = quote(parts.path, safe="/%:@!$&'()*+,;=~")
        self._access_key = access_key
        self._query = authorization_query(useragent, access_key)
        self._fixed = [
            b"Host: " + _host_header(self.where),
            b"User-Agent: " + self.useragent,
            b"Accept-Encoding: identity",
        ]
        if parts.username is not None:
            login = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            self._fixed.append(b"Authorization: Basic " + base64.b64encode(login.encode()))
        self._cookies: dict[bytes, bytes] = {}
        self._heads: dict[str, bytes] = {}

    def plain(self, name: str) -> bytes:
        """A request without a body."""
        length = b"" if name in GETS else b"Content-Length: 0\r\n"
        return b"%s%s\r\n" % (self._head(name), length)

    def form(self, name: str, fields: dict[str, str]) -> bytes:
        """A request with a form."""
        return self._with_body(name, FORM, urlencode(fields).encode())

    def exchange(self, body: bytes) -> bytes:
        """An exchange."""
        return self._with_body("exchange", BINARY, body)

    def content(self, name: str, answer: Answer) -> bytes:
        """The body of an answer that is as it should be, its cookies kept.

        Raises ThalovantHubRefusedError for 401 and 403, ThalovantConnectionError for every other status but 200.
        """
        self._keep_cookies(answer)
        if answer.status == 200:
            return answer.body
        if answer.status in (401, 403):
            raise diagnosed(ThalovantHubRefusedError, self._refusal(answer))
        raise diagnosed(ThalovantConnectionError, self._failure(name, answer.status, _said(answer.body)))

    def json(self, name: str, answer: Answer) -> dict[str, Any]:
        """The JSON object of such an answer; one that holds an `error` is none (contract 10.2). Raises as `content`."""
        body = _object(self.content(name, answer))
        if "error" in body:
            raise diagnosed(ThalovantConnectionError, self._failure(name, answer.status, body["error"]))
        return body

    def _with_body(self, name: str, content_type: bytes, body: bytes) -> bytes:
        head = b"Content-Type: %s\r\nContent-Length: %d\r\n\r\n" % (content_type, len(body))
        return b"".join((self._head(name), head, body))

    def _head(self, name: str) -> bytes:
        head = self._heads.get(name)
        if head is None:
            line = f"{'GET' if name in GETS else 'POST'} {self._path}/{name}?{self._query} HTTP/1.1".encode()
            cookies = b"; ".join(b"%s=%s" % cookie for cookie in self._cookies.items())
            lines = [line, *self._fixed, *([b"Cookie: " + cookies] if cookies else []), b""]
            head = self._heads[name] = b"\r\n".join(lines)
        return head

    def _keep_cookies(self, answer: Answer) -> None:
        """The hub's own, and those of what stands before it: there is one origin, so their attributes do not matter."""
        for name, value in answer.headers:
            if name == b"set-cookie":
                cookie = value.partition(b";")[0].strip(b" \t")
                if len(cookie) <= MAX_COOKIE and _COOKIE.fullmatch(cookie):
                    key, _, content = cookie.partition(b"=")
                    if key in self._cookies or len(self._cookies) < MAX_COOKIES:
                        self._cookies[key] = content
                        self._heads.clear()

    def _refusal(self, answer: Answer) -> Diagnosis:
        said = self._shown(_said(answer.body))
        told = f"{self.where} does not accept these credentials (HTTP {answer.status}{said})."
        return diagnose(of_refusal(said) or "credential_refused", told=told, said=told, protocol="HTTPS")

    def _failure(self, name: str, status: int, error: object) -> Diagnosis:
        said = self._shown(error)
        if status in (429, 503):
            return diagnose(of_refusal(said) or "server_busy", told=f"{self.where} is busy (HTTP {status}).")
        if status == 200:
            return diagnose("hub_refused_request", told=f"The hub did not take /{name}{said}.")
        return diagnose("wrong_service", told=f"{self.where} answered /{name} with HTTP {status}{said}.")

    def _shown(self, words: object) -> str:
        """What a hub says went wrong, behind a colon; should it repeat our access key, without that."""
        if not isinstance(words, str) or not words.isprintable():
            return ""
        return f": {words.replace(self._access_key, '<key>')[:_WORDS].rstrip('. ')}"


def _said(body: bytes) -> object:
    """What a hub says went wrong: ours has problems too (RFC 9457)."""
    fields = _object(body)
    return fields.get("error", fields.get("detail"))


def _object(content: bytes) -> dict[str, Any]:
    try:
        body = orjson.loads(content)
    except ValueError:
        body = None
    return body if isinstance(body, dict) else {}


def _header_value(text: str) -> bytes:
    if not text.isascii() or not text.isprintable():
        raise ThalovantConnectionError("The user agent holds characters that an HTTP header cannot: use plain letters.")
    return text.strip().encode()


def _host_header(where: str) -> bytes:
    try:
        name = where if where.isascii() else where.encode("idna").decode()
    except UnicodeError:
        name = ""
    if not _HOST.fullmatch(name.replace("[", "").replace("]", "")):
        raise ThalovantConnectionError("The identity's address holds no host name. Create a fresh identity.")
    return name.encode()
