# SPDX-License-Identifier: Apache-2.0
"""Replies: what is read from their events, and what each outcome of an ask becomes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from thalovant.display import ThalovantDisplayItem
from thalovant.errors import (
    ThalovantConnectionError,
    ThalovantError,
    ThalovantPolicyDeniedError,
    ThalovantRuntimeError,
    ThalovantTimeoutError,
    ThalovantUnansweredError,
)
from thalovant.events import ThalovantEvent
from thalovant.protocol.asks import Answered, Failed, Heard
from thalovant.reply import ThalovantReply, error_of, reply_of, reply_or_raise

HANDLED_BY_ADAPT = ThalovantEvent("ovos.utterance.handled", {}, {"pipeline_id": "adapt"}, None)


def speak(text: str = "hi", *, meta: Any = None, lang: str | None = None, **context: Any) -> ThalovantEvent:
    data: dict[str, Any] = {"utterance": text}
    if meta is not None:
        data["meta"] = meta
    if lang is not None:
        data["lang"] = lang
    return ThalovantEvent("speak", data, context, {"raw": text})


def reply(*events: ThalovantEvent, **fields: Any) -> ThalovantReply:
    return ThalovantReply("x", handled=True, events=events, **fields)


def clip(data: str = "00") -> ThalovantEvent:
    return ThalovantEvent("mycroft.audio.queue", {"binary_data": data}, {}, None)


def test_a_bare_reply_is_not_a_whole_answer() -> None:
    bare = ThalovantReply("x")
    assert (bare.ok, bare.claimed, bare.handled) == (False, False, False)
    assert (bare.lang, bare.pipeline_ids, bare.skill_ids, bare.has_audio) == (None, (), (), False)


def test_a_reply_that_was_cut_short_is_not_ok() -> None:
    failed = ThalovantReply("x", handled=True, failure_event=ThalovantEvent("hive.policy.denied", {}, {}, None))
    assert (failed.ok, failed.claimed) == (False, False)


CLAIMED = {"thalovant_claimed": True}


@pytest.mark.parametrize(
    ("events", "claimed"),
    [
        ((), True),
        ((speak(),), True),
        ((speak(pipeline_id="x-fallback"),), False),
        ((speak(pipeline_id="x-fallback"), speak(pipeline_id="adapt")), True),
        ((speak(pipeline_id="fallback"), speak()), False),
        ((speak(pipeline_id="fallback"), HANDLED_BY_ADAPT), True),
        ((speak(pipeline_id="fallback", meta=CLAIMED),), True),
        ((speak(pipeline_id="fallback", meta={"thalovant_claimed": 1}),), False),
        ((speak(pipeline_id="fallback", meta="oops"),), False),
        (
            (speak(pipeline_id="fallback"), ThalovantEvent("ovos.utterance.handled", {"meta": CLAIMED}, {}, 0)),
            False,
        ),
        ((speak(pipeline_id="adapt", meta={"thalovant_claimed": False}),), True),
        ((speak(pipeline_id="X-FALLBACK"),), True),
        ((speak(pipeline_id=["fallback"]),), True),
        ((speak(session={"pipeline_id": "fallback"}),), True),
    ],
)
def test_a_fallback_does_not_claim_unless_it_says_so(events: tuple[ThalovantEvent, ...], claimed: bool) -> None:
    assert reply(*events).claimed == claimed


def test_pipelines_and_skills_are_named_once_in_order() -> None:
    many = reply(
        speak(pipeline_id="b", skill_id="s2"),
        speak(pipeline_id="a", skill_id="s1"),
        speak(pipeline_id="b", skill_id=""),
    )
    assert (many.pipeline_ids, many.skill_ids) == (("b", "a"), ("s2", "s1"))


def test_the_language_is_that_of_the_first_event_that_names_one() -> None:
    assert reply(clip(), speak(lang="de"), speak(lang="fr")).lang == "de"


def test_what_is_to_be_spoken_and_played_keeps_its_order() -> None:
    one, two, sound = speak("one"), speak("two"), clip()
    mixed = reply(one, HANDLED_BY_ADAPT, sound, two)
    assert mixed.media_events == (one, sound, two)
    assert mixed.has_audio
    assert not reply(one, two).has_audio


def test_markup_is_left_out_for_display() -> None:
    assert ThalovantReply("<b>x</b> y").display_text == "x y"


def test_as_a_dictionary_it_is_json_and_holds_no_raw_message() -> None:
    failure = ThalovantEvent("hive.policy.denied", {}, {}, object())
    shown = ThalovantReply(
        "<b>x</b> y",
        utterances=("<b>x</b>", "y"),
        session_id="s",
        request_id="r",
        raw_messages=(object(),),
        events=(speak(skill_id="k"), failure),
        failure_event=failure,
        dropped_media=2,
    ).as_dict()
    again = json.loads(json.dumps(shown))
    assert again["failure_event"]["name"] == "hive.policy.denied"
    assert [entry["name"] for entry in again["events"]] == ["speak", "hive.policy.denied"]
    assert {key: value for key, value in again.items() if key not in ("events", "failure_event")} == {
        "text": "<b>x</b> y",
        "display_text": "x y",
        "utterances": ["<b>x</b>", "y"],
        "handled": False,
        "ok": False,
        "claimed": False,
        "pipeline_ids": [],
        "skill_ids": ["k"],
        "session_id": "s",
        "request_id": "r",
        "lang": None,
        "display_items": [ThalovantDisplayItem("text", text="hi").as_dict()],
        "dropped_media": 2,
    }


def test_an_answered_ask_becomes_a_reply() -> None:
    heard = (
        Heard("speak", {"utterance": " a  b "}, {"session": {"session_id": "s2"}}, "raw-1"),
        Heard("ovos.utterance.handled", {}, {}, "raw-2"),
    )
    made = reply_of(Answered("r1", "s2", ("a b", "c"), heard, handled=True, dropped_media=1))
    assert (made.text, made.utterances, made.handled, made.ok) == ("a b c", ("a b", "c"), True, True)
    assert (made.request_id, made.session_id, made.dropped_media) == ("r1", "s2", 1)
    assert made.raw_messages == ("raw-1", "raw-2")
    assert made.events[0] == ThalovantEvent("speak", heard[0].data, heard[0].context, "raw-1")


def test_an_ask_cut_short_keeps_what_cut_it() -> None:
    denied = Heard("hive.policy.denied", {"code": "c"}, {})
    made = reply_of(Answered("r1", "s", ("a",), (denied,), handled=False, failure_event=denied))
    assert made.failure_event is not None
    assert (made.failure_event.is_policy_denied, made.ok) == (True, False)


@pytest.mark.parametrize(
    ("failed", "expected", "text"),
    [
        (Failed("timeout", "r", "too late"), ThalovantTimeoutError, "too late"),
        (Failed("unanswered", "r", "q"), ThalovantUnansweredError, "q"),
        (Failed("query_timeout", "r", "no_answer"), ThalovantRuntimeError, "no_answer"),
        (Failed("too_much", "r", "more"), ThalovantRuntimeError, "more"),
        (Failed("connection", "r", "gone"), ThalovantConnectionError, "gone"),
        (
            Failed("denied", "r", event=Heard("hive.policy.denied", {"denied_type": "t", "code": "c"}, {})),
            ThalovantPolicyDeniedError,
            "The hub refused 't'.",
        ),
    ],
)
def test_a_failed_ask_becomes_the_error_that_says_why(
    failed: Failed, expected: type[ThalovantError], text: str
) -> None:
    error = error_of(failed)
    assert (type(error), str(error)) == (expected, text)
    with pytest.raises(expected):
        reply_or_raise(failed)
