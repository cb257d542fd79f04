# SPDX-License-Identifier: Apache-2.0
"""Contexts made for a caller: what is given stands where published clients put it, the rest is left out."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thalovant.client_context import build_client_context, build_location, request_context

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize(
    ("given", "made"),
    [
        ({}, {}),
        ({"user_id": "u"}, {"user_id": "u", "user": {"id": "u"}}),
        ({"user_name": "n"}, {"user_name": "n", "user": {"name": "n"}}),
        ({"roles": ("a", "b")}, {"roles": ["a", "b"], "user": {"roles": ["a", "b"]}}),
        ({"roles": "admin"}, {"roles": ["admin"], "user": {"roles": ["admin"]}}),
        ({"auth_token": "t"}, {"auth_token": "t", "auth": {"token": "t"}}),
        ({"auth_provider": "p", "auth_claims": {"c": 1}}, {"auth": {"provider": "p", "claims": {"c": 1}}}),
        ({"platform": "p"}, {"platform": "p"}),
        ({"device_id": "d", "platform": "p"}, {"platform": "p", "device": {"id": "d", "platform": "p"}}),
        ({"source": "s", "destination": "d"}, {"source": "s", "destination": "d"}),
        ({"channel": "c", "locale": "de"}, {"channel": "c", "locale": "de"}),
        ({"metadata": {"k": None}}, {"metadata": {"k": None}}),
        ({"session_id": "s"}, {"session_id": "s", "session": {"session_id": "s"}}),
        ({"user_id": "", "roles": [], "auth_claims": {}, "metadata": {}, "session_id": ""}, {}),
    ],
)
def test_what_is_given_stands_in_its_place(given: dict[str, Any], made: dict[str, Any]) -> None:
    assert build_client_context(**given) == made


def test_what_the_context_says_already_stays_but_for_members_that_are_given() -> None:
    context = {
        "user_id": "old",
        "user": {"id": "old", "z": 1},
        "auth": {"token": "old", "y": 1},
        "device": {"id": "old"},
        "metadata": {"k": 0, "old": 1},
        "session": {"session_id": "old", "x": 1},
        "platform": "old",
    }
    before = copy.deepcopy(context)
    made = build_client_context(
        context, user_id="u", auth_token="t", device_id="d", platform="p", metadata={"k": 1}, session_id="s"
    )
    assert made == {
        "user_id": "old",
        "user": {"id": "u", "z": 1},
        "auth": {"token": "t", "y": 1},
        "auth_token": "t",
        "device": {"id": "old"},
        "metadata": {"k": 1, "old": 1},
        "session": {"session_id": "old", "x": 1},
        "session_id": "s",
        "platform": "old",
    }
    assert context == before


def test_what_is_no_object_counts_as_absent() -> None:
    context = {"session": "oops", "user": 7, "auth": None, "metadata": []}
    made = build_client_context(context, user_id="u", auth_token="t", metadata={"k": 1}, session_id="s")
    assert made["session"] == {"session_id": "s"}
    assert (made["user"], made["auth"], made["metadata"]) == ({"id": "u"}, {"token": "t"}, {"k": 1})
    assert request_context({"session": "oops"}, pipeline=["a"]) == {"session": {"pipeline": ["a"]}}


@pytest.mark.parametrize(
    ("given", "made"),
    [
        ({}, None),
        ({"context": {}}, None),
        ({"context": {"a": 1}}, {"a": 1}),
        ({"stt_lang": "de"}, {"stt_lang": "de"}),
        ({"pipeline": ("a", " b ", "", 3)}, {"session": {"pipeline": ["a", "b", "3"]}}),
        ({"pipeline": "a"}, {"session": {"pipeline": ["a"]}}),
        ({"pipeline": [" "], "location": {}}, None),
        ({"location": {"city": "x"}}, {"location": {"city": "x"}}),
        (
            {
                "context": {"stt_lang": "en", "session": {"pipeline": ["q"], "y": 2}},
                "stt_lang": "de",
                "pipeline": ["a"],
            },
            {"stt_lang": "de", "session": {"pipeline": ["a"], "y": 2}},
        ),
    ],
)
def test_a_request_context_holds_what_is_given_or_is_none(given: dict[str, Any], made: Any) -> None:
    assert request_context(**given) == made


@pytest.mark.parametrize(
    ("given", "made"),
    [
        (("",), None),
        ((" ", "region", "de"), None),
        (("Berlin",), {"city": "Berlin"}),
        ((" Berlin ", " BE ", " de "), {"city": "Berlin", "region": "BE", "country_code": "DE"}),
        (
            ("B", "", "", 52.5, "13.4", " Europe/Berlin "),
            {"city": "B", "timezone": {"code": "Europe/Berlin"}, "coordinate": {"latitude": 52.5, "longitude": 13.4}},
        ),
    ],
)
def test_a_location_needs_a_city(given: tuple[Any, ...], made: Any) -> None:
    assert build_location(*given) == made


@pytest.mark.parametrize(
    ("latitude", "longitude"),
    [(1, None), (None, 1), ("", ""), ("x", 1), (0, 0), (91, 0), (0, 181), (float("nan"), 1), ("inf", 1), (True, 1)],
)
def test_degrees_that_are_none_are_left_out(latitude: Any, longitude: Any) -> None:
    assert build_location("B", latitude=latitude, longitude=longitude) == {"city": "B"}


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(["session", "user", "auth", "metadata", "device", "roles"]), JSON), JSON)
def test_no_context_whatever_makes_them_raise(context: dict[str, Any], value: Any) -> None:
    build_client_context(context, user_id="u", auth_token="t", device_id="d", metadata={"k": 1}, session_id="s")
    request_context(context, stt_lang="de", pipeline=["a"])
    build_location("B", latitude=value, longitude=value)
