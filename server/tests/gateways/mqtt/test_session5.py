# SPDX-License-Identifier: Apache-2.0
"""The rules of one connection of MQTT 5, without a socket; what both versions share is in `test_session`."""

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalovant.protocol.errors import MqttError, PacketTooLargeError
from thalovant.protocol.mqtt import packets as mqtt
from thalovant.protocol.mqtt.framing import PacketReader
from thalovant.protocol.mqtt.properties import NOTHING, Properties
from thalovant.protocol.mqtt.reason_codes import CONNACK_CODES
from thalovant.protocol.mqtt.v5 import V5
from thalovant.protocol.mqtt.v311 import V311
from thalovant.protocol.mqtt.versions import CODECS, OPENING
from thalovant_server.gateways.mqtt.bounds import Bounds
from thalovant_server.gateways.mqtt.endpoint import BAD_LOGIN, BAD_WILL
from thalovant_server.gateways.mqtt.session import (
    Denied,
    Granted,
    Inbound,
    Left,
    Login,
    MqttSession,
    Output,
    Over,
    Send,
    StatusSaid,
)
from thalovant_server.hub import refusal

TOPICS = {f"p/{segment}".encode(): segment for segment in ("c2s", "in", "s2c", "out", "status")}
WILL = mqtt.Will(b"p/status", b"offline")


def connect(client_id: str = "id", **fields: Any) -> mqtt.Connect:
    return mqtt.Connect(client_id, level=5, **fields)


def opened(bounds: Bounds | None = None, will: mqtt.Will | None = None, **asked: Any) -> MqttSession:
    """A session that is logged in; `asked` are the properties of its CONNECT."""
    session = MqttSession(bounds or Bounds())
    packet = connect(will=will, properties=Properties(**asked))
    assert session.receive(packet) == [Login(packet)]
    session.accept(TOPICS, will)
    return session


def said(outputs: list[Output]) -> list[Any]:
    """The outputs, with what is sent read back; the reason strings are left to their own tests."""
    done: list[Any] = []
    for output in outputs:
        done += PacketReader(100_000, V5).feed(output.data) if isinstance(output, Send) else [output]
    return done


def bare(outputs: list[Output]) -> list[Any]:
    """As `said`, without properties and sentences."""
    done: list[Any] = []
    for each in said(outputs):
        if isinstance(each, Over):
            done.append(each.code)
            continue
        if getattr(each, "properties", NOTHING) is not NOTHING:
            each.properties = NOTHING
        done.append(each)
    return done


def advice(outputs: list[Output]) -> str:
    """The first reason string."""
    return str(next(each.properties.reason_string for each in said(outputs) if hasattr(each, "properties")))


def subscribe(session: MqttSession, segment: str, options: int = 1) -> list[Any]:
    (answer, *others) = bare(session.receive(mqtt.Subscribe(1, ((f"p/{segment}".encode(), options),))))
    assert answer == mqtt.Suback(1, (min(options & 3, 1),))
    return others


# -- the login


def test_the_welcome_in_bytes() -> None:
    session = MqttSession(Bounds())
    session.receive(connect())
    outputs = session.accept(TOPICS, None)
    connack = "20 14 00 00 11 13 04b0 21 03e8 27 00040000 28 00 29 00 2a 00".replace(" ", "")
    # keep alive 1200, receive maximum 1000, packets of 256 KiB; no wildcards, identifiers, shared subscriptions
    assert [output.data.hex() for output in outputs if isinstance(output, Send)] == [connack]


def test_a_client_without_an_id_is_told_the_one_it_got() -> None:
    session = MqttSession(Bounds())
    packet = connect("", clean_session=False)
    assert session.receive(packet) == [Login(packet)]
    (connack,) = said(session.accept(TOPICS, None, "auto-1"))
    assert connack.properties.assigned_client_identifier == "auto-1" and not connack.session_present


@pytest.mark.parametrize(
    ("packet", "code"),
    [
        (connect("x" * 129), 0x85),
        (connect("a\n"), 0x85),
        (connect(properties=Properties(authentication_method="SCRAM-SHA-1")), 0x8C),
        (connect(properties=Properties(authentication_method="", authentication_data=b"x")), 0x8C),
        (connect(properties=Properties(maximum_packet_size=127)), 0x95),
    ],
    ids=repr,
)
def test_a_connect_that_cannot_be_is_refused_before_anybody_is_asked(packet: mqtt.Connect, code: int) -> None:
    outputs = MqttSession(Bounds()).receive(packet)
    assert bare(outputs) == [mqtt.Connack(False, code), "refused"]
    assert advice(outputs)


@pytest.mark.parametrize("size", [1, 4, 5])
def test_a_client_that_can_take_nothing_is_told_as_much_as_it_can_take(size: int) -> None:
    outputs = MqttSession(Bounds()).receive(connect(properties=Properties(maximum_packet_size=size)))
    answer = [mqtt.Connack(False, 0x95)] if size == 5 else []
    assert said(outputs)[:-1] == answer


@pytest.mark.parametrize(
    ("why", "code"),
    [
        (BAD_LOGIN, 0x86),
        (BAD_WILL, 0x87),
        (refusal.PROTOCOL_OFF, 0x87),
        (refusal.TOO_MANY_CONNECTIONS, 0x97),
        (refusal.BUSY, 0x89),
        (refusal.RESTARTING, 0x88),
        (refusal.Refusal("new", "never heard of", 1008, 403, 5), 0x80),
    ],
    ids=lambda value: getattr(value, "code", value),
)
def test_a_refused_login_says_why(why: refusal.Refusal, code: int) -> None:
    session = MqttSession(Bounds())
    session.receive(connect(will=WILL))
    outputs = session.refuse(why)
    assert bare(outputs) == [mqtt.Connack(False, code), "refused"]
    assert len(advice(outputs)) > 10
    assert session.end() is None and session.receive(mqtt.Pingreq()) == []


def test_a_refused_login_is_short_for_who_wants_no_reasons() -> None:
    session = MqttSession(Bounds())
    session.receive(connect(properties=Properties(request_problem_information=0)))
    assert session.refuse(BAD_LOGIN)[0] == Send(bytes.fromhex("2003008600"))


@pytest.mark.parametrize(
    ("raw", "answer"),
    [
        ("100d 0004 4d515454 05 03 003c 00 0000", "2003008100"),  # reserved flag
        ("1010 0004 4d515454 05 02 003c 03 210000 0000", "2003008200"),  # receive maximum 0
        ("100d 0004 4d515454 06 02 003c 00 0000", "2003008400"),
        ("100c 0004 4d515454 04 03 003c 0000", ""),
        ("100c 0004 4d515454 03 02 003c 0000", "20020001"),
        ("c000", ""),
    ],
)
def test_a_bad_connect_is_answered_in_its_own_version(raw: str, answer: str) -> None:
    session = MqttSession(Bounds())
    with pytest.raises(MqttError) as caught:
        PacketReader(1_000, OPENING).feed(bytes.fromhex(raw))
    *sent, over = session.fail(caught.value)
    assert b"".join(each.data for each in sent if isinstance(each, Send)).hex() == answer
    assert isinstance(over, Over)


# -- publishing


def test_publishing_with_each_qos() -> None:
    session = opened()
    arrived = Inbound("in", b"x")
    assert said(session.receive(mqtt.Publish(b"p/in", b"x"))) == [arrived]
    assert said(session.receive(mqtt.Publish(b"p/in", b"x", 1, 5))) == [mqtt.Puback(5), arrived]
    assert said(session.receive(mqtt.Publish(b"p/in", b"x", 2, 5))) == [mqtt.Pubrec(5), arrived]
    assert said(session.receive(mqtt.Publish(b"p/in", b"x", 2, 5, dup=True))) == [mqtt.Pubrec(5)]
    assert said(session.receive(mqtt.Pubrel(5))) == [mqtt.Pubcomp(5)]
    assert said(session.receive(mqtt.Pubrel(5))) == [mqtt.Pubcomp(5, 0x92)]


DENIED = [
    (mqtt.Publish(b"p/s2c", b"x"), 0x87),
    (mqtt.Publish(b"q/in", b"x", retain=True), 0x87),
    (mqtt.Publish(b"p/in", b"x", retain=True), 0x87),
    (mqtt.Publish(b"p/status", b"ONLINE"), 0x99),
    (mqtt.Publish(b"p/status", b"", retain=True), 0x99),
]


@pytest.mark.parametrize(("packet", "code"), DENIED, ids=repr)
def test_a_denied_publish_leaves_the_connection_standing_if_its_client_can_be_told(
    packet: mqtt.Publish, code: int
) -> None:
    session = opened(will=WILL)
    for qos, kind in ((1, mqtt.Puback), (2, mqtt.Pubrec)):
        outputs = session.receive(mqtt.Publish(packet.topic, packet.payload, qos, 7, packet.retain))
        assert bare(outputs) == [kind(7, code), Denied("denied_publish", packet.topic)]
        assert advice(outputs)
    assert said(session.receive(mqtt.Pubrel(7))) == [mqtt.Pubcomp(7, 0x92)]
    assert session.open and session.end() is WILL


@pytest.mark.parametrize(("packet", "code"), DENIED, ids=repr)
def test_a_denied_publish_without_acknowledgement_ends_it_with_the_reason(packet: mqtt.Publish, code: int) -> None:
    session = opened(will=WILL)
    outputs = session.receive(packet)
    assert bare(outputs) == [Denied("denied_publish", packet.topic), mqtt.Disconnect(code), "denied_publish"]
    assert advice(outputs) and session.end() is WILL


def test_a_denied_identifier_is_free_again() -> None:
    session = opened()
    session.receive(mqtt.Publish(b"p/in", b"1", 2, 7))
    session.receive(mqtt.Publish(b"q", b"1", 1, 7))  # not that exchange
    assert said(session.receive(mqtt.Publish(b"p/in", b"1", 2, 7))) == [mqtt.Pubrec(7)]
    assert bare(session.receive(mqtt.Publish(b"q", b"1", 2, 7))) == [
        mqtt.Pubrec(7, 0x87),
        Denied("denied_publish", b"q"),
    ]
    assert said(session.receive(mqtt.Publish(b"p/in", b"2", 2, 7))) == [mqtt.Pubrec(7), Inbound("in", b"2")]


@pytest.mark.parametrize("wanted", [0, 1])
def test_the_reason_of_a_denied_publish_is_told_to_who_wants_it(wanted: int) -> None:
    outputs = opened(request_problem_information=wanted).receive(mqtt.Publish(b"q", b"x", 1, 7))
    assert advice(outputs) == ("None" if not wanted else "Publish to this client's own c2s, in or status topic: the "
        "topics of a client are in its identity's mqtt block.")  # fmt: skip


@pytest.mark.parametrize("qos", [1, 2])
def test_more_than_the_receive_maximum_ends_it(qos: int) -> None:
    session = opened(Bounds(unreleased=2))
    for number in (1, 2):
        session.receive(mqtt.Publish(b"p/in", b"x", 2, number))
    assert said(session.receive(mqtt.Publish(b"p/in", b"x", 2, 2))) == [mqtt.Pubrec(2)]
    assert said(session.receive(mqtt.Publish(b"p/in", b"x"))) == [Inbound("in", b"x")]
    assert bare(session.receive(mqtt.Publish(b"p/in", b"x", qos, 3))) == [mqtt.Disconnect(0x93), "unreleased"]


def test_what_a_hub_has_no_use_for_is_dropped() -> None:
    properties = Properties(
        payload_format_indicator=1,
        message_expiry_interval=0,
        content_type="text/plain",
        response_topic="somewhere/else",
        correlation_data=b"\0",
        user_properties=(("a", "b"), ("a", "c")),
    )
    packet = mqtt.Publish(b"p/in", b"x", 1, 7, properties=properties)
    assert said(opened().receive(packet)) == [mqtt.Puback(7), Inbound("in", b"x")]


@pytest.mark.parametrize(
    ("packet", "code"),
    [
        (mqtt.Publish(b"p/in", b"x", properties=Properties(topic_alias=1)), 0x94),
        (mqtt.Publish(b"", b"x", 1, 1, properties=Properties(topic_alias=65_535)), 0x94),
        (mqtt.Publish(b"p/in", b"x", properties=Properties(subscription_identifiers=(1,))), 0x82),
        (mqtt.Connect("id", level=5), 0x82),
        (mqtt.Connack(False, 0), 0x82),
        (mqtt.Pubrec(1), 0x82),
        (mqtt.Pubcomp(1), 0x82),
        (mqtt.Suback(1, (0,)), 0x82),
        (mqtt.Unsuback(1, (0,)), 0x82),
        (mqtt.Pingresp(), 0x82),
        (mqtt.Auth(), 0x82),
        (mqtt.Auth(0x19, Properties(authentication_method="x")), 0x82),
        (mqtt.Disconnect(0, Properties(session_expiry_interval=1)), 0x82),
    ],
    ids=repr,
)
def test_what_a_client_may_not_send_ends_it_with_the_reason_and_its_will(packet: mqtt.Packet, code: int) -> None:
    session = opened(will=WILL)
    outputs = session.receive(packet)
    (goodbye, over) = bare(outputs)
    assert goodbye == mqtt.Disconnect(code) and isinstance(over, str)
    assert advice(outputs) and session.end() is WILL


# -- subscribing


def test_each_filter_has_its_own_reason() -> None:
    asked = (b"p/s2c", b"p/in", b"#", b"p/+", b"$share/g/p/s2c", b"q/s2c", b"p/out")
    session = opened()
    outputs = session.receive(mqtt.Subscribe(3, tuple((each, 2) for each in asked)))
    codes = (1, 0x8F, 0xA2, 0xA2, 0x9E, 0x87, 1)
    assert bare(outputs) == [mqtt.Suback(3, codes), Denied("denied_subscribe", b"p/in"), Granted("s2c"), Granted("out")]
    assert advice(outputs).startswith("The hub hears this topic")


def test_a_subscription_identifier_ends_it() -> None:
    packet = mqtt.Subscribe(3, ((b"p/s2c", 1),), Properties(subscription_identifiers=(1,)))
    session = opened()
    assert bare(session.receive(packet)) == [mqtt.Disconnect(0xA1), "subscription_identifier"]
    assert not session.hears("s2c")


@pytest.mark.parametrize(
    ("handling", "due"), [(0, [True, True, True]), (1, [True, False, True]), (2, [False, False, False])]
)
def test_retain_handling(handling: int, due: list[bool]) -> None:
    session = opened()
    for expected in due[:2]:
        assert (subscribe(session, "status", handling << 4) == [Granted("status")]) is expected
    session.receive(mqtt.Unsubscribe(2, (b"p/status",)))
    assert (subscribe(session, "status", handling << 4) == [Granted("status")]) is due[2]


def test_the_options_of_the_last_subscription_hold() -> None:
    session = opened()
    for options in (mqtt.NO_LOCAL, mqtt.RETAIN_AS_PUBLISHED, 0):
        subscribe(session, "status", options)
        assert session.wants("status", mqtt.NO_LOCAL) is (options == mqtt.NO_LOCAL)
        assert session.wants("status", mqtt.RETAIN_AS_PUBLISHED) is (options == mqtt.RETAIN_AS_PUBLISHED)
    subscribe(session, "status", mqtt.NO_LOCAL)
    session.receive(mqtt.Unsubscribe(2, (b"p/status",)))
    assert not session.wants("status", mqtt.NO_LOCAL) and not session.wants("out", mqtt.NO_LOCAL)


def test_unsubscribing_says_what_there_was() -> None:
    session = opened()
    subscribe(session, "out")
    outputs = session.receive(mqtt.Unsubscribe(4, (b"#", b"p/out", b"p/s2c", b"p/out")))
    assert said(outputs) == [mqtt.Unsuback(4, (0x11, 0, 0x11, 0x11)), Left("out")]


def test_an_answer_that_is_too_large_for_the_client_ends_it() -> None:
    session = opened(maximum_packet_size=128)
    outputs = session.receive(mqtt.Subscribe(3, ((b"p/s2c", 0),) * 200))
    assert bare(outputs)[:2] == [mqtt.Disconnect(0x95), "client_packet_size"]


# -- publishing to the client


def test_answers_leave_in_its_version() -> None:
    session = opened()
    subscribe(session, "out")
    assert session.publish("out", b"x") == [Send(bytes.fromhex("320b0005702f6f75740001") + b"\0x")]


def test_its_receive_maximum_holds() -> None:
    session = opened(receive_maximum=1)
    subscribe(session, "out")
    assert said(session.publish("out", b"1")) == [mqtt.Publish(b"p/out", b"1", 1, 1)]
    assert session.publish("out", b"2") == [] and session.waiting == 1
    assert said(session.receive(mqtt.Puback(1, 0x97))) == [mqtt.Publish(b"p/out", b"2", 1, 2)]


def test_an_answer_that_it_cannot_take_is_not_sent_and_ends_it_with_the_size_it_needs() -> None:
    session = opened(maximum_packet_size=1_000)
    subscribe(session, "out")
    assert len(session.publish("out", bytes(985))) == 1
    outputs = session.publish("out", bytes(990))
    assert bare(outputs) == [mqtt.Disconnect(0x95), "client_packet_size"]
    assert "allow packets of 65549 bytes" in advice(outputs)
    assert opened(maximum_packet_size=65_549).terms.takes_publish(b"p/out", bytes(65_535), 1)
    assert session.publish("out", b"x") == []


def test_a_status_that_it_cannot_take_is_left_out() -> None:
    session = MqttSession(Bounds())
    session.receive(connect(properties=Properties(maximum_packet_size=128)))
    long = b"p" * 200 + b"/status"
    session.accept({long: "status"}, None)
    session.receive(mqtt.Subscribe(1, ((long, 1),)))
    assert session.publish("status", b"online") == [] and session.open


# -- ends


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("taken_over", 0x8E),
        ("revoked", 0x87),
        ("hub_off", 0x98),
        ("restart", 0x8B),
        ("silent", 0x8D),
        ("slow_reader", 0x97),
        ("busy", 0x89),
        ("key_mismatch", 0x87),
        ("decrypt", 0x99),
    ],
)
def test_every_end_from_our_side_has_a_reason(code: str, reason: int) -> None:
    session = opened()
    outputs = session.goodbye(code, "The sentence of whoever ends it.")
    assert bare(outputs) == [mqtt.Disconnect(reason)]
    session.end()
    assert session.goodbye(code, "again") == []


def test_a_refusal_that_says_more_than_the_table_is_told_in_its_own_words() -> None:
    why = refusal.not_allowed("broadcast")
    assert advice(opened().goodbye(why.code, why.reason)) == "BROADCAST is not allowed for this client"


@pytest.mark.parametrize("code", ["lost", "disconnect", "connect_timeout"])
def test_an_end_that_the_client_knows_of_has_none(code: str) -> None:
    assert opened().goodbye(code, "x") == []


def test_nobody_is_told_before_the_login_nor_in_3_1_1() -> None:
    waiting, old = MqttSession(Bounds()), MqttSession(Bounds())
    old.receive(mqtt.Connect("id"))
    old.accept(TOPICS, None)
    assert waiting.goodbye("restart", "x") == old.goodbye("restart", "x") == []


def test_nothing_is_said_before_the_connack() -> None:
    session = MqttSession(Bounds())
    session.receive(connect())
    assert said(session.receive(mqtt.Pingreq())) == [Over("mqtt_protocol_violation", "A PINGREQ where it may not be.")]


@pytest.mark.parametrize(("code", "published"), [(0, False), (4, True), (0x80, True), (0x93, True)])
def test_a_will_is_dropped_by_a_normal_disconnect_only(code: int, published: bool) -> None:
    session = opened(will=WILL)
    assert bare(session.receive(mqtt.Disconnect(code))) == ["disconnect"]
    assert session.end() is (WILL if published else None)


def test_an_expiry_that_was_asked_for_may_be_changed_in_disconnect() -> None:
    session = opened(session_expiry_interval=60)
    properties = Properties(session_expiry_interval=120)
    assert bare(session.receive(mqtt.Disconnect(0, properties))) == ["disconnect"]


def test_a_packet_that_is_no_packet_ends_it_with_the_reason_of_the_error() -> None:
    for error, code in ((PacketTooLargeError("Too large."), 0x95), (MqttError("Odd."), 0x80)):
        session = opened()
        assert bare(session.fail(error)) == [mqtt.Disconnect(code), error.code]
        assert session.fail(error) == []


# -- anything at all

PROPERTIES = st.sampled_from([
    NOTHING, Properties(user_properties=(("k", "v"),)), Properties(topic_alias=1), Properties(content_type="x"),
])  # fmt: skip
PACKETS: list[st.SearchStrategy[Any]] = [
    st.builds(
        lambda topic, payload, qos, number, retain, properties: mqtt.Publish(
            topic, payload, qos, number if qos else None, retain, properties=properties
        ),
        st.sampled_from([*TOPICS, b"q"]), st.sampled_from([b"", b"x", b"online", b"offline"]), st.integers(0, 2),
        st.integers(1, 4), st.booleans(), PROPERTIES,
    ),
    st.builds(mqtt.Puback, st.integers(1, 4), st.sampled_from([0, 0x97])),
    st.builds(mqtt.Pubrel, st.integers(1, 4)),
    st.builds(
        mqtt.Subscribe, st.integers(1, 9),
        st.lists(
            st.tuples(st.sampled_from([*TOPICS, b"#", b"$share/g/x", b"q"]), st.sampled_from([0, 1, 2, 0x1C, 0x29])),
            min_size=1, max_size=40,
        ).map(lambda filters: tuple((f, o & ~4 if f.startswith(b"$") else o) for f, o in filters)),
        st.sampled_from([NOTHING, Properties(user_properties=(("k", "v"),))]),
    ),
    st.builds(
        mqtt.Unsubscribe, st.integers(1, 9),
        st.lists(st.sampled_from([*TOPICS, b"#"]), min_size=1, max_size=40).map(tuple),
    ),
    st.sampled_from([
        mqtt.Pingreq(), mqtt.Disconnect(), mqtt.Disconnect(4), mqtt.Pubrec(1), mqtt.Auth(), mqtt.Connect("id", level=5),
        mqtt.Disconnect(0, Properties(session_expiry_interval=5)), mqtt.Connack(False, 0), mqtt.Pingresp(),
    ]),
]  # fmt: skip
CONNECTS = st.builds(
    lambda level, client_id, properties: mqtt.Connect(
        client_id, level=level, properties=properties if level == 5 else NOTHING
    ),
    st.sampled_from([4, 5]),
    st.sampled_from(["id", "", "a\n"]),
    st.builds(
        Properties,
        receive_maximum=st.none() | st.integers(1, 3),
        maximum_packet_size=st.none() | st.integers(1, 200),
        request_problem_information=st.none() | st.integers(0, 1),
        session_expiry_interval=st.none() | st.integers(0, 1),
        authentication_method=st.none() | st.just("x"),
    ),
)


def drive(session: MqttSession, outputs: list[Output]) -> list[Output]:
    """What comes of these outputs: everybody is let in, and each payload is answered."""
    done: list[Output] = []
    for output in outputs:
        done.append(output)
        if isinstance(output, Login):
            assigned = None if output.connect.client_id else "auto-1"
            done += drive(session, session.accept(TOPICS, output.connect.will, assigned))
        elif isinstance(output, Inbound | StatusSaid):
            done += drive(session, session.publish("out", output.payload * 50))
    return done


def feed(session: MqttSession, reader: PacketReader, data: bytes) -> list[Output]:
    """As a connection does it: packet by packet, and from CONNECT on in its version."""
    done: list[Output] = []
    try:
        packets = reader.feed(data, at_most=1)
        while packets:
            done += drive(session, session.receive(packets[0]))
            if isinstance(packets[0], mqtt.Connect):
                reader.version = session.terms.codec
            packets = reader.feed(at_most=1)
    except MqttError as error:
        done += session.fail(error)
    return done


@given(CONNECTS, st.lists(st.one_of(PACKETS), max_size=12), st.sampled_from(["restart", "decrypt", "lost"]))
def test_any_packets_raise_nothing_and_are_answered_in_the_version_and_size_of_the_client(
    first: mqtt.Connect, packets: list[mqtt.Packet], end: str
) -> None:
    session = MqttSession(Bounds(in_flight=2, unreleased=2))
    outputs = drive(session, session.receive(first))
    for packet in packets:
        outputs += drive(session, session.receive(packet))
    outputs += session.goodbye(end, "The end.")
    codec, most = CODECS[first.level], first.properties.maximum_packet_size or 100_000
    answers: list[mqtt.Packet] = []
    for output in outputs:
        if isinstance(output, Send):
            assert len(output.data) <= most
            answers += PacketReader(most, codec).feed(output.data)
    assert sum(isinstance(output, Over) for output in outputs) <= 1
    assert [type(answer) for answer in answers].count(mqtt.Connack) <= 1
    if answers and isinstance(answers[0], mqtt.Connack) and first.level == 5:
        assert answers[0].code in CONNACK_CODES
    told = [answer.properties.reason_string for answer in answers if hasattr(answer, "properties")]
    if first.properties.request_problem_information == 0 or first.level == 4:
        assert told == [None] * len(told)


SAMPLES: list[mqtt.Packet] = [
    mqtt.Publish(b"p/in", b"x", properties=Properties(user_properties=(("k", "v"),))),
    mqtt.Publish(b"p/c2s", b"y", 1, 3),
    mqtt.Publish(b"q", b"", 1, 3),
    mqtt.Publish(b"p/in", b"z", 2, 3),
    mqtt.Publish(b"p/status", b"online", retain=True),
    mqtt.Pubrel(3),
    mqtt.Puback(1),
    mqtt.Subscribe(1, ((b"p/out", 1), (b"#", 0))),
    mqtt.Unsubscribe(2, (b"p/out",)),
    mqtt.Pingreq(),
    mqtt.Auth(),
    mqtt.Disconnect(4),
]
OPENINGS = [V5.encode(mqtt.Connect("id", level=5)), V311.encode(mqtt.Connect("id"))]
streams = st.tuples(
    st.sampled_from(OPENINGS),
    st.lists(st.sampled_from(SAMPLES).map(V5.encode) | st.binary(min_size=1, max_size=4), max_size=10).map(b"".join),
).map(b"".join)


def run(pieces: list[bytes]) -> str:
    session, reader = MqttSession(Bounds(in_flight=2, unreleased=2)), PacketReader(1_000, OPENING)
    return repr([output for piece in pieces for output in feed(session, reader, piece)])


@given(streams, st.lists(st.integers(0, 400), max_size=8))
def test_any_way_of_cutting_the_stream_does_the_same(stream: bytes, places: list[int]) -> None:
    edges = sorted({0, len(stream), *(place % (len(stream) + 1) for place in places)})
    assert run([stream[a:b] for a, b in pairwise(edges)]) == run([stream])


def test_no_output_shows_what_a_client_said_in_private() -> None:
    properties = Properties(user_properties=(("the-key", "the-value"),), correlation_data=b"the-data")
    packet = connect(username="the-user", password=b"the-password", properties=properties)
    shown = repr(MqttSession(Bounds()).receive(packet))
    shown += repr(opened().receive(mqtt.Publish(b"p/in", b"the-payload", properties=properties)))
    assert "the-" not in shown
