# SPDX-License-Identifier: Apache-2.0
"""What of an event is to be shown: the recorded cases, the ways in which agents write cards, texts cut to length."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thalovant.display import ThalovantDisplayItem
from thalovant.events import ThalovantEvent
from thalovant.markup import strip_ssml
from thalovant.reply import ThalovantReply

VECTORS = json.loads((Path(__file__).parents[3] / "contract" / "vectors" / "rich.json").read_text())
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def event(**data: Any) -> ThalovantEvent:
    return ThalovantEvent("speak", data, {}, None)


def shown(**data: Any) -> list[tuple[str, Any]]:
    """Each item's kind and what it shows."""
    return [(item.kind, item.text or item.url or item.data) for item in event(**data).display_items()]


@pytest.mark.parametrize("case", VECTORS["display_items"], ids=lambda case: json.dumps(case["data"])[:60])
def test_a_recorded_event_is_shown_as_recorded(case: dict[str, Any]) -> None:
    assert [item.as_dict() for item in event(**case["data"]).display_items()] == case["items"]


@pytest.mark.parametrize("case", VECTORS["strip_ssml"], ids=lambda case: case["in"])
def test_markup_is_stripped_as_recorded(case: dict[str, str]) -> None:
    assert strip_ssml(case["in"]) == case["out"]


@pytest.mark.parametrize(
    ("data", "items"),
    [
        ({"utterance": "<speak>hi</speak>"}, [("text", "hi")]),
        ({"utterance": "", "text": "t", "utterances": ["a"]}, [("text", "t")]),
        ({"utterance": "  "}, []),
        ({"utterance": "<break/>"}, []),
        ({"table": {"rows": [[1]]}}, [("table", {"rows": [[1]]})]),
        ({"image": {"src": "s"}}, [("image", "s")]),
        ({"image": ["a", {"url": "b"}, 5, {"href": "c"}, None]}, [("image", "a"), ("image", "b")]),
        ({"images": "a", "image": "b"}, [("image", "b")]),
        ({"attachment": {"type": "video", "payload": {"src": "a"}}}, [("attachment", "a")]),
        ({"attachments": ["a", {"type": "image", "src": "q"}], "attachment": {"url": "x"}}, [("image", "q")]),
        ({"display": '{"table": [[1]]}', "image": "x"}, [("table", [[1]])]),
        ({"rich_media": {"unknown": 1}}, []),
        ({"rich_media": "{broken"}, []),
    ],
)
def test_the_ways_in_which_agents_write_cards(data: dict[str, Any], items: list[tuple[str, Any]]) -> None:
    assert shown(**data) == items


@pytest.mark.parametrize(
    ("entries", "choices"),
    [
        ("a", [("a", "a")]),
        ({"title": "a"}, [("a", "a")]),
        (["a", {"title": "T", "payload": "/p"}], [("a", "a"), ("T", "/p")]),
        ([{"text": "x"}, {"label": "l", "value": "v"}], [("x", "x"), ("l", "v")]),
        ([{"payload": "/p"}], [("", "/p")]),
        ([{"title": "T", "payload": {"x": 1}}], [("T", '{"x":1}')]),
        ([5, None, {}, {"name": "n"}, []], []),
    ],
)
def test_choices_have_something_to_show_and_something_to_send(entries: Any, choices: list[tuple[str, str]]) -> None:
    items = event(quick_replies=entries, buttons=["not these"] if choices else []).display_items()
    found = [(each["title"], each["payload"]) for item in items for each in item.data]
    assert found == choices
    assert [item.kind for item in items] == (["choices"] if choices else [])


def test_buttons_are_choices_too() -> None:
    (item,) = event(buttons=["a"]).display_items()
    assert item.data == [{"title": "a", "payload": "a", "data": "a"}]


@pytest.mark.parametrize(
    ("text", "most", "pieces"),
    [
        ("hello world this is long text", 10, ["hello", "world this", "is long", "text"]),
        ("one. two! three? four", 6, ["one.", "two!", "three?", "four"]),
        ("aaaaaaaaaaaaaaaa bb", 4, ["aaaa", "aaaa", "aaaa", "aaaa", "bb"]),
        ("line1\nline2\n\npara", 6, ["line1", "line2", "para"]),
        ("<b>bold</b> text and", 9, ["bold text", "and"]),
        ("hello world", 11, ["hello world"]),
        ("hello world", 0, ["hello world"]),
        ("hello world", None, ["hello world"]),
        (" a  b ", 10, [" a  b "]),
        (" a  b ", 3, ["a", "b"]),
    ],
)
def test_a_text_is_cut_to_length_at_blanks(text: str, most: int | None, pieces: list[str]) -> None:
    items = event(utterance=text, silent=True).display_items(max_text_chars=most)
    assert [item.text for item in items] == pieces
    assert all(item.kind == "text" and item.silent for item in items)


def test_a_negative_length_is_refused() -> None:
    for value in (event(utterance="a"), ThalovantReply("a")):
        with pytest.raises(ValueError, match="max_text_chars"):
            value.display_items(max_text_chars=-1)


@settings(deadline=None)
@given(st.text(alphabet="ab \n<>"), st.integers(1, 6))
def test_cutting_loses_nothing_but_blanks(text: str, most: int) -> None:
    items = event(utterance=text).display_items(max_text_chars=most)
    pieces = [item.text or "" for item in items]
    assert "".join("".join(pieces).split()) == "".join(strip_ssml(text).split())
    assert all(0 < len(piece) <= most for piece in pieces) or len(strip_ssml(text)) <= most


def test_a_reply_shows_what_all_its_events_show() -> None:
    events = (event(utterance="a", table=[[1]]), event(utterance="b", buttons=["x"]))
    reply = ThalovantReply("a b", ("a", "b"), True, events=events)
    assert [item.kind for item in reply.display_items()] == ["text", "table", "text", "choices"]
    assert [item.as_dict() for item in reply.display_items()] == reply.as_dict()["display_items"]
    assert ThalovantReply("<b>a</b> b").display_items() == (ThalovantDisplayItem("text", text="a b"),)
    assert ThalovantReply("").display_items() == ()


@settings(deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["utterance", "text", "silent", "rich_media", "display", "table", "image", "images"])
        | st.sampled_from(["attachment", "attachments", "quick_replies", "buttons", "utterances"]),
        JSON
        | st.lists(st.dictionaries(st.sampled_from(["type", "title", "payload", "url", "value"]), JSON), max_size=2),
        max_size=3,
    )
)
def test_garbage_never_raises_and_is_json(data: dict[str, Any]) -> None:
    items = event(**data).display_items(max_text_chars=3)
    json.dumps([item.as_dict() for item in items])
    for item in items:
        assert item.kind in ("text", "table", "image", "attachment", "choices")
        assert item.kind != "image" or item.url or isinstance(item.data, dict)
