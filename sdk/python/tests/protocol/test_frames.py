# SPDX-License-Identifier: Apache-2.0
"""Frames and chunks: the vectors at every edge, illegal sequences, limits and what is held in memory."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from thalovant.protocol.errors import FrameError, NoiseError, ProtocolError, TooLargeError
from thalovant.protocol.frames import CHUNK_SIZE, MAX_MESSAGE, REMEMBERED, Frame, FrameReader, FrameWriter
from thalovant.protocol.noise import SUITES, CipherState

VECTORS = json.loads((Path(__file__).parents[4] / "contract" / "vectors" / "transport.json").read_text())
KEY = bytes.fromhex(VECTORS["key_hex"])


def cipher() -> CipherState:
    return CipherState(KEY, VECTORS["suite"])


def body_of(case: dict[str, Any]) -> bytes:
    if case["kind"] == "json":
        return bytes(97 + i % 26 for i in range(case["length"]))
    return bytes(i % 251 for i in range(case["length"]))


def reader_fed(*plains: bytes, **limits: int) -> tuple[FrameReader, list[Frame | None]]:
    sender, reader = cipher(), FrameReader(cipher(), **limits)
    return reader, [reader.open(sender.encrypt(plain)) for plain in plains]


def test_the_sizes_are_those_of_the_contract() -> None:
    assert VECTORS["chunk_size"] == CHUNK_SIZE
    assert VECTORS["max_reassembly"] == MAX_MESSAGE


@pytest.mark.parametrize("case", VECTORS["cases"], ids=lambda case: f"{case['kind']}-{case['length']}")
def test_sealing_equals_the_vectors(case: dict[str, Any]) -> None:
    body = body_of(case)
    assert hashlib.sha256(body).hexdigest() == case["body_sha256"]
    frames = FrameWriter(cipher()).seal(body, binary=case["kind"] == "binary")
    assert [len(frame) for frame in frames] == case["frame_lengths"]
    assert [hashlib.sha256(frame).hexdigest() for frame in frames] == case["frame_sha256"]
    if "frames_hex" in case:
        assert [frame.hex() for frame in frames] == case["frames_hex"]
    opener = cipher()
    assert [opener.decrypt(frame)[0] for frame in frames] == case["markers"]


@pytest.mark.parametrize("case", VECTORS["cases"], ids=lambda case: f"{case['kind']}-{case['length']}")
def test_opening_gives_the_body_of_the_vectors(case: dict[str, Any]) -> None:
    body, binary = body_of(case), case["kind"] == "binary"
    frames = FrameWriter(cipher()).seal(body, binary=binary)
    reader = FrameReader(cipher())
    *held, whole = [reader.open(frame) for frame in frames]
    assert held == [None] * (len(frames) - 1)
    assert whole == Frame(body, binary)
    assert reader.buffered == 0


@pytest.mark.parametrize("case", VECTORS["rejected"], ids=lambda case: str(case["sequence"]))
def test_illegal_sequences_of_the_vectors_are_refused(case: dict[str, Any]) -> None:
    *good, bad = case["sequence"]
    sender, reader = cipher(), FrameReader(cipher())
    for marker in good:
        assert reader.open(sender.encrypt(bytes([marker]) + b"x")) is None
    with pytest.raises(FrameError):
        reader.open(sender.encrypt(bytes([bad]) + b"x"))
    assert reader.buffered == 0


def test_an_empty_plaintext_is_refused_and_an_empty_body_is_not() -> None:
    with pytest.raises(FrameError):
        reader_fed(b"")
    _, (frame,) = reader_fed(b"\x00")
    assert frame == Frame(b"", False)


@pytest.mark.parametrize("marker", range(6, 256))
def test_every_other_marker_is_unknown(marker: int) -> None:
    with pytest.raises(FrameError, match="unknown"):
        reader_fed(bytes([marker]))


def test_chunks_may_have_any_size_and_the_first_one_decides_the_kind() -> None:
    reader, frames = reader_fed(b"\x03", b"\x04abc", b"\x04", b"\x05d", b"\x00t")
    assert frames == [None, None, None, Frame(b"abcd", True), Frame(b"t", False)]
    assert reader.buffered == 0


def test_what_is_held_is_counted() -> None:
    reader, _ = reader_fed(b"\x02abc", b"\x04de")
    assert reader.buffered == 5


def test_the_limit_is_the_longest_message_taken() -> None:
    _, frames = reader_fed(b"\x02abc", b"\x05de", max_message=5)
    assert frames[-1] == Frame(b"abcde", False)
    reader_fed(b"\x00abcde", max_message=5)
    sender, reader = cipher(), FrameReader(cipher(), max_message=5)
    reader.open(sender.encrypt(b"\x02abc"))
    with pytest.raises(TooLargeError) as caught:
        reader.open(sender.encrypt(b"\x04def"))
    assert caught.value.limit == 5
    assert reader.buffered == 0
    for plain in (b"\x00abcdef", b"\x01abcdef", b"\x02abcdef"):
        with pytest.raises(TooLargeError):
            reader_fed(plain, max_message=5)


def test_endless_empty_chunks_hold_nothing() -> None:
    reader, _ = reader_fed(b"\x02", *[b"\x04"] * 1000)
    assert reader.buffered == 0


def test_a_whole_message_of_32_mib_passes_and_one_byte_more_does_not() -> None:
    sender, reader = CipherState(KEY, SUITES[1]), FrameReader(CipherState(KEY, SUITES[1]))
    writer = FrameWriter(sender)
    whole = [reader.open(frame) for frame in writer.seal(bytes(MAX_MESSAGE))][-1]
    assert whole is not None
    assert len(whole.body) == MAX_MESSAGE
    before = sender.nonce
    with pytest.raises(TooLargeError):
        writer.seal(bytes(MAX_MESSAGE + 1))
    assert sender.nonce == before, "nothing was sealed, so the session goes on"


@settings(deadline=None, max_examples=40)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 400)
            | st.sampled_from([CHUNK_SIZE - 1, CHUNK_SIZE, CHUNK_SIZE + 1, 2 * CHUNK_SIZE, 2 * CHUNK_SIZE + 1]),
            st.booleans(),
        ),
        max_size=5,
    )
)
def test_any_messages_arrive_as_they_were_sent(messages: list[tuple[int, bool]]) -> None:
    writer, reader = FrameWriter(cipher()), FrameReader(cipher())
    sent = [Frame(bytes(i % 256 for i in range(length)), binary) for length, binary in messages]
    frames = [frame for message in sent for frame in writer.seal(message.body, binary=message.binary)]
    assert [got for frame in frames if (got := reader.open(frame)) is not None] == sent


@given(st.lists(st.binary(min_size=0, max_size=8), max_size=12))
@example([b"\x02\x00", b""])  # an empty frame within a message
def test_any_plaintexts_raise_only_the_declared_errors(plains: list[bytes]) -> None:
    sender, reader = cipher(), FrameReader(cipher(), max_message=20)
    for plain in plains:
        try:
            frame = reader.open(sender.encrypt(plain))
        except (FrameError, TooLargeError) as error:
            assert isinstance(error, ProtocolError)
            assert reader.buffered == 0
            return
        assert reader.buffered <= 20
        assert frame is None or len(frame.body) <= 20


@given(st.binary(max_size=64))
def test_garbage_does_not_decrypt(data: bytes) -> None:
    with pytest.raises(NoiseError):
        FrameReader(cipher()).open(data)


def test_a_frame_that_comes_again_is_dropped_where_that_may_be() -> None:
    frames = FrameWriter(cipher()).seal(bytes(2 * CHUNK_SIZE + 1))
    reader = FrameReader(cipher(), remembered=8)
    opened = [reader.open(frame) for frame in (frames[0], frames[0], frames[1], frames[0], frames[1], frames[2])]
    assert opened == [None] * 5 + [Frame(bytes(2 * CHUNK_SIZE + 1), False)]
    assert reader.open(frames[2]) is None
    strict = FrameReader(cipher())
    strict.open(frames[0])
    with pytest.raises(NoiseError):
        strict.open(frames[0])


def test_only_the_latest_frames_are_remembered() -> None:
    writer, reader = FrameWriter(cipher()), FrameReader(cipher(), remembered=3)
    frames = [frame for number in range(5) for frame in writer.seal(bytes([number]))]
    for frame in frames:
        assert reader.open(frame) is not None
    assert [reader.open(frame) for frame in frames[2:]] == [None] * 3
    with pytest.raises(NoiseError):
        reader.open(frames[1])


# Numbers of sealed messages as a broker may deliver them: -1 is an altered one, -2 rubbish.
DELIVERIES = st.lists(st.integers(-2, 7), max_size=40)


@given(DELIVERIES, st.sampled_from([0, 2, REMEMBERED]))
@example([0, 1, 0, 1, 2, 3], 2)  # sent again from the first one that was not acknowledged
def test_whatever_is_delivered_each_message_is_taken_once_and_in_order(order: list[int], remembered: int) -> None:
    writer = FrameWriter(cipher())
    sealed = [writer.seal(bytes([number])) for number in range(8)]
    reader, taken = FrameReader(cipher(), remembered=remembered), 0
    for number in order:
        frame = {-1: sealed[taken % 8][0][:-1] + b"?", -2: b"rubbish"}.get(number) or sealed[number][0]
        if number == taken:
            assert reader.open(frame) == Frame(bytes([taken]), False)
            taken += 1
        elif taken - remembered <= number < taken and number >= 0:
            assert reader.open(frame) is None
        else:
            with pytest.raises(NoiseError):
                reader.open(frame)
