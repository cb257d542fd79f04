# SPDX-License-Identifier: Apache-2.0
"""Who an event belongs to: asks and queries do not mix, whose refusal is whose, bounds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thalovant.protocol.ask_book import AskBook, denial_is_for
from thalovant.protocol.asks import Answered, Ask, Query
from thalovant.protocol.contexts import UTTERANCE
from thalovant.protocol.errors import SessionError, TooLargeError

VECTORS = Path(__file__).parents[4] / "contract" / "vectors"
DENIALS = json.loads((VECTORS / "denial-attribution.json").read_text())
DEADLINE = 3.0
ECHO = {"request_id": "r1", "session": {"session_id": "s1"}}


def new_ask(request_id: str = "r1", *, handled_is_last: bool = False, deadline_at: float = DEADLINE) -> Ask:
    return Ask(request_id, "s1", now=0.0, deadline_at=deadline_at, handled_is_last=handled_is_last)


def new_query(query_id: str, request_id: str = "r-q") -> Query:
    return Query(query_id, request_id, "s1", now=0.0, deadline_at=DEADLINE)


def dispatch(book: AskBook, name: str, data: dict[str, Any], context: dict[str, Any], now: float) -> Ask | None:
    """Give an event to its ask as a client does; return the ask if it used the event or has ended."""
    ask = book.owner(name, data, context, now)
    if ask is None:
        return None
    used = ask.receive(name, data, context, now)
    if ask.outcome is not None:
        book.remove(ask)
    return ask if used or ask.outcome is not None else None


@pytest.mark.parametrize("case", DENIALS["cases"], ids=str)
def test_whose_refusal_it_is(case: dict[str, Any]) -> None:
    assert (
        denial_is_for(
            case["own_request_id"],
            case["denial_request_id"],
            case["denied_type"],
            asks=case["asks_in_flight"],
            queries=case["queries_in_flight"],
            sends=case["sends_in_flight"],
        )
        == case["is_this_asks"]
    )


@pytest.mark.parametrize("case", DENIALS["cases"], ids=str)
def test_the_book_gives_a_refusal_to_the_ask_it_belongs_to(case: dict[str, Any]) -> None:
    book, own = AskBook(), new_ask(case["own_request_id"])
    book.add(own)
    for number in range(case["asks_in_flight"] - 1):
        book.add(new_ask(f"other-{number}"))
    for number in range(case["queries_in_flight"]):
        book.add(Query(f"query-{number}", f"query-{number}", None, now=0.0, deadline_at=DEADLINE))
    for _ in range(case["sends_in_flight"]):
        book.sent(UTTERANCE, 0.1)
    context = {"source": "hivemind-core"}
    if case["denial_request_id"]:
        context["request_id"] = case["denial_request_id"]
    got = dispatch(book, "hive.policy.denied", {"denied_type": case["denied_type"]}, context, 0.2)
    assert (got is own) == case["is_this_asks"]
    assert (own.outcome is not None) == case["is_this_asks"]
    assert (own.request_id in book) != case["is_this_asks"]


def test_a_send_stands_in_the_way_for_ten_seconds_only() -> None:
    grace = DENIALS["untracked_send_grace_seconds"]
    for after, is_mine in ((grace - 0.01, False), (grace, True)):
        book, ask = AskBook(), new_ask(deadline_at=60.0)
        book.sent("some.other.type", 0.0)
        book.sent(UTTERANCE, 0.0)
        book.add(ask)
        dispatch(book, "hive.policy.denied", {"denied_type": UTTERANCE}, {}, after)
        assert (ask.outcome is not None) == is_mine


def test_a_query_that_ended_does_not_stand_in_the_way() -> None:
    book, ask = AskBook(), new_ask()
    book.add(ask)
    query = new_query("q")
    book.add(query)
    book.remove(query)
    assert dispatch(book, "hive.policy.denied", {"denied_type": UTTERANCE}, {}, 0.1) is ask


def test_the_book_is_bounded_and_a_request_id_is_used_once_at_a_time() -> None:
    book = AskBook(max_asks=2)
    first = new_ask("a")
    book.add(first)
    with pytest.raises(SessionError) as used:
        book.add(new_ask("a"))
    assert used.value.code == "request_id_in_use"
    book.add(new_ask("b"))
    with pytest.raises(TooLargeError):
        book.add(new_ask("c"))
    book.remove(first)
    book.remove(first)
    book.remove(new_ask("b"))
    assert len(book) == 1


def test_queries_are_counted_for_themselves_and_their_ids_are_used_once_at_a_time() -> None:
    book = AskBook(max_asks=2)
    first = new_query("q1", "r1")
    book.add(first)
    with pytest.raises(SessionError) as used:
        book.add(new_query("q1", "r2"))
    assert used.value.code == "query_id_in_use"
    with pytest.raises(SessionError) as used:
        book.add(new_query("q2", "r1"))
    assert used.value.code == "request_id_in_use"
    assert len(book) == 1
    book.add(new_query("q2", "r2"))
    with pytest.raises(TooLargeError):
        book.add(new_query("q3", "r3"))
    book.add(new_ask("a"))
    book.remove(first)
    assert (book.query("q1"), "r1" in book) == (None, False)
    book.add(new_query("q1", "r1"))


def test_a_query_is_found_by_the_id_of_its_frames() -> None:
    book, query = AskBook(), new_query("q1", "r1")
    book.add(query)
    assert book.query("q1") is query
    for other in ("r1", "q2", None, 7, ["q1"], {"q": 1}):
        assert book.query(other) is None


def test_on_the_bus_a_query_hears_only_what_ends_it() -> None:
    book, query = AskBook(), new_query("q1", "r1")
    book.add(query)
    context = {"request_id": "r1"}
    assert book.owner("speak", {}, context, 0.1) is None
    assert book.owner("ovos.utterance.handled", {}, context, 0.1) is None
    assert book.owner("hive.policy.denied", {}, context, 0.1) is query
    assert book.owner("hive.query.timeout", {}, context, 0.1) is query


def test_a_refusal_without_an_id_is_the_querys_when_it_is_alone_in_flight() -> None:
    refusal = {"denied_type": UTTERANCE}
    for others, is_mine in (([], True), ([new_ask("a")], False), ([new_query("q2", "r2")], False)):
        book, query = AskBook(), new_query("q1", "r1")
        for each in (query, *others):
            book.add(each)
        assert (book.owner("hive.policy.denied", refusal, {}, 0.1) is query) == is_mine
    book, query = AskBook(), new_query("q1", "r1")
    book.add(query)
    book.sent(UTTERANCE, 0.0)
    assert book.owner("hive.policy.denied", refusal, {}, 0.1) is None


def test_an_event_that_only_ends_the_ask_still_reports_it() -> None:
    """Its window was over when the event came: the caller must hear that it ended."""
    book, ask = AskBook(), new_ask()
    book.add(ask)
    dispatch(book, "speak", {"utterance": "one"}, ECHO, 0.1)
    assert dispatch(book, "speak", {"utterance": "two"}, ECHO, 2.0) is ask
    assert ask.outcome is not None
    assert len(book) == 0


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["a", "b", "c", "nobody", ""]), st.integers(0, 20)), max_size=40))
def test_interleaved_asks_each_hear_only_their_own(events: list[tuple[str, int]]) -> None:
    book = AskBook()
    flying = {name: new_ask(name, handled_is_last=True) for name in "abc"}
    for ask in flying.values():
        book.add(ask)
    for number, (owner, part) in enumerate(events):
        context = {"request_id": owner} if owner else {}
        got = dispatch(book, "speak", {"utterance": f"{owner}-{part}"}, context, number / 1000)
        assert got is flying.get(owner)
    for name, ask in flying.items():
        dispatch(book, "ovos.utterance.handled", {}, {"session": {"request_id": name}}, 1.0)
        mine = [f"{name}-{part}" for owner, part in events if owner == name]
        folded = tuple(part for at, part in enumerate(mine) if at == 0 or mine[at - 1] != part)
        heard = ask.outcome.utterances if isinstance(ask.outcome, Answered) else ()
        assert heard == folded
    assert len(book) == 0
