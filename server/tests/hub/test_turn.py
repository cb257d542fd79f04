# SPDX-License-Identifier: Apache-2.0
"""Who hears what of a turn, and when: streamed, gathered, joined late, failed."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalovant.protocol.messages import HiveMessage, bus
from thalovant.protocol.progress import Progress
from thalovant_server.directory import Permissions
from thalovant_server.hub import policy
from thalovant_server.hub.limits import Limits
from thalovant_server.hub.turn import Failure, Turn

FAILURE = Failure("agent_failed", "It failed.")


class Ear:
    """A fake connection that keeps what it is sent, one entry for each send."""

    def __init__(self, *, streams):
        self.peer, self.node_id, self.streams, self.closed = "peer", "node", streams, False
        self.sends, self.messages = [], []

    def send(self, messages):
        self.messages += messages
        self.sends.append([self._short(message) for message in messages])

    @staticmethod
    def _short(message: HiveMessage):
        payload = message.nested().payload if message.msg_type == "query" else message.payload
        return payload["data"].get("utterance") or payload["data"].get("error") or payload["type"]

    @property
    def heard(self):
        return [each for send in self.sends for each in send]


def ask():
    message = bus("recognizer_loop:utterance", {"utterances": ["q"]}, {"request_id": "r"})
    return policy.decide(Permissions(), message, Limits()).ask


def again(turn, parts):
    """The same ask from one that has heard so many parts of that turn."""
    return dataclasses.replace(ask(), heard=Progress(turn, parts))


def query(query_id="q"):
    return dataclasses.replace(ask(), query_id=query_id)


HANDLED = "ovos.utterance.handled"
COMPLETE = "hive.query.complete"


def test_one_that_announced_it_hears_parts_as_they_come():
    turn, ear = Turn(ask()), Ear(streams=True)
    turn.attach(ear, ask())
    turn.add("one")
    assert ear.sends == [["one"]]
    turn.add("two")
    turn.finish()
    assert ear.sends == [["one"], ["two"], [HANDLED]]


def test_any_other_hears_all_in_one_go_when_the_agent_is_done():
    turn, ear = Turn(ask()), Ear(streams=False)
    turn.attach(ear, ask())
    turn.add("one")
    turn.add("two")
    assert ear.sends == []
    turn.finish()
    assert ear.sends == [["one", "two", HANDLED]]


def ask_with(context_bytes):
    return dataclasses.replace(ask(), context_bytes=context_bytes)


def test_very_many_parts_are_joined_in_order_for_one_that_gathers():
    turn, ear, few = Turn(ask()), Ear(streams=False), Ear(streams=False)
    turn.attach(ear, ask())
    words = [str(number) for number in range(1500)]
    for word in words:
        turn.add(word)
    turn.finish()
    assert len(ear.heard) <= Limits().parts_at_once + 1
    assert " ".join(ear.heard[:-1]).split() == words
    turn.attach(few, ask())
    assert few.heard == ear.heard


@given(st.integers(0, 400), st.integers(1, 70))
def test_no_part_is_lost_or_moved_by_joining(count, at_once):
    turn, ear = Turn(ask(), Limits(parts_at_once=at_once)), Ear(streams=False)
    for number in range(count):
        turn.add(str(number))
    turn.finish()
    turn.attach(ear, ask())
    assert len(ear.heard) <= at_once + 1
    assert " ".join(ear.heard[:-1]).split() == [str(number) for number in range(count)]
    if count <= at_once:
        assert len(ear.heard) == count + 1


def test_one_that_joins_late_hears_what_it_missed_joined():
    turn, late = Turn(ask()), Ear(streams=True)
    for number in range(1000):
        turn.add(str(number))
    turn.attach(late, ask())
    assert len(late.heard) <= Limits().parts_at_once
    turn.add("last")
    assert late.heard[-1] == "last"


@pytest.mark.parametrize("ending", ["finish", "fail"])
def test_a_large_context_is_streamed_back_so_often_and_the_rest_comes_at_the_end(ending):
    turn, ear, light = Turn(ask(), Limits(streamed_context_bytes=100_000)), Ear(streams=True), Ear(streams=True)
    turn.attach(ear, ask_with(30_000))
    turn.attach(light, ask_with(20))
    words = [str(number) for number in range(1000)]
    for word in words:
        turn.add(word)
    assert ear.heard == words[:4]
    assert light.heard == words
    turn.finish() if ending == "finish" else turn.fail(FAILURE)
    assert len(ear.heard) <= 4 + Limits().parts_at_once + 1
    assert " ".join(ear.heard[:-1]).split() == words
    assert ear.heard[-1] == (HANDLED if ending == "finish" else FAILURE.sentence)


@pytest.mark.parametrize("streams", [True, False])
def test_an_agent_with_nothing_to_say_is_only_handled(streams):
    turn, ear = Turn(ask()), Ear(streams=streams)
    turn.attach(ear, ask())
    turn.add("")
    turn.finish()
    assert ear.sends == [[HANDLED]]


def test_one_that_joins_late_hears_what_it_missed():
    turn, early, late = Turn(ask()), Ear(streams=True), Ear(streams=True)
    turn.attach(early, ask())
    turn.add("one")
    turn.attach(late, ask())
    assert late.sends == [["one"]]
    turn.add("two")
    turn.finish()
    assert early.heard == late.heard == ["one", "two", HANDLED]


@pytest.mark.parametrize("streams", [True, False])
def test_one_that_comes_after_the_end_hears_the_same_answer_again(streams):
    turn = Turn(ask())
    turn.add("one")
    turn.finish()
    for _ in range(2):
        ear = Ear(streams=streams)
        turn.attach(ear, ask())
        assert ear.sends == [["one", HANDLED]]


def test_the_same_connection_twice_while_it_runs_hears_one_answer():
    turn, ear = Turn(ask()), Ear(streams=True)
    turn.attach(ear, ask())
    turn.attach(ear, ask())
    turn.add("one")
    turn.finish()
    assert ear.heard == ["one", HANDLED]


def test_a_failure_ends_it_with_the_sentence_and_no_parts_for_one_that_gathers():
    turn, streaming, gathering = Turn(ask()), Ear(streams=True), Ear(streams=False)
    turn.attach(streaming, ask())
    turn.attach(gathering, ask())
    turn.add("one")
    turn.fail(FAILURE)
    turn.add("late")
    turn.finish()
    assert streaming.heard == ["one", "It failed."]
    assert gathering.heard == ["It failed."]


def test_a_failure_carries_its_code_and_the_request_id():
    seen = []
    ear = Ear(streams=True)
    ear.send = seen.extend
    turn = Turn(ask())
    turn.attach(ear, ask())
    turn.fail(FAILURE)
    assert seen[0].payload["type"] == "hive.query.timeout"
    assert seen[0].payload["data"] == {"query_id": "r", "error": "It failed.", "code": "agent_failed"}
    assert seen[0].payload["context"]["request_id"] == "r"


def test_one_whose_link_is_lost_is_left_out():
    turn, ear = Turn(ask()), Ear(streams=True)
    turn.attach(ear, ask())
    ear.closed = True
    turn.add("one")
    turn.finish()
    assert ear.sends == []


def test_text_that_utf8_cannot_hold_is_an_error_of_the_agent():
    with pytest.raises(UnicodeEncodeError):
        Turn(ask()).add("\ud800")


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("attach"), st.booleans()),
        st.tuples(st.just("add"), st.sampled_from(["a", "b", ""])),
        st.tuples(st.just("finish"), st.none()),
        st.tuples(st.just("fail"), st.none()),
    ),
    max_size=12,
)


@given(STEPS)
def test_whatever_happens_each_listener_hears_one_ending_and_it_is_the_last(steps):
    turn, ears = Turn(ask()), []
    for step, value in [*steps, ("finish", None)]:
        if step == "attach":
            ears.append(Ear(streams=value))
            turn.attach(ears[-1], ask())
        elif step == "add":
            turn.add(value)
        elif step == "finish":
            turn.finish()
        else:
            turn.fail(FAILURE)
    ending = HANDLED if turn.failure is None else "It failed."
    for ear in ears:
        assert ear.heard[-1] == ending
        assert ear.heard[:-1] in (turn.parts, []) if turn.failure else ear.heard[:-1] == turn.parts


def test_one_that_is_detached_hears_its_own_end_and_the_others_theirs():
    turn, one, other = Turn(ask()), Ear(streams=True), Ear(streams=False)
    turn.attach(one, ask())
    turn.attach(other, ask())
    turn.add("one")
    assert turn.detach(one, FAILURE)
    turn.add("two")
    turn.finish()
    assert one.heard == ["one", FAILURE.sentence]
    assert other.heard == ["one", "two", HANDLED]


def test_nobody_waits_when_the_rest_is_gone_and_a_stranger_detaches_nobody():
    turn, one, gone = Turn(ask()), Ear(streams=True), Ear(streams=True)
    turn.attach(one, ask())
    turn.attach(gone, ask())
    assert turn.detach(Ear(streams=True), FAILURE)
    gone.closed = True
    assert not turn.detach(one, FAILURE)
    assert not turn.detach(gone, FAILURE)
    assert (one.heard, gone.heard) == ([FAILURE.sentence], [])


def test_each_message_says_how_far_the_answer_has_come_to_one_that_announced_it():
    turn, ear, published = Turn(ask()), Ear(streams=True), Ear(streams=False)
    turn.attach(ear, ask())
    turn.attach(published, ask())
    turn.add("one")
    turn.add("two")
    turn.finish()
    marks = [Progress.of_message(message.metadata) for message in ear.messages]
    assert marks == [Progress(turn.id, 1), Progress(turn.id, 2), Progress(turn.id, 2)]
    assert [message.metadata for message in published.messages] == [{}] * 3


def test_two_turns_have_different_names():
    assert Turn(ask()).id != Turn(ask()).id


@given(st.integers(0, 90), st.integers(0, 100), st.integers(1, 7), st.booleans())
def test_one_that_asks_again_hears_only_the_rest(said, heard, at_once, done):
    turn, ear = Turn(ask(), Limits(parts_at_once=at_once)), Ear(streams=True)
    words = [str(number) for number in range(said)]
    for word in words:
        turn.add(word)
    if done:
        turn.finish()
    turn.attach(ear, again(turn.id, heard))
    if not done:
        turn.finish()
    assert " ".join(ear.heard[:-1]).split() == words[heard:]
    assert ear.heard[-1] == HANDLED
    assert Progress.of_message(ear.messages[-1].metadata) == Progress(turn.id, said)


def test_one_that_heard_another_turn_hears_this_one_from_its_beginning():
    turn, ear = Turn(ask()), Ear(streams=True)
    turn.add("one")
    turn.attach(ear, again("another", 1))
    turn.finish()
    assert ear.heard == ["one", HANDLED]


@pytest.mark.parametrize("streams", [True, False])
def test_a_query_hears_parts_as_they_come_whoever_asks(streams):
    turn, ear = Turn(ask()), Ear(streams=streams)
    turn.attach(ear, query())
    turn.add("one")
    turn.add("two")
    turn.finish()
    assert ear.sends == [["one"], ["two"], [COMPLETE]]
    assert all(message.msg_type == "query" for message in ear.messages)


def test_nobody_answered_a_query_whose_agent_said_nothing():
    turn, ear = Turn(ask()), Ear(streams=True)
    turn.attach(ear, query("q9"))
    turn.finish()
    (end,) = ear.messages
    assert end.nested().payload["type"] == "hive.query.timeout"
    assert end.nested().payload["data"] == {"query_id": "q9", "error": "no_answer", "code": "no_answer"}


def test_a_query_that_fails_says_so_under_its_own_id():
    turn, ear = Turn(ask()), Ear(streams=False)
    turn.attach(ear, query("q9"))
    turn.add("one")
    turn.fail(FAILURE)
    assert ear.heard == ["one", "It failed."]
    assert ear.messages[-1].nested().payload["data"]["query_id"] == "q9"


def test_an_ask_and_a_query_of_one_request_are_one_turn_and_each_is_answered_in_its_own_way():
    turn, ear = Turn(ask()), Ear(streams=True)
    turn.attach(ear, ask())
    turn.attach(ear, query("q1"))
    turn.attach(ear, query("q2"))
    turn.attach(ear, query("q2"))
    turn.add("one")
    turn.finish()
    assert ear.heard == ["one"] * 3 + [HANDLED, COMPLETE, COMPLETE]


def test_a_querys_context_is_not_sent_back_so_its_size_does_not_count():
    turn, ear = Turn(ask(), Limits(streamed_context_bytes=1)), Ear(streams=True)
    turn.attach(ear, dataclasses.replace(query(), context_bytes=30_000))
    turn.add("one")
    turn.add("two")
    assert ear.sends == [["one"], ["two"]]
