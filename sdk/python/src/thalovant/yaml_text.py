# SPDX-License-Identifier: Apache-2.0
"""Change one place of a YAML text and leave the rest as its author wrote it: comments, order, quotes.

The text is cut where PyYAML says that the place begins and ends. The result is read again: where it would not say
exactly what was asked for (aliases, unusual layouts), the whole is written anew, without its comments but with all
its values. Text in, text out; no file is touched.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any, Final

import yaml

__all__ = ["REMOVED", "Place", "changed", "dumped", "edited"]

Place = tuple[Any, ...]
"""Keys from the top to a value."""

REMOVED: Final = object()
"""The value of a place that is to go."""


def edited(text: str, place: Place, value: Any) -> str:
    """Return `text` with `value` at `place`, mappings on the way made where they are missing.

    `text` is empty or one document that holds a mapping; a value on the way that is none is replaced. Raises
    `yaml.YAMLError` for text that is not YAML.
    """
    before = yaml.safe_load(text) or {}
    after = changed(before, place, value)
    if after == before:
        return text
    written = _cut(text, place, after)
    return written if written is not None and _says(written, after) else dumped(after)


def changed(values: Mapping[Any, Any], place: Place, value: Any) -> dict[Any, Any]:
    """Return a copy of `values` with `value` at `place`; mappings on the way are made where they are missing."""
    key, *deeper = place
    copy = dict(values)
    if deeper:
        inner = copy.get(key)
        value = changed(inner if isinstance(inner, Mapping) else {}, tuple(deeper), value)
        if not value and key not in copy:
            return copy  # nothing was there to be removed
    if value is REMOVED:
        copy.pop(key, None)
    else:
        copy[key] = value
    return copy


def dumped(values: Any) -> str:
    """Return `values` as YAML, order kept, each text on one line: small readers of YAML know no other."""
    text = _dumped(values, allow_unicode=True)
    # PyYAML writes a few line ends of Unicode as they are and reads them as blanks.
    return text if _says(text, values) else _dumped(values, allow_unicode=False)


def _dumped(values: Any, *, allow_unicode: bool) -> str:
    return str(yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=allow_unicode, width=1 << 16))


class _Dumper(yaml.SafeDumper):
    """One of our own, so that nobody else's is changed."""


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style='"' if "\n" in value else None)


_Dumper.add_representer(str, _text)


def _cut(text: str, place: Place, after: dict[Any, Any]) -> str | None:
    """`text` with the smallest entry rewritten that covers the place; None when there is no such cut."""
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    if node is None:
        return _joined(text, dumped(after), "")
    values: Any = after
    for depth, key in enumerate(place):
        if not _is_block(node):
            return None
        here = next((pair for pair in node.value if pair[0].value == str(key)), None)
        entry = {key: values[key]} if key in values else {}
        if here is None:
            end = _end(text, node)
            return _joined(text[:end], _indented(entry, node), text[end:])
        if depth + 1 == len(place) or not _is_block(here[1]) or not values.get(key):  # gone, or empty by now
            start = here[0].start_mark.index - here[0].start_mark.column
            return _joined(text[:start], _indented(entry, node), text[_end(text, here[1]) :])
        node, values = here[1], values[key]
    return None  # pragma: no cover - a place has at least one key


def _is_block(node: yaml.Node) -> bool:
    return isinstance(node, yaml.MappingNode) and not node.flow_style and bool(node.value)


def _indented(entry: dict[Any, Any], node: yaml.Node) -> str:
    return textwrap.indent(dumped(entry), " " * node.value[0][0].start_mark.column) if entry else ""


def _end(text: str, node: yaml.Node) -> int:
    """Where the line after a value begins; comments that follow belong to what comes next."""
    if isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        last = node.value[-1]
        return _end(text, last[1] if isinstance(last, tuple) else last)
    end = int(node.end_mark.index)
    if text[end - 1 : end] == "\n":  # a block of lines ends after it, and after the empty lines that follow
        return len(text[:end].rstrip()) + 1
    newline = text.find("\n", end)
    return newline + 1 if newline >= 0 else len(text)


def _joined(before: str, entry: str, following: str) -> str:
    gap = "" if not before or before.endswith("\n") else "\n"
    return f"{before}{gap}{entry}{following}"


def _says(text: str, values: Any) -> bool:
    try:
        return bool((yaml.safe_load(text) or {}) == (values or {}))
    except yaml.YAMLError:
        return False
