# SPDX-License-Identifier: Apache-2.0
"""What of an event is to be shown: words, tables, images, attachments and choices, as `ThalovantDisplayItem`s.

Agents write these cards in several ways (contract 9.6, `vectors/rich.json`); here they get one shape. What makes no
sense is left out. Nothing is fetched, and an address is whatever the agent wrote: check it before you open it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from thalovant.markup import strip_ssml
from thalovant.protocol.contexts import spoken_text, spoken_texts

__all__ = ["ThalovantDisplayItem", "items_of", "text_items"]


@dataclass(frozen=True)
class ThalovantDisplayItem:
    """One thing to show. Which fields are set depends on `kind`:

    - `text`: `text` without markup; `silent` when it is shown and not spoken
    - `table`: `data`, as the agent wrote it
    - `image`, `attachment`: `url`, `title` and all of it as `data`
    - `choices`: `data`, a list of objects with `title` (to show), `payload` (to send back, see `send_action`), `data`
    """

    kind: str
    text: str | None = None
    data: Any = None
    title: str | None = None
    payload: str | None = None
    url: str | None = None
    silent: bool = False

    def as_dict(self) -> dict[str, Any]:
        """All fields, ready for JSON."""
        return dict(vars(self))


def items_of(
    data: Mapping[str, Any], rich: Mapping[str, Any], max_text_chars: int | None
) -> tuple[ThalovantDisplayItem, ...]:
    """The items of one event: `data` holds its words, `rich` its cards. ValueError: `max_text_chars` is negative."""
    words = spoken_text({key: data.get(key) for key in ("utterance", "text")}) or " ".join(spoken_texts(data))
    items = list(text_items(words, max_text_chars, silent=bool(data.get("silent"))))
    if rich.get("table") is not None:
        items.append(ThalovantDisplayItem("table", data=rich["table"]))
    items += _attachments(_first(rich, "attachments", "attachment"))
    choices = list(_choices(_first(rich, "quick_replies", "buttons")))
    if choices:
        items.append(ThalovantDisplayItem("choices", data=choices))
    return (*items, *_images(_first(rich, "image", "images")))


def text_items(text: str, max_chars: int | None, *, silent: bool = False) -> Iterator[ThalovantDisplayItem]:
    """The words of a text, in items of at most `max_chars` characters, cut at blanks where there are any."""
    for piece in _pieces(strip_ssml(text), max_chars or 0):
        yield ThalovantDisplayItem("text", text=piece, silent=silent)


def _pieces(text: str, most: int) -> Iterator[str]:
    if most < 0:
        raise ValueError("max_text_chars must not be negative")
    if not text.strip():
        return
    if not most or len(text) <= most:
        yield text
        return
    start, end = _skip_blanks(text, 0), len(text.rstrip())
    while start < end:
        stop = min(start + most, end)
        if stop < end and not text[stop].isspace():
            stop = next((at for at in range(stop, start, -1) if text[at - 1].isspace()), stop)
        yield text[start:stop].rstrip()
        start = _skip_blanks(text, stop)


def _skip_blanks(text: str, start: int) -> int:
    return next((at for at in range(start, len(text)) if not text[at].isspace()), len(text))


def _first(rich: Mapping[str, Any], *names: str) -> list[Any]:
    """The entries under the first name that has any; one entry may stand without a list."""
    value: Any = next((rich[name] for name in names if rich.get(name)), [])
    return value if isinstance(value, list) else [value]


def _attachments(entries: list[Any]) -> Iterator[ThalovantDisplayItem]:
    for entry in entries:
        if isinstance(entry, Mapping):
            kind = "image" if entry.get("type") == "image" else "attachment"
            url = _address(entry) or _address(entry.get("payload"))
            yield ThalovantDisplayItem(kind, data=entry, title=_text(entry, "title"), url=url)


def _images(entries: list[Any]) -> Iterator[ThalovantDisplayItem]:
    for entry in entries:
        url = entry if isinstance(entry, str) else _address(entry)
        if url:
            yield ThalovantDisplayItem("image", data=entry, url=url)


def _choices(entries: list[Any]) -> Iterator[dict[str, Any]]:
    for entry in entries:
        if isinstance(entry, str):
            title = payload = entry
        elif isinstance(entry, Mapping):
            title = _text(entry, "title", "text", "label") or ""
            payload = _payload(entry) or title
        else:
            continue
        if payload:
            yield {"title": title, "payload": payload, "data": entry}


def _payload(entry: Mapping[str, Any]) -> str | None:
    given = next((entry[name] for name in ("payload", "value") if entry.get(name) is not None), None)
    return (
        given
        if given is None or isinstance(given, str)
        else json.dumps(given, ensure_ascii=False, separators=(",", ":"))
    )


def _address(entry: object) -> str | None:
    return _text(entry, "url", "src") if isinstance(entry, Mapping) else None


def _text(entry: Mapping[str, Any], *names: str) -> str | None:
    values = (entry.get(name) for name in names)
    return next((value for value in values if isinstance(value, str) and value), None)
