# SPDX-License-Identifier: Apache-2.0
"""Which keys of a mapping speak of a secret, and the mapping without what they hold (contract 3.6).

Two rules, both of the contract: an identity shows that a secret is there, a client resource drops it. Names are
compared without case, blanks, `_` and `-`. This module looks at no value.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

__all__ = ["redacted", "without_secrets"]

REDACTED = "<redacted>"

_WORDS = re.compile(
    "password|passwd|secret|token|credential|authorization|apikey|accesskey|cryptokey|privatekey|sessionkey"
)
_DROPPED = frozenset(
    {
        *("initialidentify", "initialidentifytoken", "apikey", "accesskey", "password", "cryptokey", "token"),
        *("accesstoken", "refreshtoken", "authorization", "clientsecret", "privatekey", "secret", "apisecret"),
        *("secretkey", "credentials"),
    }
)
_SEPARATORS = re.compile(r"[_\-\s]")


def redacted(value: Any) -> Any:
    """`value` with everything under a key that holds a secret word replaced, at any depth."""
    if isinstance(value, Mapping):
        return {key: REDACTED if _WORDS.search(_plain(key)) else redacted(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [redacted(inner) for inner in value]
    return value


def without_secrets(value: Any) -> Any:
    """`value` without the keys that name a secret, at any depth; other keys stay, whatever words they hold."""
    if isinstance(value, Mapping):
        return {key: without_secrets(inner) for key, inner in value.items() if _plain(key) not in _DROPPED}
    if isinstance(value, (list, tuple)):
        return [without_secrets(inner) for inner in value]
    return value


def _plain(key: object) -> str:
    return _SEPARATORS.sub("", str(key)).lower()
