# SPDX-License-Identifier: Apache-2.0
"""Who may send what, as a table, and that no payload whatever makes the judge raise."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalovant.protocol.messages import MESSAGE_TYPES, HiveMessage, bus
from thalovant_server.directory import Permissions
from thalovant_server.hub import policy
from thalovant_server.hub.ask import Ask, Cancel
from thalovant_server.hub.limits import Limits

ASK = "recognizer_loop:utterance"
LIMITS = Limits()
NOBODY = Permissions(frozenset(), can_broadcast=False, can_propagate=False, can_escalate=False)
DEFAULT = Permissions()
ALL = Permissions(frozenset({ASK, "custom"}), can_broadcast=True, can_propagate=True, can_escalate=True)


def utterance(context=None, **data):
    return bus(ASK, {"utterances": ["hi"], "lang": "de-de", **data}, context or {})


def decide(permissions, message, limits=LIMITS):
    return policy.decide(permissions, message, limits)


def test_an_utterance_is_allowed_and_read():
    context = {"request_id": "r", "session": {"session_id": "s"}}
    match decide(DEFAULT, utterance(context)):
        case policy.Allow(ask=Ask() as ask):
            assert (ask.text, ask.lang, ask.request_id, ask.session_id) == ("hi", "de-de", "r", "s")
            assert ask.timeout == LIMITS.turn_seconds
        case other:
            pytest.fail(repr(other))


def test_a_type_that_is_not_listed_is_denied_as_upstream_says_it():
    denial = decide(DEFAULT, bus("not.allowed", {}, {"request_id": "r"}))
    assert dataclasses.asdict(denial) == {
        "denied_type": "not.allowed",
        "code": "acl_disallowed_type",
        "reason": "not.allowed not in allowed_types",
        "data": {"msg_type": "not.allowed", "allowed": [ASK]},
        "request_id": "r",
        "query_id": None,
    }


def test_a_listed_type_that_nobody_hears_is_denied_too():
    assert decide(ALL, bus("custom", {}, {})).code == "unsupported_type"


def query(inner=None, **metadata):
    return HiveMessage("query", (inner or utterance()).as_dict(), metadata=metadata)


@pytest.mark.parametrize("kind", ["broadcast", "propagate", "cascade", "escalate", "query"])
def test_routed_frames_need_their_grant(kind):
    message = HiveMessage(kind, utterance({"request_id": "r"}).as_dict(), metadata={"query_id": "q"})
    close = decide(NOBODY, message)
    assert isinstance(close, policy.Close)
    assert close.frame_type == close.denial.denied_type == kind
    assert (close.denial.code, close.denial.request_id) == ("not_granted", "r")
    assert close.denial.query_id == ("q" if kind == "query" else None)


@pytest.mark.parametrize("kind", ["broadcast", "propagate", "cascade", "escalate"])
def test_a_granted_frame_for_others_is_denied_all_the_same(kind):
    denial = decide(ALL, HiveMessage(kind, utterance({"request_id": "r"}).as_dict()))
    assert (denial.code, denial.denied_type, denial.request_id) == ("unsupported_frame", kind, "r")


def test_clients_may_query_by_default_and_without_the_grant_they_may_not():
    assert isinstance(decide(DEFAULT, query(query_id="q")), policy.Allow)
    assert isinstance(decide(Permissions(can_escalate=False), query(query_id="q")), policy.Close)


def test_a_query_is_read_as_an_ask_that_is_answered_in_query_frames():
    ask = decide(DEFAULT, query(utterance({"request_id": "r"}), query_id="q")).ask
    assert (ask.text, ask.request_id, ask.query_id) == ("hi", "r", "q")
    plain = decide(DEFAULT, utterance({"request_id": "r"})).ask
    assert (plain.query_id, plain.digest) == (None, ask.digest)


@pytest.mark.parametrize(
    ("metadata", "context", "ids"),
    [
        ({"query_id": "q"}, {}, ("q", "q")),
        ({}, {"request_id": "r"}, ("r", "r")),
        ({"query_id": ""}, {"request_id": "r"}, ("r", "r")),
        ({"query_id": 7}, {"request_id": "r"}, ("r", "r")),
        ({"query_id": "x" * 257}, {"request_id": "r"}, ("r", "r")),
    ],
)
def test_one_id_of_a_query_stands_for_the_other(metadata, context, ids):
    ask = decide(DEFAULT, query(utterance(context), **metadata)).ask
    assert (ask.request_id, ask.query_id) == ids


def test_a_query_without_any_id_is_malformed():
    denial = decide(DEFAULT, query())
    assert (denial.code, denial.denied_type, denial.query_id) == ("malformed_payload", "query", None)


@pytest.mark.parametrize(
    ("inner", "denied_type", "code"),
    [
        (bus("not.allowed", {}, {"request_id": "r"}), "not.allowed", "acl_disallowed_type"),
        (bus(ASK, {}, {"request_id": "r"}), ASK, "malformed_payload"),
        (bus("thalovant.ask.cancel", {"request_id": "r"}), "query", "unsupported_type"),
        (bus("thalovant.ask.cancel", {}), "thalovant.ask.cancel", "malformed_payload"),
        (HiveMessage("broadcast", utterance({"request_id": "r"}).as_dict()), "query", "malformed_payload"),
    ],
)
def test_what_a_query_may_not_hold_is_denied_under_its_ids(inner, denied_type, code):
    denial = decide(DEFAULT, query(inner, query_id="q"))
    assert (denial.denied_type, denial.code, denial.query_id) == (denied_type, code, "q")
    assert denial.request_id in ("r", "q")


def test_a_query_around_nothing_is_malformed():
    denial = decide(DEFAULT, HiveMessage("query", {"x": 1}, metadata={"query_id": "q"}))
    assert (denial.code, denial.request_id, denial.query_id) == ("malformed_payload", "q", "q")


def test_how_much_was_heard_is_read_and_the_malformed_counts_as_nothing():
    heard = decide(DEFAULT, utterance({"thalovant": {"heard": {"turn": "t", "parts": 3}}})).ask.heard
    assert (heard.turn, heard.parts) == ("t", 3)
    for mark in (None, 7, {}, {"heard": 7}, {"heard": {"turn": "", "parts": 1}}, {"heard": {"turn": "t", "parts": -1}}):
        assert decide(DEFAULT, utterance({"thalovant": mark})).ask.heard is None


def test_a_routed_frame_around_nothing_is_malformed():
    assert decide(ALL, HiveMessage("propagate", {"x": 1})).code == "malformed_payload"


@pytest.mark.parametrize(
    ("kind", "decision"), [("ping", policy.Ignore()), ("hello", policy.Ignore()), ("rendezvous", policy.NoRendezvous())]
)
def test_harmless_frames(kind, decision):
    assert decide(NOBODY, HiveMessage(kind, {})) == decision


@pytest.mark.parametrize("kind", ["shared_bus", "intercom", "shake"])
def test_frames_nobody_serves(kind):
    assert decide(ALL, HiveMessage(kind, {})).code == "unsupported_frame"


@pytest.mark.parametrize(
    "payload",
    [
        {},
        {"type": None},
        {"type": ""},
        {"type": 7, "data": {}},
        {"type": ASK, "data": [], "context": {"request_id": "r"}},
        {"type": ASK, "data": {}, "context": {"request_id": "r"}},
        {"type": ASK, "data": {"utterances": []}},
        {"type": ASK, "data": {"utterances": "hi"}},
        {"type": ASK, "data": {"utterances": [7]}},
        {"type": ASK, "data": {"utterances": ["hi"], "lang": 7}},
        {"type": ASK, "data": {"utterances": ["hi"], "lang": "x" * 65}},
        {"type": ASK, "data": {"utterances": ["hi"]}, "context": "text"},
    ],
)
def test_malformed_bus_payloads_are_denied_with_the_id_there_is(payload):
    denial = decide(DEFAULT, HiveMessage("bus", payload))
    assert denial.code == "malformed_payload"
    context = payload.get("context")
    assert denial.request_id == (context.get("request_id") if isinstance(context, dict) else None)


def test_a_context_that_would_multiply_is_denied():
    assert isinstance(decide(DEFAULT, utterance({"x": "y" * 32_000})), policy.Allow)
    denial = decide(DEFAULT, utterance({"x": "y" * 32 * 1024}))
    assert denial.code == "malformed_payload"
    assert denial.reason == "context is larger than 32768 bytes"


def test_an_asks_size_is_what_it_holds_in_memory_and_not_only_its_length():
    def size(words, context=None):
        return decide(DEFAULT, bus(ASK, {"utterances": ["hi"], "words": words}, context or {})).ask.size

    little = size([])
    assert size([[]] * 10_000) - little >= 10_000 * 64
    assert size(["a" * 10_000]) - little < 11_000
    assert size(["a" * 10_000 + "\U0001f600"]) - little >= 40_000
    assert size([], {"x": [{}] * 1000}) - little >= 64_000


def test_nesting_that_no_answer_could_carry_is_denied():
    deep: dict = {}
    for _ in range(300):
        deep = {"a": deep}
    assert decide(DEFAULT, utterance({"x": deep})).code == "malformed_payload"


@pytest.mark.parametrize(
    "payload",
    [
        {"context": {"request_id": "r", "thalovant_request_id": "x"}},
        {"context": {"thalovant_request_id": "r", "correlation_id": "x"}},
        {"context": {"correlation_id": "r", "session": {"request_id": "x"}}},
        {"context": {"session": {"request_id": "r"}}, "data": {"request_id": "x"}},
        {"data": {"utterances": ["hi"], "request_id": "r"}},
        {"context": {"request_id": "", "correlation_id": "r"}},
        {"context": {"request_id": 7, "correlation_id": "r"}},
        {"context": {"request_id": "y" * 257, "correlation_id": "r"}},
    ],
)
def test_where_the_request_id_is_looked_for(payload):
    data = {"utterances": ["hi"], **payload.get("data", {})}
    payload = {"type": ASK, **payload, "data": data}
    assert decide(DEFAULT, HiveMessage("bus", payload)).ask.request_id == "r"


@pytest.mark.parametrize(
    ("wish", "seconds"),
    [(1500, 1.5), (1, 0.05), (10**9, 600), (-5, 0.05), (True, 120), ("9", 120), (None, 120), (float("nan"), 120)],
)
def test_a_request_may_wish_its_own_deadline_within_bounds(wish, seconds):
    assert decide(DEFAULT, utterance({"thalovant": {"timeout_ms": wish}})).ask.timeout == seconds


def test_cancelling_needs_no_grant_but_a_name():
    assert decide(NOBODY, bus("thalovant.ask.cancel", {"request_id": "r"})) == policy.Allow(Cancel("r"))
    for data in ({}, {"request_id": ""}, {"request_id": 7}, {"request_id": "x" * 257}):
        assert decide(NOBODY, bus("thalovant.ask.cancel", data)).code == "malformed_payload"


def test_the_digest_tells_content_apart_and_nothing_else():
    def digest(data, bus_type=ASK, context=None):
        permissions = Permissions(frozenset({ASK, "ovos.utterance.handle"}))
        return decide(permissions, bus(bus_type, data, context or {})).ask.digest

    first = digest({"utterances": ["a"], "lang": "en"})
    assert digest({"lang": "en", "utterances": ["a"]}, context={"source": "elsewhere"}) == first
    assert digest({"utterances": ["b"], "lang": "en"}) != first
    assert digest({"utterances": ["a"], "lang": "en"}, "ovos.utterance.handle") != first


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
BUS = st.fixed_dictionaries(
    {"type": st.sampled_from([ASK, "thalovant.ask.cancel", "custom"]) | ANYTHING},
    optional={
        "data": st.fixed_dictionaries({}, optional={"utterances": ANYTHING, "lang": ANYTHING, "request_id": ANYTHING})
        | ANYTHING,
        "context": st.fixed_dictionaries({}, optional={"session": ANYTHING, "thalovant": ANYTHING}) | ANYTHING,
    },
)


@given(st.sampled_from(sorted(MESSAGE_TYPES)), BUS | st.dictionaries(st.text(max_size=8), ANYTHING, max_size=3))
def test_nothing_makes_the_judge_raise(kind, payload):
    message = HiveMessage(kind, payload if isinstance(payload, dict) else {})
    assert isinstance(decide(ALL, message), policy.Decision)


@given(
    st.sampled_from(sorted(MESSAGE_TYPES)), BUS, st.dictionaries(st.sampled_from(["query_id", "x"]), ANYTHING), ANYTHING
)
def test_no_query_makes_the_judge_raise_and_each_denial_of_one_can_be_heard(kind, payload, metadata, extra):
    inner = HiveMessage(kind, payload if isinstance(payload, dict) else {}).as_dict()
    decision = decide(ALL, HiveMessage("query", inner | {"x": extra}, metadata=metadata))
    assert isinstance(decision, (policy.Allow, policy.Deny))
    if isinstance(decision, policy.Allow):
        assert decision.ask.query_id and decision.ask.request_id
    elif decision.request_id is not None:
        assert decision.query_id is not None
