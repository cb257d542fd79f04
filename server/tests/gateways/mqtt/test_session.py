# SPDX-License-Identifier: Apache-2.0
"""The rules of one connection, without a socket."""

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalovant.protocol.errors import MalformedPacketError, MqttError
from thalovant.protocol.mqtt import packets as mqtt
from thalovant.protocol.mqtt.framing import PacketReader
from thalovant.protocol.mqtt.v311 import encode
from thalovant_server.gateways.mqtt.bounds import Bounds
from thalovant_server.gateways.mqtt.session import (
    Denied,
    Granted,
    Inbound,
    Left,
    Login,
    MqttSession,
    Output,
    Over,
    Phase,
    Send,
    StatusSaid,
)
from thalovant_server.hub.refusal import Refusal

TOPICS = {f"p/{segment}".encode(): segment for segment in ("c2s", "in", "s2c", "out", "status")}
CONNACK = Send(encode(mqtt.Connack(False, 0)))


def opened(bounds: Bounds | None = None, will: mqtt.Will | None = None) -> MqttSession:
    session = MqttSession(bounds or Bounds())
    connect = mqtt.Connect("id", will=will)
    assert session.receive(connect) == [Login(connect)]
    assert session.accept(TOPICS, will) == [CONNACK]
    return session


def sent(*packets: mqtt.Packet) -> list[Send]:
    return [Send(encode(packet)) for packet in packets]


def subscribe(session: MqttSession, segment: str, qos: int = 1) -> None:
    outputs = session.receive(mqtt.Subscribe(1, ((f"p/{segment}".encode(), qos),)))
    assert outputs[0] == Send(encode(mqtt.Suback(1, (min(qos, 1),))))


def code(outputs: list[Output]) -> str:
    assert isinstance(outputs[-1], Over)
    return outputs[-1].code


def test_a_login_is_asked_for_and_accepted() -> None:
    session = MqttSession(Bounds())
    assert not session.open
    assert session.receive(mqtt.Connect("id")) == [Login(mqtt.Connect("id"))]
    assert session.phase is Phase.DECIDING and not session.open
    assert session.accept(TOPICS, None) == [CONNACK]
    assert session.open


@pytest.mark.parametrize("number", range(1, 6))
def test_a_refused_login_is_over(number: int) -> None:
    session = MqttSession(Bounds())
    session.receive(mqtt.Connect("id", will=mqtt.Will(b"p/status", b"offline")))
    outputs = session.refuse(Refusal("any", "", 1008, 403, number))
    assert outputs[:1] == sent(mqtt.Connack(False, number))
    assert code(outputs) == "refused"
    assert session.end() is None
    assert session.receive(mqtt.Pingreq()) == []


@pytest.mark.parametrize(
    ("connect", "good"),
    [
        (mqtt.Connect(""), True),
        (mqtt.Connect("x" * 128), True),
        (mqtt.Connect("é ü/#+"), True),
        (mqtt.Connect("", clean_session=False), False),
        (mqtt.Connect("x" * 129), False),
        (mqtt.Connect("a\x7f"), False),
        (mqtt.Connect("\x1b[2J"), False),
    ],
    ids=repr,
)
def test_client_ids(connect: mqtt.Connect, good: bool) -> None:
    outputs = MqttSession(Bounds()).receive(connect)
    assert outputs == [Login(connect)] if good else outputs[:1] == sent(mqtt.Connack(False, 2))


@pytest.mark.parametrize(
    "packet",
    [mqtt.Pingreq(), mqtt.Disconnect(), mqtt.Publish(b"p/in", b""), mqtt.Connack(False, 0), mqtt.Puback(1)],
    ids=repr,
)
def test_the_first_packet_is_a_connect(packet: mqtt.Packet) -> None:
    assert code(MqttSession(Bounds()).receive(packet)) == "mqtt_protocol_violation"


@pytest.mark.parametrize(
    "packet",
    [
        mqtt.Connect("id"),
        mqtt.Connack(False, 0),
        mqtt.Pubrec(1),
        mqtt.Pubcomp(1),
        mqtt.Suback(1, (0,)),
        mqtt.Unsuback(1),
        mqtt.Pingresp(),
    ],
    ids=repr,
)
def test_what_a_client_may_not_send_ends_the_connection(packet: mqtt.Packet) -> None:
    assert code(opened().receive(packet)) == "mqtt_protocol_violation"


def test_nothing_may_come_while_a_login_is_undecided() -> None:
    session = MqttSession(Bounds())
    session.receive(mqtt.Connect("id"))
    assert code(session.receive(mqtt.Pingreq())) == "mqtt_protocol_violation"


def test_another_version_is_told_so_only_before_the_login() -> None:
    error = mqtt.UnsupportedVersionError(3)
    outputs = MqttSession(Bounds()).fail(error)
    assert outputs[:1] == sent(mqtt.Connack(False, 1))
    assert code(outputs) == error.code
    assert len(opened().fail(error)) == 1


def test_rubbish_ends_the_connection_once() -> None:
    session = opened()
    assert code(session.fail(MalformedPacketError("x"))) == "mqtt_malformed_packet"
    assert session.fail(MalformedPacketError("x")) == []


def test_publishing_with_each_qos() -> None:
    session = opened()
    arrived = Inbound("in", b"x")
    assert session.receive(mqtt.Publish(b"p/in", b"x")) == [arrived]
    assert session.receive(mqtt.Publish(b"p/in", b"x", 1, 5)) == [*sent(mqtt.Puback(5)), arrived]
    assert session.receive(mqtt.Publish(b"p/c2s", b"x", 2, 5)) == [*sent(mqtt.Pubrec(5)), Inbound("c2s", b"x")]
    assert session.receive(mqtt.Publish(b"p/c2s", b"x", 2, 5, dup=True)) == sent(mqtt.Pubrec(5))
    assert session.receive(mqtt.Pubrel(5)) == sent(mqtt.Pubcomp(5))
    assert session.receive(mqtt.Pubrel(5)) == sent(mqtt.Pubcomp(5))


def test_unreleased_publishes_are_bounded() -> None:
    session = opened(Bounds(unreleased=2))
    for number in (1, 2):
        session.receive(mqtt.Publish(b"p/in", b"x", 2, number))
    assert session.receive(mqtt.Publish(b"p/in", b"x", 2, 2)) == sent(mqtt.Pubrec(2))
    assert code(session.receive(mqtt.Publish(b"p/in", b"x", 2, 3))) == "unreleased"


@pytest.mark.parametrize(
    "packet",
    [
        mqtt.Publish(b"p/s2c", b"x"),
        mqtt.Publish(b"p/out", b"x"),
        mqtt.Publish(b"q/in", b"x"),
        mqtt.Publish(b"p/in/", b"x"),
        mqtt.Publish(b"p/in", b"x", retain=True),
        mqtt.Publish(b"p/c2s", b"", retain=True),
        mqtt.Publish(b"p/status", b""),
        mqtt.Publish(b"p/status", b"ONLINE", 1, 1),
    ],
    ids=repr,
)
def test_a_denied_publish_is_not_acknowledged_and_ends_the_connection(packet: mqtt.Publish) -> None:
    outputs = opened().receive(packet)
    assert outputs[0] == Denied("denied_publish", packet.topic)
    assert len(outputs) == 2 and code(outputs[1:]) == "denied_publish"


@pytest.mark.parametrize("retain", [True, False])
def test_a_status_may_be_retained_or_not(retain: bool) -> None:
    packet = mqtt.Publish(b"p/status", b"online", retain=retain)
    assert opened().receive(packet) == [StatusSaid(b"online", retain)]


def test_subscriptions_are_granted_one_by_one() -> None:
    session = opened()
    filters = ((b"p/s2c", 2), (b"p/in", 1), (b"p/out", 0), (b"#", 2), (b"p/s2c", 0))
    outputs = session.receive(mqtt.Subscribe(3, filters))
    expected = [
        *sent(mqtt.Suback(3, (1, 0x80, 0, 0x80, 0))),
        Denied("denied_subscribe", b"p/in"),
        Granted("s2c"),
        Granted("out"),
    ]
    assert outputs == expected
    assert session.hears("s2c") and session.hears("out") and not session.hears("status")
    assert session.publish("s2c", b"x") == sent(mqtt.Publish(b"p/s2c", b"x"))


def test_unsubscribing_any_filter_is_answered() -> None:
    session = opened()
    subscribe(session, "out")
    outputs = session.receive(mqtt.Unsubscribe(4, (b"#", b"p/out", b"p/s2c", b"p/out")))
    assert outputs == [*sent(mqtt.Unsuback(4)), Left("out")]
    assert session.publish("out", b"x") == []


def test_answers_go_only_where_the_client_listens_with_identifiers_in_order() -> None:
    session = opened()
    assert session.publish("out", b"x") == []
    subscribe(session, "out")
    for number in (1, 2):
        assert session.publish("out", b"x") == sent(mqtt.Publish(b"p/out", b"x", 1, number))
    assert session.publish("s2c", b"x") == []


def test_a_full_window_waits_for_acknowledgements() -> None:
    session = opened(Bounds(in_flight=1))
    subscribe(session, "out")
    session.publish("out", b"1")
    assert session.publish("out", b"22") == []
    assert (session.waiting, session.waiting_bytes) == (1, 2)
    assert session.receive(mqtt.Puback(9)) == []
    assert session.receive(mqtt.Puback(1)) == sent(mqtt.Publish(b"p/out", b"22", 1, 2))
    assert (session.waiting, session.waiting_bytes) == (0, 0)


def test_a_ping_is_answered() -> None:
    assert opened().receive(mqtt.Pingreq()) == sent(mqtt.Pingresp())


def test_a_will_is_for_unclean_ends() -> None:
    will = mqtt.Will(b"p/status", b"offline")
    session = opened(will=will)
    assert (session.end(), session.end()) == (will, None)
    assert session.publish("out", b"x") == [] and session.receive(mqtt.Pingreq()) == []
    polite = opened(will=will)
    assert polite.receive(mqtt.Disconnect()) == [Over("disconnect", "The client disconnected.")]
    assert polite.end() is None


def test_no_output_shows_a_payload() -> None:
    outputs = opened().receive(mqtt.Publish(b"p/in", b"the-payload"))
    assert "the-payload" not in repr(outputs)


# -- any stream

SAMPLES: list[mqtt.Packet] = [
    mqtt.Connect("id", username="u", password=b"p"),
    mqtt.Publish(b"p/in", b"x"),
    mqtt.Publish(b"p/c2s", b"y", 1, 3),
    mqtt.Publish(b"p/in", b"z", 2, 3),
    mqtt.Publish(b"p/status", b"online", retain=True),
    mqtt.Publish(b"q", b""),
    mqtt.Pubrel(3),
    mqtt.Puback(1),
    mqtt.Subscribe(1, ((b"p/out", 1), (b"#", 0))),
    mqtt.Unsubscribe(2, (b"p/out",)),
    mqtt.Pingreq(),
    mqtt.Disconnect(),
]
streams = st.lists(st.sampled_from(SAMPLES).map(encode) | st.binary(min_size=1, max_size=4), max_size=10).map(
    lambda pieces: encode(SAMPLES[0]) + b"".join(pieces)
)


def drive(pieces: list[bytes]) -> list[Any]:
    """What a connection does with a stream: everything is let in, and each payload is answered."""
    session, reader = MqttSession(Bounds(in_flight=2, unreleased=2)), PacketReader(1_000)
    done: list[Any] = []

    def act(outputs: list[Output]) -> None:
        for output in outputs:
            done.append(output)
            if isinstance(output, Login):
                act(session.accept(TOPICS, output.connect.will))
            elif isinstance(output, Inbound):
                act(session.publish("out", output.payload))

    for piece in pieces:
        try:
            for packet in reader.feed(piece):
                act(session.receive(packet))
            if reader.error is not None:
                raise reader.error
        except MqttError as error:
            act(session.fail(error))
    return done


@given(streams, st.lists(st.integers(0, 400), max_size=8))
def test_any_way_of_cutting_the_stream_does_the_same(stream: bytes, places: list[int]) -> None:
    edges = sorted({0, len(stream), *(place % (len(stream) + 1) for place in places)})
    pieces = [stream[a:b] for a, b in zip(edges, edges[1:], strict=False)]  # noqa: RUF007
    assert repr(drive(pieces)) == repr(drive([stream]))


@given(st.binary(max_size=80))
def test_rubbish_is_over_at_most_once(stream: bytes) -> None:
    done = drive([stream[at : at + 1] for at in range(len(stream))])
    assert sum(isinstance(output, Over) for output in done) <= 1


def test_the_bounds_are_those_that_were_promised(rig: SimpleNamespace) -> None:
    assert (Bounds().connect_seconds, Bounds().keepalive_factor) == (20.0, 1.5)
    assert (Bounds().first_packet_bytes, Bounds().packet_bytes) == (10 * 1024, 256 * 1024)
