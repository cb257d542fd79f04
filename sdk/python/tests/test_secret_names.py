# SPDX-License-Identifier: Apache-2.0
"""Which keys speak of a secret, however they are spelled and however deep they lie (contract 3.6)."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalovant.secret_names import REDACTED, redacted, without_secrets

SPELLINGS = ["api_key", "apiKey", "API-KEY", "Api Key", "api__key"]


@pytest.mark.parametrize("key", SPELLINGS)
def test_a_spelling_hides_nothing(key: str) -> None:
    assert redacted({key: "x"}) == {key: REDACTED}
    assert without_secrets({key: "x"}) == {}


@pytest.mark.parametrize("key", ["my_password_2", "session-key", "tokens", "Passwd"])
def test_a_word_within_a_key_is_redacted_and_not_dropped(key: str) -> None:
    assert redacted({key: ["x"]}) == {key: REDACTED}
    assert without_secrets({key: ["x"]}) == {key: ["x"]}


@pytest.mark.parametrize("key", ["initial_identify", "initialIdentifyToken", "credentials", "refresh-token"])
def test_what_a_client_resource_must_not_show_is_dropped(key: str) -> None:
    assert without_secrets({key: {"a": 1}, "kept": 1}) == {"kept": 1}


def test_any_depth_counts_and_what_was_given_is_left_alone() -> None:
    given_value: dict[str, Any] = {"a": [{"secret": 1, "b": ({"password": 2},)}], 3: 4}
    assert redacted(given_value) == {"a": [{"secret": REDACTED, "b": [{"password": REDACTED}]}], 3: 4}
    assert without_secrets(given_value) == {"a": [{"b": [{}]}], 3: 4}
    assert given_value["a"][0]["secret"] == 1


MAPPINGS = st.recursive(
    st.integers(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*SPELLINGS, "a", "token"]), inner),
    max_leaves=8,
)


@given(MAPPINGS)
def test_a_second_time_changes_nothing(value: Any) -> None:
    assert redacted(redacted(value)) == redacted(value)
    assert without_secrets(without_secrets(value)) == without_secrets(value)
