# SPDX-License-Identifier: Apache-2.0
"""The client's side of a connection: tables of what is answered to what, and properties over any stream."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalovant.protocol.mqtt import client_events as events
from thalovant.protocol.mqtt.client_connection import Patience, Phase
from thalovant.protocol.mqtt.client_events import (
    Accepted,
    Arrived,
    BrokerLeft,
    Ending,
    Frame,
    LoggedIn,
    LoginRefused,
    NobodyListens,
    NotTaken,
    PacketTooLarge,
    PublishRefused,
    Subscribed,
    SubscriptionRefused,
    Unanswered,
    VersionRefused,
    Violated,
)
from thalovant.protocol.mqtt.client_session import MqttClientSession
from thalovant.protocol.mqtt.framing import PacketReader
from thalovant.protocol.mqtt.packets import (
    Auth,
    Codec,
    Connack,
    Connect,
    Disconnect,
    Packet,
    Pingreq,
    Pingresp,
    Puback,
    Publish,
    Pubrec,
    Suback,
    Subscribe,
    Unsuback,
    Will,
)
from thalovant.protocol.mqtt.properties import Properties
from thalovant.protocol.mqtt.v5 import V5
from thalovant.protocol.mqtt.v311 import V311
from thalovant.protocol.topics import TopicSet

TOPICS = TopicSet("c/c2s", "c/s2c", "c/status")
LOGIN = Connect("id", True, 60, "user", b"password", Will(b"c/status", b"offline", 1, True))
PATIENCE = Patience(publish=8.0, before_ping=30.0, ping=10.0)
ENDINGS = get_args(Ending)
both = pytest.mark.parametrize("codec", [V5, V311], ids=["mqtt5", "mqtt311"])


def made(codec: Codec = V5, qos: int = 1) -> MqttClientSession:
    session = MqttClientSession(codec, LOGIN, TOPICS, qos, PATIENCE)
    session.start()
    return session


def said(session: MqttClientSession, now: float = 0.0) -> list[Packet]:
    """What it wants to write."""
    return PacketReader(1 << 21, session.codec).feed(session.take(now)) if session.out else []


def hear(session: MqttClientSession, *packets: Packet | bytes, now: float = 0.0) -> list[Any]:
    data = b"".join(one if isinstance(one, bytes) else session.codec.encode(one) for one in packets)
    return session.receive(data, now)


def opened(codec: Codec = V5, qos: int = 1, terms: Properties | None = None) -> MqttClientSession:
    session = made(codec, qos)
    connack = Connack(False, 0) if terms is None else Connack(False, 0, terms)
    assert hear(session, connack, Suback(1, (qos,))) == [LoggedIn()]
    said(session)
    return session


# Logging in


def test_the_login_of_version_5_says_what_is_taken() -> None:
    terms = Properties(session_expiry_interval=0, receive_maximum=256, maximum_packet_size=1_048_576)
    assert said(made()) == [Connect("id", True, 60, "user", b"password", LOGIN.will, 5, terms)]


def test_the_login_of_version_3_1_1_says_only_what_it_can() -> None:
    assert said(made(V311)) == [LOGIN]


@both
def test_a_login_is_followed_by_the_subscription(codec: Codec) -> None:
    session = made(codec)
    said(session)
    assert hear(session, Connack(False, 0)) == []
    assert said(session) == [Subscribe(1, ((b"c/s2c", 0x21 if codec is V5 else 1),))]
    assert session.phase is Phase.SUBSCRIBING
    assert hear(session, Suback(1, (1,))) == [LoggedIn()]
    assert (session.phase, session.over, said(session)) == (Phase.OPEN, False, [])


REASON = Properties(reason_string="why", server_reference="where")
# version, what the broker answers to CONNECT, the ending
LOGINS = [
    (V5, Connack(False, 0x84), VersionRefused()),
    (V5, b"\x20\x02\x00\x01", VersionRefused()),
    (V5, b"\x20\x02\x00\x05", VersionRefused()),
    (V5, b"\x20\x02\x01\x00", VersionRefused()),
    (V5, b"\x20\x02\x00\x06", Violated("A CONNACK has no return code 6.", 0x81)),
    (V5, Connack(False, 0x9C, REASON), LoginRefused(0x9C, "why", "where")),
    (V5, Connack(False, 0x87), LoginRefused(0x87)),
    (V5, Disconnect(0x8B, REASON), BrokerLeft(0x8B, "why", "where")),
    (V5, Auth(0x18, Properties(authentication_method="m")), Violated("AUTH where none is expected.", 0x82)),
    (V5, Publish(b"c/s2c", b"x"), Violated("PUBLISH where none is expected.", 0x82)),
    (V311, Connack(False, 1), VersionRefused()),
    (V311, Connack(False, 5), LoginRefused(5)),
    (V311, Disconnect(), Violated("DISCONNECT where none is expected.", 0x82)),
    (V311, Pingresp(), Violated("PINGRESP where none is expected.", 0x82)),
]


@pytest.mark.parametrize(("codec", "answer", "ending"), LOGINS, ids=repr)
def test_what_an_answer_to_connect_means(codec: Codec, answer: Any, ending: Any) -> None:
    session = made(codec)
    said(session)
    assert hear(session, answer, Suback(1, (1,))) == [ending]
    assert session.over
    told = isinstance(ending, Violated) and codec is V5
    assert said(session) == ([Disconnect(ending.code)] if told else [])


@pytest.mark.parametrize(
    ("codec", "answer", "ending"),
    [
        (V5, Suback(1, (0x87,), Properties(reason_string="why")), SubscriptionRefused(0x87, "why")),
        (V311, Suback(1, (0x80,)), SubscriptionRefused(0x80)),
        (V5, Suback(2, (1,)), Violated("SUBACK to another SUBSCRIBE than ours.", 0x82)),
        (V311, Suback(1, (1, 1)), Violated("SUBACK to another SUBSCRIBE than ours.", 0x82)),
        (V5, Puback(2), Violated("PUBACK where none is expected.", 0x82)),
    ],
    ids=repr,
)
def test_what_an_answer_to_subscribe_means(codec: Codec, answer: Any, ending: Any) -> None:
    session = made(codec)
    hear(session, Connack(False, 0))
    assert hear(session, answer) == [ending]


def test_a_subscription_that_is_too_long_is_not_sent() -> None:
    session = made()
    said(session)
    assert hear(session, Connack(False, 0, Properties(maximum_packet_size=13))) == []
    assert len(session.take(0.0)) == 13
    session = made()
    said(session)
    assert hear(session, Connack(False, 0, Properties(maximum_packet_size=12))) == [PacketTooLarge(13, 12)]
    assert said(session) == [Disconnect(0x04)]


@both
def test_frames_may_come_before_the_subscription_is_answered(codec: Codec) -> None:
    session = made(codec)
    assert hear(session, Connack(False, 0), Publish(b"c/s2c", b"x"), Suback(1, (1,))) == [Frame(b"x"), LoggedIn()]


def test_an_assigned_client_id_is_the_one() -> None:
    assert opened(terms=Properties(assigned_client_identifier="given")).client_id == "given"
    assert opened().client_id == "id"


# What comes in


@both
def test_only_fresh_messages_on_the_own_topic_are_frames_and_all_are_confirmed(codec: Codec) -> None:
    session = opened(codec)
    came = hear(
        session,
        Publish(b"c/s2c", b"one", 1, 7),
        Publish(b"c/s2c", b"zero"),
        Publish(b"c/other", b"not ours", 1, 8),
        Publish(b"c/s2c", b"old", 1, 9, retain=True),
        Publish(b"c/s2c", b"again", 1, 7, dup=True),
    )
    assert came == [Frame(b"one"), Frame(b"zero"), Frame(b"again")]
    assert said(session) == [Puback(7), Puback(8), Puback(9), Puback(7)]


FORBIDDEN = [
    (Publish(b"c/s2c", b"x", 2, 3), 0x82),
    (Pubrec(1), 0x82),
    (Pingreq(), 0x82),
    (Unsuback(1, (0,)), 0x82),
    (Publish(b"c/s2c", b"x", properties=Properties(topic_alias=1)), 0x94),
    (b"\x30\xff\xff\xff\x7f", 0x95),
    (b"\x00\x00", 0x81),
    (b"\x20\x02\x00\x00", 0x81),  # a CONNACK of 3.1.1, which is understood only as the first answer
    (b"\x10\x0d\x00\x04MQTT\x03\x02\x00\x3c\x00\x01a", 0x82),  # a CONNECT, and of another version
]


@pytest.mark.parametrize(("packet", "told"), FORBIDDEN, ids=repr)
def test_what_is_forbidden_ends_it_behind_what_was_good(packet: Any, told: int) -> None:
    session = opened()
    came = hear(session, Publish(b"c/s2c", b"good", 1, 7), packet, Publish(b"c/s2c", b"behind", 1, 8))
    assert came[0] == Frame(b"good")
    assert [type(one) for one in came[1:]] == [Violated] and came[1].code == told
    assert said(session) == [Puback(7), Disconnect(told)]
    assert hear(session, Pingresp()) == []


@both
def test_more_at_once_than_was_allowed_is_taken(codec: Codec) -> None:
    """Mosquitto 2.0 sends more than that, in a flood that may be somebody else's."""
    session = opened(codec)
    assert len(hear(session, *(Publish(b"c/s2c", b"", 1, 1 + number) for number in range(2_000)))) == 2_000


# What goes out


@both
def test_frames_and_presence_are_publishes(codec: Codec) -> None:
    session = opened(codec)
    assert (*session.send(b"frame", 0.0), *session.say(b"online", 0.0)) == ()
    assert said(session) == [Publish(b"c/c2s", b"frame", 1, 2), Publish(b"c/status", b"online", 1, 3, retain=True)]


@both
def test_a_client_of_qos_0_has_its_presence_confirmed_all_the_same(codec: Codec) -> None:
    session = opened(codec, qos=0)
    session.send(b"frame", 0.0)
    session.say(b"online", 0.0)
    assert [packet.qos for packet in said(session)] == [0, 1]  # type: ignore[union-attr]


def test_a_broker_may_take_less() -> None:
    session = opened(terms=Properties(maximum_qos=0, retain_available=0))
    session.send(b"frame", 0.0)
    session.say(b"online", 0.0)
    assert said(session) == [Publish(b"c/c2s", b"frame"), Publish(b"c/status", b"online")]


@pytest.mark.parametrize(("receive_maximum", "most"), [(None, 64), (1, 1), (64, 64), (65_535, 64)])
def test_the_smaller_of_both_limits_holds(receive_maximum: int | None, most: int) -> None:
    session = opened(terms=Properties(receive_maximum=receive_maximum))
    for _ in range(70):
        session.send(b"frame", 0.0)
    assert len(said(session)) == most
    assert session.congested
    hear(session, Puback(2))
    assert len(said(session)) == 1


@pytest.mark.parametrize("qos", [0, 1])
@given(size=st.integers(0, 400), limit=st.integers(40, 400))
def test_a_packet_goes_exactly_when_the_broker_takes_it(qos: int, size: int, limit: int) -> None:
    session = opened(qos=qos, terms=Properties(maximum_packet_size=limit))
    outcome = session.send(bytes(size), 0.0)
    length = len(V5.encode_publish(b"c/c2s", bytes(size), qos=qos, packet_id=2 if qos else None))
    if length <= limit:
        assert (outcome, len(said(session))) == ((), 1)
    else:
        assert list(outcome) == [PacketTooLarge(length, limit)]
        assert said(session) == [Disconnect(0x04)]
        assert session.send(b"", 0.0) == ()


def test_a_long_frame_is_told_at_once_even_when_it_would_wait() -> None:
    session = opened(terms=Properties(maximum_packet_size=100, receive_maximum=1))
    session.send(b"first", 0.0)
    assert len(session.send(bytes(200), 0.0)) == 1


def test_a_frame_that_nobody_hears_ends_it_and_presence_does_not() -> None:
    session = opened()
    session.say(b"online", 0.0)
    session.send(b"hello", 0.0)
    said(session)
    assert hear(session, Puback(2, 0x10)) == []
    assert hear(session, Puback(3, 0x10), Publish(b"c/s2c", b"x")) == [NobodyListens()]
    assert session.over and said(session) == [Disconnect(0x04)]


@pytest.mark.parametrize("kind", ["c2s", "status"])
def test_a_refused_publish_ends_it(kind: Any) -> None:
    session = opened()
    (session.send if kind == "c2s" else session.say)(b"x", 0.0)
    said(session)
    refusal = Puback(2, 0x87, Properties(reason_string="why"))
    assert hear(session, refusal, Publish(b"c/s2c", b"x")) == [PublishRefused(kind, 0x87, "why")]
    assert said(session) == [Disconnect(0x04)]
    assert session.settled(session.queued)


def test_a_puback_for_nothing_changes_nothing() -> None:
    session = opened()
    assert hear(session, Puback(2, 0x87)) == []
    assert not session.over


def test_a_goodbye_is_the_last_word() -> None:
    for codec in (V5, V311):
        session = opened(codec)
        session.leave()
        assert said(session) == [Disconnect()]
        session.leave()
        assert (session.send(b"x", 0.0), session.look(100.0), said(session)) == ((), (), [])


def test_after_the_end_of_the_connection_nothing_is_written() -> None:
    session = opened()
    session.send(b"x", 0.0)
    session.stop()
    assert (session.over, session.out, session.congested) == (True, [], False)


# Time


@both
def test_a_ping_goes_out_when_nothing_else_did(codec: Codec) -> None:
    session = opened(codec)
    session.send(b"x", 10.0)
    said(session, 10.0)
    hear(session, Puback(2), now=10.0)
    assert session.look(39.9) == () and said(session) == []
    session.look(40.0)
    assert said(session, 40.0) == [Pingreq()]
    assert session.look(50.0) == ()
    hear(session, Pingresp())
    assert session.look(69.9) == () and said(session) == []
    session.look(70.0)
    assert said(session, 70.0) == [Pingreq()]
    assert session.look(80.1) == [Unanswered("ping", 10.0)]
    assert (session.over, said(session)) == (True, [])


@both
def test_a_publish_without_its_answer_ends_it(codec: Codec) -> None:
    session = opened(codec)
    session.send(b"x", 1.0)
    session.send(b"y", 5.0)
    said(session, 5.0)
    assert session.look(9.0) == ()
    hear(session, Puback(2), now=9.0)
    assert session.look(13.0) == ()
    assert session.look(13.1) == [Unanswered("publish", 8.0)]


@pytest.mark.parametrize(
    ("keep_alive", "before_ping"), [(None, 30.0), (0, 30.0), (1, 0.5), (20, 10.0), (60, 30.0), (65_535, 30.0)]
)
def test_the_brokers_keep_alive_is_kept_twice_over(keep_alive: int | None, before_ping: float) -> None:
    assert opened(terms=Properties(server_keep_alive=keep_alive)).before_ping == before_ping


# Any stream


def stream_of(codec: Codec) -> st.SearchStrategy[bytes]:
    frames = st.builds(Publish, st.sampled_from([b"c/s2c", b"x"]), st.binary(max_size=5), st.just(1), st.integers(1, 9))
    packets: list[Packet] = [
        Connack(False, 0),
        Suback(1, (1,)),
        Puback(2),
        Puback(3),
        Pingresp(),
        Publish(b"c/s2c", b"z"),
        Pubrec(1),
    ]
    if codec is V5:
        packets += [Disconnect(0x8B), Puback(4, 0x87), Auth(), Connack(False, 0x84)]
    pieces = st.one_of(st.sampled_from(packets), frames).map(codec.encode) | st.binary(max_size=4)
    good = codec.encode(Connack(False, 0)) + codec.encode(Suback(1, (1,)))
    return st.builds(lambda head, tail: head + b"".join(tail), st.sampled_from([b"", good]), st.lists(pieces))


def run(codec: Codec, pieces: list[bytes]) -> tuple[list[Any], bytes]:
    """Everything that happens, and everything that is written, when the broker's bytes come in these pieces."""
    session = made(codec)
    for number in range(3):
        session.send(b"%d" % number, 0.0)
    seen: list[Any] = []
    for piece in pieces:
        seen += session.receive(piece, 0.0)
    return seen, b"".join(session.out)


@both
@given(st.data())
def test_any_way_of_cutting_gives_the_same(codec: Codec, data: st.DataObject) -> None:
    raw = data.draw(stream_of(codec))
    cuts = [0, *sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=6))), len(raw)]
    assert run(codec, [raw]) == run(codec, [raw[a:b] for a, b in pairwise(cuts)])


@both
@given(st.data())
def test_nothing_raises_and_nothing_follows_the_ending(codec: Codec, data: st.DataObject) -> None:
    seen, written = run(codec, [data.draw(stream_of(codec) | st.binary(max_size=60))])
    assert not any(isinstance(one, ENDINGS) for one in seen[:-1])
    assert {type(one) for one in seen} <= {Frame, LoggedIn, *ENDINGS}
    assert PacketReader(1 << 21, codec).feed(written)  # what is written is MQTT of this version


def test_every_ending_is_named_here() -> None:
    own = {one for one in vars(events).values() if isinstance(one, type) and one.__module__ == events.__name__}
    assert own == {Frame, LoggedIn, Accepted, Arrived, NotTaken, Subscribed, *ENDINGS}
