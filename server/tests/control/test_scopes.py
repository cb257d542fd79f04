# SPDX-License-Identifier: Apache-2.0
"""Scopes: what a login may ask for, and what a granted scope implies."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalovant_server.control.scopes import ALL, asked_for, with_implied
from thalovant_server.errors import ApiError


@pytest.mark.parametrize("scope", [None, "", "  "])
def test_asking_for_nothing_gives_all(scope: str | None) -> None:
    assert asked_for(scope) == list(ALL)


def test_named_scopes_come_once_and_in_our_order() -> None:
    assert asked_for(" clients:write  hubs:read clients:write ") == ["hubs:read", "clients:write"]


@pytest.mark.parametrize("scope", ["admin", "hubs:read admin", "HUBS:READ", "hubs:read,hubs:write", "*"])
def test_an_unknown_scope_is_refused_without_being_repeated(scope: str) -> None:
    with pytest.raises(ApiError) as caught:
        asked_for(scope)
    assert (caught.value.status, caught.value.code) == (422, "invalid_scope")
    assert caught.value.detail == "scope may name: " + " ".join(ALL)


def test_writing_hubs_implies_all_reading_of_hubs_and_nothing_of_clients() -> None:
    assert with_implied(["hubs:write"]) == {"hubs:write", "hubs:read", "hubs:inspect", "hubs:preview"}
    assert with_implied(["hubs:inspect"]) == {"hubs:inspect"}
    assert with_implied(["clients:write"]) == {"clients:write"}
    assert with_implied([]) == frozenset()


@given(st.sets(st.sampled_from(ALL)))
def test_implying_takes_nothing_away_and_once_is_enough(granted: set[str]) -> None:
    once = with_implied(sorted(granted))
    assert granted <= once <= set(ALL)
    assert with_implied(sorted(once)) == once
