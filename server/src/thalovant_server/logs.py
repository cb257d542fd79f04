# SPDX-License-Identifier: Apache-2.0
"""The log: one line an event on standard error, secrets taken out by the last step before it is written.

Nothing of ours logs a secret; the redaction is there for the day when somebody's mistake would. What others sent
reaches a terminal as text, never as control characters. It decides nothing about what is worth a line.
"""

from __future__ import annotations

import logging
import re
import sys
import sysconfig
import traceback
from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import Any

import structlog

REDACTED = "<redacted>"
LONGEST_ERROR = 500
_CONTROLS = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
_LIBRARIES = tuple(sysconfig.get_path(kind) for kind in ("stdlib", "purelib", "platlib"))
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
        name_error,
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
                    key_order=["timestamp", "level", "event", "error"], drop_missing=True, bool_as_flag=False
                ),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for chatty in ("uvicorn", "alembic", "websockets"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


def name_error(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Put what went wrong and where into `error`: ``ValueError: no such light (answers.py:28)``."""
    given = event.get("exc_info")
    error = given if isinstance(given, BaseException) else (given if isinstance(given, tuple) else sys.exc_info())[1]
    if given and error is not None:
        event.setdefault("error", f"{_said(error)}{_place(error)}")
    return event


def _said(error: BaseException) -> str:
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - it is an agent's own class
        text = ""
    name = type(error).__name__
    return f"{name}: {text[:LONGEST_ERROR]}" if text else name


def _place(error: BaseException) -> str:
    """Return the innermost line that is not a library's: the author of an agent looks there first."""
    frames = list(traceback.walk_tb(error.__traceback__))
    if not frames:
        return ""
    places = [(frame.f_code.co_filename, line) for frame, line in frames]
    file, line = next((place for place in reversed(places) if not place[0].startswith(_LIBRARIES)), places[-1])
    return f" ({Path(file).name}:{line})"


def redact(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Replace values under names that say secret, and secrets inside texts; the last processor of the chain.

    Control characters are written out, but for line ends, which the renderer writes as ``\\n``.
    """
    for name, value in event.items():
        event[name] = _redacted(name, value)
    return event


def _redacted(name: str, value: Any) -> Any:
    if _SECRET_NAMES.search(name) and name not in _PLAIN_NAMES and value is not None:
        return REDACTED
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, Mapping):
        return {key: _redacted(str(key), inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_redacted("", inner) for inner in value]
    text = _SECRET_TEXTS.sub(lambda found: "".join(group or "" for group in found.groups()) + REDACTED, str(value))
    return _CONTROLS.sub(lambda found: f"\\x{ord(found[0]):02x}", text)
