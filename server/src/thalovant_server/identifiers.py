# SPDX-License-Identifier: Apache-2.0
"""What an identifier, a name and a machine secret may look like, and how new ones are minted.

Identifiers and names end up in MQTT topics, peer names, paths and logs, so characters that mean something
there (`+ # / $`, control characters) are refused, and so is text that is not in Unicode's composed form:
two names that look alike must be one name. Stores nothing.
"""

from __future__ import annotations

import re
import secrets
import unicodedata

from thalovant_server.errors import ForbiddenTextError

NAME_LENGTH = 200
SITE_ID_LENGTH = 128
ID_CHARACTERS = 22  # of 62 each: 131 bits
SECRET_LENGTHS = (32, 256)

_ALPHANUMERIC = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_FORBIDDEN = frozenset("+#/$")
_SECRET = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)
_PLAIN_NAME = re.compile(r"[a-z0-9_-]{1,64}", re.ASCII)
_SLUG = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?", re.ASCII)
_CONTROL_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})
_JOINERS = frozenset("\u200c\u200d")  # ordinary spelling in Persian and in emoji


def new_id(kind: str) -> str:
    """Return a fresh identifier: ``<kind>-`` and 22 letters or digits, safe in paths and topics."""
    return f"{kind}-" + "".join(secrets.choice(_ALPHANUMERIC) for _ in range(ID_CHARACTERS))


def new_secret() -> str:
    """Return a fresh machine secret: 43 URL-safe characters, 256 random bits."""
    return secrets.token_urlsafe(32)


def topic_prefix(hub_id: str, client_id: str, number: int) -> str:
    """Return the topic prefix of a client's ``number``-th credential, from 1 (architecture decision 4)."""
    rotated = "" if number == 1 else f".{number}"
    return f"hubs/{hub_id}/clients/{client_id}{rotated}"


def check_name(field: str, text: str, *, longest: int = NAME_LENGTH) -> str:
    """Return ``text`` when it may serve as a name.

    Raises:
        ForbiddenTextError: it is blank, too long, not composed (NFC), or holds `+ # / $` or control characters.
    """
    if not text.strip():
        raise ForbiddenTextError(field, "must not be blank")
    if len(text) > longest:
        raise ForbiddenTextError(field, f"must have at most {longest} characters")
    if any(_is_forbidden(character) for character in text):
        raise ForbiddenTextError(field, "must not contain + # / $ or control characters")
    if not unicodedata.is_normalized("NFC", text):
        raise ForbiddenTextError(field, "must be in Unicode's composed form (NFC)")
    return text


def check_machine_secret(field: str, text: str) -> str:
    """Return ``text`` when it is long and plain enough for a keyed hash to check it (architecture decision 6).

    Raises:
        ForbiddenTextError: it is not 32 to 256 characters of A-Z a-z 0-9 _ -. The text itself is not repeated.
    """
    shortest, longest = SECRET_LENGTHS
    if not shortest <= len(text) <= longest or not _SECRET.fullmatch(text):
        raise ForbiddenTextError(field, f"must have {shortest} to {longest} characters, each of A-Z a-z 0-9 _ -")
    return text


def is_plain_name(text: str) -> bool:
    """Tell whether ``text`` is 1 to 64 of a-z 0-9 _ -, as an agent's name is."""
    return _PLAIN_NAME.fullmatch(text) is not None


def is_slug(text: str) -> bool:
    """Tell whether ``text`` is 1 to 63 of a-z 0-9 -, with no hyphen at either end."""
    return _SLUG.fullmatch(text) is not None


def slug_from(name: str) -> str:
    """Return the slug that a name suggests; ``hub`` when nothing of it can be kept."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:50].strip("-") or "hub"


def site_id_from(name: str) -> str:
    """Return the site id a client's name suggests (contract 3.4.2): trimmed, `_` and blanks become `-`."""
    site_id = re.sub(r"\s+", "-", name.strip().replace("_", "-"))
    return site_id[:SITE_ID_LENGTH] or f"thalovant-client-{secrets.token_hex(4)}"


def _is_forbidden(character: str) -> bool:
    if character in _FORBIDDEN:
        return True
    return unicodedata.category(character) in _CONTROL_CATEGORIES and character not in _JOINERS
