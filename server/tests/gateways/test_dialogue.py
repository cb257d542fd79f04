# SPDX-License-Identifier: Apache-2.0
"""Which hub session a payload belongs to: contract 10.3, "rule for our hub", without a socket."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalovant_server.gateways.dialogue import Dialogue
from thalovant_server.hub import refusal
from thalovant_server.hub.refusal import Refusal, Refused

HELLO = b'{"msg_type": "hello", "payload": {}}'
SHAKE = b'{"msg_type": "shake", "payload": {"noise": {"msg": "00"}}}'
ONLINE, OFFLINE = b"online", b"offline"


class FakeSession:
    """Stands in for `hub.connection.Connection`."""

    def __init__(self, link: Any) -> None:
        self.link = link
        self.got: list[tuple[str, bytes]] = []
        self.is_lost = False

    def receive_clear(self, data: bytes) -> None:
        self.got.append(("clear", data))

    def receive_sealed(self, frame: bytes) -> None:
        self.got.append(("sealed", frame))

    def lost(self, why: str) -> None:
        self.is_lost, self.why = True, why


class FakeCarrier:
    """Stands in for an MQTT connection, and for the hub behind it."""

    remote = "somewhere:5"
    host = "somewhere"

    def __init__(self, *heard: str) -> None:
        self.heard = set(heard)
        self.sent: list[tuple[str, bytes]] = []
        self.refusals: list[Refusal] = []
        self.sessions: list[FakeSession] = []
        self.known = True
        self.raising: Refusal | None = None
        self.dialogue = Dialogue(self, lambda: "credential" if self.known else None, self.begin)  # type: ignore

    def hears(self, segment: str) -> bool:
        return segment in self.heard

    def deliver(self, segment: str, frames: list[bytes]) -> None:
        self.sent += [(segment, frame) for frame in frames]

    def refused(self, segment: str, refusal: Refusal) -> None:
        self.refusals.append(refusal)
        self.refused_on = segment

    def begin(self, link: Any, credential: Any, user_agent: str | None) -> Any:
        if self.raising is not None:
            raise Refused(self.raising)
        self.sessions.append(FakeSession(link))
        link.send_clear(b"HELLO")
        link.send_clear(b"OFFER")
        return self.sessions[-1]

    def take(self) -> list[tuple[str, bytes]]:
        sent, self.sent = self.sent, []
        return sent


def test_a_hello_begins_a_session_in_its_own_spelling() -> None:
    for spelling, answers in (("in", "out"), ("c2s", "s2c")):
        carrier = FakeCarrier("out", "s2c")
        carrier.dialogue.receive(spelling, HELLO)
        assert carrier.take() == [(answers, b"HELLO"), (answers, b"OFFER")]
        assert carrier.sessions[0].got == []
        carrier.sessions[0].link.send_sealed([b"1", b"2"])
        assert carrier.take() == [(answers, b"1"), (answers, b"2")]


def test_the_link_names_its_carrier() -> None:
    carrier = FakeCarrier("out")
    carrier.dialogue.receive("in", HELLO)
    link = carrier.sessions[0].link
    assert (link.carrier, link.remote) == ("mqtt", "somewhere")


def test_what_follows_goes_to_the_session() -> None:
    carrier = FakeCarrier("out")
    for payload in (HELLO, SHAKE, b"\x00sealed", b"{not json", b'{"msg_type": "bus", "payload": {}}', SHAKE):
        carrier.dialogue.receive("in", payload)
    bus = b'{"msg_type": "bus", "payload": {}}'
    expected = [
        ("clear", SHAKE),
        ("sealed", b"\x00sealed"),
        ("sealed", b"{not json"),
        ("sealed", bus),
        ("clear", SHAKE),
    ]
    assert carrier.sessions[0].got == expected


def test_handshake_is_another_name_for_shake() -> None:
    carrier = FakeCarrier("out")
    named = SHAKE.replace(b"shake", b"handshake")
    carrier.dialogue.receive("in", HELLO)
    carrier.dialogue.receive("in", named)
    assert carrier.sessions[0].got == [("clear", named)]


def test_another_hello_replaces_the_session_even_a_running_one() -> None:
    carrier = FakeCarrier("out", "s2c")
    carrier.dialogue.receive("in", HELLO)
    carrier.dialogue.receive("c2s", HELLO)
    first, second = carrier.sessions
    assert (first.is_lost, second.is_lost) == (True, False)
    assert first.why == "taken_over"
    carrier.take()
    first.link.send_sealed([b"late"])
    first.link.send_clear(b"late")
    first.link.close(refusal.PROTOCOL_ERROR)
    assert carrier.take() == [] and carrier.refusals == []
    second.link.send_sealed([b"now"])
    assert carrier.take() == [("s2c", b"now")]


@pytest.mark.parametrize("payload", [b"\x01sealed", b"rubbish", SHAKE, b"{}", b"[]"])
def test_a_payload_without_a_session_brings_hello_and_offer_and_is_dropped(payload: bytes) -> None:
    carrier = FakeCarrier("out")
    carrier.dialogue.receive("in", payload)
    assert carrier.take() == [("out", b"HELLO"), ("out", b"OFFER")]
    assert carrier.sessions[0].got == []


def test_the_rest_of_a_lost_session_does_not_end_the_new_one() -> None:
    carrier = FakeCarrier("out")
    for _ in range(3):
        carrier.dialogue.receive("in", b"\x01sealed for a session that is gone")
    assert len(carrier.sessions) == 1 and carrier.sessions[0].got == []
    carrier.dialogue.receive("in", SHAKE)
    carrier.dialogue.receive("in", b"\x01sealed")
    assert carrier.sessions[0].got == [("clear", SHAKE), ("sealed", b"\x01sealed")]


def test_an_empty_payload_is_ignored() -> None:
    carrier = FakeCarrier("out")
    carrier.dialogue.receive("in", b"")
    assert carrier.sessions == []
    carrier.dialogue.receive("in", HELLO)
    carrier.dialogue.receive("in", b"")
    assert carrier.sessions[0].got == []


@pytest.mark.parametrize("payload", [HELLO, b"\x01sealed"])
def test_nobody_listening_no_session(payload: bytes) -> None:
    carrier = FakeCarrier("s2c", "status")
    carrier.dialogue.receive("in", payload)
    assert carrier.sessions == [] and carrier.sent == []


def test_a_hello_that_cannot_be_answered_leaves_the_session_as_it_is() -> None:
    carrier = FakeCarrier("out")
    carrier.dialogue.receive("in", HELLO)
    carrier.dialogue.receive("c2s", HELLO)
    assert len(carrier.sessions) == 1 and not carrier.sessions[0].is_lost


def test_a_credential_that_is_gone_gets_no_session() -> None:
    carrier = FakeCarrier("out")
    carrier.known = False
    carrier.dialogue.receive("in", HELLO)
    assert carrier.sessions == []


def test_leaving_the_answering_topic_ends_the_session_and_another_topic_does_not() -> None:
    carrier = FakeCarrier("out", "s2c")
    carrier.dialogue.receive("in", HELLO)
    carrier.dialogue.left("s2c")
    assert not carrier.sessions[0].is_lost
    carrier.dialogue.left("out")
    assert carrier.sessions[0].is_lost and carrier.sessions[0].why == "disconnected"


def test_what_the_hub_ends_closes_the_connection_and_a_slow_handshake_does_not() -> None:
    carrier = FakeCarrier("out")
    carrier.dialogue.receive("in", HELLO)
    carrier.sessions[0].link.close(refusal.HANDSHAKE_TIMEOUT)
    assert carrier.refusals == []
    carrier.take()
    carrier.dialogue.receive("in", b"\x01sealed")
    assert carrier.take() == [("out", b"HELLO"), ("out", b"OFFER")]
    carrier.sessions[1].link.close(refusal.KEY_MISMATCH)
    assert carrier.refusals == [refusal.KEY_MISMATCH]


def test_a_hub_that_takes_no_session_closes_the_connection() -> None:
    carrier = FakeCarrier("out")
    carrier.raising = refusal.TOO_MANY_CONNECTIONS
    carrier.dialogue.receive("in", HELLO)
    assert carrier.refusals == [refusal.TOO_MANY_CONNECTIONS]


def test_a_session_that_ends_while_it_begins_is_not_kept() -> None:
    carrier = FakeCarrier("out")
    begin = carrier.begin

    def ending(link: Any, credential: Any, user_agent: str | None) -> Any:
        session = begin(link, credential, user_agent)
        link.close(refusal.RESTARTING)
        return session

    dialogue = Dialogue(carrier, lambda: "credential", ending)  # type: ignore[arg-type, return-value]
    dialogue.receive("in", HELLO)
    assert carrier.refusals == [refusal.RESTARTING]
    dialogue.receive("in", b"\x01")
    assert len(carrier.sessions) == 2 and carrier.sessions[0].got == []


def test_offline_ends_only_a_session_whose_online_was_seen() -> None:
    carrier = FakeCarrier("out")
    carrier.dialogue.said(ONLINE)
    carrier.dialogue.said(OFFLINE)
    carrier.dialogue.said(ONLINE)
    carrier.dialogue.receive("in", HELLO)
    carrier.dialogue.said(OFFLINE)
    assert not carrier.sessions[0].is_lost
    carrier.dialogue.said(ONLINE)
    carrier.dialogue.said(OFFLINE)
    assert carrier.sessions[0].is_lost
    carrier.dialogue.receive("in", HELLO)
    carrier.dialogue.said(OFFLINE)
    assert not carrier.sessions[1].is_lost


events = st.lists(
    st.one_of(
        st.tuples(st.just("receive"), st.sampled_from(["in", "c2s"]), st.sampled_from([HELLO, SHAKE, b"\x01", b""])),
        st.tuples(st.just("said"), st.just(""), st.sampled_from([ONLINE, OFFLINE])),
        st.tuples(st.just("left"), st.sampled_from(["out", "s2c"]), st.just(b"")),
        st.tuples(st.just("close"), st.just(""), st.just(b"")),
    ),
    max_size=30,
)


@given(events)
def test_there_is_never_more_than_one_live_session(events: list[tuple[str, str, bytes]]) -> None:
    carrier = FakeCarrier("out", "s2c")
    closed: set[int] = set()
    for what, segment, payload in events:
        if what == "receive":
            carrier.dialogue.receive(segment, payload)
        elif what == "said":
            carrier.dialogue.said(payload)
        elif what == "left":
            carrier.dialogue.left(segment)
        elif carrier.sessions and not carrier.sessions[-1].is_lost:
            carrier.sessions[-1].link.close(refusal.HANDSHAKE_TIMEOUT)
            closed.add(id(carrier.sessions[-1]))
        live = [each for each in carrier.sessions if not each.is_lost and id(each) not in closed]
        assert len(live) <= 1
        assert all(each is carrier.sessions[-1] for each in live)
    assert carrier.refusals == []
