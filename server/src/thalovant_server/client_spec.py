# SPDX-License-Identifier: Apache-2.0
"""What a client's spec says of its permissions.

`allowed_types`: the bus message types that it may send; an empty list is a client that may only listen. `can_escalate`:
whether it may send `query` frames. Without them the defaults hold, under which `ask` and `query` work. Stores nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from thalovant_server.directory import Permissions
from thalovant_server.errors import ForbiddenTextError

GRANT = "can_escalate"
MOST_TYPES = 64
TYPE_LENGTH = 128


def check_permissions(spec: Mapping[str, Any]) -> None:
    """Check what the spec says of permissions, if it does.

    Raises:
        ForbiddenTextError: `allowed_types` is no list of at most 64 printable texts of 1 to 128 characters, or
            `can_escalate` is not true or false.
    """
    if not isinstance(spec.get(GRANT), bool | None):
        raise ForbiddenTextError(f"spec.{GRANT}", "must be true or false")
    given = spec.get("allowed_types")
    if given is None:
        return
    if not isinstance(given, list) or len(given) > MOST_TYPES or not all(map(_is_type, given)):
        raise ForbiddenTextError(
            "spec.allowed_types",
            f"must be a list of at most {MOST_TYPES} message types, each of 1 to {TYPE_LENGTH} characters",
        )


def permissions(spec: Mapping[str, Any]) -> Permissions:
    """Return what a checked spec permits."""
    given = spec.get("allowed_types")
    types = Permissions().allowed_types if given is None else frozenset(given)
    return Permissions(allowed_types=types, can_escalate=spec.get(GRANT) is None or spec[GRANT] is True)


def _is_type(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= TYPE_LENGTH and value.isprintable() and " " not in value
