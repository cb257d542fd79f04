# SPDX-License-Identifier: Apache-2.0
"""The `authorization` query parameter of WSS and HTTPS: who knocks (contract section 2).

Base64 of `<user agent>:<access key>`, percent-encoded. It will not look anybody up, and nothing it raises holds
what was sent.
"""

from __future__ import annotations

import base64
import binascii
from urllib.parse import parse_qs

MAX_CHARS = 4096


class AuthorizationError(Exception):
    """There is no authorization (`missing`), or it is not of the form."""

    code = "invalid_authorization"

    def __init__(self, *, missing: bool) -> None:
        super().__init__("the authorization parameter is missing" if missing else "the authorization is malformed")
        self.missing = missing


def read_authorization(query: bytes) -> tuple[str, str]:
    """User agent and access key from a query string.

    Raises:
        AuthorizationError: the parameter is absent, not base64 of UTF-8, or one half is empty.
    """
    value = _parameter(query)
    if not value:
        raise AuthorizationError(missing=True)
    try:
        # A "+" that was not percent-encoded arrives as a blank.
        text = base64.b64decode(value.replace(" ", "+"), validate=True).decode("utf-8")
    except (binascii.Error, ValueError):
        raise AuthorizationError(missing=False) from None
    user_agent, colon, access_key = text.partition(":")
    if not colon or not user_agent or not access_key:
        raise AuthorizationError(missing=False)
    return user_agent, access_key


def _parameter(query: bytes) -> str:
    if len(query) > MAX_CHARS:
        raise AuthorizationError(missing=False)
    try:
        fields = parse_qs(query.decode("ascii"), max_num_fields=32)
    except ValueError:
        raise AuthorizationError(missing=False) from None
    return fields.get("authorization", [""])[0]
