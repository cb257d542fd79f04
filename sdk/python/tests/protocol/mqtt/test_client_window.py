# SPDX-License-Identifier: Apache-2.0
"""A client's publishes: in order, each once, never too many under way, and a mark for when they are taken."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalovant.protocol.mqtt.client_window import ClientWindow
from thalovant.protocol.mqtt.framing import PacketReader
from thalovant.protocol.mqtt.packets import Codec, Publish
from thalovant.protocol.mqtt.v5 import V5
from thalovant.protocol.mqtt.v311 import V311


def window(most: int = 2, codec: Codec = V5) -> ClientWindow:
    return ClientWindow(codec.encode_publish, most, last_id=1)


def read(codec: Codec, *packets: bytes | None) -> list[Any]:
    return list(PacketReader(1_000, codec).feed(b"".join(packet for packet in packets if packet)))


@pytest.mark.parametrize("codec", [V311, V5], ids=["mqtt311", "mqtt5"])
def test_what_there_is_room_for_is_written_at_once(codec: Codec) -> None:
    ours = window(codec=codec)
    written = ours.put(b"a", b"1", False, 0.0), ours.put(b"b", b"2", True, 0.0)
    assert read(codec, *written) == [Publish(b"a", b"1", 1, 2), Publish(b"b", b"2", 1, 3, retain=True)]
    assert ours.put(b"a", b"3", False, 0.0) is None
    assert (ours.under_way, ours.waiting, ours.queued) == (2, True, 3)


def test_an_acknowledgement_names_the_topic_and_makes_room() -> None:
    ours = window(1)
    ours.put(b"a", b"1", False, 0.0)
    ours.put(b"b", b"2", True, 0.0)
    assert list(ours.ready(1.0)) == []
    assert ours.acknowledged(2) == b"a"
    assert read(V5, *ours.ready(1.0)) == [Publish(b"b", b"2", 1, 3, retain=True)]
    assert (ours.acknowledged(2), ours.acknowledged(9)) == (None, None)


def test_the_oldest_one_says_since_when_it_waits_for_its_answer() -> None:
    ours = window()
    assert ours.oldest(7.0) == 7.0
    ours.put(b"a", b"1", False, 1.0)
    ours.put(b"a", b"2", False, 2.0)
    assert ours.oldest(7.0) == 1.0
    ours.acknowledged(2)
    assert ours.oldest(7.0) == 2.0


def test_a_mark_is_settled_when_everything_before_it_is_acknowledged() -> None:
    ours = window(1)
    assert ours.settled(ours.queued)
    ours.put(b"a", b"1", False, 0.0)
    first = ours.queued
    ours.put(b"a", b"2", False, 0.0)
    second = ours.queued
    assert not ours.settled(first) and not ours.settled(second)
    ours.acknowledged(2)
    list(ours.ready(0.0))
    assert ours.settled(first) and not ours.settled(second)
    ours.acknowledged(3)
    assert ours.settled(second)


def test_an_identifier_in_use_is_passed_over() -> None:
    ours = ClientWindow(V5.encode_publish, 3, last_id=65_534)
    used = [read(V5, ours.put(b"a", b"", False, 0.0))[0].packet_id for _ in range(2)]
    assert used == [65_535, 1]
    ours.acknowledged(65_535)
    for _ in range(65_535 * 2):
        (packet,) = read(V5, ours.put(b"a", b"", False, 0.0))
        assert packet.packet_id != 1
        ours.acknowledged(packet.packet_id)


@given(st.integers(1, 4), st.lists(st.none() | st.integers(0, 3), max_size=60))
def test_all_arrive_once_and_in_order(most: int, steps: list[int | None]) -> None:
    """None publishes; a number acknowledges that one of those under way, for brokers need not keep to the order."""
    ours = window(most)
    sent: list[Any] = []
    flying: list[int] = []
    put = 0

    def take(*packets: bytes | None) -> None:
        for packet in read(V5, *packets):
            assert packet.packet_id not in flying
            sent.append(packet)
            flying.append(packet.packet_id)

    for step in [*steps, *[0] * len(steps)]:
        if step is None:
            take(ours.put(b"t", b"%d" % put, False, 0.0))
            put += 1
        elif flying:
            ours.acknowledged(flying.pop(step % len(flying)))
            take(*ours.ready(0.0))
        assert len(flying) == ours.under_way <= most
        assert ours.waiting == (len(sent) < put)
        assert not ours.waiting or ours.under_way == most
        assert ours.queued == put
        assert ours.settled(put) == (not flying)
    assert [packet.payload for packet in sent] == [b"%d" % number for number in range(put)]
