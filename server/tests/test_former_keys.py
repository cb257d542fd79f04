# SPDX-License-Identifier: Apache-2.0
"""Whose a key was: the newest ends are remembered, the oldest give way, and the last end of a key counts."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from thalovant_server.former_keys import End, FormerHolder, FormerKeys

KEYS = st.integers(0, 9).map(lambda number: bytes([number]))
ENDS: st.SearchStrategy[End] = st.sampled_from(["rotated_out", "removed", "hub_removed"])


@given(st.lists(st.tuples(KEYS, ENDS)), st.integers(1, 5))
def test_it_holds_the_last_ends_and_no_more(added: list[tuple[bytes, End]], most: int) -> None:
    keys = FormerKeys(most)
    keys.load((key, FormerHolder("c", "lamp", "h", end)) for key, end in added)
    last = dict(reversed(list(reversed(added))))  # of each key its last end
    newest = list(dict.fromkeys(key for key, _ in reversed(added)))[:most]
    assert len(keys) == len(newest)
    for key in {key for key, _ in added}:
        found = keys.find(key)
        assert (found and found.end) == (last[key] if key in newest else None)
