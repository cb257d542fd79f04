# SPDX-License-Identifier: Apache-2.0
"""Keeps the authorization out of the logs of the libraries below us; changes nothing else, logs nothing itself.

The access key travels in a query (contract 2), and HTTP libraries like to log addresses.
"""

from __future__ import annotations

import logging
import re

__all__ = ["without_authorization"]

_AUTHORIZATION = re.compile(r"(authorization=)[^&\s'\"]+")


def without_authorization(record: logging.LogRecord) -> bool:
    """A logging filter: blank the value of every `authorization=` in the record, and let the record pass."""
    text = record.getMessage()
    if "authorization=" in text:
        record.msg = _AUTHORIZATION.sub(r"\1<redacted>", text)
        record.args = ()
    return True
