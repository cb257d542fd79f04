# SPDX-License-Identifier: Apache-2.0
"""The client's side of any MQTT connection: what a session that goes on sends again, and what ends it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalovant.protocol.mqtt import client_events as events
from thalovant.protocol.mqtt.client_connection import (
    NOTHING_RETAINED,
    ClientConnection,
    Limits,
    Patience,
)
from thalovant.protocol.mqtt.client_window import ClientWindow
from thalovant.protocol.mqtt.framing import PacketReader
from thalovant.protocol.mqtt.packets import (
    Codec,
    Connack,
    Connect,
    Disconnect,
    Pingreq,
    Pingresp,
    Puback,
    Publish,
    Suback,
    Subscribe,
    Unsubscribe,
)
from thalovant.protocol.mqtt.properties import Properties
from thalovant.protocol.mqtt.v5 import V5
from thalovant.protocol.mqtt.v311 import V311

PATIENCE = Patience(publish=10.0, before_ping=5.0, ping=5.0)
both = pytest.mark.parametrize("codec", [V311, V5], ids=["mqtt311", "mqtt5"])


class Side:
    """A connection and the broker's end of it: packets instead of bytes."""

    def __init__(self, codec: Codec = V5, *, clean: bool = True, **fields: Any) -> None:
        self.codec, self.now = codec, 0.0
        login = Connect("me", clean_session=clean, username="user", password=b"secret")
        self.connection = ClientConnection(codec, login, PATIENCE, **fields)
        self.connection.start()
        (self.connect,) = self.sent()

    def sent(self) -> list[Any]:
        """The packets that were to be written."""
        if not self.connection.out:
            return []
        return list(PacketReader(10_000_000, self.codec).feed(self.connection.take(self.now)))

    def receive(self, *packets: Any) -> list[Any]:
        return self.connection.receive(b"".join(map(self.codec.encode, packets)), self.now)

    def let_in(self, *, present: bool = False, **terms: Any) -> Side:
        came = self.receive(Connack(present, 0, Properties(**terms) if terms else Properties()))
        assert came == [events.Accepted(present, self.codec.level)]
        return self

    def publish(self, *payloads: bytes) -> None:
        for payload in payloads:
            assert self.connection.publish(b"t", payload, self.now) == ()


@both
def test_logging_in(codec: Codec) -> None:
    side = Side(codec, session_expiry=60)
    expected = Properties()
    if codec is V5:
        expected = Properties(session_expiry_interval=60, receive_maximum=256, maximum_packet_size=1_048_576)
    assert (side.connect.client_id, side.connect.level, side.connect.properties) == ("me", codec.level, expected)
    side.let_in()
    assert not side.connection.over and side.sent() == []


@both
def test_messages_come_with_all_that_is_known_of_them_and_are_acknowledged(codec: Codec) -> None:
    side = Side(codec).let_in()
    came = side.receive(
        Publish(b"a", b"1", 1, 7), Publish(b"b", b"2", 1, 8, retain=True), Publish(b"a", b"1", 1, 7, dup=True),
        Publish(b"c", b"3"),
    )  # fmt: skip
    assert came == [
        events.Arrived(b"a", b"1", False, False, 7), events.Arrived(b"b", b"2", True, False, 8),
        events.Arrived(b"a", b"1", False, True, 7), events.Arrived(b"c", b"3"),
    ]  # fmt: skip
    assert side.sent() == [Puback(7), Puback(8), Puback(7)]


@both
def test_subscribing_and_no_longer(codec: Codec) -> None:
    side = Side(codec).let_in()
    side.connection.subscribe([(b"a/+", 1 | NOTHING_RETAINED), (b"b", 0)])
    options = 1 | NOTHING_RETAINED if codec is V5 else 1
    assert side.sent() == [Subscribe(1, ((b"a/+", options), (b"b", 0)))]
    assert side.receive(Suback(1, (1, 0x80))) == [events.Subscribed(1, (1, 0x80))]
    side.connection.unsubscribe([b"b"])
    assert side.sent() == [Unsubscribe(2, (b"b",))]


def test_requests_and_publishes_never_share_an_identifier() -> None:
    side = Side(limits=Limits(under_way=1)).let_in()
    for count in range(65_600):
        side.publish(b"")
        if count % 7_000 == 0:
            side.connection.subscribe([(b"a", 1)])
        for packet in side.sent():
            is_request = isinstance(packet, Subscribe)
            assert (packet.packet_id <= ClientConnection.requests) is is_request
            if is_request:
                side.receive(Suback(packet.packet_id, (1,)))
            else:
                side.receive(Puback(packet.packet_id))


def going_on(before: Side, **fields: Any) -> Side:
    before.connection.stop()
    return Side(before.codec, clean=False, window=before.connection.window, **fields)


@both
def test_a_session_that_goes_on_sends_again_what_was_not_acknowledged_and_then_what_waited(codec: Codec) -> None:
    first = Side(codec, limits=Limits(under_way=3)).let_in()
    first.publish(b"1", b"2", b"3", b"4")
    sent = first.sent()
    first.receive(Puback(sent[1].packet_id))
    second = going_on(first, limits=Limits(under_way=3))
    second.publish(b"5")  # before the answer: it waits behind the others
    assert second.sent() == []
    second.let_in(present=True)
    again = second.sent()
    assert [(each.payload, each.dup) for each in again] == [(b"1", True), (b"3", True), (b"4", True)]
    assert [each.packet_id for each in again[:2]] == [sent[0].packet_id, sent[2].packet_id]


@both
def test_a_session_that_does_not_go_on_sends_nothing_again(codec: Codec) -> None:
    first = Side(codec).let_in()
    first.publish(b"1", b"2")
    first.sent()
    second = going_on(first).let_in(present=False)
    assert second.sent() == [] and second.connection.settled(second.connection.queued)
    assert second.connection.window.under_way_bytes == 0
    second.publish(b"3")
    assert [each.payload for each in second.sent()] == [b"3"]


def test_a_session_that_was_not_asked_for_is_a_fault() -> None:
    side = Side()
    (ending,) = side.receive(Connack(True, 0))
    assert isinstance(ending, events.Violated) and side.connection.over


@both
@given(data=st.data())
def test_whatever_is_cut_all_arrive_in_order_and_only_what_was_sent_comes_again(
    codec: Codec, data: st.DataObject
) -> None:
    """The broker takes any number of what is on its way, acknowledges some, and the link is cut; again and again."""
    total, most = data.draw(st.integers(0, 12)), data.draw(st.integers(1, 4))
    payloads = [b"%d" % number for number in range(total)]
    heard: list[bytes] = []  # by the broker, each identifier once
    known: dict[int, bytes] = {}
    side = Side(codec, limits=Limits(under_way=most), session_expiry=60).let_in()
    for cut in range(12):
        for _ in range(data.draw(st.integers(0, len(payloads)))):
            side.publish(payloads.pop(0))
        on_the_way = side.sent()
        taken = len(on_the_way) if cut == 11 else data.draw(st.integers(0, len(on_the_way)))
        for packet in on_the_way[:taken]:
            if packet.dup and known.get(packet.packet_id) == packet.payload:
                continue
            known[packet.packet_id] = packet.payload
            heard.append(packet.payload)
        acknowledged = data.draw(st.integers(0, taken))
        side.receive(*(Puback(packet.packet_id) for packet in on_the_way[:acknowledged]))
        for packet in on_the_way[:acknowledged]:
            known.pop(packet.packet_id)
        window = side.connection.window
        assert window.under_way <= most and window.under_way_bytes >= 0
        side = going_on(side, limits=Limits(under_way=most), session_expiry=60).let_in(present=True)
    side.publish(*payloads)
    while packets := side.sent():
        for packet in packets:
            if not (packet.dup and known.get(packet.packet_id) == packet.payload):
                heard.append(packet.payload)
            known.pop(packet.packet_id, None)
        side.receive(*(Puback(packet.packet_id) for packet in packets))
    assert heard == [b"%d" % number for number in range(total)]


@both
@given(data=st.data())
def test_bytes_mean_the_same_however_they_are_split(codec: Codec, data: st.DataObject) -> None:
    packets = [Connack(False, 0), Publish(b"a", b"x" * 300, 1, 1), Pingresp(), Publish(b"b", b"", 1, 2, dup=True)]
    raw = b"".join(map(codec.encode, packets))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=8)))
    side, came = Side(codec), []
    for start, end in zip([0, *cuts], [*cuts, len(raw)], strict=True):
        came += side.connection.receive(raw[start:end], 0.0)
    assert came == [
        events.Accepted(False, codec.level), events.Arrived(b"a", b"x" * 300, False, False, 1),
        events.Arrived(b"b", b"", False, True, 2),
    ]  # fmt: skip
    assert side.sent() == [Puback(1), Puback(2)]


@both
@given(garbage=st.binary(max_size=200), is_open=st.booleans())
def test_garbage_never_raises_and_ends_it_once(codec: Codec, garbage: bytes, is_open: bool) -> None:
    side = Side(codec)
    if is_open:
        side.let_in()
    came = side.connection.receive(garbage, 0.0)
    endings = [each for each in came if isinstance(each, events.Ending.__args__)]  # type: ignore[attr-defined]
    assert len(endings) == side.connection.over and came[len(came) - len(endings) :] == endings
    if side.connection.over:
        assert side.connection.receive(garbage, 0.0) == [] and side.connection.publish(b"t", b"", 0.0) == ()


def test_a_silent_broker_is_noticed_by_its_missing_answers() -> None:
    side = Side().let_in()
    side.publish(b"1")
    side.sent()
    side.now = 10.0
    assert side.connection.look(side.now) == ()
    side.now = 10.1
    assert side.connection.look(side.now) == [events.Unanswered("publish", 10.0)]
    assert side.connection.over and side.connection.out == []


def test_a_broker_that_nothing_was_said_to_is_pinged() -> None:
    side = Side().let_in()
    side.connection.look(5.0)
    assert side.sent() == [Pingreq()]
    side.receive(Pingresp())
    side.now = 10.0
    side.connection.look(10.0)
    assert side.connection.look(15.1) == [events.Unanswered("ping", 5.0)]


def test_it_is_known_before_what_the_broker_is_too_small_for() -> None:
    side = Side().let_in(maximum_packet_size=100)
    for size in range(80, 100):
        payload = b"x" * size
        fits = side.connection.fits(b"topic", payload)
        assert fits is (len(V5.encode_publish(b"topic", payload, qos=1, packet_id=1)) <= 100)
    assert side.connection.fits(b"topic", b"x" * 80) and not side.connection.fits(b"topic", b"x" * 99)
    (ending,) = side.connection.publish(b"topic", b"x" * 99, 0.0)
    assert isinstance(ending, events.PacketTooLarge)
    assert Side().let_in().connection.fits(b"t", b"x" * 10_000_000)


def test_leaving_ends_the_session_that_was_kept() -> None:
    side = Side(session_expiry=60).let_in()
    side.connection.leave()
    assert side.sent() == [Disconnect(properties=Properties(session_expiry_interval=0))]


def test_the_bytes_under_way_are_counted() -> None:
    window = ClientWindow(V5.encode_publish, 2, 1)
    for payload in (b"12", b"345", b"6789"):
        window.put(b"t", payload, False, 0.0)
    assert (window.under_way_bytes, window.waiting_bytes) == (5, 4)
    window.acknowledged(2)
    list(window.ready(0.0))
    assert (window.under_way_bytes, window.waiting_bytes) == (7, 0)
    window.begin_again()
    assert (window.under_way_bytes, window.waiting_bytes) == (0, 7)
