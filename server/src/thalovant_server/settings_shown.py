# SPDX-License-Identifier: Apache-2.0
"""What `thalovant-server config` prints: every setting, its value, who said it. No setting is a secret."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson

from thalovant_server import certificates
from thalovant_server.certificate_files import AUTHORITY_CERTIFICATE
from thalovant_server.settings import Settings, option_name
from thalovant_server.settings_sources import ReadSettings


def as_json(read: ReadSettings) -> str:
    """Return it for programs."""
    shown = {
        "settings": {
            option_name(name): {"value": _plain(getattr(read.settings, name)), "from": origin}
            for name, origin in read.origins.items()
        },
        "file": str(read.file) if read.file else None,
        "ca_fingerprint": _fingerprint(read.settings),
    }
    return orjson.dumps(shown, option=orjson.OPT_INDENT_2).decode()


def as_text(read: ReadSettings) -> str:
    """Return it for people."""
    rows = [(option_name(name), _said(getattr(read.settings, name)), origin) for name, origin in read.origins.items()]
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    lines = [f"{name:{widths[0]}}  {value:{widths[1]}}  {origin}" for name, value, origin in rows]
    fingerprint = _fingerprint(read.settings) or "none yet: the first start makes the authority"
    return "\n".join(
        [*lines, "", f"file of settings         {read.file or 'none'}", f"authority's fingerprint  {fingerprint}"]
    )


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    return list(value) if isinstance(value, tuple) else value


def _said(value: Any) -> str:
    if value is None or value == ():
        return "-"
    return " ".join(value) if isinstance(value, tuple) else str(value)


def _fingerprint(settings: Settings) -> str | None:
    """That of the authority that clients are to trust; None when there is none, or it cannot be read."""
    path = settings.certificate_authority or settings.data.expanduser() / AUTHORITY_CERTIFICATE
    if settings.certificate and not settings.certificate_authority:
        return None
    try:
        return certificates.fingerprint(path.read_text("ascii"))
    except (OSError, ValueError):
        return None
