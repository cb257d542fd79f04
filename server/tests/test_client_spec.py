# SPDX-License-Identifier: Apache-2.0
"""A spec says what its client may do, its kind what holds otherwise; what makes no sense is refused by name."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalovant_server.client_presets import DEFAULT, PRESETS
from thalovant_server.client_spec import GRANTS, LISTS, MOST_NAMES, NAME_LENGTH, check_permissions, exceeds, permissions
from thalovant_server.directory import DEFAULT_ALLOWED_TYPES, Permissions, RateLimit
from thalovant_server.errors import ForbiddenTextError


@pytest.mark.parametrize("spec", [{}, {"allowed_types": None}, {"other": 1}])
def test_without_a_list_an_ask_is_allowed(spec: dict[str, Any]) -> None:
    check_permissions(spec)
    assert permissions(spec).allowed_types == DEFAULT_ALLOWED_TYPES
    assert "recognizer_loop:utterance" in permissions(spec).allowed_types


@pytest.mark.parametrize("types", [[], ["a"], ["recognizer_loop:utterance", "peer.custom"], ["a", "a"]])
def test_a_list_is_all_that_is_allowed(types: list[str]) -> None:
    check_permissions({"allowed_types": types})
    assert permissions({"allowed_types": types}).allowed_types == frozenset(types)


@pytest.mark.parametrize(
    "types",
    [
        "a",
        {"a": 1},
        7,
        True,
        [""],
        [1],
        [None],
        [["a"]],
        ["a b"],
        ["a\n"],
        ["x" * (NAME_LENGTH + 1)],
        ["a"] * (MOST_NAMES + 1),
    ],
)
def test_anything_else_is_refused_by_name(types: object) -> None:
    with pytest.raises(ForbiddenTextError, match=r"spec\.allowed_types"):
        check_permissions({"allowed_types": types})


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner), max_leaves=8))
def test_whatever_passes_the_check_can_be_used(value: object) -> None:
    try:
        check_permissions({"allowed_types": value})
    except ForbiddenTextError:
        return
    assert all(isinstance(each, str) for each in permissions({"allowed_types": value}).allowed_types)


@pytest.mark.parametrize(
    ("spec", "granted"),
    [({}, True), ({"can_escalate": None}, True), ({"can_escalate": True}, True), ({"can_escalate": False}, False)],
)
def test_a_client_may_query_unless_its_spec_says_otherwise(spec: dict[str, Any], granted: bool) -> None:
    check_permissions(spec)
    assert permissions(spec).can_escalate is granted
    assert permissions(spec | {"allowed_types": []}).can_escalate is granted


@pytest.mark.parametrize("value", ["yes", "", 0, 1, [], {}, 1.5])
def test_a_grant_that_is_neither_true_nor_false_is_refused_by_name(value: object) -> None:
    with pytest.raises(ForbiddenTextError, match=r"spec\.can_escalate"):
        check_permissions({"can_escalate": value})
    assert not permissions({"can_escalate": value}).can_escalate


@pytest.mark.parametrize("key", GRANTS)
@pytest.mark.parametrize("value", [True, False])
@pytest.mark.parametrize("kind", [None, *sorted(PRESETS)])
def test_an_explicit_grant_wins_over_the_preset(key: str, value: bool, kind: str | None) -> None:
    assert getattr(permissions({"connection_type": kind, key: value}), key) is value
    assert permissions({"connection_type": kind, key: None}) == permissions({"connection_type": kind})


@pytest.mark.parametrize("kind", sorted(PRESETS))
def test_a_kind_of_connection_has_what_its_row_says(kind: str) -> None:
    assert permissions({"connection_type": kind}) == PRESETS[kind].permissions
    assert "recognizer_loop:utterance" in PRESETS[kind].permissions.allowed_types
    assert not PRESETS[kind].permissions.can_broadcast
    assert PRESETS[kind].reason.endswith(".")


@pytest.mark.parametrize("kind", [None, "", "toaster", "Developer", 7, ["developer"]])
def test_any_other_kind_has_the_default(kind: object) -> None:
    assert permissions({"connection_type": kind}) == DEFAULT == Permissions()


@pytest.mark.parametrize("key", LISTS)
@pytest.mark.parametrize(
    "value", ["a", {"a": 1}, [""], ["a b"], ["a\x00"], ["e\u0301"], ["a"] * (MOST_NAMES + 1)],
    ids=["text", "object", "empty", "blank", "control", "composed", "many"],
)  # fmt: skip
def test_a_list_that_is_none_is_refused_by_name(key: str, value: object) -> None:
    with pytest.raises(ForbiddenTextError, match=rf"^rule\.{key} "):
        check_permissions({key: value}, where="rule.")


@pytest.mark.parametrize(
    ("rate", "field"),
    [
        (5, "rate_limit"),
        ([], "rate_limit"),
        ({}, "rate_limit"),
        ({"messages": 1}, "rate_limit"),
        ({"messages": 1, "per_seconds": 1, "burst": 1}, "rate_limit"),
        ({"messages": 0, "per_seconds": 1}, "rate_limit.messages"),
        ({"messages": True, "per_seconds": 1}, "rate_limit.messages"),
        ({"messages": 1_000_001, "per_seconds": 1}, "rate_limit.messages"),
        ({"messages": 1, "per_seconds": 1.5}, "rate_limit.per_seconds"),
        ({"messages": 1, "per_seconds": 86_401}, "rate_limit.per_seconds"),
    ],
)
def test_a_rate_that_is_none_is_refused_by_name(rate: object, field: str) -> None:
    with pytest.raises(ForbiddenTextError, match=rf"^spec\.{field} "):
        check_permissions({"rate_limit": rate})


@pytest.mark.parametrize("quota", [-1, 1.5, "9", True, 1_000_000_001, []])
def test_a_quota_that_is_none_is_refused_by_name(quota: object) -> None:
    with pytest.raises(ForbiddenTextError, match=r"^spec\.daily_quota "):
        check_permissions({"daily_quota": quota})


def test_limits_are_read() -> None:
    spec = {"rate_limit": {"messages": 5, "per_seconds": 60}, "daily_quota": 0}
    check_permissions(spec)
    assert permissions(spec) == Permissions(rate_limit=RateLimit(5, 60), daily_quota=0)


# -- what is more than what

NAMES = st.frozensets(st.sampled_from(["a", "b", "c"]))
RATES = st.none() | st.builds(RateLimit, st.integers(1, 9), st.integers(1, 9))
ANY = st.builds(
    Permissions, NAMES, st.booleans(), st.booleans(), st.booleans(), NAMES, NAMES, RATES, st.none() | st.integers(0, 9)
)


@pytest.mark.parametrize(
    ("wanted", "given", "more"),
    [
        ({"allowed_types": frozenset({"x"})}, {}, ["allowed_types"]),
        ({"allowed_types": frozenset()}, {}, []),
        ({"can_broadcast": True}, {}, ["can_broadcast"]),
        ({}, {"can_escalate": False}, ["can_escalate"]),
        ({}, {"blocked_skills": frozenset({"s"})}, ["blocked_skills"]),
        ({"blocked_intents": frozenset({"s:i"})}, {}, []),
        ({"rate_limit": RateLimit(9, 9)}, {}, []),
        ({}, {"rate_limit": RateLimit(9, 9)}, ["rate_limit"]),
        ({"rate_limit": RateLimit(10, 100)}, {"rate_limit": RateLimit(9, 9)}, ["rate_limit"]),
        ({"rate_limit": RateLimit(9, 8)}, {"rate_limit": RateLimit(9, 9)}, ["rate_limit"]),
        ({"rate_limit": RateLimit(8, 9)}, {"rate_limit": RateLimit(9, 9)}, []),
        ({}, {"daily_quota": 5}, ["daily_quota"]),
        ({"daily_quota": 6}, {"daily_quota": 5}, ["daily_quota"]),
        ({"daily_quota": 5}, {"daily_quota": 5}, []),
    ],
)  # fmt: skip
def test_what_exceeds_what_is_told_by_name(wanted: dict[str, Any], given: dict[str, Any], more: list[str]) -> None:
    assert exceeds(Permissions(**wanted), Permissions(**given)) == more


@given(ANY, ANY, ANY)
def test_more_is_an_order(one: Permissions, two: Permissions, three: Permissions) -> None:
    assert exceeds(one, one) == []
    if not exceeds(one, two) and not exceeds(two, one):
        assert one == two or one.rate_limit != two.rate_limit
    if not exceeds(one, two) and not exceeds(two, three):
        assert exceeds(one, three) == []
