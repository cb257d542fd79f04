# SPDX-License-Identifier: Apache-2.0
"""What passes the bounds of a spec comes back from JSON; what does not is refused by name."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalovant_server.errors import ForbiddenTextError
from thalovant_server.spec_bounds import MOST_BYTES, check_bounds

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(), max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(), max_size=3), inner, max_size=3)
    ),
    max_leaves=10,
)


@pytest.mark.parametrize("value", [2**64, -(2**63) - 1, "\ud800", "x" * MOST_BYTES, {1: 1}, b"x"])
def test_what_json_cannot_carry_is_refused(value: Any) -> None:
    with pytest.raises(ForbiddenTextError) as caught:
        check_bounds({"a": {"b": [value]}})
    assert caught.value.field == "spec"


@pytest.mark.parametrize("value", [2**64 - 1, -(2**63), 1e300, "é", "x" * (MOST_BYTES - 20)])
def test_what_fits_stays(value: Any) -> None:
    check_bounds({"a": value})


@given(st.dictionaries(st.text(max_size=3), VALUES, max_size=3))
def test_any_value_is_refused_or_written_back(spec: dict[str, Any]) -> None:
    with contextlib.suppress(ForbiddenTextError):
        check_bounds(spec)
        assert orjson.loads(orjson.dumps(spec)) == spec == json.loads(json.dumps(spec))
