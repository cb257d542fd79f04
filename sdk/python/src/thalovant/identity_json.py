# SPDX-License-Identifier: Apache-2.0
"""An identity's mapping as JSON text. It is alone with one question: what JSON does not know, and YAML does."""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping
from typing import Any

from thalovant.errors import ThalovantIdentityError

__all__ = ["json_text"]


def json_text(values: Mapping[str, Any], *, indent: int | None = None) -> str:
    """Return `values` as JSON, on one line without `indent`; a date becomes its ISO 8601 text.

    Raises ThalovantIdentityError for what JSON cannot hold; only an identity's metadata can hold such a thing.
    """
    separators = (",", ":") if indent is None else None
    try:
        text = json.dumps(
            values, indent=indent, separators=separators, ensure_ascii=False, allow_nan=False, default=_date
        )
        text.encode()
    except UnicodeEncodeError:  # half a character, which JSON can escape
        text = json.dumps(values, indent=indent, separators=separators, default=_date)
    except (TypeError, ValueError, RecursionError):
        raise ThalovantIdentityError(
            "The identity's metadata holds a value that JSON cannot: keep it to text, numbers, yes and no, lists and "
            "mappings."
        ) from None
    return text


def _date(value: object) -> str:
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    raise TypeError
