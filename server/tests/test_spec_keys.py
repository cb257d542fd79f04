# SPDX-License-Identifier: Apache-2.0
"""Secrets leave a spec whatever their spelling and depth; everything else stays as it was."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalovant_server.spec_keys import SECRET_KEYS, plain_key, without_secrets

PLAIN = st.text("abcxyz-_", max_size=6).filter(lambda key: plain_key(key) not in SECRET_KEYS)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(PLAIN, inner, max_size=3),
    max_leaves=10,
)


@pytest.mark.parametrize(
    "key", ["apiKey", "api_key", "API-KEY", "Password", "initial_identify", "private-key", "Token"]
)
def test_a_secret_leaves_in_every_spelling(key: str) -> None:
    assert without_secrets({key: "secret", "kept": 1}) == {"kept": 1}
    assert without_secrets({"deep": [{"deeper": {key: {"x": "secret"}}}]}) == {"deep": [{"deeper": {}}]}


@pytest.mark.parametrize("key", ["apiKeyRef", "passwords", "tokenless", "siteId", "my secret"])
def test_a_key_that_only_resembles_one_stays(key: str) -> None:
    assert without_secrets({key: "value"}) == {key: "value"}


def test_the_list_is_spelled_as_it_is_compared() -> None:
    assert {plain_key(key) for key in SECRET_KEYS} == SECRET_KEYS


@given(VALUES)
def test_a_value_without_secrets_stays_as_it_was(value: Any) -> None:
    assert without_secrets(value) == value
