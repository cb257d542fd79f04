# SPDX-License-Identifier: Apache-2.0
"""Spans of time as people type and read them: 24h, 30m, 0; "3 min ago", "23 h left"."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import typer

__all__ = ["ago", "clock", "local_time", "moment", "now", "seconds_left", "seconds_of", "span", "zoned_time"]

_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_NAMES = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))
_TYPED = re.compile(r"(?:[0-9]{1,9}[smhd])+|0")


def now() -> datetime:
    """Return the time. All of this module asks here, so that a test can hold it still."""
    return datetime.now(UTC)


def seconds_of(text: str, option: str) -> int:
    """Read 90s, 30m, 24h, 7d, 1h30m or 0. Raises `typer.BadParameter`, naming the option, for anything else."""
    typed = text.strip().lower()
    if not _TYPED.fullmatch(typed):
        raise typer.BadParameter(f"{option}: {text!r} is no time; type it like 24h, 30m, 7d or 0")
    return sum(int(number) * _UNITS[unit] for number, unit in re.findall(r"([0-9]+)([smhd])", typed))


def moment(text: str | None, option: str) -> str | None:
    """Return a date, or a time, as it was typed. Raises `typer.BadParameter`, naming the option, when it is none."""
    if text is not None and _parsed(text) is None:
        raise typer.BadParameter(f"{option}: {text!r} is no date; type it like 2026-11-01 or 2026-11-01T10:00:00Z")
    return text


def span(seconds: float) -> str:
    """Return a span as people say it, in one unit: 3 min, 23 h."""
    size, name = next(((size, name) for size, name in _NAMES if seconds >= 2 * size), (1, "s"))
    return f"{max(int(seconds // size), 0)} {name}"


def ago(time: object) -> str:
    """Return how long ago an ISO 8601 time was; nothing for what is no time."""
    then = _parsed(time)
    return "" if then is None else f"{span((now() - then).total_seconds())} ago"


def seconds_left(time: object) -> float | None:
    """Return how many seconds there are until an ISO 8601 time; None for what is no time."""
    then = _parsed(time)
    return None if then is None else (then - now()).total_seconds()


def local_time(time: object) -> str:
    """Return an ISO 8601 time as the clock on the wall here shows it."""
    then = _parsed(time)
    return str(time or "") if then is None else f"{then.astimezone():%Y-%m-%d %H:%M:%S}"


def zoned_time(time: object) -> str:
    """Return an ISO 8601 time as the clock on the wall here shows it, and the zone of that clock."""
    then = _parsed(time)
    return str(time or "") if then is None else f"{then.astimezone():%Y-%m-%d %H:%M:%S %Z}"


def clock() -> str:
    """Return the time of day here."""
    return f"{now().astimezone():%H:%M:%S}"


def _parsed(time: object) -> datetime | None:
    try:
        then = datetime.fromisoformat(time) if isinstance(time, str) else None
    except ValueError:
        return None
    return then if then is None or then.tzinfo is not None else then.replace(tzinfo=UTC)
