# SPDX-License-Identifier: Apache-2.0
"""Events: what each property reads, how audio is decoded, what belongs to which request."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thalovant.display import ThalovantDisplayItem
from thalovant.events import ThalovantEvent

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
KEYS = [
    "utterance",
    "utterances",
    "text",
    "lang",
    "session",
    "site_id",
    "request_id",
    "binary_data",
    "display",
    "rich_media",
    "table",
]


def event(name: str = "speak", data: Any = None, context: Any = None) -> ThalovantEvent:
    return ThalovantEvent(name, data or {}, context or {}, None)


@pytest.mark.parametrize(
    ("data", "text", "utterances"),
    [
        ({"utterance": "  a \n b "}, "  a \n b ", ("  a \n b ",)),
        ({"text": "t"}, "t", ()),
        ({"utterance": "", "text": "t"}, "t", ("",)),
        ({"utterances": ["a", "b"]}, "a", ("a", "b")),
        ({"utterance": 5}, "", ()),
        ({}, "", ()),
    ],
)
def test_the_words_are_given_as_they_came(data: Any, text: str, utterances: tuple[str, ...]) -> None:
    assert (event(data=data).text, event(data=data).utterances) == (text, utterances)


def test_markup_is_left_out_for_display_only() -> None:
    spoken = event(data={"utterance": "<speak>Hi <b>you</b></speak>"})
    assert (spoken.text, spoken.display_text) == ("<speak>Hi <b>you</b></speak>", "Hi you")


def test_the_language_is_the_datas_then_the_contexts_then_the_sessions() -> None:
    context = {"lang": "fr", "session": {"lang": "it"}}
    assert event(data={"lang": "de"}, context=context).lang == "de"
    assert event(context=context).lang == "fr"
    assert event(context={"session": {"lang": "it"}}).lang == "it"
    assert event().lang is None


def test_the_site_and_the_session_are_the_sessions_first() -> None:
    both = {"site_id": "c", "session_id": "cs", "session": {"site_id": "k", "session_id": "ks"}}
    assert (event(context=both).site_id, event(context=both).session_id) == ("k", "ks")
    outer = {"site_id": "c", "session_id": "cs", "session": "oops"}
    assert (event(context=outer).site_id, event(context=outer).session_id) == ("c", "cs")
    assert event(data={"site_id": "d", "session_id": "ds"}).site_id is None


def test_the_request_is_found_in_context_session_and_data() -> None:
    assert event(data={"correlation_id": "d"}, context={"session": {"correlation_id": "s"}}).request_id == "s"
    assert event(data={"thalovant_request_id": "d"}).request_id == "d"


@pytest.mark.parametrize(
    ("name", "failure", "denied"),
    [
        ("complete_intent_failure", True, False),
        ("ovos.intent.unmatched", True, False),
        ("hive.policy.denied", True, True),
        ("hive.query.timeout", True, False),
        ("speak", False, False),
        ("ovos.utterance.handled", False, False),
    ],
)
def test_which_events_say_that_something_failed(name: str, failure: bool, denied: bool) -> None:
    assert (event(name).is_failure, event(name).is_policy_denied) == (failure, denied)


@pytest.mark.parametrize(
    ("name", "data", "is_audio", "has_audio"),
    [
        ("mycroft.audio.queue", {"binary_data": "00ff"}, True, True),
        ("mycroft.audio.queue", {"uri": "file:///x"}, True, False),
        ("mycroft.audio.queue", {"binary_data": 7}, True, False),
        ("speak", {"binary_data": "00ff"}, False, False),
    ],
)
def test_what_is_audio(name: str, data: dict[str, Any], is_audio: bool, has_audio: bool) -> None:
    assert (event(name, data).is_audio, event(name, data).has_audio) == (is_audio, has_audio)


def test_embedded_audio_is_decoded() -> None:
    assert event("mycroft.audio.queue", {"binary_data": "00fF"}).audio_bytes() == b"\x00\xff"


@pytest.mark.parametrize(
    ("data", "limit", "why"),
    [
        ({}, 4, "no embedded audio"),
        ({"binary_data": "zz"}, 4, "not hexadecimal"),
        ({"binary_data": "00f"}, 4, "not hexadecimal"),
        ({"binary_data": "00ff"}, 1, "exceeds the clip limit"),
    ],
)
def test_audio_that_cannot_be_decoded(data: dict[str, Any], limit: int, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        event("mycroft.audio.queue", data).audio_bytes(max_bytes=limit)


@pytest.mark.parametrize(
    ("data", "cards"),
    [
        ({"rich_media": {"table": [[1]]}}, {"table": [[1]]}),
        ({"display": '{"a": 1}'}, {"a": 1}),
        ({"display": "not json"}, {}),
        ({"rich_media_data": [1]}, {}),
        ({"rich_media": {}, "display": {"b": 1}}, {"b": 1}),
        ({"table": [[1]], "silent": True, "utterance": "h"}, {"table": [[1]]}),
        ({"image": "u", "images": ["a"], "buttons": [2]}, {"image": "u", "images": ["a"], "buttons": [2]}),
        ({"display": {"b": 1}, "table": []}, {"b": 1}),
    ],
)
def test_cards_are_given_as_the_agent_wrote_them(data: dict[str, Any], cards: dict[str, Any]) -> None:
    assert event(data=data).rich_media == cards


BOTH = {"request_id": "r", "session": {"session_id": "s"}}


@pytest.mark.parametrize(
    ("context", "wanted", "matches"),
    [
        (BOTH, {}, True),
        (BOTH, {"session_id": "s"}, True),
        (BOTH, {"session_id": "x"}, False),
        (BOTH, {"request_id": "r"}, True),
        (BOTH, {"request_id": "x"}, False),
        (BOTH, {"request_id": "r", "session_id": "x"}, True),
        (BOTH, {"context": {"session": {"session_id": "x"}}}, False),
        (BOTH, {"context": {"correlation_id": "r"}}, True),
        (BOTH, {"context": {"request_id": "x"}, "request_id": "r"}, True),
        (BOTH, {"context": {"foo": 1}}, True),
        ({"session": {"session_id": "s"}}, {"request_id": "r"}, True),
        ({"session": {"session_id": "s"}}, {"request_id": "r", "session_id": "x"}, False),
        ({}, {"request_id": "r", "session_id": "s"}, True),
        ({"request_id": "r"}, {"session_id": "s"}, True),
    ],
)
def test_what_an_event_belongs_to(context: Any, wanted: dict[str, Any], matches: bool) -> None:
    assert event(context=context).matches_context(**wanted) == matches


def test_as_a_dictionary_it_holds_no_raw_message() -> None:
    shown = ThalovantEvent("speak", {"utterance": "<b>a</b>"}, {"request_id": "r"}, raw=object()).as_dict()
    assert shown == {
        "name": "speak",
        "data": {"utterance": "<b>a</b>"},
        "context": {"request_id": "r"},
        "text": "<b>a</b>",
        "display_text": "a",
        "session_id": None,
        "request_id": "r",
        "display_items": [ThalovantDisplayItem("text", text="a").as_dict()],
    }


def test_an_event_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        event().name = "other"  # type: ignore[misc]


@settings(deadline=None)
@given(
    st.sampled_from(["speak", "mycroft.audio.queue", "x"]),
    st.dictionaries(st.sampled_from(KEYS), JSON),
    st.dictionaries(st.sampled_from(KEYS), JSON),
)
def test_no_property_raises_on_garbage(name: str, data: dict[str, Any], context: dict[str, Any]) -> None:
    made = event(name, data, context)
    for attribute, value in vars(ThalovantEvent).items():
        if isinstance(value, property):
            getattr(made, attribute)
    made.matches_context(context, session_id="s")
    json.dumps(made.as_dict())
