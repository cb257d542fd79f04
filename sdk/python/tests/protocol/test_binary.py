# SPDX-License-Identifier: Apache-2.0
"""Binary frames: every vector, every malformed one, and what inflation may cost."""

from __future__ import annotations

import contextlib
import json
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalovant.protocol.binary import KIND_NAMES, MAX_METADATA, BinaryFrame, kind_name
from thalovant.protocol.errors import MessageError, TooLargeError
from thalovant.protocol.messages import MALFORMED_PAYLOAD, UNKNOWN_TYPE, HiveMessage

VECTORS = json.loads((Path(__file__).parents[4] / "contract" / "vectors" / "binary-frames.json").read_text())
TYPES = sorted(set(VECTORS["type_codes"].values()) - {"bin"})


def vector_id(case: dict[str, Any]) -> str:
    parts = [case["type"], str(case.get("bin_type", ""))]
    parts += [name for name in ("compressed_flag", "versioned") if case.get(name)]
    return "-".join(part for part in parts if part)


def refused(data: bytes, **limits: int) -> MessageError:
    with pytest.raises(MessageError) as caught:
        BinaryFrame.decode(data, **limits)
    return caught.value


@pytest.mark.parametrize("case", VECTORS["binary"], ids=vector_id)
def test_binary_payloads_of_the_vectors_are_read(case: dict[str, Any]) -> None:
    frame = BinaryFrame.decode(bytes.fromhex(case["hex"]))
    assert (frame.type, frame.kind) == ("bin", case["bin_type"])
    assert frame.metadata == case["metadata"]
    assert frame.payload == bytes.fromhex(case["payload_hex"])
    assert frame.compressed is case["compressed_flag"]
    assert (frame.version is not None) is case["versioned"]


@pytest.mark.parametrize("case", VECTORS["json"], ids=vector_id)
def test_json_messages_of_the_vectors_are_read(case: dict[str, Any]) -> None:
    frame = BinaryFrame.decode(bytes.fromhex(case["hex"]))
    assert (frame.type, frame.kind) == (case["type"], None)
    assert frame.metadata == case["metadata"]
    assert frame.payload == case["payload"]
    message = frame.to_message()
    assert message.route == case["route_after_decode"]
    assert (message.msg_type, message.payload, message.metadata) == (case["type"], case["payload"], case["metadata"])


@pytest.mark.parametrize("case", VECTORS["binary"] + VECTORS["json"], ids=vector_id)
def test_plain_frames_are_written_as_in_the_vectors(case: dict[str, Any]) -> None:
    frame = BinaryFrame.decode(bytes.fromhex(case["hex"]))
    if case["compressed_flag"]:  # two zlibs may compress differently, so only what it means must be equal
        assert BinaryFrame.decode(frame.encode()) == frame
    else:
        assert frame.encode().hex() == case["hex"]


@pytest.mark.parametrize("case", VECTORS["malformed"], ids=lambda case: case["case"])
def test_malformed_frames_of_the_vectors_are_refused_as_upstream_does(case: dict[str, str]) -> None:
    error = refused(bytes.fromhex(case["hex"]))
    assert (error.code == UNKNOWN_TYPE) is ("unassigned" in case["case"])


@pytest.mark.parametrize("code", [11, *range(13, 32)])
def test_every_unassigned_type_is_refused(code: int) -> None:
    assert refused((0x8000 | code << 9 | 2).to_bytes(2, "big") + b"{}{}").code == UNKNOWN_TYPE


@pytest.mark.parametrize("first", [0x40, 0x20, 0x10, 0x04, 0x02, 0x01, 0x00])
def test_no_other_padding_is_possible(first: int) -> None:
    assert refused(bytes([first]) + bytes(20)).code == "message"


def test_a_type_with_the_padding_of_another_is_refused() -> None:
    good = BinaryFrame("bus", payload={"type": "t"}).encode()
    padded = (int.from_bytes(good, "big") << 4).to_bytes(len(good) + 1, "big")
    assert refused(padded).code == "message"
    refused(bytes.fromhex("98027b7d0000"))  # bin without its padding


@pytest.mark.parametrize("case", VECTORS["binary"][:4] + VECTORS["json"], ids=vector_id)
def test_a_frame_cut_short_is_refused_or_shorter_never_anything_else(case: dict[str, Any]) -> None:
    whole = bytes.fromhex(case["hex"])
    for length in range(len(whole)):
        try:
            frame = BinaryFrame.decode(whole[:length])
        except MessageError:
            continue
        assert frame.type == "bin"
        assert bytes.fromhex(case["payload_hex"]).startswith(bytes(frame.payload))  # type: ignore[arg-type]


def test_an_empty_metadata_block_means_none() -> None:
    assert BinaryFrame.decode(bytes.fromhex("82007b7d")) == BinaryFrame("bus", payload={})
    assert BinaryFrame.decode(bytes.fromhex("098000aa")).payload == b"\xaa"


def test_metadata_must_be_an_object_and_fit() -> None:
    refused(bytes.fromhex("82025b5d7b7d"))
    with pytest.raises(MessageError, match="255"):
        BinaryFrame("bin", 0, {"a": "x" * MAX_METADATA}, b"").encode()
    BinaryFrame("bin", 0, {"a": "x" * MAX_METADATA}, b"", compressed=True).encode()


def test_payloads_of_json_types_must_be_objects_save_pings() -> None:
    assert refused(bytes.fromhex("82005b5d")).code == MALFORMED_PAYLOAD
    assert BinaryFrame.decode(bytes.fromhex("92005b5d")) == BinaryFrame("ping", payload={})
    assert refused(bytes.fromhex("8200")).code == "message"


@pytest.mark.parametrize(
    "frame",
    [
        BinaryFrame("intercom", payload={}),
        BinaryFrame("nonsense", payload={}),
        BinaryFrame("bin", None, {}, b""),
        BinaryFrame("bin", 16, {}, b""),
        BinaryFrame("bin", -1, {}, b""),
        BinaryFrame("bin", 0, {}, {}),
        BinaryFrame("bus", None, {}, b""),
        BinaryFrame("bus", payload={}, version=2),
        BinaryFrame("bus", payload={"a": {1, 2}}),
    ],
    ids=repr,
)
def test_what_does_not_fit_is_not_written(frame: BinaryFrame) -> None:
    with pytest.raises(MessageError):
        frame.encode()


def test_a_bin_frame_is_no_message() -> None:
    with pytest.raises(MessageError):
        BinaryFrame("bin", 0, {}, b"x").to_message()


def test_kinds_have_names() -> None:
    assert [kind_name(kind) for kind in range(7)] == list(KIND_NAMES)
    assert kind_name(6) == "tts_audio"
    assert kind_name(15) == "binary:15"


def bomb(size: int) -> bytes:
    return b"\x83\x00" + zlib.compress(b'{"a":"' + b"x" * size + b'"}', 9)


def test_inflation_ends_at_its_limit_and_holds_no_more() -> None:
    data = bomb(50_000_000)
    tracemalloc.start()
    with pytest.raises(TooLargeError) as caught:
        BinaryFrame.decode(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert caught.value.limit == 33_554_432
    assert peak < 2 * 33_554_432 + 1_000_000
    small = bomb(92)
    assert BinaryFrame.decode(small, max_inflated=100).payload == {"a": "x" * 92}
    with pytest.raises(TooLargeError):
        BinaryFrame.decode(small, max_inflated=99)


def test_metadata_may_not_grow_without_end_either() -> None:
    block = zlib.compress(b'{"a":"' + b"x" * 100_000 + b'"}', 9)
    assert len(block) <= 255
    with pytest.raises(TooLargeError):
        BinaryFrame.decode(b"\x83" + bytes([len(block)]) + block + zlib.compress(b"{}"))


def test_a_compressed_part_must_end_where_it_says() -> None:
    good = b"\x83\x00" + zlib.compress(b"{}")
    assert BinaryFrame.decode(good).payload == {}
    for bad in (good + b"x", good[:-1], b"\x83\x00", b"\x83\x00{}"):
        refused(bad)


metadata = st.dictionaries(st.text(max_size=6), st.integers(0, 9) | st.text(max_size=6), max_size=2)
flags = {"compressed": st.booleans(), "version": st.none() | st.integers(0, 1)}
bin_frames = st.builds(BinaryFrame, st.just("bin"), st.integers(0, 15), metadata, st.binary(max_size=300), **flags)
json_frames = st.builds(
    BinaryFrame,
    st.sampled_from(TYPES),
    st.none(),
    metadata,
    st.dictionaries(st.text(max_size=6), st.text(max_size=20), max_size=3),
    **flags,
)


@given(bin_frames | json_frames)
def test_any_frame_reads_back_equal(frame: BinaryFrame) -> None:
    assert BinaryFrame.decode(frame.encode()) == frame


@given(json_frames)
def test_every_json_frame_is_a_message(frame: BinaryFrame) -> None:
    message = frame.to_message()
    assert HiveMessage.decode(message.encode()) == message


@given(st.binary(max_size=64))
def test_garbage_raises_only_the_declared_errors(data: bytes) -> None:
    with contextlib.suppress(MessageError, TooLargeError):
        BinaryFrame.decode(data, max_inflated=1000)


@given(bin_frames | json_frames, st.data())
def test_a_changed_frame_raises_only_the_declared_errors(frame: BinaryFrame, data: st.DataObject) -> None:
    raw = bytearray(frame.encode())
    place = data.draw(st.integers(0, len(raw) - 1))
    raw[place] ^= data.draw(st.integers(1, 255))
    with contextlib.suppress(MessageError, TooLargeError):
        BinaryFrame.decode(bytes(raw), max_inflated=10_000)
