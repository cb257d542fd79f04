# SPDX-License-Identifier: Apache-2.0
"""Contexts: what is added when sending, what is seen when receiving, which request a message belongs to."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thalovant.protocol.contexts import (
    build_utterance,
    carry_on,
    new_request_id,
    new_session_id,
    reply_context,
    request_id_of,
    seen_context,
    session_id_of,
    spoken_text,
    spoken_texts,
    with_context_defaults,
)

VECTORS = json.loads((Path(__file__).parents[4] / "contract" / "vectors" / "contexts.json").read_text())
CONNECTION = {"session_id": "transport-session", "site_id": "kitchen", "useragent": "agent/1"}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
NAMED = st.dictionaries(
    st.sampled_from(["request_id", "correlation_id", "session", "session_id", "utterance", "utterances", "text"]),
    JSON,
)


def ask(**options: Any) -> dict[str, Any]:
    return build_utterance("hello", **(CONNECTION | {"request_id": "r1"} | options))


@pytest.mark.parametrize("case", VECTORS["send"], ids=lambda case: json.dumps(case["caller"]))
def test_defaults_are_laid_under_the_callers_context(case: dict[str, Any]) -> None:
    before = copy.deepcopy(case["caller"])
    assert with_context_defaults(case["caller"], **CONNECTION) == case["sent"]
    assert case["caller"] == before


def test_no_context_is_an_empty_one() -> None:
    assert with_context_defaults(None, **CONNECTION) == with_context_defaults({}, **CONNECTION)


@pytest.mark.parametrize("case", VECTORS["receive"], ids=lambda case: json.dumps(case["wire"]))
@pytest.mark.parametrize("carrier", ["wss", "https"])
def test_a_handler_sees_the_destination_as_source(case: dict[str, Any], carrier: str) -> None:
    before = copy.deepcopy(case["wire"])
    assert seen_context(case["wire"], carrier) == case["handler_sees"]
    assert case["wire"] == before == case["kept_as_wire_context"]


@pytest.mark.parametrize("case", VECTORS["receive"], ids=lambda case: json.dumps(case["wire"]))
def test_over_mqtt_the_context_is_untouched(case: dict[str, Any]) -> None:
    assert seen_context(case["wire"], "mqtt") == case["wire"]


def test_an_utterance_carries_what_the_contract_lists() -> None:
    assert ask(lang="de-de") == {
        "type": "recognizer_loop:utterance",
        "data": {"utterances": ["hello"], "lang": "de-de"},
        "context": {
            "request_id": "r1",
            "thalovant_request_id": "r1",
            "session": {
                "request_id": "r1",
                "session_id": "transport-session",
                "site_id": "kitchen",
                "lang": "de-de",
            },
            "source": "agent/1",
            "platform": "agent/1",
            "destination": "HiveMind",
        },
    }


def test_the_language_is_english_unless_said() -> None:
    assert ask()["data"]["lang"] == ask()["context"]["session"]["lang"] == "en-us"


def test_the_options_of_a_call_are_added() -> None:
    context = ask(
        stt_lang="fr-fr",
        pipeline=("a", "b"),
        location={"city": "Bern"},
        context={"metadata": {"k": 1}, "mine": True, "session": {"lang": "it-it", "site_id": "attic", "x": 1}},
    )["context"]
    assert (context["stt_lang"], context["location"]) == ("fr-fr", {"city": "Bern"})
    assert (context["metadata"], context["mine"]) == ({"k": 1}, True)
    session = context["session"]
    assert (session["pipeline"], session["lang"], session["site_id"], session["x"]) == (
        ["a", "b"],
        "it-it",
        "attic",
        1,
    )


def test_options_left_out_leave_no_trace() -> None:
    context = ask(stt_lang=None, pipeline=None, location=None)["context"]
    assert not {"stt_lang", "location", "metadata"} & set(context)
    assert "pipeline" not in context["session"]


@pytest.mark.parametrize(
    ("call", "in_context", "sent"),
    [
        (None, None, "transport-session"),
        ("default", None, "transport-session"),
        ("mine", None, "mine"),
        (None, "theirs", "theirs"),
        ("mine", "theirs", "mine"),
        ("default", "theirs", "transport-session"),
        (None, "default", "transport-session"),
    ],
)
def test_which_session_is_asked_in(call: str | None, in_context: str | None, sent: str) -> None:
    context = {"session": {"session_id": in_context}} if in_context else None
    built = ask(call_session_id=call, context=context)
    assert built["context"]["session"]["session_id"] == sent


def test_the_callers_dictionaries_are_left_alone() -> None:
    context = {"session": {"x": 1}, "request_id": "theirs"}
    before = copy.deepcopy(context)
    ask(context=context, pipeline=["p"], call_session_id="mine")
    assert context == before


def test_a_request_id_is_spelt_as_the_contract_says_and_never_twice_the_same() -> None:
    made = {new_request_id() for _ in range(100)}
    assert len(made) == 100
    assert all(re.fullmatch(r"thalovant-request-[0-9a-f]{32}", one) for one in made)


@pytest.mark.parametrize(
    ("context", "data", "expected"),
    [
        ({"request_id": "a", "thalovant_request_id": "b"}, {}, "a"),
        ({"thalovant_request_id": "b", "correlation_id": "c"}, {}, "b"),
        ({"correlation_id": "c", "session": {"request_id": "s"}}, {"request_id": "d"}, "c"),
        ({"session": {"correlation_id": "s"}}, {"request_id": "d"}, "s"),
        ({"session": {}}, {"thalovant_request_id": "d"}, "d"),
        ({"request_id": "", "thalovant_request_id": "b"}, {}, "b"),
        ({"request_id": 7}, {}, "7"),
        ({"request_id": True}, {}, None),
        ({"request_id": ["x"]}, {"correlation_id": "d"}, "d"),
        ({"session": "oops"}, [], None),
        (None, None, None),
    ],
)
def test_which_request_a_message_belongs_to(context: Any, data: Any, expected: str | None) -> None:
    assert request_id_of(context, data) == expected


def test_which_session_a_message_names() -> None:
    assert session_id_of({"session_id": "c", "session": {"session_id": "k"}}) == "k"
    assert session_id_of({"session_id": "c", "session": {"session_id": ""}}) == "c"
    assert session_id_of({"session": "oops"}) is None


@pytest.mark.parametrize(
    ("data", "text", "texts"),
    [
        ({"utterance": "  a \n b "}, "  a \n b ", ("  a \n b ",)),
        ({"text": "t"}, "t", ()),
        ({"utterance": "", "text": "t"}, "t", ("",)),
        ({"utterance": "x", "utterances": ["a", 3, None, " b "]}, "x", ("a", " b ")),
        ({"utterances": ["a", "b"]}, "a", ("a", "b")),
        ({"utterances": "str"}, "str", ("str",)),
        ({"utterance": 5}, "", ()),
        (None, "", ()),
    ],
)
def test_the_words_of_a_message(data: Any, text: str, texts: tuple[str, ...]) -> None:
    assert (spoken_text(data), spoken_texts(data)) == (text, texts)


@settings(deadline=None)
@given(JSON | NAMED, JSON | NAMED, st.sampled_from(["wss", "https", "mqtt"]))
def test_garbage_from_the_wire_never_raises(context: Any, data: Any, carrier: str) -> None:
    seen = seen_context(context, carrier)
    for found in (request_id_of(seen, data), session_id_of(seen)):
        assert found is None or (isinstance(found, str) and found)
    assert isinstance(spoken_text(data), str)
    assert all(isinstance(text, str) for text in spoken_texts(data))


def test_a_number_too_long_to_print_is_no_id() -> None:
    assert request_id_of({"request_id": 10**5000}, {}) is None


@settings(deadline=None)
@given(NAMED, st.none() | st.text(max_size=5))
def test_what_is_built_always_names_its_request(context: dict[str, Any], session: str | None) -> None:
    built = ask(context=context, call_session_id=session)
    assert request_id_of(built["context"], built["data"]) == "r1"
    assert built["context"]["session"]["session_id"]


def test_a_query_says_nothing_of_source_and_destination_unless_the_caller_does() -> None:
    sent = ask(useragent=None, context={"source": "me"})["context"]
    assert sent == {
        "source": "me",
        "request_id": "r1",
        "thalovant_request_id": "r1",
        "session": {"request_id": "r1", "lang": "en-us", "session_id": "transport-session", "site_id": "kitchen"},
    }


def test_an_input_stands_in_the_context_and_an_exact_one_in_the_data_too() -> None:
    action = {"kind": "action", "title": None, "payload": "/yes"}
    code = {"kind": "code", "label": None, "value": "1234", "exact": True}
    pressed, entered = ask(given=action), ask(given=code)
    assert (pressed["context"]["input"], pressed["data"].get("input")) == (action, None)
    assert (entered["context"]["input"], entered["data"]["input"]) == (code, code)


def test_what_is_carried_on_lies_below_what_the_caller_says() -> None:
    payload = ask(context={"session": {"active_handlers": ["mine"]}})
    before = copy.deepcopy(payload)
    carried = carry_on(payload, {"active_handlers": ["theirs"], "context": {"k": 1}, "session_id": "theirs"})
    assert carried["context"]["session"] == payload["context"]["session"] | {"context": {"k": 1}}
    assert payload == before
    assert carried["data"] == payload["data"]


@pytest.mark.parametrize(
    ("wire", "context", "sent"),
    [
        ({"source": "a", "destination": "b", "k": 1}, None, {"source": "b", "destination": "a", "k": 1}),
        ({"source": "a", "destination": "b"}, {"source": "c"}, {"source": "b", "destination": "c"}),
        ({"source": "a"}, {"x": 1}, {"destination": "a", "x": 1}),
        ({"destination": ["a", "b"]}, None, {"source": ["a", "b"]}),
        ({}, None, {}),
        ({"source": None, "destination": "b"}, None, {"source": "b"}),
    ],
)
def test_a_reply_goes_back_where_its_event_came_from(wire: Any, context: Any, sent: Any) -> None:
    before = copy.deepcopy(wire)
    assert reply_context(wire, context) == sent
    assert wire == before


def test_session_ids_differ_and_are_spelt_as_published_clients_do() -> None:
    assert re.fullmatch(r"thalovant-session-[0-9a-f]{32}", new_session_id())
    assert new_session_id() != new_session_id()
