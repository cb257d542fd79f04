# SPDX-License-Identifier: Apache-2.0
"""An export of the audit log: JSON lines, the last of which signs all before it; made here, and checked here, offline.

The last line holds `sha256`, the hex digest of every byte before it, how many entries those are, and last
`signature`: base64 of an Ed25519 signature over that line as it is without its signature. So the digest is signed,
and with it the count, the time, and what was asked for. Whoever alters, removes, reorders or adds a line cannot sign
it anew without the server's key, and the key that did is in the line.

Sans-I/O: lines in, lines out.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from thalovant_server.errors import AuditExportError

FORMAT = "thalovant-audit-export-1"
_MEMBERS = {"format", "entries", "first_id", "last_id", "exported_at", "filters", "sha256", "public_key", "signature"}


def new_key() -> bytes:
    """Return a new private key, 32 bytes."""
    return Ed25519PrivateKey.generate().private_bytes_raw()


def public_key(private_key: bytes) -> str:
    """Return the public key of a private one, base64."""
    return _base64(Ed25519PrivateKey.from_private_bytes(private_key).public_key().public_bytes_raw())


class ExportWriter:
    """Makes the lines of one export, each with its line feed.

    Args:
        private_key: 32 bytes.
        filters: what was asked for; those that are None are left out.
    """

    def __init__(self, private_key: bytes, filters: Mapping[str, str | None]) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(private_key)
        self._filters = {name: value for name, value in filters.items() if value is not None}
        self._digest = hashlib.sha256()
        self._entries = 0
        self._ids: tuple[str | None, str | None] = None, None

    def entry(self, entry: Mapping[str, Any]) -> bytes:
        """Return the line of the next entry."""
        line = orjson.dumps(entry) + b"\n"
        self._digest.update(line)
        self._entries += 1
        self._ids = self._ids[0] or entry["id"], entry["id"]
        return line

    def end(self, exported_at: str) -> bytes:
        """Return the last line."""
        said = {
            "format": FORMAT,
            "entries": self._entries,
            "first_id": self._ids[0],
            "last_id": self._ids[1],
            "exported_at": exported_at,
            "filters": self._filters,
            "sha256": self._digest.hexdigest(),
            "public_key": _base64(self._key.public_key().public_bytes_raw()),
        }
        return orjson.dumps({**said, "signature": _base64(self._key.sign(orjson.dumps(said)))}) + b"\n"


@dataclass(frozen=True, slots=True)
class Verified:
    """What a good export says of itself."""

    entries: int
    first_id: str | None
    last_id: str | None
    exported_at: str
    filters: dict[str, str]
    public_key: str


def verify(lines: Iterable[bytes], expected_key: str | None = None) -> Verified:
    """Check an export.

    Args:
        lines: of the file, each with its line feed; only one is held at a time.
        expected_key: the public key that must have signed it, base64; None takes the one that is in the export.

    Raises:
        AuditExportError: it is not as the server wrote it; the sentence says in which way.
    """
    digest, count, last = hashlib.sha256(), -1, b""
    for line in lines:
        digest.update(last)
        last, count = line, count + 1
    said = _last_line(last)
    if expected_key is not None and said["public_key"] != expected_key.strip():
        raise AuditExportError("it is signed with another key than the one given")
    if not _is_signed(last, said):
        raise AuditExportError("its last line, which signs the others, was altered")
    if said["entries"] != count:
        raise AuditExportError(f"it has {count} entries where {said['entries']} were exported")
    if said["sha256"] != digest.hexdigest():
        raise AuditExportError("entries in it were altered, exchanged or reordered")
    return Verified(**{name: said[name] for name in Verified.__dataclass_fields__})


def sentence(export: Verified, *, compared: bool) -> str:
    """Return in words what was found; `compared`: its key is the one that was expected."""
    which = f", #{export.first_id} to #{export.last_id}" if export.entries else ""
    asked = ", ".join(f"{name} {value}" for name, value in export.filters.items())
    only = f" It holds only what was asked for: {asked}." if asked else ""
    whole = f"ok: {export.entries} entries{which}, exported at {export.exported_at}, as the server wrote them.{only}"
    if compared:
        return whole
    return f"{whole}\nSigned with {export.public_key}: see that /v1/audit/key of your server says the same."


def _last_line(line: bytes) -> dict[str, Any]:
    try:
        said = orjson.loads(line)
    except ValueError:
        said = None
    if not isinstance(said, dict) or set(said) != _MEMBERS or said["format"] != FORMAT:
        raise AuditExportError("it was cut short, added to, or is no export: its last line does not sign the others")
    return said


def _is_signed(line: bytes, said: dict[str, Any]) -> bool:
    without = {name: value for name, value in said.items() if name != "signature"}
    try:
        key = Ed25519PublicKey.from_public_bytes(base64.b64decode(said["public_key"], validate=True))
        key.verify(base64.b64decode(said["signature"], validate=True), orjson.dumps(without))
    except (InvalidSignature, ValueError, TypeError):
        return False
    return line == orjson.dumps({**without, "signature": said["signature"]}) + b"\n"  # as it was written, byte by byte


def _base64(raw: bytes) -> str:
    return base64.b64encode(raw).decode("ascii")
