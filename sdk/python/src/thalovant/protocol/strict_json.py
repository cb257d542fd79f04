# SPDX-License-Identifier: Apache-2.0
"""JSON as the wire takes it: no NaN, no Infinity, bounded nesting, and one error for all that is wrong.

Two readers. `parse` is fast and is for sealed messages: an integer beyond 64 bits becomes the nearest double
(RFC 8259 section 6 lets a reader do so) and is refused when no double holds it. `parse_exact` keeps every
integer digit for digit and is for the clear frames, whose payloads both sides hash (contract 4.3).
Neither limits the length of its input: the caller knows its own limit. How many values there are can be limited in
`parse`, before any is made: 4 MiB of JSON can hold millions, each of which costs far more than its bytes.
"""

from __future__ import annotations

import json
from typing import Any, Final, NoReturn

import orjson

from thalovant.protocol.errors import MessageError, TooLargeError

MAX_DEPTH: Final = 128
"""Arrays and objects inside one another that `parse` takes. Far above any real message; low enough that what
was read can be written again inside further envelopes."""

_DUMP_DEPTH: Final = 254  # orjson writes this many levels and refuses the next one


def parse(data: bytes | str, *, max_depth: int = MAX_DEPTH, max_values: int | None = None) -> Any:
    """Read one JSON value, quickly.

    Raises `MessageError` for anything that is not strict JSON or nests deeper than `max_depth` (at most 254), and
    `TooLargeError` when `values` would count more than `max_values`.
    """
    if max_values is not None:
        _limit_values(data.encode(errors="replace") if isinstance(data, str) else data, max_values)
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise MessageError(f"This is not JSON: {error.msg}.") from None
    if _brackets(data) > max_depth and _deeper_than(value, max_depth):
        raise MessageError(f"This JSON nests deeper than {max_depth} levels.")
    return value


def parse_exact(data: bytes | str) -> Any:
    """Read one JSON value and keep integers of any size as they are. Raises `MessageError`."""
    try:
        text = data if isinstance(data, str) else data.decode("utf-8")
        return json.loads(text, parse_constant=_refuse_constant, parse_float=_finite)
    except RecursionError:
        raise MessageError("This JSON nests too deeply.") from None
    except ValueError:  # JSONDecodeError and UnicodeDecodeError are ValueErrors, as is an int of 5,000 digits
        raise MessageError("This is not JSON.") from None


def dump(value: Any) -> bytes:
    """Write compact UTF-8 JSON.

    Raises `MessageError` for what JSON cannot hold: other types, integers beyond 64 bits, lone surrogates, more
    than 254 levels. A float that is not finite is written as null.
    """
    try:
        return orjson.dumps(value)
    except TypeError as error:
        raise MessageError(f"This value cannot be written as JSON: {error}.") from None


def dump_spaced(value: Any) -> str:
    """Write JSON with a space after `:` and `,` and ASCII only, as upstream does. Raises `MessageError`."""
    try:
        return json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        raise MessageError("This value cannot be written as JSON.") from None


def values(data: bytes) -> int:
    """How many values and keys a JSON text holds, within a factor of two: its structure outside of strings.

    Never fewer than half of what a reader makes of `data` before it stops at a fault. Holds copies of `data`.
    """
    return _structure(_outside_strings(_unescaped(data)))


def _limit_values(data: bytes, most: int) -> None:
    """Two cheap bounds first: most messages have little structure, and too many strings are not worth splitting."""
    if _structure(data) <= most:
        return
    plain = _unescaped(data)
    if plain.count(b'"') > 4 * most + 4 or _structure(_outside_strings(plain)) > most:
        raise TooLargeError(f"This JSON holds more than {most} values.", limit=most)


def _structure(data: bytes) -> int:
    return data.count(b",") + data.count(b":") + data.count(b"[") + data.count(b"{")


def _unescaped(data: bytes) -> bytes:
    """Return ``data`` without the escapes that hide or fake the end of a string.

    One outside of a string is a fault: nothing is read beyond it.
    """
    return data.replace(b"\\\\", b"").replace(b'\\"', b"") if b"\\" in data else data


def _outside_strings(data: bytes) -> bytes:
    return b"".join(data.split(b'"')[::2])


def _brackets(data: bytes | str) -> int:
    """How many arrays and objects there can be at most; brackets inside strings count too."""
    if isinstance(data, str):
        return data.count("[") + data.count("{")
    return data.count(b"[") + data.count(b"{")


def _deeper_than(value: Any, depth: int) -> bool:
    """Whether `value` has more than `depth` levels: wrap it so that orjson's own limit falls on that level.

    A walk in Python over 4 MiB of brackets would hold the event loop for a tenth of a second; this does not.
    """
    for _ in range(_DUMP_DEPTH - depth):
        value = [value]
    try:
        orjson.dumps(value)
    except TypeError:
        return True
    return False


def _refuse_constant(_name: str) -> NoReturn:
    raise ValueError("NaN and Infinity are not JSON")


def _finite(digits: str) -> float:
    number = float(digits)
    if number in (float("inf"), float("-inf")):
        raise ValueError("no double holds this number")
    return number
