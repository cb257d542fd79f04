# SPDX-License-Identifier: Apache-2.0
"""Planted secrets, and a search for them in everything that a server and its clients leave behind.

::

    canary = Canary()
    canary.plant("password", identity.password)
    ...
    canary.look_around(server)
    canary.look("the client's repr", repr(client))
    canary.check()

A secret is found as it is and in the forms in which secrets leak: base64 wherever it begins, hex, percent-encoded,
in small letters, escaped as in JSON.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, quote_plus

if TYPE_CHECKING:
    from thalovant_server.testing import ServerProcess

LEAST = 12
"""A shorter secret would be found where nobody leaked it."""


class SecretFoundError(AssertionError):
    """A planted secret showed where it must not; names the secret and the place, not its value."""


@dataclass(frozen=True, slots=True)
class _Planted:
    name: str
    forms: tuple[bytes, ...] = field(repr=False)
    allowed: frozenset[str]


class Canary:
    """Secrets and where they were found."""

    def __init__(self) -> None:
        self._planted: list[_Planted] = []
        self.found: list[str] = []
        """What was found so far, each as "name in place"."""
        self.places: list[str] = []
        """Where was looked so far."""

    def plant(self, name: str, secret: str | bytes, *, allowed: tuple[str, ...] = ()) -> None:
        """Look for this secret from now on.

        Args:
            name: what to call it.
            secret: at least `LEAST` bytes.
            allowed: places that hold it on purpose, such as the file that its owner reads it from.

        Raises:
            ValueError: it is too short to be told from chance.
        """
        raw = secret.encode() if isinstance(secret, str) else secret
        if len(raw) < LEAST:
            raise ValueError(f"{name} is too short to look for")
        self._planted.append(_Planted(name, tuple(set(_forms(raw))), frozenset(allowed)))

    def look(self, place: str, text: str | bytes) -> None:
        """Search a text; what is found is kept for `check`."""
        raw = text.encode("utf-8", "replace") if isinstance(text, str) else text
        self.places.append(place)
        for secret in self._planted:
            if place not in secret.allowed and any(form in raw for form in secret.forms):
                self.found.append(f"{secret.name} in {place}")

    def look_in_files(self, folder: Path) -> None:
        """Search every file below a folder; the place is its path there."""
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                self.look(str(path.relative_to(folder)), path.read_bytes())

    def look_around(self, server: ServerProcess) -> None:
        """Search what a server has written, its ready file, its data directory, and its command line if it runs."""
        self.look("server output", "".join(server.output))
        if server.ready_file.exists():
            self.look("ready file", server.ready_file.read_bytes())
        self.look_in_files(server.data)
        for name in ("cmdline", "environ"):
            path = Path(f"/proc/{server.pid}/{name}")
            if path.exists():
                self.look(f"server {name}", path.read_bytes())

    def check(self) -> None:
        """Raise SecretFoundError when anything was found."""
        if self.found:
            raise SecretFoundError("; ".join(sorted(set(self.found))))


def _forms(raw: bytes) -> Iterator[bytes]:
    yield raw
    yield raw.hex().encode()
    yield raw.hex().upper().encode()
    for shift in range(3):  # base64 of something that holds it: the same whatever comes before and after
        whole = base64.b64encode(bytes(shift) + raw)
        inner = whole[-(-shift * 8 // 6) : len(whole) - 4]
        yield inner
        yield inner.replace(b"+", b"-").replace(b"/", b"_")
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        return
    yield text.lower().encode()  # as an e-mail address is folded
    for encoded in (quote(text, safe=""), quote_plus(text), json.dumps(text)[1:-1], repr(text)[1:-1]):
        yield encoded.encode()
