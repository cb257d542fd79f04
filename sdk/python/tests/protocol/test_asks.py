# SPDX-License-Identifier: Apache-2.0
"""Asks and queries: the scripted scenarios with a simulated clock, bounds, and going on after a lost link."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thalovant.errors import ThalovantError, ThalovantPolicyDeniedError, ThalovantUnansweredError
from thalovant.protocol import asks
from thalovant.protocol.ask_book import AskBook
from thalovant.protocol.asks import Answered, Ask, Failed, Query
from thalovant.protocol.contexts import build_utterance
from thalovant.protocol.progress import Progress
from thalovant.reply import ThalovantReply, reply_or_raise

VECTORS = Path(__file__).parents[4] / "contract" / "vectors"
SCENARIOS = json.loads((VECTORS / "ask-scenarios.json").read_text())["scenarios"]
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
ID = {"query_id": "q1"}


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
                ask.link_lost("", now)
            else:
                context = scenario_context(event["context"], sent)
                if book.owner(event["type"], event["data"], context, now) is ask:
                    ask.receive(event["type"], event["data"], context, now, raw=event)
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
        assert (type(result).__name__, str(result)) == (expected["error"], our_words(expected["message"]))
        check_error_fields(result, expected)
    else:
        assert isinstance(result, ThalovantReply)
        check_reply(result, expected)


def our_words(message: str) -> str:
    """The recorded sentence, where it speaks of the hosted service's dashboard: a server of ours has none."""
    allow, in_dashboard = "Allow this connection to publish ", "in the dashboard's connection settings."
    return message.replace(allow, "Allow ").replace(in_dashboard, "in the policy of this client at the server.")


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
        if (owner := book.owner(name, data, context, now)) is not None:
            owner.receive(name, data, context, now)
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


# Queries (contract 9.5)


def new_query(deadline_at: float = DEADLINE) -> Query:
    return Query("q1", "r1", "s1", now=0.0, deadline_at=deadline_at)


def heard_by(query: Query, *events: tuple[str, dict[str, Any]]) -> Answered | Failed | None:
    """What became of it after these events, all in its own frames."""
    for name, data in events:
        query.receive(name, data, ID, 0.1)
    return query.outcome


def say(text: str) -> tuple[str, dict[str, Any]]:
    return "speak", {"utterance": text}


COMPLETE: tuple[str, dict[str, Any]] = ("hive.query.complete", {})
NOBODY: tuple[str, dict[str, Any]] = ("hive.query.timeout", {"query_id": "q1", "error": "no_answer"})
REFUSED: tuple[str, dict[str, Any]] = ("hive.policy.denied", {"denied_type": "x", "code": "c", "reason": "why"})


def test_a_query_is_complete_when_the_hub_says_so_and_no_window_applies() -> None:
    query = new_query()
    assert heard_by(query, say("one"), ("ovos.utterance.handled", {}), say("two")) is None
    assert query.next_at == DEADLINE
    outcome = heard_by(query, COMPLETE)
    assert isinstance(outcome, Answered)
    assert (outcome.utterances, outcome.handled, outcome.session_id) == (("one", "two"), True, "s1")
    assert [event.name for event in outcome.events] == ["speak", "speak", "hive.query.complete"]


def test_a_query_that_completes_without_a_word_found_no_answer() -> None:
    outcome = heard_by(new_query(), COMPLETE)
    assert isinstance(outcome, Failed)
    assert (outcome.kind, outcome.text) == ("timeout", "Hub finished the query but did not emit a speak reply.")
    outcome = heard_by(new_query(), ("complete_intent_failure", {"utterance": "eh?"}), COMPLETE)
    assert isinstance(outcome, Failed)
    assert (outcome.kind, outcome.text) == ("unanswered", "eh?")


@pytest.mark.parametrize("ending", [NOBODY, REFUSED], ids=["nobody", "refused"])
def test_what_was_said_before_a_query_failed_is_its_answer(ending: tuple[str, dict[str, Any]]) -> None:
    outcome = heard_by(new_query(), say("part"), ending)
    assert isinstance(outcome, Answered)
    assert (outcome.utterances, outcome.handled) == (("part",), False)
    assert outcome.failure_event is not None and outcome.failure_event.name == ending[0]


def test_a_query_that_fails_says_why() -> None:
    nobody, refused = heard_by(new_query(), NOBODY), heard_by(new_query(), REFUSED)
    failed = heard_by(new_query(), ("hive.query.timeout", {"error": "The agent failed.", "code": "agent_failed"}))
    assert isinstance(nobody, Failed) and isinstance(refused, Failed) and isinstance(failed, Failed)
    assert (nobody.kind, nobody.text) == ("query_timeout", asks.NOBODY_ANSWERED)
    assert refused.kind == "denied"
    assert (failed.kind, failed.text) == ("query_timeout", "The agent failed.")


def test_a_query_has_a_deadline_and_keeps_what_was_said_by_then() -> None:
    silent, half = new_query(), new_query()
    heard_by(half, say("half"))
    for query in (silent, half):
        query.tick(DEADLINE)
    assert isinstance(silent.outcome, Failed) and silent.outcome.kind == "timeout"
    assert isinstance(half.outcome, Answered)
    assert (half.outcome.utterances, half.outcome.handled) == (("half",), False)


@settings(max_examples=200, deadline=None)
@given(st.lists(EVENTS, max_size=25))
def test_a_query_ends_once_and_nothing_raises(events: list[tuple[str, Any, Any, float]]) -> None:
    query, now, ended = new_query(), 0.0, None
    for name, data, context, step in events:
        now += step
        query.receive(name, data, context, now)
        assert ended is None or query.outcome is ended
        ended = query.outcome
    query.tick(DEADLINE)
    assert query.outcome is not None
    result_of(query.outcome)


# Going on after a lost link


def mark(parts: int, turn: str = "t") -> Progress:
    return Progress(turn, parts)


def hears(ask: Ask, text: str, progress: Progress | None) -> bool:
    return ask.receive("speak", {"utterance": text}, ECHO, 0.1, progress=progress)


def test_what_was_heard_is_kept_over_a_lost_link_and_not_heard_again() -> None:
    ask = new_ask(handled_is_last=True)
    assert hears(ask, "one", mark(1)) and hears(ask, "two", mark(2))
    ask.link_lost("gone", 0.2)
    assert isinstance(ask.outcome, Failed)
    ask.reopen()
    assert (ask.outcome, ask.heard, ask.next_at) == (None, mark(2), DEADLINE)
    assert ask.has_heard("speak", mark(2)) and not hears(ask, "two", mark(2))
    assert not ask.has_heard("speak", mark(3)) and hears(ask, "three", mark(3))
    assert not ask.has_heard(asks.HANDLED, mark(3))
    ask.receive(asks.HANDLED, {}, ECHO, 0.3, progress=mark(3))
    assert isinstance(ask.outcome, Answered)
    assert ask.outcome.utterances == ("one", "two", "three")
    assert len(ask.outcome.events) == 4


def test_when_the_agent_runs_again_its_new_answer_counts_alone() -> None:
    ask = new_ask(handled_is_last=True)
    hears(ask, "old", mark(1, "first run"))
    ask.link_lost("gone", 0.2)
    ask.reopen()
    assert not ask.has_heard("speak", mark(1, "second run"))
    hears(ask, "new", mark(1, "second run"))
    ask.receive(asks.HANDLED, {}, ECHO, 0.3, progress=mark(1, "second run"))
    assert isinstance(ask.outcome, Answered)
    assert (ask.outcome.utterances, len(ask.outcome.events)) == (("new",), 2)


def test_a_hub_that_does_not_say_how_far_an_answer_has_come_repeats_all_of_it() -> None:
    ask = new_ask(handled_is_last=True)
    hears(ask, "one", None)
    ask.link_lost("gone", 0.2)
    ask.reopen()
    assert ask.heard is None
    hears(ask, "one", None)
    ask.receive(asks.HANDLED, {}, ECHO, 0.3)
    assert isinstance(ask.outcome, Answered)
    assert ask.outcome.utterances == ("one",)


@settings(deadline=None)
@given(st.lists(st.integers(0, 12), max_size=4), st.integers(0, 12))
def test_wherever_links_are_lost_each_part_is_heard_once(losses: list[int], count: int) -> None:
    """A hub that resends more than it was told to changes nothing."""
    ask = new_ask(handled_is_last=True)
    words, delivered = [f"word {number}" for number in range(count)], []
    for until in [*losses, count]:
        for number, word in enumerate(words[:until], 1):
            if not ask.has_heard("speak", mark(number)):
                delivered.append(word)
                hears(ask, word, mark(number))
        if until < count or len(delivered) < count:
            ask.link_lost("gone", 0.2)
            ask.reopen()
    ask.receive(asks.HANDLED, {}, ECHO, 0.3, progress=mark(count))
    assert delivered == words
    assert isinstance(ask.outcome, Answered if count else Failed)
    if isinstance(ask.outcome, Answered):
        assert list(ask.outcome.utterances) == words
