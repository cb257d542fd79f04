# SPDX-License-Identifier: Apache-2.0
"""The log: one line an event on standard error, secrets taken out by the last step before it is written.

Nothing of ours logs a secret; the redaction is there for the day when somebody's mistake would.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any

import structlog

REDACTED = "<redacted>"
_SECRET_NAMES = re.compile(
    r"passw|secret|token|credential|authorization|api_?key|access_?key|crypto_?key|private_?key|session_?key|psk|cookie",
    re.IGNORECASE,
)
_SECRET_TEXTS = re.compile(
    r"(authorization=)[^\s&\"']+|(\bBearer\s+)[^\s\"']+|(hivemind_http_replica=)[^\s;\"']+", re.IGNORECASE
)
_PLAIN_NAMES = frozenset({"credential_id", "token_id", "password_file", "admin_password_file"})


def configure(level: int = logging.INFO) -> None:
    """Send structlog's events and the standard library's records through one chain to standard error."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                redact,
                structlog.processors.LogfmtRenderer(
                    key_order=["timestamp", "level", "event"], drop_missing=True, bool_as_flag=False
                ),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for chatty in ("uvicorn", "alembic", "websockets"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


def redact(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Replace values under names that say secret, and secrets inside texts; the last processor of the chain."""
    for name, value in event.items():
        event[name] = _redacted(name, value)
    return event


def _redacted(name: str, value: Any) -> Any:
    if _SECRET_NAMES.search(name) and name not in _PLAIN_NAMES and value is not None:
        return REDACTED
    if isinstance(value, str):
        return _SECRET_TEXTS.sub(lambda found: "".join(group or "" for group in found.groups()) + REDACTED, value)
    if isinstance(value, Mapping):
        return {key: _redacted(str(key), inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_redacted("", inner) for inner in value]
    return value
