# SPDX-License-Identifier: Apache-2.0
"""A stream cut into packets: any way of cutting gives the same, and bad input costs no more than its header."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalovant.protocol.errors import MalformedPacketError, MqttError, PacketTooLargeError
from thalovant.protocol.mqtt.framing import PacketReader
from thalovant.protocol.mqtt.packets import (
    Codec,
    Disconnect,
    Packet,
    Pingreq,
    Puback,
    Publish,
    Suback,
    UnsupportedVersionError,
)
from thalovant.protocol.mqtt.v5 import V5
from thalovant.protocol.mqtt.v311 import V311, encode

PING = b"\xc0\x00"
samples: list[Packet] = [
    Publish(b"a/b", b"x" * 130, 1, 7),
    Publish(b"t", b""),
    Puback(3),
    Suback(9, (0, 128)),
    Pingreq(),
    Disconnect(),
]


def drain(reader: PacketReader, pieces: list[bytes]) -> tuple[list[Packet], MqttError | None]:
    """Everything that the pieces give: packets, and the error that ended it."""
    seen: list[Packet] = []
    try:
        for piece in pieces:
            seen += reader.feed(piece)
        reader.feed()
    except MqttError as error:
        assert error is reader.error
        return seen, error
    return seen, None


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[a:b] for a, b in pairwise(edges)]


def told(error: MqttError | None) -> str | None:
    return None if error is None else f"{error.code} {error.reason}"


def test_several_packets_in_one_read() -> None:
    assert PacketReader(1000).feed(b"".join(map(encode, samples))) == samples


def test_one_byte_at_a_time() -> None:
    raw = b"".join(map(encode, samples))
    assert drain(PacketReader(1000), [bytes((byte,)) for byte in raw]) == (samples, None)


def test_nothing_in_nothing_out() -> None:
    reader = PacketReader(1000)
    assert reader.feed() == reader.feed(b"") == []
    assert reader.error is None


def test_an_incomplete_packet_waits_and_is_counted() -> None:
    reader = PacketReader(1000)
    assert reader.feed(PING + b"\x30\x05\x00\x01") == [Pingreq()]
    assert reader.buffered == 4
    assert reader.feed(b"ahi") == [Publish(b"a", b"hi")]
    assert reader.buffered == 0


def test_the_good_packets_before_a_bad_one_are_given_then_the_error() -> None:
    reader = PacketReader(1000)
    assert reader.feed(PING + PING + b"\xf0\x00" + PING) == [Pingreq(), Pingreq()]
    assert isinstance(reader.error, MalformedPacketError)
    with pytest.raises(MalformedPacketError):
        reader.feed(PING)
    with pytest.raises(MalformedPacketError):
        reader.feed()


def test_a_bad_packet_alone_raises_at_once() -> None:
    reader = PacketReader(1000)
    with pytest.raises(MalformedPacketError):
        reader.feed(b"\xf0\x00")
    assert reader.buffered == 0


def test_the_limit_counts_the_whole_packet() -> None:
    raw = encode(Publish(b"t", b"x" * 95))
    assert len(raw) == 100
    assert len(PacketReader(100).feed(raw)) == 1
    with pytest.raises(PacketTooLargeError) as caught:
        PacketReader(99).feed(raw)
    assert (caught.value.size, caught.value.limit) == (100, 99)


def test_a_long_packet_is_refused_from_its_header_before_its_body_is_held() -> None:
    reader = PacketReader(10_240)
    assert reader.feed(b"\x10\xff\xff\xff") == []
    with pytest.raises(PacketTooLargeError):
        reader.feed(b"\x7f")
    assert reader.buffered == 0


def test_no_body_is_held_behind_a_byte_that_begins_no_packet() -> None:
    with pytest.raises(MalformedPacketError):
        PacketReader(10_240).feed(b"\xf0\x80\x01")


def test_a_remaining_length_of_five_bytes_is_refused_at_the_fourth() -> None:
    reader = PacketReader(10_240)
    assert reader.feed(b"\x30\x80\x80\x80") == []
    with pytest.raises(MalformedPacketError):
        reader.feed(b"\x80")


@pytest.mark.parametrize("raw", [b"\xc0\x80\x00", b"\x40\x82\x00\x00\x01"])
def test_only_version_5_demands_the_shortest_remaining_length(raw: bytes) -> None:
    assert len(PacketReader(100).feed(raw)) == 1
    with pytest.raises(MalformedPacketError, match="short"):
        PacketReader(100, V5).feed(raw)


def test_the_limit_may_be_raised_between_two_packets_of_one_read() -> None:
    reader = PacketReader(10)
    big = encode(Publish(b"t", b"x" * 50))
    assert reader.feed(PING + big, at_most=1) == [Pingreq()]
    reader.max_packet_size = 100
    assert reader.feed() == [Publish(b"t", b"x" * 50)]


def test_at_most_leaves_the_rest_for_the_next_call() -> None:
    reader = PacketReader(10)
    assert reader.feed(PING * 3 + PING[:1], at_most=2) == [Pingreq()] * 2
    assert reader.feed(PING[1:], at_most=1) == [Pingreq()]
    assert reader.feed(at_most=1) == [Pingreq()]
    assert reader.feed(at_most=1) == []


def test_another_version_is_told_from_rubbish() -> None:
    with pytest.raises(UnsupportedVersionError):
        PacketReader(100).feed(bytes.fromhex("100d00044d5154540502003c000000"))


def test_dripping_a_large_packet_parses_it_once() -> None:
    """Cost is linear: while a packet is incomplete a byte is only appended."""

    class Counting(PacketReader):
        parses = 0

        def _parse(self, data: bytes, packets: list[Packet], at_most: int | None) -> int:
            self.parses += 1
            return super()._parse(data, packets, at_most)

    reader = Counting(300_000)
    packet = Publish(b"t", bytes(200_000))
    got, error = drain(reader, [bytes((byte,)) for byte in encode(packet)])
    assert (got, error) == ([packet], None)
    assert reader.parses < 10


in_bytes = [encode(packet) for packet in samples] + [V5.encode(packet) for packet in samples]
streams = st.lists(st.sampled_from(in_bytes) | st.binary(max_size=6), max_size=8)


@given(streams.map(b"".join), st.lists(st.integers(0, 10_000), max_size=12))
@pytest.mark.parametrize("version", [V311, V5], ids=lambda version: str(version.level))
def test_any_way_of_cutting_gives_the_same(version: Codec, raw: bytes, places: list[int]) -> None:
    whole = drain(PacketReader(120, version), [raw])
    parts = drain(PacketReader(120, version), cut(raw, places))
    assert whole[0] == parts[0]
    assert told(whole[1]) == told(parts[1])


@given(streams.map(b"".join), st.integers(1, 3))
def test_a_few_at_a_time_gives_the_same(raw: bytes, at_most: int) -> None:
    reader = PacketReader(120)
    seen: list[Packet] = []
    error: MqttError | None = None
    try:
        batch = reader.feed(raw, at_most)
        while batch:
            assert len(batch) <= at_most
            seen += batch
            batch = reader.feed(at_most=at_most)
    except MqttError as raised:
        error = raised
    whole = drain(PacketReader(120), [raw])
    assert (seen, told(error)) == (whole[0], told(whole[1]))
