# SPDX-License-Identifier: Apache-2.0
"""The outgoing order: nothing overtakes, identifiers are unique while in flight, the rest waits."""

from hypothesis import given
from hypothesis import strategies as st

from thalovant.protocol.mqtt.framing import PacketReader
from thalovant.protocol.mqtt.packets import Publish
from thalovant_server.gateways.mqtt.window import Window


def read(packets: list[bytes]) -> list[Publish]:
    got = PacketReader(100_000).feed(b"".join(packets))
    assert all(isinstance(packet, Publish) for packet in got)
    return got  # type: ignore[return-value]


def test_qos_0_needs_no_identifier_and_no_acknowledgement() -> None:
    window = Window(1)
    for _ in range(3):
        assert read(list(window.put(b"t", b"x", 0))) == [Publish(b"t", b"x")]
    assert window.waiting == window.waiting_bytes == 0


def test_a_full_window_makes_the_next_wait() -> None:
    window = Window(2)
    assert [packet.packet_id for n in range(2) for packet in read(list(window.put(b"t", b"x", 1)))] == [1, 2]
    assert list(window.put(b"t", b"third", 1)) == []
    assert list(window.put(b"t", b"4", 1)) == []
    assert (window.waiting, window.waiting_bytes) == (2, 6)
    assert read(list(window.acknowledged(1))) == [Publish(b"t", b"third", 1, 3)]
    assert (window.waiting, window.waiting_bytes) == (1, 1)


def test_qos_0_does_not_overtake_what_waits() -> None:
    window = Window(1)
    list(window.put(b"t", b"1", 1))
    assert list(window.put(b"t", b"2", 1)) == []
    assert list(window.put(b"t", b"3", 0)) == []
    assert [packet.payload for packet in read(list(window.acknowledged(1)))] == [b"2", b"3"]


def test_an_unknown_acknowledgement_changes_nothing() -> None:
    window = Window(1)
    list(window.put(b"t", b"1", 1))
    list(window.put(b"t", b"2", 1))
    assert list(window.acknowledged(77)) == []
    assert window.waiting == 1


def test_identifiers_wrap_and_skip_those_in_flight() -> None:
    window = Window(3)
    (first,) = read(list(window.put(b"t", b"", 1)))
    assert first.packet_id == 1
    for expected in range(2, 65_536):
        (packet,) = read(list(window.put(b"t", b"", 1)))
        assert packet.packet_id == expected
        assert list(window.acknowledged(expected)) == []
    (after,) = read(list(window.put(b"t", b"", 1)))
    assert after.packet_id == 2  # 0 does not exist, 1 was never acknowledged


def test_a_retained_message_says_so() -> None:
    (packet,) = read(list(Window(1).put(b"t", b"online", 1, True)))
    assert packet.retain


@given(st.integers(1, 4), st.lists(st.tuples(st.sampled_from(["put", "ack"]), st.integers(0, 1)), max_size=60))
def test_order_is_kept_and_identifiers_are_unique(most: int, steps: list[tuple[str, int]]) -> None:
    window = Window(most)
    flying: list[int] = []
    sent: list[int] = []
    count = 0
    for step, number in steps:
        if step == "put":
            packets = read(list(window.put(b"t", count.to_bytes(2), number)))
            count += 1
        else:
            packets = read(list(window.acknowledged(flying.pop(0)))) if flying else []
        for packet in packets:
            sent.append(int.from_bytes(packet.payload))
            if packet.packet_id is not None:
                assert packet.packet_id not in flying
                flying.append(packet.packet_id)
        assert len(flying) <= most
        assert window.waiting == count - len(sent)
        assert window.waiting_bytes == 2 * window.waiting
    assert sent == list(range(len(sent)))
