# SPDX-License-Identifier: Apache-2.0
"""What a control plane's address may look like, and what may be sent to it unencrypted (contract 1.1, 1.2).

Text in, text out: nothing here resolves a name or opens a connection.
"""

from __future__ import annotations

from urllib.parse import SplitResult, quote, urlsplit, urlunsplit

from thalovant.errors import ThalovantAPIError

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


def normalized_root(api_url: str) -> str:
    """The API root without blanks, trailing slashes or one trailing `/v1`; a path prefix is kept.

    Raises ThalovantAPIError for anything that is no http(s) address, and for user info in it, without
    repeating it.
    """
    parts = _split(api_url.strip())
    path = parts.path.rstrip("/").removesuffix("/v1").rstrip("/")
    return urlunsplit((parts.scheme.lower(), parts.netloc.lower(), path, "", ""))


def same_server(one: str, other: str) -> bool:
    """True when both are the same API root; a port that is the scheme's own may be left out."""
    return _identity(one) == _identity(other)


def refuse_unencrypted(root: str) -> None:
    """Raise ThalovantAPIError when what a request carries must not go to `root` in the clear (contract 1.2)."""
    parts = urlsplit(root)
    if parts.scheme == "http" and parts.hostname not in _LOOPBACK:
        raise ThalovantAPIError(
            f"Nothing was sent: {root} is plain HTTP to another machine, and this request carries credentials or "
            "data. Use the server's https:// address."
        )


def path_segment(identifier: str) -> str:
    """`identifier` escaped for use as one path segment.

    Raises ThalovantAPIError for what would name another path: empty text, `.` and `..`.
    """
    if identifier in ("", ".", ".."):
        raise ThalovantAPIError(f"{identifier!r} is not an id.")
    try:
        return quote(identifier, safe="")
    except UnicodeEncodeError:
        raise ThalovantAPIError(f"{identifier!r} is not an id.") from None


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise ThalovantAPIError("The API address is not a URL, like https://localhost:8443.") from None
    if parts.username is not None or parts.password is not None:
        raise ThalovantAPIError("The API address holds user info; leave it out and sign in with login().")
    if parts.scheme.lower() not in ("http", "https") or not parts.hostname or not url.isprintable() or " " in url:
        raise ThalovantAPIError("The API address is not an http(s) URL, like https://localhost:8443.")
    if parts.query or parts.fragment:
        raise ThalovantAPIError("The API address has a query or a fragment; leave it out.")
    return parts


def _identity(url: str) -> tuple[str, str | None, int, str]:
    parts = urlsplit(normalized_root(url))
    return parts.scheme, parts.hostname, parts.port or (443 if parts.scheme == "https" else 80), parts.path
