# SPDX-License-Identifier: Apache-2.0
"""What a conversation carries on: the keys of the contract, from its last turn, in bounded numbers."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from thalovant.protocol.carrying import CARRIED_KEYS, MAX_CONVERSATIONS, MAX_REQUESTS, Conversations

STATE: dict[str, Any] = {key: [key] for key in CARRIED_KEYS}


def context(**session: Any) -> dict[str, Any]:
    return {"session": session, "request_id": "does not matter"}


def test_the_next_turn_carries_what_the_last_one_left() -> None:
    known = Conversations()
    assert known.begin_turn("s", "r1") == {}
    known.handled("r1", context(**STATE, session_id="other", lang="de", pipeline=["p"]))
    assert known.begin_turn("s", "r2") == STATE
    assert known.begin_turn("another", "r3") == {}


def test_what_the_hub_no_longer_says_is_carried_no_longer() -> None:
    known = Conversations()
    known.begin_turn("s", "r1")
    known.handled("r1", context(active_handlers=["a"], context={}))
    assert known.begin_turn("s", "r2") == {"active_handlers": ["a"], "context": {}}
    known.handled("r2", context(context={"k": 1}))
    assert known.begin_turn("s", "r3") == {"context": {"k": 1}}


def test_a_turn_that_is_handled_late_still_counts_unless_a_later_one_was() -> None:
    known = Conversations()
    for name in ("r1", "r2", "r3"):
        known.begin_turn("s", name)
    known.handled("r2", context(context=2))
    known.handled("r1", context(context=1))
    assert known.begin_turn("s", "r4") == {"context": 2}
    known.handled("r3", context(context=3))
    assert known.begin_turn("s", "r5") == {"context": 3}


def test_what_belongs_to_no_turn_is_not_taken() -> None:
    known = Conversations()
    known.begin_turn("s", "r1")
    for request_id in ("r2", "", "s"):
        known.handled(request_id, context(context=1))
    for odd in ({}, {"session": None}, {"session": "text"}, {"session": []}):
        known.handled("r1", odd)
    assert known.begin_turn("s", "r2") == {}


def test_no_more_conversations_and_requests_are_remembered_than_the_contract_says() -> None:
    known = Conversations()
    for number in range(MAX_CONVERSATIONS + 1):
        known.begin_turn(f"s{number}", f"r{number}")
        known.handled(f"r{number}", context(context=number))
    assert len(known) == MAX_CONVERSATIONS
    assert known.begin_turn("s1", "again") == {"context": 1}  # used now, so the next to go is s2
    assert known.begin_turn("s0", "anew") == {}
    assert known.begin_turn("s2", "too late") == {}
    for number in range(MAX_REQUESTS + 1):
        known.begin_turn("s", f"t{number}")
    known.handled("t0", context(context="forgotten"))
    assert known.begin_turn("s", "next") == {}
    known.handled("t2", context(context="kept"))
    assert known.begin_turn("s", "last") == {"context": "kept"}


def test_one_request_id_in_two_conversations_is_the_later_ones() -> None:
    known = Conversations()
    known.begin_turn("a", "same")
    known.begin_turn("b", "same")
    known.handled("same", context(context=1))
    assert known.begin_turn("b", "r") == {"context": 1}
    assert known.begin_turn("a", "r2") == {}


STEPS = st.lists(st.tuples(st.booleans(), st.sampled_from("abc"), st.sampled_from([f"r{n}" for n in range(20)])))


@settings(deadline=None)
@given(STEPS)
def test_it_stays_bounded_and_forgets_request_ids_with_their_turns(steps: list[tuple[bool, str, str]]) -> None:
    known = Conversations()
    for begins, session_id, request_id in steps:
        if begins:
            known.begin_turn(session_id, request_id)
        else:
            known.handled(request_id, context(context=request_id))
    assert len(known._sessions) <= len(known) * MAX_REQUESTS
    for request_id, session_id in known._sessions.items():
        assert request_id in known._known[session_id].requests
