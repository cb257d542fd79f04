# SPDX-License-Identifier: Apache-2.0
"""Which version a client speaks is found out from its CONNECT, and the stream goes on in that version."""

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalovant.protocol.errors import MalformedPacketError, MqttError, PacketTooLargeError, ProtocolViolationError
from thalovant.protocol.mqtt.fields import MOST
from thalovant.protocol.mqtt.framing import PacketReader
from thalovant.protocol.mqtt.packets import (
    Connect,
    Packet,
    Pingreq,
    Puback,
    Publish,
    Subscribe,
    Unsubscribe,
    UnsupportedVersionError,
)
from thalovant.protocol.mqtt.properties import Properties
from thalovant.protocol.mqtt.reason_codes import ReasonCode
from thalovant.protocol.mqtt.versions import CODECS, OPENING


def stream(level: int) -> tuple[list[Packet], bytes]:
    """A CONNECT and what follows it, in one version; the same PUBLISH is other bytes in each."""
    packets: list[Packet] = [Connect("id", level=level), Publish(b"t", b"\0x", 1, 7), Puback(7), Pingreq()]
    if level == 5:
        packets.append(Publish(b"t", b"", properties=Properties(topic_alias=1)))
    return packets, b"".join(map(CODECS[level].encode, packets))


def converse(pieces: list[bytes]) -> list[Packet]:
    """As a server does: one packet, then the codec that it names, then the rest."""
    reader, seen = PacketReader(1_000, OPENING), list[Packet]()
    for piece in pieces:
        batch = reader.feed(piece, at_most=1)
        while batch:
            seen += batch
            if isinstance(batch[0], Connect):
                reader.version = CODECS[batch[0].level]
            batch = reader.feed(at_most=1)
    return seen


@pytest.mark.parametrize("level", CODECS)
@given(st.data())
def test_the_codec_is_swapped_behind_the_connect_however_the_bytes_come(level: int, data: st.DataObject) -> None:
    packets, raw = stream(level)
    cuts = [0, *sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=8))), len(raw)]
    assert converse([raw[a:b] for a, b in pairwise(cuts)]) == packets


@pytest.mark.parametrize("level", CODECS)
def test_a_codec_names_its_level(level: int) -> None:
    assert CODECS[level].level == level


@pytest.mark.parametrize(
    ("raw", "level"),
    [
        ("00 04 4d 51 54 54 06 02 00 3c 00 00", 6),
        ("00 04 4d 51 54 54 00", 0),
        ("00 06 4d 51 49 73 64 70 03 02 00 3c 00 00", 3),
    ],
)
def test_another_version_is_told_which_ones_are_spoken(raw: str, level: int) -> None:
    with pytest.raises(UnsupportedVersionError, match=r"MQTT 3\.1\.1 \(level 4\) or MQTT 5\.0 \(level 5\)") as caught:
        OPENING.decode(0x10, bytes.fromhex(raw))
    assert (caught.value.level, caught.value.reason_code) == (level, ReasonCode.UNSUPPORTED_PROTOCOL_VERSION)


@pytest.mark.parametrize(
    ("raw", "level"),
    [
        ("00 04 4d 51 54 54 05 03 00 3c 00 00 00", 5),  # reserved flag
        ("00 04 4d 51 54 54 05 02 00 3c 03 21 00 00 00 00", 5),  # receive maximum 0
        ("00 04 4d 51 54 54 04 03 00 3c 00 00", 4),
        ("00 04 4d 51 54 51 05 02 00 3c 00 00 00", None),
        ("00 04 4d 51 54 54", None),
    ],
)
def test_a_bad_connect_names_its_level_where_it_has_one(raw: str, level: int | None) -> None:
    with pytest.raises(MqttError) as caught:
        OPENING.decode(0x10, bytes.fromhex(raw))
    assert caught.value.level == level


@pytest.mark.parametrize("raw", ["", "00 04 4d 51 54 54", "00 04 4d 51 54 51 05 02", "00 04 4d 51 54 54 04", "00 00"])
def test_what_is_no_connect_at_all_is_malformed(raw: str) -> None:
    with pytest.raises(MalformedPacketError):
        OPENING.decode(0x10, bytes.fromhex(raw))


@pytest.mark.parametrize("raw", ["c0 00", "30 03 00 01 74", "f0 00", "e0 00"])
def test_another_packet_than_connect_is_a_violation(raw: str) -> None:
    with pytest.raises(ProtocolViolationError):
        PacketReader(100, OPENING).feed(bytes.fromhex(raw))


def test_a_long_connect_is_refused_from_its_header() -> None:
    with pytest.raises(PacketTooLargeError):
        PacketReader(100, OPENING).feed(b"\x10\x80\x01")


def test_nothing_is_written_before_the_version_is_known() -> None:
    with pytest.raises(MqttError):
        OPENING.encode(Pingreq())
    with pytest.raises(MqttError):
        OPENING.encode_publish(b"t", b"", qos=0)


@given(st.integers(0, 255), st.binary(max_size=40))
def test_rubbish_raises_nothing_but_the_declared_error(first: int, body: bytes) -> None:
    try:
        packet = OPENING.decode(first, body)
    except MqttError:
        return
    assert isinstance(packet, Connect)


@pytest.mark.parametrize("level", CODECS)
@pytest.mark.parametrize("kind", [Subscribe, Unsubscribe])
def test_so_many_filters_of_one_packet_are_read_and_no_more(level: int, kind: type[Any]) -> None:
    codec = CODECS[level]
    for count in (MOST, MOST + 1):
        one = (b"t", 0) if kind is Subscribe else b"t"
        raw = codec.encode(kind(1, (one,) * count))
        reader = PacketReader(100_000, codec)
        if count == MOST:
            assert reader.feed(raw) == [kind(1, (one,) * count)]
            continue
        with pytest.raises(MqttError) as caught:
            reader.feed(raw)
        assert (caught.value.code, caught.value.reason_code) == ("mqtt_too_many", ReasonCode.QUOTA_EXCEEDED)


@pytest.mark.parametrize("kind", [Publish, Connect, Subscribe])
def test_so_many_user_properties_of_one_packet_are_read_and_no_more(kind: type[Any]) -> None:
    def packet(count: int) -> Any:
        several = Properties(user_properties=(("", ""),) * count)
        start = {Publish: (b"t", b""), Connect: ("id",), Subscribe: (1, ((b"t", 0),))}[kind]
        return kind(*start, properties=several, **({"level": 5} if kind is Connect else {}))

    codec = CODECS[5]
    assert PacketReader(100_000, codec).feed(codec.encode(packet(MOST))) == [packet(MOST)]
    with pytest.raises(MqttError) as caught:
        PacketReader(100_000, codec).feed(codec.encode(packet(MOST + 1)))
    assert (caught.value.code, caught.value.reason_code) == ("mqtt_too_many", ReasonCode.QUOTA_EXCEEDED)
