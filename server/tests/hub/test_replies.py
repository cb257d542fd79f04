# SPDX-License-Identifier: Apache-2.0
"""The messages of answers and denials are those of the recorded wire, and what is ours is only added."""

from __future__ import annotations

import dataclasses
import json

import pytest

from thalovant.protocol.messages import HiveMessage, bus
from thalovant.protocol.progress import Progress
from thalovant_server.directory import Permissions
from thalovant_server.hub import policy
from thalovant_server.hub.limits import Limits
from thalovant_server.hub.policy import Deny
from thalovant_server.hub.replies import denied, replies_to
from thalovant_server.hub.turn import Failure


class Ear:
    def __init__(self, *, streams=False):
        self.peer, self.node_id, self.streams, self.closed = "p", "node", streams, False


def ask(query_id=None, **context):
    message = bus("recognizer_loop:utterance", {"utterances": ["q"], "lang": "en-us"}, {"request_id": "r1"} | context)
    found = policy.decide(Permissions(), message, Limits()).ask
    return dataclasses.replace(found, query_id=query_id)


@pytest.fixture
def recorded(contract_vectors):
    """`recorded(case)`: the envelope that upstream wrote."""
    cases = json.loads((contract_vectors / "hive-messages.json").read_text())["messages"]
    by_name = {case["case"]: json.loads(case["json"]) for case in cases}
    return lambda case: HiveMessage.from_dict(by_name[case])


def shape(message):
    """An envelope without what an agent or this hub chooses freely."""
    found = message.as_dict()
    found["payload"] = {**found["payload"]["payload"], "data": None, "context": None}
    return found | {"route": None}


@pytest.mark.parametrize(
    ("case", "make"),
    [
        ("query answer", lambda replies: replies.speak("yes", 1)),
        ("query end", lambda replies: replies.handled(1)),
        ("query nobody answered", lambda replies: replies.handled(0)),
    ],
)
def test_a_query_is_answered_as_upstream_does(recorded, case, make):
    theirs, ours = recorded(case), make(replies_to(Ear(), ask("q1"), "t"))
    assert shape(ours) == shape(theirs)
    assert list(ours.as_dict()) == list(theirs.as_dict())
    said = theirs.nested().payload["data"]
    assert said.items() <= ours.nested().payload["data"].items()
    assert {"query_id": "q1"}.items() <= ours.nested().payload["context"].items()


def test_a_query_does_not_send_the_askers_context_back():
    replies = replies_to(Ear(), ask("q1", secret="s", session={"session_id": "x"}), "t")
    assert replies.speak("yes", 1).nested().payload["context"] == {"query_id": "q1", "request_id": "r1"}
    assert replies.context_bytes == 0


def test_the_mark_is_beside_what_a_query_says_of_itself():
    mark = {"turn": "t", "parts": 2}
    answer = replies_to(Ear(streams=True), ask("q1"), "t").speak("yes", 2)
    assert answer.metadata["thalovant"] == mark
    assert answer.metadata["query_id"] == "q1"
    assert Progress.of_message(replies_to(Ear(streams=True), ask(), "t").handled(2).metadata) == Progress("t", 2)


def test_an_ask_hears_its_whole_context_and_why_it_failed():
    replies = replies_to(Ear(), ask(own=1), "t")
    failed = replies.failed(Failure("busy", "Ask again."), 0)
    assert failed.msg_type == "bus"
    assert failed.payload["data"] == {"query_id": "r1", "error": "Ask again.", "code": "busy"}
    assert failed.payload["context"] == {"own": 1, "request_id": "r1", "source": "hive", "destination": "p"}
    assert failed.source_peer == "p"


def test_a_denial_is_upstreams_with_the_request_id(recorded):
    theirs = recorded("policy denied")
    denial = Deny("x", "acl_disallowed_type", "x not in allowed_types", {"msg_type": "x", "allowed": []}, "r1")
    (ours,) = denied(Ear(), denial)
    assert ours.payload["data"] == theirs.payload["data"]
    assert ours.payload["context"] == {"source": "hub", "destination": "p", "request_id": "r1"}
    (nameless,) = denied(Ear(), dataclasses.replace(denial, request_id=None))
    assert "request_id" not in nameless.payload["context"]


def test_a_denied_query_hears_it_twice_in_its_frame_and_on_the_bus():
    own, plain = denied(Ear(), Deny("x", "c", "why", {}, "r1", "q1"))
    assert (own.msg_type, own.metadata["query_id"], own.nested().payload) == ("query", "q1", plain.payload)
