# SPDX-License-Identifier: Apache-2.0
"""Cursors that name a row by time and id: each comes back as it was, and nothing else is one."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalovant_server.control.places import FIRST, place_after, place_of
from thalovant_server.errors import ApiError
from thalovant_server.identifiers import new_id


@dataclass(frozen=True)
class Row:
    created_at: int
    id: str


@given(st.integers(0, 10**17 - 1))
def test_a_cursor_names_its_row(created_at: int) -> None:
    row = Row(created_at, new_id("tok"))
    assert place_of(place_after(row)) == (row.created_at, row.id)


def test_no_cursor_is_the_first_page() -> None:
    assert place_of(None) == FIRST


@given(st.text(max_size=40))
def test_any_other_text_is_refused_or_reads_the_same_again(text: str) -> None:
    try:
        created_at, row_id = place_of(text)
    except ApiError as error:
        assert (error.status, error.code) == (422, "invalid_cursor")
    else:
        assert place_of(place_after(Row(created_at, row_id))) == (created_at, row_id)


@pytest.mark.parametrize("text", ["", "MQ", "é", "Og", "eDp5"])
def test_these_are_none(text: str) -> None:
    with pytest.raises(ApiError):
        place_of(text)
