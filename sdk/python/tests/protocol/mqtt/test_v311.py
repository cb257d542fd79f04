# SPDX-License-Identifier: Apache-2.0
"""MQTT 3.1.1 against the byte tables of `contract/vectors/mqtt-311-packets.json`, and against itself."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalovant.protocol.errors import MalformedPacketError, MqttError, PacketTooLargeError
from thalovant.protocol.mqtt import packets
from thalovant.protocol.mqtt.framing import PacketReader
from thalovant.protocol.mqtt.properties import Properties
from thalovant.protocol.mqtt.v311 import decode, encode, encode_publish

VECTORS = json.loads((Path(__file__).parents[5] / "contract" / "vectors" / "mqtt-311-packets.json").read_text("utf-8"))
ERRORS = {
    "malformed": MalformedPacketError,
    "too_large": PacketTooLargeError,
    "unsupported_version": packets.UnsupportedVersionError,
}


REASON_CODES = {"malformed": 0x81, "too_large": 0x95, "unsupported_version": 0x84}


def told(case: dict[str, Any]) -> str:
    return str(case["description"])


ACKNOWLEDGEMENTS = (packets.Puback, packets.Pubrec, packets.Pubrel, packets.Pubcomp)
ONLY_5 = {"properties", "level", "code", "codes"}


def as_vector(packet: packets.Packet) -> dict[str, Any]:
    """The packet as the table has it; it does not have what only MQTT 5 can say."""
    only_5 = {"properties", "level"} if isinstance(packet, packets.Connack | packets.Suback) else ONLY_5
    fields = {name: value for name, value in asdict(packet).items() if name not in only_5}
    return {"type": type(packet).__name__, **dict(_fields(fields))}


def _fields(fields: dict[str, Any]) -> list[tuple[str, Any]]:
    return [_field(name, value) for name, value in fields.items()]


def _field(name: str, value: Any) -> tuple[str, Any]:
    if name == "will" and value is not None:
        value = {inner: part for inner, part in value.items() if inner != "properties"}
    if name in ("topic", "payload", "password"):
        return f"{name}_hex", None if value is None else value.hex()
    if name == "will" and value is not None:
        return name, dict(_fields(value))
    if name == "filters":
        return name, [f.hex() if isinstance(f, bytes) else [f[0].hex(), f[1]] for f in value]
    return name, list(value) if isinstance(value, tuple) else value


def read(raw: bytes) -> list[packets.Packet]:
    return PacketReader(262_144).feed(raw)


@pytest.mark.parametrize("case", VECTORS["valid"], ids=told)
def test_a_packet_is_read_and_written_as_the_standard_says(case: dict[str, Any]) -> None:
    raw = bytes.fromhex(case["hex"])
    (packet,) = read(raw)
    assert as_vector(packet) == case["packet"]
    assert encode(packet) == raw


@pytest.mark.parametrize("case", VECTORS["only_read"], ids=told)
def test_a_packet_that_nobody_should_write_is_read(case: dict[str, Any]) -> None:
    (packet,) = read(bytes.fromhex(case["hex"]))
    assert as_vector(packet) == case["packet"]


@pytest.mark.parametrize("case", VECTORS["invalid"], ids=told)
def test_a_bad_packet_is_refused_with_its_error(case: dict[str, Any]) -> None:
    with pytest.raises(ERRORS[case["error"]]) as caught:
        read(bytes.fromhex(case["hex"]))
    assert type(caught.value) is ERRORS[case["error"]]
    assert caught.value.reason
    assert caught.value.reason_code == REASON_CODES[case["error"]]


@pytest.mark.parametrize("case", VECTORS["valid"], ids=told)
def test_every_way_to_cut_a_packet_short_is_refused_or_waits(case: dict[str, Any]) -> None:
    raw = bytes.fromhex(case["hex"])
    for end in range(len(raw)):
        assert read(raw[:end]) == []


def test_unsupported_level_is_named() -> None:
    with pytest.raises(packets.UnsupportedVersionError) as caught:
        read(bytes.fromhex("100d00044d51545405 02003c000000"))
    assert caught.value.level == 5
    assert "3.1.1" in caught.value.reason


@pytest.mark.parametrize(
    "packet",
    [
        packets.Connect("a\0"),
        packets.Connect("\ud800"),
        packets.Connect("a" * 65_536),
        packets.Connect("a", keepalive=65_536),
        packets.Connect("a", keepalive=-1),
        packets.Connect("a", password=b"p"),
        packets.Connect("a", will=packets.Will(b"a/#", b"")),
        packets.Connect("a", will=packets.Will(b"a", b"", qos=3)),
        packets.Connack(False, 6),
        packets.Connack(True, 5),
        packets.Publish(b"", b""),
        packets.Publish(b"a/+", b""),
        packets.Publish(b"\xff", b""),
        packets.Publish(b"a", b"", qos=1),
        packets.Publish(b"a", b"", qos=1, packet_id=0),
        packets.Publish(b"a", b"", qos=1, packet_id=65_536),
        packets.Publish(b"a", b"", qos=3, packet_id=1),
        packets.Publish(b"a", b"", qos=0, packet_id=1),
        packets.Publish(b"a", b"", qos=0, dup=True),
        packets.Puback(0),
        packets.Subscribe(1, ()),
        packets.Subscribe(1, ((b"a", 3),)),
        packets.Subscribe(1, ((b"", 0),)),
        packets.Subscribe(0, ((b"a", 0),)),
        packets.Suback(1, ()),
        packets.Suback(1, (3,)),
        packets.Unsubscribe(1, ()),
        packets.Unsubscribe(1, (b"",)),
    ],
    ids=repr,
)
def test_what_the_standard_forbids_is_not_written(packet: packets.Packet) -> None:
    with pytest.raises(MalformedPacketError):
        encode(packet)


SAID = Properties(user_properties=(("k", "v"),))


@pytest.mark.parametrize(
    "packet",
    [
        packets.Connect("a", level=5),
        packets.Connect("a", level=3),
        packets.Connect("a", properties=SAID),
        packets.Connect("a", will=packets.Will(b"t", b"", properties=SAID)),
        packets.Connack(False, 0, SAID),
        packets.Publish(b"t", b"", properties=SAID),
        packets.Publish(b"", b"", properties=Properties(topic_alias=1)),
        *(kind(1, code) for kind in ACKNOWLEDGEMENTS for code in (0x10, 0x87)),
        *(kind(1, 0, SAID) for kind in ACKNOWLEDGEMENTS),
        packets.Subscribe(1, ((b"a", packets.NO_LOCAL),)),
        packets.Subscribe(1, ((b"a", 0),), SAID),
        packets.Suback(1, (0x87,)),
        packets.Suback(1, (0,), SAID),
        packets.Unsubscribe(1, (b"a",), SAID),
        packets.Unsuback(1, (0,)),
        packets.Unsuback(1, (), SAID),
        packets.Disconnect(0x81),
        packets.Disconnect(0, SAID),
        packets.Auth(),
    ],
    ids=repr,
)
def test_what_only_version_5_can_say_is_not_written(packet: packets.Packet) -> None:
    with pytest.raises(MalformedPacketError, match=r"3\.1\.1|QoS|reserved|topic name"):
        encode(packet)


def test_properties_that_say_nothing_are_none() -> None:
    assert encode(packets.Puback(1, 0, Properties())) == encode(packets.Puback(1))


def test_a_body_beyond_four_bytes_of_length_is_not_written() -> None:
    class Huge(bytes):
        def __len__(self) -> int:
            return 268_435_456

    with pytest.raises(MalformedPacketError):
        encode_publish(b"a", Huge(), qos=0)


def test_the_fast_road_writes_what_the_whole_road_writes() -> None:
    packet = packets.Publish(b"a/b", b"xyz", 1, 9, True, True)
    assert encode_publish(b"a/b", b"xyz", qos=1, packet_id=9, retain=True, dup=True) == encode(packet)


def test_no_repr_shows_what_is_secret() -> None:
    will = packets.Will(b"t", b"will-payload")
    shown = repr(packets.Connect("id", username="access-key", password=b"broker-password", will=will))
    shown += repr(packets.Publish(b"t", b"the-payload"))
    for secret in ("access-key", "broker-password", "will-payload", "the-payload"):
        assert secret not in shown


def test_errors_do_not_carry_the_bytes_they_complain_about() -> None:
    raw = bytes.fromhex("101600044d5154540482003c000161") + b"\x00\x07secret\xff"
    with pytest.raises(MalformedPacketError) as caught:
        read(raw)
    assert "secret" not in str(caught.value)
    assert caught.value.__suppress_context__


words = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
topics = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0+#"), min_size=1, max_size=20).map(
    str.encode
)
filters = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1).map(str.encode)
ids = st.integers(1, 65_535)
payloads = st.binary(max_size=300)
wills = st.builds(packets.Will, topics, payloads, st.integers(0, 2), st.booleans())
connects = st.builds(
    packets.Connect, words, st.booleans(), st.integers(0, 65_535), words, st.none() | payloads, st.none() | wills
)
any_packet: st.SearchStrategy[packets.Packet] = st.one_of(
    connects,
    st.builds(packets.Connect, words, st.booleans(), st.integers(0, 65_535)),
    st.builds(packets.Connack, st.just(False), st.integers(0, 5)),
    st.builds(packets.Publish, topics, payloads, retain=st.booleans()),
    st.builds(packets.Publish, topics, payloads, st.integers(1, 2), ids, st.booleans(), st.booleans()),
    st.builds(packets.Subscribe, ids, st.lists(st.tuples(filters, st.integers(0, 2)), min_size=1).map(tuple)),
    st.builds(packets.Suback, ids, st.lists(st.sampled_from([0, 1, 2, 128]), min_size=1).map(tuple)),
    st.builds(packets.Unsubscribe, ids, st.lists(filters, min_size=1).map(tuple)),
    *(
        st.builds(kind, ids)
        for kind in (packets.Puback, packets.Pubrec, packets.Pubrel, packets.Pubcomp, packets.Unsuback)
    ),
    *(st.builds(kind) for kind in (packets.Pingreq, packets.Pingresp, packets.Disconnect)),
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
