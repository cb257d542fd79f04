# SPDX-License-Identifier: Apache-2.0
"""Asks: the scripted scenarios with a simulated clock, whose refusal is whose, asks do not mix, bounds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thalovant.errors import ThalovantError, ThalovantPolicyDeniedError, ThalovantUnansweredError
from thalovant.protocol import asks
from thalovant.protocol.asks import (
    Answered,
    Ask,
    AskBook,
    Failed,
    build_utterance,
    denial_is_for,
)
from thalovant.protocol.contexts import UTTERANCE
from thalovant.protocol.errors import SessionError, TooLargeError
from thalovant.reply import ThalovantReply, reply_or_raise

VECTORS = Path(__file__).parents[4] / "contract" / "vectors"
SCENARIOS = json.loads((VECTORS / "ask-scenarios.json").read_text())["scenarios"]
DENIALS = json.loads((VECTORS / "denial-attribution.json").read_text())
SETTLE, EMPTY_WAIT, DEADLINE = 0.25, 1.0, 3.0

ECHO = {"request_id": "r1", "session": {"session_id": "s1"}}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
USED = sorted(asks.SPEAK_EVENTS | asks.UNMATCHED_EVENTS)
USED += [asks.HANDLED, asks.DENIED, asks.QUERY_TIMEOUT, asks.AUDIO_QUEUE]
NAMES = [*USED, "hive.query.complete", "something.else"]


def new_ask(request_id: str = "r1", *, handled_is_last: bool = False, **options: float) -> Ask:
    chosen = {"now": 0.0, "deadline_at": DEADLINE, "settle": SETTLE, "empty_wait": EMPTY_WAIT} | options
    return Ask(request_id, "s1", handled_is_last=handled_is_last, **chosen)


def scenario_context(spec: object, sent: dict[str, Any]) -> dict[str, Any]:
    """The context of a scripted message, spelt as the vectors file says."""
    if isinstance(spec, dict):
        return sent | spec
    if spec == "no-ids":
        return {"source": "hivemind-core"}
    if spec == "other":
        return {"request_id": "another-request", "session": sent["session"] | {"request_id": "another-request"}}
    if spec == "new-session":
        return sent | {"session": sent["session"] | {"session_id": "hub-chose-this"}}
    return sent


def run_scenario(script: list[dict[str, Any]], *, handled_is_last: bool = False) -> tuple[Answered | Failed, float]:
    """Play a scripted hub against one ask; return what it became and when, in milliseconds."""
    sent = build_utterance(
        "q", request_id="r1", session_id="own", site_id="kitchen", useragent="a/1", call_session_id="s1"
    )["context"]
    book, ask = AskBook(), new_ask(handled_is_last=handled_is_last)
    book.add(ask)
    waiting = sorted(script, key=lambda event: event["at_ms"])
    now = 0.0
    while ask.outcome is None:
        due = ask.next_at
        assert due is not None
        if waiting and waiting[0]["at_ms"] / 1000 < due:
            event = waiting.pop(0)
            now = event["at_ms"] / 1000
            if event["type"] == "drop":
                assert book.link_lost("", now) == [ask]
            else:
                context = scenario_context(event["context"], sent)
                book.dispatch(event["type"], event["data"], context, now, raw=event)
        else:
            now = due
            ask.tick(now)
    return ask.outcome, now * 1000


def result_of(outcome: Answered | Failed) -> ThalovantReply | ThalovantError:
    try:
        return reply_or_raise(outcome)
    except ThalovantError as error:
        return error


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario["case"])
def test_a_scripted_hub_gets_the_recorded_outcome(scenario: dict[str, Any]) -> None:
    expected = scenario["outcome"]
    outcome, took_ms = run_scenario(scenario["hub_sends"])
    assert took_ms == pytest.approx(expected["took_ms"], abs=50)
    result = result_of(outcome)
    if "error" in expected:
        assert isinstance(result, ThalovantError)
        assert (type(result).__name__, str(result)) == (expected["error"], expected["message"])
        check_error_fields(result, expected)
    else:
        assert isinstance(result, ThalovantReply)
        check_reply(result, expected)


def check_error_fields(error: ThalovantError, expected: dict[str, Any]) -> None:
    if isinstance(error, ThalovantUnansweredError):
        assert error.said == expected["said"]
    if isinstance(error, ThalovantPolicyDeniedError):
        assert (error.code, error.denied_type, error.reason) == (
            expected["code"],
            expected["denied_type"],
            expected["reason"],
        )
        assert list(error.allowed) == expected.get("allowed", [])
        assert (vars(error.quota) if error.quota else None) == expected.get("quota")


def check_reply(reply: ThalovantReply, expected: dict[str, Any]) -> None:
    shown = reply.as_dict()
    names = {"text", "utterances", "handled", "session_id", "dropped_media", "claimed"}
    for name in names | {"pipeline_ids", "skill_ids"}:
        assert shown[name] == expected[name], name
    assert [event.name for event in reply.events] == expected["events"]
    assert [raw["type"] for raw in reply.raw_messages] == expected["events"]
    assert reply.request_id == "r1"


# With a hub that announces "handled": scenario, when it ends, and the text or the kind of failure.
HANDLED_IS_LAST = [
    ("one part, handled", 60, "hi"),
    ("two parts inside the window", 210, "one two"),
    ("handled, nothing said", 50, "timeout"),
    ("empty part, then handled", 60, "timeout"),
    ("nothing at all", 3000, "timeout"),
    ("unmatched, then handled", 60, "unanswered"),
    ("unmatched, then a fallback speaks", 210, "fallback"),
    ("denied, no id", 50, "denied"),
    ("hive.query.timeout", 50, "query_timeout"),
    ("link drops after speech", 100, "connection"),
]


@pytest.mark.parametrize(("case", "ends_ms", "expected"), HANDLED_IS_LAST)
def test_handled_ends_it_at_once_when_the_hub_promises_it_is_last(case: str, ends_ms: int, expected: str) -> None:
    script = next(scenario["hub_sends"] for scenario in SCENARIOS if scenario["case"] == case)
    outcome, took_ms = run_scenario(script, handled_is_last=True)
    assert took_ms == pytest.approx(ends_ms)
    if isinstance(outcome, Answered):
        assert (" ".join(outcome.utterances), outcome.handled) == (expected, True)
    else:
        assert outcome.kind == expected


def test_parts_far_apart_are_all_kept_until_handled() -> None:
    ask = new_ask(handled_is_last=True)
    for number, at in enumerate((0.1, 1.0, 2.9)):
        assert ask.receive("speak", {"utterance": f"part {number}"}, ECHO, at)
        assert ask.next_at == DEADLINE
    ask.receive("ovos.utterance.handled", {}, ECHO, 2.95)
    assert isinstance(ask.outcome, Answered)
    assert ask.outcome.utterances == ("part 0", "part 1", "part 2")


def test_our_hub_silent_to_the_end_and_our_hub_done_without_a_word_are_told_apart() -> None:
    silent, wordless = new_ask(handled_is_last=True), new_ask(handled_is_last=True)
    silent.tick(DEADLINE)
    wordless.receive("ovos.utterance.handled", {}, ECHO, 0.1)
    assert isinstance(silent.outcome, Failed) and isinstance(wordless.outcome, Failed)
    assert silent.outcome.kind == wordless.outcome.kind == "timeout"
    assert f"within {DEADLINE:g} s" in silent.outcome.text
    assert "longer timeout" in silent.outcome.text
    assert "said nothing" in wordless.outcome.text


def test_at_the_deadline_what_was_said_is_not_thrown_away() -> None:
    ask = new_ask(handled_is_last=True)
    ask.receive("speak", {"utterance": "half"}, ECHO, 1.0)
    ask.tick(DEADLINE)
    assert isinstance(ask.outcome, Answered)
    assert (ask.outcome.utterances, ask.outcome.handled) == (("half",), False)


def test_at_the_deadline_inside_the_settle_window_the_answer_counts() -> None:
    ask = new_ask()
    ask.receive("speak", {"utterance": "late"}, ECHO, DEADLINE - 0.1)
    assert ask.next_at == DEADLINE
    ask.tick(DEADLINE)
    assert isinstance(ask.outcome, Answered)
    assert ask.outcome.handled


def test_without_settling_the_first_part_is_the_answer() -> None:
    ask = new_ask(settle=0)
    assert ask.receive("speak", {"utterance": "now"}, ECHO, 0.1)
    assert isinstance(ask.outcome, Answered)
    assert ask.next_at is None


def test_a_late_tick_does_not_let_late_parts_in() -> None:
    """The event loop may have been busy: an event after the window ends the ask first, and is not used."""
    ask = new_ask()
    ask.receive("speak", {"utterance": "one"}, ECHO, 0.1)
    assert not ask.receive("speak", {"utterance": "two"}, ECHO, 0.36)
    assert isinstance(ask.outcome, Answered)
    assert ask.outcome.utterances == ("one",)


def test_an_unmatched_ask_that_runs_into_its_deadline_is_unanswered() -> None:
    ask = new_ask(empty_wait=60)
    ask.receive("ovos.intent.unmatched", {"utterance": "q"}, ECHO, 0.1)
    ask.tick(DEADLINE)
    assert ask.outcome is not None
    assert isinstance(ask.outcome, Failed)
    assert (ask.outcome.kind, ask.outcome.text) == ("unanswered", "q")


def test_other_events_of_the_request_are_not_used() -> None:
    ask = new_ask()
    assert not ask.receive("ovos.skill.start", {"utterance": "no"}, ECHO, 0.1)
    assert ask.outcome is None


def test_nothing_changes_after_the_end() -> None:
    ask = new_ask()
    ask.receive("hive.query.timeout", {}, ECHO, 0.1)
    ended = ask.outcome
    assert not ask.receive("speak", {"utterance": "late"}, ECHO, 0.2)
    ask.link_lost("gone", 0.3)
    ask.tick(99)
    assert ask.outcome is ended


def test_a_lost_link_says_why() -> None:
    ask = new_ask()
    ask.link_lost("Noise message failed authentication.", 0.1)
    assert isinstance(ask.outcome, Failed)
    assert ask.outcome.text == "HiveMind transport stopped: Noise message failed authentication."


def clip(size: int) -> dict[str, str]:
    return {"binary_data": "00" * size}


def test_clips_over_the_limits_are_counted_not_kept() -> None:
    ask = new_ask()
    for data in (clip(4 * 1024 * 1024), clip(4 * 1024 * 1024 + 1), *[clip(4 * 1024 * 1024)] * 4, clip(0)):
        ask.receive("mycroft.audio.queue", data, ECHO, 0.1)
    ask.receive("mycroft.audio.queue", {"binary_data": "xy"}, ECHO, 0.1)
    ask.receive("mycroft.audio.queue", {"binary_data": 7}, ECHO, 0.1)
    ask.receive("speak", {"utterance": "done"}, ECHO, 0.1)
    ask.tick(1.0)
    assert isinstance(ask.outcome, Answered)
    assert [event.name for event in ask.outcome.events].count("mycroft.audio.queue") == 4
    assert ask.outcome.dropped_media == 5


def test_a_hub_that_never_stops_talking_is_cut_off() -> None:
    ask = new_ask(handled_is_last=True)
    for number in range(asks.MAX_EVENTS + 1):
        ask.receive("speak", {"utterance": str(number)}, ECHO, 0.1)
    assert isinstance(ask.outcome, Failed)
    assert ask.outcome.kind == "too_much"


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
        book.query_started(f"query-{number}")
    for _ in range(case["sends_in_flight"]):
        book.sent(UTTERANCE, 0.1)
    context = {"source": "hivemind-core"}
    if case["denial_request_id"]:
        context["request_id"] = case["denial_request_id"]
    got = book.dispatch("hive.policy.denied", {"denied_type": case["denied_type"]}, context, 0.2)
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
        book.dispatch("hive.policy.denied", {"denied_type": UTTERANCE}, {}, after)
        assert (ask.outcome is not None) == is_mine


def test_a_query_that_ended_does_not_stand_in_the_way() -> None:
    book, ask = AskBook(), new_ask()
    book.add(ask)
    book.query_started("q")
    book.query_ended("q")
    assert book.dispatch("hive.policy.denied", {"denied_type": UTTERANCE}, {}, 0.1) is ask


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
    book.query_started("q1")
    book.query_started("q2")
    with pytest.raises(TooLargeError):
        book.query_started("q3")


def test_a_lost_link_ends_every_ask_and_empties_the_book() -> None:
    book = AskBook()
    flying = [new_ask(name) for name in "abc"]
    for ask in flying:
        book.add(ask)
    assert book.link_lost("gone", 0.1) == flying
    assert len(book) == 0
    assert all(isinstance(ask.outcome, Failed) and ask.outcome.kind == "connection" for ask in flying)


def test_an_event_that_only_ends_the_ask_still_reports_it() -> None:
    """Its window was over when the event came: the caller must hear that it ended."""
    book, ask = AskBook(), new_ask()
    book.add(ask)
    book.dispatch("speak", {"utterance": "one"}, ECHO, 0.1)
    assert book.dispatch("speak", {"utterance": "two"}, ECHO, 2.0) is ask
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
        got = book.dispatch("speak", {"utterance": f"{owner}-{part}"}, context, number / 1000)
        assert got is flying.get(owner)
    for name, ask in flying.items():
        book.dispatch("ovos.utterance.handled", {}, {"session": {"request_id": name}}, 1.0)
        mine = [f"{name}-{part}" for owner, part in events if owner == name]
        folded = tuple(part for at, part in enumerate(mine) if at == 0 or mine[at - 1] != part)
        heard = ask.outcome.utterances if isinstance(ask.outcome, Answered) else ()
        assert heard == folded
    assert len(book) == 0


EVENTS = st.tuples(
    st.sampled_from(NAMES),
    JSON | st.dictionaries(st.sampled_from(["utterance", "text", "error", "binary_data", "denied_type"]), JSON),
    JSON
    | st.fixed_dictionaries({"request_id": st.sampled_from(["a", "b"]), "session": JSON})
    | st.dictionaries(st.sampled_from(["request_id", "session", "correlation_id"]), JSON),
    st.floats(0, 0.2),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(EVENTS, max_size=25), st.booleans())
def test_garbage_never_raises_and_an_ask_always_ends(
    events: list[tuple[str, Any, Any, float]], handled_is_last: bool
) -> None:
    book, now = AskBook(), 0.0
    flying = [new_ask(name, handled_is_last=handled_is_last) for name in "ab"]
    for ask in flying:
        book.add(ask)
    for name, data, context, step in events:
        now += step
        book.dispatch(name, data, context, now)
    for ask in flying:
        while ask.outcome is None:
            due = ask.next_at
            assert due is not None
            assert due <= DEADLINE
            ask.tick(due)
        result = result_of(ask.outcome)
        if isinstance(result, ThalovantReply):
            json.dumps(result.as_dict())


@settings(deadline=None)
@given(st.lists(st.floats(0, 4), max_size=6))
def test_when_it_is_ticked_makes_no_difference(extra_ticks: list[float]) -> None:
    """Ticks that come early, twice or in between change nothing: only `next_at` counts."""
    ask = new_ask()
    ask.receive("speak", {"utterance": "hi"}, ECHO, 0.5)
    for at in sorted(extra_ticks):
        ask.tick(at)
        assert (ask.outcome is None) == (max(at, 0.5) < 0.75)
