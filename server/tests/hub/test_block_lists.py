# SPDX-License-Identifier: Apache-2.0
"""Blocked skills and intents: what addresses them on the bus is denied, and agents are told of both lists."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalovant.protocol.messages import HiveMessage, bus
from thalovant_server.directory import Permissions
from thalovant_server.hub import policy
from thalovant_server.hub.block_lists import for_agent
from thalovant_server.hub.limits import Limits

ASK = "recognizer_loop:utterance"
SPEAKS = frozenset({ASK, "ovos.intent.describe", "weather.skill:rain.intent", "weather.skill:sun.intent"})
LISTED = Permissions(
    SPEAKS, blocked_skills=frozenset({"lock.skill"}), blocked_intents=frozenset({"weather.skill:rain.intent"})
)
JSON = st.recursive(
    st.none() | st.booleans() | st.text(max_size=8), lambda inner: st.lists(inner, max_size=3), max_leaves=4
)


def decide(bus_type, data=None, permissions=LISTED, context=None):
    context = {"request_id": "r", **(context or {})}
    return policy.decide(permissions, bus(bus_type, data or {}, context), Limits())


@pytest.mark.parametrize(
    ("bus_type", "data", "code", "named"),
    [
        ("ovos.intent.describe", {"skill_id": "lock.skill"}, "acl_blocked_skill", {"skill_id": "lock.skill"}),
        ("ovos.intent.describe", {"intent_name": "lock.skill:open"}, "acl_blocked_skill", {"skill_id": "lock.skill"}),
        ("weather.skill:rain.intent", {}, "acl_blocked_intent", {"intent": "weather.skill:rain.intent"}),
        (
            "ovos.intent.describe",
            {"skill_id": "weather.skill", "intent_name": "rain.intent"},
            "acl_blocked_intent",
            {"intent": "weather.skill:rain.intent"},
        ),
        (
            "ovos.intent.describe",
            {"skill_id": "weather.skill", "intent_name": "weather.skill:rain.intent"},
            "acl_blocked_intent",
            {"intent": "weather.skill:rain.intent"},
        ),
        (ASK, {"utterances": ["hi"], "skill_id": "lock.skill"}, "acl_blocked_skill", {"skill_id": "lock.skill"}),
    ],
    ids=["skill", "skill-of-an-intent", "type", "intent-of-a-skill", "whole-intent", "utterance"],
)
def test_what_addresses_a_blocked_skill_or_intent_is_denied_by_name(bus_type, data, code, named):
    denial = decide(bus_type, data)
    assert isinstance(denial, policy.Deny)
    assert (denial.code, denial.denied_type, denial.data, denial.request_id) == (code, bus_type, named, "r")
    assert next(iter(named.values())) in denial.reason


@pytest.mark.parametrize(
    ("bus_type", "data"),
    [
        ("weather.skill:sun.intent", {}),
        ("ovos.intent.describe", {"skill_id": "weather.skill", "intent_name": "sun.intent"}),
        ("ovos.intent.describe", {"skill_id": ["lock.skill"]}),
    ],
    ids=["type", "data", "no-text"],
)
def test_what_addresses_another_is_not(bus_type, data):
    assert decide(bus_type, data).code == "unsupported_type"
    assert decide(bus_type, data, Permissions(SPEAKS)).code == "unsupported_type"


def test_a_type_that_is_not_allowed_is_denied_as_such():
    assert decide("lock.skill:open").code == "acl_disallowed_type"


def test_a_query_for_a_blocked_skill_is_denied_under_its_id():
    inner = bus(ASK, {"utterances": ["hi"], "skill_id": "lock.skill"}, {"request_id": "r"})
    denial = policy.decide(LISTED, HiveMessage("query", inner.as_dict(), {"query_id": "q"}), Limits())
    assert (denial.code, denial.request_id, denial.query_id) == ("acl_blocked_skill", "r", "q")


@given(st.text(max_size=12), st.dictionaries(st.sampled_from(["skill_id", "intent_name", "other"]), JSON))
def test_no_data_whatever_makes_the_judge_raise(bus_type, data):
    everything = Permissions(frozenset({bus_type}), blocked_skills=LISTED.blocked_skills | {""})
    policy.decide(everything, HiveMessage("bus", {"type": bus_type, "data": data}), Limits())


# -- what the agent is handed


def test_without_lists_the_context_is_the_clients_own():
    context = {"session": {"session_id": "s"}, "own": 1}
    told = for_agent(Permissions(), context)
    assert (told.skills, told.intents) == ((), ())
    assert told.context is context


def test_the_agent_is_told_of_both_lists_also_where_ovos_agents_look():
    context = {"session": {"session_id": "s", "blacklisted_skills": ["own.skill", "lock.skill", 7]}, "own": 1}
    told = for_agent(LISTED, context)
    assert told.skills == ("lock.skill", "own.skill")
    assert told.intents == ("weather.skill:rain.intent",)
    assert told.context == {
        "own": 1,
        "session": {
            "session_id": "s",
            "blacklisted_skills": ["lock.skill", "own.skill"],
            "blacklisted_intents": ["weather.skill:rain.intent"],
        },
    }
    assert context["session"]["blacklisted_skills"] == ["own.skill", "lock.skill", 7]


@given(st.dictionaries(st.sampled_from(["session", "own"]), JSON | st.dictionaries(st.text(max_size=9), JSON)))
def test_a_client_names_more_but_never_less(context):
    told = for_agent(LISTED, context)
    assert set(told.skills) >= LISTED.blocked_skills
    assert set(told.context["session"]["blacklisted_intents"]) >= LISTED.blocked_intents
