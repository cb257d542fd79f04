# SPDX-License-Identifier: Apache-2.0
"""A spec narrows or widens what its client may send; a list that is none is refused."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalovant_server.client_spec import MOST_NAMES, NAME_LENGTH, check_permissions, permissions
from thalovant_server.directory import DEFAULT_ALLOWED_TYPES
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
