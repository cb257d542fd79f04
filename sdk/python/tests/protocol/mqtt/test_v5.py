# SPDX-License-Identifier: Apache-2.0
"""MQTT 5.0 against the byte tables of `contract/vectors/mqtt-5-packets.json`, and against itself."""

import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalovant.protocol.errors import (
    MalformedPacketError,
    MqttError,
    PacketTooLargeError,
    ProtocolViolationError,
)
from thalovant.protocol.mqtt import packets, property_codec
from thalovant.protocol.mqtt import reason_codes as codes
from thalovant.protocol.mqtt.fields import FieldReader
from thalovant.protocol.mqtt.framing import PacketReader
from thalovant.protocol.mqtt.properties import NOTHING, Properties
from thalovant.protocol.mqtt.property_codec import PropertyCodec
from thalovant.protocol.mqtt.reason_codes import ReasonCode
from thalovant.protocol.mqtt.v5 import V5, decode, encode, encode_publish

VECTORS = json.loads((Path(__file__).parents[5] / "contract" / "vectors" / "mqtt-5-packets.json").read_text("utf-8"))
ERRORS: dict[str, tuple[type[MqttError], int]] = {
    "malformed": (MalformedPacketError, 0x81),
    "violation": (ProtocolViolationError, 0x82),
    "topic_alias": (ProtocolViolationError, 0x94),
    "too_large": (PacketTooLargeError, 0x95),
    "unsupported_version": (packets.UnsupportedVersionError, 0x84),
}


def told(case: dict[str, Any]) -> str:
    return str(case["description"])


def as_vector(value: Any) -> dict[str, Any]:
    """A packet, a will or properties as the table has them: properties only those that are there."""
    is_properties = isinstance(value, Properties)
    pairs = [(field.name, getattr(value, field.name)) for field in fields(value) if field.name != "level"]
    return dict(_field(*pair) for pair in pairs if not is_properties or pair[1] not in (None, ()))


def _field(name: str, value: Any) -> tuple[str, Any]:
    if name in ("topic", "payload", "password"):
        return f"{name}_hex", None if value is None else value.hex()
    if isinstance(value, packets.Will | Properties):
        return name, as_vector(value)
    return name, _plain(value)


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.hex()
    return [_plain(part) for part in value] if isinstance(value, tuple) else value


def whole(packet: packets.Packet) -> dict[str, Any]:
    return {"type": type(packet).__name__, **as_vector(packet)}


def read(raw: bytes) -> list[packets.Packet]:
    return PacketReader(262_144, V5).feed(raw)


@pytest.mark.parametrize("case", VECTORS["valid"], ids=told)
def test_a_packet_is_read_and_written_as_the_standard_says(case: dict[str, Any]) -> None:
    raw = bytes.fromhex(case["hex"])
    (packet,) = read(raw)
    assert whole(packet) == case["packet"]
    assert encode(packet) == raw


@pytest.mark.parametrize("case", VECTORS["only_read"], ids=told)
def test_a_packet_that_is_written_otherwise_is_read(case: dict[str, Any]) -> None:
    raw = bytes.fromhex(case["hex"])
    (packet,) = read(raw)
    assert whole(packet) == case["packet"]
    if case["description"].startswith("CONNECT, a byte order mark"):
        return
    assert encode(packet) != raw
    assert read(encode(packet)) == [packet]


@pytest.mark.parametrize("case", VECTORS["invalid"], ids=told)
def test_a_bad_packet_is_refused_with_its_error(case: dict[str, Any]) -> None:
    kind, reason_code = ERRORS[case["error"]]
    with pytest.raises(kind) as caught:
        read(bytes.fromhex(case["hex"]))
    assert (type(caught.value), caught.value.reason_code) == (kind, reason_code)
    assert caught.value.reason


@pytest.mark.parametrize("case", VECTORS["valid"], ids=told)
def test_every_way_to_cut_a_packet_short_waits(case: dict[str, Any]) -> None:
    raw = bytes.fromhex(case["hex"])
    for end in range(len(raw)):
        assert read(raw[:end]) == []


@pytest.mark.parametrize("case", VECTORS["valid"], ids=told)
def test_a_body_that_ends_too_early_is_refused_or_another_packet(case: dict[str, Any]) -> None:
    """With the remaining length mended: nothing is read beyond it, and nothing but MqttError is raised."""
    raw = bytes.fromhex(case["hex"])
    body = raw[2:] if raw[1] < 128 else raw[3:]
    for end in range(len(body)):
        try:
            packet = decode(raw[0], body[:end])
        except MqttError:
            continue
        assert decode(raw[0], encode(packet)[2 if end < 128 else 3 :]) == packet


def test_a_connect_of_3_1_1_is_told_what_is_spoken() -> None:
    with pytest.raises(packets.UnsupportedVersionError, match=r"level 4 .* MQTT 5\.0 \(level 5\)") as caught:
        read(bytes.fromhex("100d00044d51545404 02003c000161"))
    assert caught.value.level == 4


ALIAS = Properties(topic_alias=1)
REASON = Properties(reason_string="r")


@pytest.mark.parametrize(
    "packet",
    [
        packets.Connect("a", level=4),
        packets.Connect("a\0", level=5),
        packets.Connect("\ud800", level=5),
        packets.Connect("a", keepalive=65_536, level=5),
        packets.Connect("a", keepalive=-1, level=5),
        packets.Connect("a", level=5, will=packets.Will(b"a/#", b"")),
        packets.Connect("a", level=5, will=packets.Will(b"a", b"", qos=3)),
        packets.Connect("a", level=5, will=packets.Will(b"a", b"", properties=ALIAS)),
        packets.Connect("a", level=5, properties=REASON),
        packets.Publish(b"", b""),
        packets.Publish(b"a/+", b"", properties=ALIAS),
        packets.Publish(b"\xff", b""),
        packets.Publish(b"a", b"", qos=1),
        packets.Publish(b"a", b"", qos=1, packet_id=0),
        packets.Publish(b"a", b"", qos=3, packet_id=1),
        packets.Publish(b"a", b"", qos=0, packet_id=1),
        packets.Publish(b"a", b"", qos=0, dup=True),
        packets.Publish(b"a", b"", properties=REASON),
        packets.Publish(b"a", b"", properties=Properties(response_topic="a/+")),
        packets.Publish(b"a", b"", properties=Properties(user_properties=(("a\0", ""),))),
        packets.Puback(0),
        packets.Puback(1, properties=ALIAS),
        packets.Subscribe(1, ((b"a", 0x40),)),
        packets.Subscribe(1, ((b"a", -1),)),
        packets.Subscribe(1, ((b"", 0),)),
        packets.Subscribe(0, ((b"a", 0),)),
        packets.Suback(1, ()),
        packets.Unsubscribe(1, (b"",)),
        packets.Unsubscribe(1, (b"a",), REASON),
        packets.Unsuback(1, ()),
        packets.Disconnect(0, ALIAS),
        packets.Auth(0, Properties(authentication_method="m", topic_alias=1)),
    ],
    ids=lambda packet: type(packet).__name__,
)
def test_what_cannot_be_read_is_not_written(packet: packets.Packet) -> None:
    with pytest.raises(MalformedPacketError):
        encode(packet)


@pytest.mark.parametrize(
    "packet",
    [
        packets.Connect("a", level=5, properties=Properties(receive_maximum=0)),
        packets.Connect("a", level=5, properties=Properties(maximum_packet_size=0)),
        packets.Connect("a", level=5, properties=Properties(request_problem_information=2)),
        packets.Connect("a", level=5, properties=Properties(session_expiry_interval=2**32)),
        packets.Connect("a", level=5, properties=Properties(authentication_data=b"")),
        packets.Connack(True, 0x87),
        packets.Connack(False, 1),
        packets.Publish(b"a", b"", properties=Properties(topic_alias=0)),
        packets.Publish(b"a", b"", properties=Properties(topic_alias=65_536)),
        packets.Publish(b"a", b"", properties=Properties(subscription_identifiers=(1, 0))),
        packets.Puback(1, 0x92),
        packets.Pubrel(1, 0x10),
        packets.Subscribe(1, ()),
        packets.Subscribe(1, ((b"a", 3),)),
        packets.Subscribe(1, ((b"a", 0x30),)),
        packets.Subscribe(1, ((b"$share/g/a", 4),)),
        packets.Subscribe(1, ((b"a", 0),), Properties(subscription_identifiers=(1, 2))),
        packets.Subscribe(1, ((b"a", 0),), Properties(subscription_identifiers=(2**28,))),
        packets.Suback(1, (3,)),
        packets.Unsubscribe(1, ()),
        packets.Unsuback(1, (1,)),
        packets.Disconnect(0x88),
        packets.Auth(0x18),
        packets.Auth(1, Properties(authentication_method="m")),
    ],
    ids=lambda packet: type(packet).__name__,
)
def test_what_the_standard_rules_out_is_not_written(packet: packets.Packet) -> None:
    with pytest.raises(ProtocolViolationError):
        encode(packet)


def test_a_body_beyond_four_bytes_of_length_is_not_written() -> None:
    class Huge(bytes):
        def __len__(self) -> int:
            return 268_435_456

    with pytest.raises(MalformedPacketError):
        encode_publish(b"a", Huge(), qos=0)


def test_the_fast_road_writes_what_the_whole_road_writes() -> None:
    packet = packets.Publish(b"a/b", b"xyz", 1, 9, True, True)
    assert encode_publish(b"a/b", b"xyz", qos=1, packet_id=9, retain=True, dup=True) == encode(packet)


def test_properties_that_say_nothing_are_as_short_as_none() -> None:
    for packet in (packets.Puback(1), packets.Disconnect(), packets.Auth(), packets.Connack(False, 0)):
        assert encode(replace(packet, properties=Properties())) == encode(packet)


def test_no_repr_shows_what_may_be_private() -> None:
    secret = Properties(
        user_properties=(("the-name", "the-value"),),
        authentication_data=b"the-data",
        correlation_data=b"the-correlation",
        response_topic="the-topic",
    )
    shown = repr(packets.Publish(b"t", b"the-payload", properties=secret))
    assert "the-" not in shown


def test_errors_do_not_carry_the_bytes_they_complain_about() -> None:
    raw = bytes.fromhex("101700044d5154540582003c00000161") + b"\x00\x07secret\xff"
    with pytest.raises(MalformedPacketError) as caught:
        read(raw)
    assert "secret" not in str(caught.value)


CODECS = {name: codec for name, codec in vars(property_codec).items() if isinstance(codec, PropertyCodec)}
# Table 2-4: each property and the packets that may have it.
WHERE = {
    "payload_format_indicator": "PUBLISH WILL",
    "message_expiry_interval": "PUBLISH WILL",
    "content_type": "PUBLISH WILL",
    "response_topic": "PUBLISH WILL",
    "correlation_data": "PUBLISH WILL",
    "subscription_identifiers": "PUBLISH SUBSCRIBE",
    "session_expiry_interval": "CONNECT CONNACK DISCONNECT",
    "assigned_client_identifier": "CONNACK",
    "server_keep_alive": "CONNACK",
    "authentication_method": "CONNECT CONNACK AUTH",
    "authentication_data": "CONNECT CONNACK AUTH",
    "request_problem_information": "CONNECT",
    "will_delay_interval": "WILL",
    "request_response_information": "CONNECT",
    "response_information": "CONNACK",
    "server_reference": "CONNACK DISCONNECT",
    "reason_string": "CONNACK ACKNOWLEDGEMENT DISCONNECT AUTH",
    "receive_maximum": "CONNECT CONNACK",
    "topic_alias_maximum": "CONNECT CONNACK",
    "topic_alias": "PUBLISH",
    "maximum_qos": "CONNACK",
    "retain_available": "CONNACK",
    "user_properties": " ".join(CODECS),
    "maximum_packet_size": "CONNECT CONNACK",
    "wildcard_subscription_available": "CONNACK",
    "subscription_identifier_available": "CONNACK",
    "shared_subscription_available": "CONNACK",
}

words = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
topic_names = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0+#"), min_size=1, max_size=20)
flags = st.integers(0, 1)
uint16 = st.integers(0, 65_535)
uint32 = st.integers(0, 2**32 - 1)
data = st.binary(max_size=20)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "payload_format_indicator": flags,
    "message_expiry_interval": uint32,
    "content_type": words,
    "response_topic": topic_names,
    "correlation_data": data,
    "subscription_identifiers": st.lists(st.integers(1, 2**28 - 1), max_size=3).map(tuple),
    "session_expiry_interval": uint32,
    "assigned_client_identifier": words,
    "server_keep_alive": uint16,
    "authentication_method": words,
    "authentication_data": data,
    "request_problem_information": flags,
    "will_delay_interval": uint32,
    "request_response_information": flags,
    "response_information": words,
    "server_reference": words,
    "reason_string": words,
    "receive_maximum": st.integers(1, 65_535),
    "topic_alias_maximum": uint16,
    "topic_alias": st.integers(1, 65_535),
    "maximum_qos": flags,
    "retain_available": flags,
    "user_properties": st.lists(st.tuples(words, words), max_size=3).map(tuple),
    "maximum_packet_size": st.integers(1, 2**32 - 1),
    "wildcard_subscription_available": flags,
    "subscription_identifier_available": flags,
    "shared_subscription_available": flags,
}


def test_the_tables_here_name_every_property() -> None:
    assert set(WHERE) == set(VALUES) == {field.name for field in fields(Properties)}


@pytest.mark.parametrize("name", WHERE)
@given(st.data())
def test_a_property_is_where_the_standard_has_it_and_nowhere_else(name: str, data: st.DataObject) -> None:
    value = data.draw(VALUES[name].filter(lambda value: value != ()))
    with_method = {"authentication_method": "m"} if name == "authentication_data" else {}
    one = Properties(**{name: value[:1] if isinstance(value, tuple) else value, **with_method})
    for where, codec in CODECS.items():
        if where in WHERE[name].split():
            assert codec.read(FieldReader(codec.write(one))) == one
        else:
            with pytest.raises(MalformedPacketError):
                codec.write(one)


def some(where: str, without: str = "") -> st.SearchStrategy[Properties]:
    """Properties that this packet may have, none of them more often than not."""
    names = [name for name, allowed in WHERE.items() if where in allowed.split() and name != without]
    return st.just(NOTHING) | st.fixed_dictionaries({}, optional={name: VALUES[name] for name in names}).map(_sound)


def _sound(found: dict[str, Any]) -> Properties:
    if "authentication_method" not in found:
        found.pop("authentication_data", None)
    return Properties(**found)


def _one_identifier(properties: Properties) -> Properties:
    return replace(properties, subscription_identifiers=properties.subscription_identifiers[:1])


def of(allowed: frozenset[int]) -> st.SearchStrategy[int]:
    return st.sampled_from(sorted(allowed))


topics = topic_names.map(str.encode)
filters = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0$"), min_size=1).map(str.encode)
options = st.builds(
    lambda qos, bits, handling: qos | bits << 2 | handling << 4, *[st.integers(0, n) for n in (2, 3, 2)]
)
ids = st.integers(1, 65_535)
payloads = st.binary(max_size=300)
wills = st.builds(packets.Will, topics, payloads, st.integers(0, 2), st.booleans(), some("WILL"))
explained = some("ACKNOWLEDGEMENT")
with_alias = some("PUBLISH").map(lambda properties: replace(properties, topic_alias=7))
any_auth = some("AUTH").map(lambda properties: replace(properties, authentication_method="m"))
any_packet: st.SearchStrategy[packets.Packet] = st.one_of(
    st.builds(
        packets.Connect,
        words,
        st.booleans(),
        uint16,
        st.none() | words,
        st.none() | payloads,
        st.none() | wills,
        st.just(5),
        some("CONNECT"),
    ),
    st.builds(packets.Connack, st.just(False), of(codes.CONNACK_CODES), some("CONNACK")),
    st.builds(packets.Connack, st.just(True), st.just(0), some("CONNACK")),
    st.builds(packets.Publish, topics, payloads, retain=st.booleans(), properties=some("PUBLISH")),
    st.builds(packets.Publish, st.just(b""), payloads, properties=with_alias),
    st.builds(packets.Publish, topics, payloads, st.integers(1, 2), ids, st.booleans(), st.booleans(), some("PUBLISH")),
    st.builds(packets.Puback, ids, of(codes.PUBACK_CODES), explained),
    st.builds(packets.Pubrec, ids, of(codes.PUBACK_CODES), explained),
    st.builds(packets.Pubrel, ids, of(codes.PUBREL_CODES), explained),
    st.builds(packets.Pubcomp, ids, of(codes.PUBREL_CODES), explained),
    st.builds(
        packets.Subscribe,
        ids,
        st.lists(st.tuples(filters, options), min_size=1).map(tuple),
        some("SUBSCRIBE").map(_one_identifier),
    ),
    st.builds(packets.Suback, ids, st.lists(of(codes.SUBACK_CODES), min_size=1).map(tuple), explained),
    st.builds(packets.Unsubscribe, ids, st.lists(filters, min_size=1).map(tuple), some("UNSUBSCRIBE")),
    st.builds(packets.Unsuback, ids, st.lists(of(codes.UNSUBACK_CODES), min_size=1).map(tuple), explained),
    st.builds(packets.Pingreq),
    st.builds(packets.Pingresp),
    st.builds(packets.Disconnect, of(codes.DISCONNECT_CODES), some("DISCONNECT")),
    st.builds(packets.Auth, of(codes.AUTH_CODES), any_auth),
    st.builds(packets.Auth),
)


@given(any_packet)
def test_a_packet_comes_back_as_it_went(packet: packets.Packet) -> None:
    assert read(encode(packet)) == [packet]


@given(any_packet, any_packet)
def test_different_packets_are_different_bytes(one: packets.Packet, other: packets.Packet) -> None:
    assert (one == other) == (encode(one) == encode(other))


@given(st.integers(0, 255), st.binary(max_size=60))
def test_rubbish_raises_nothing_but_the_declared_error(first: int, body: bytes) -> None:
    try:
        packet = decode(first, body)
    except MqttError:
        return
    assert read(encode(packet)) == [packet]


@given(any_packet, st.data())
def test_a_damaged_packet_raises_nothing_but_the_declared_error(packet: packets.Packet, data: st.DataObject) -> None:
    raw = bytearray(encode(packet))
    place = data.draw(st.integers(0, len(raw) - 1))
    raw[place] = data.draw(st.integers(0, 255))
    try:
        read(bytes(raw))
    except MqttError as error:
        assert error.code.startswith("mqtt_")
        assert isinstance(error.reason_code, ReasonCode)


def test_many_user_properties_cost_as_much_each_as_few() -> None:
    """Linear: no step of reading may touch what was read before. Counted in calls, not in time."""
    steps = {}
    for count in (100, 1_000):
        raw = encode(packets.Publish(b"t", b"", properties=Properties(user_properties=(("k", "v"),) * count)))
        reader = Counting(raw[raw.index(b"t") + 1 :])
        properties = property_codec.PUBLISH.read(reader)
        assert len(properties.user_properties) == count
        steps[count] = reader.bytes_taken
    assert steps[1_000] < 11 * steps[100]


class Counting(FieldReader):
    """Counts the bytes that are copied out."""

    bytes_taken = 0

    def take(self, count: int) -> bytes:
        self.bytes_taken += count
        return super().take(count)
