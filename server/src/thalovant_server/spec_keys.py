# SPDX-License-Identifier: Apache-2.0
"""Keys of a spec, compared whatever their spelling; those that hold secrets; a change laid over (contract 3.6, 4.3).

A spec is the caller's document. It judges no value.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

SECRET_KEYS = frozenset(
    {
        "initialidentify",
        "initialidentifytoken",
        "apikey",
        "accesskey",
        "password",
        "cryptokey",
        "token",
        "accesstoken",
        "refreshtoken",
        "authorization",
        "clientsecret",
        "privatekey",
        "secret",
        "apisecret",
        "secretkey",
        "credentials",
    }
)
"""Never kept in a spec, never sent back in one; spelled as `plain_key` spells."""


def plain_key(key: str) -> str:
    """Return the one spelling of a key: ``apiKey``, ``api_key`` and ``API-Key`` are the same."""
    return key.lower().replace("_", "").replace("-", "")


def merged(old: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``old`` with ``patch`` laid over it key by key: objects merge, null removes (contract 4.3)."""
    result = dict(old)
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, dict):
            below = result.get(key)
            result[key] = merged(below if isinstance(below, dict) else {}, value)
        else:
            result[key] = value
    return result


def without_secrets(value: Any) -> Any:
    """Return a JSON value without the members that hold secrets, at whatever depth."""
    if isinstance(value, list):
        return [without_secrets(each) for each in value]
    if not isinstance(value, dict):
        return value
    return {key: without_secrets(each) for key, each in value.items() if plain_key(key) not in SECRET_KEYS}
