# SPDX-License-Identifier: Apache-2.0
"""Strict JSON: what is refused, what is kept, and where nesting ends."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalovant.protocol import strict_json
from thalovant.protocol.errors import MessageError, TooLargeError

REFUSED = [
    b"",
    b"NaN",
    b"Infinity",
    b"-Infinity",
    b"1e999",
    b"-1e999",
    b"1" * 400,
    b"1" * 5000,
    b"{",
    b'{"a":1}x',
    b"\xff",
    b"{'a':1}",
    b"[" * 100_000,
    b"[" * 2_000 + b"]" * 2_000,
]


def nested(depth: int) -> bytes:
    return b"[" * depth + b"]" * depth


@pytest.mark.parametrize("data", REFUSED, ids=lambda data: repr(data[:12]))
def test_the_fast_reader_refuses_what_is_not_strict_json(data: bytes) -> None:
    with pytest.raises(MessageError):
        strict_json.parse(data)


@pytest.mark.parametrize("data", [d for d in REFUSED if d != b"1" * 400], ids=lambda data: repr(data[:12]))
def test_the_exact_reader_refuses_what_is_not_strict_json(data: bytes) -> None:
    with pytest.raises(MessageError):
        strict_json.parse_exact(data)


def test_the_exact_reader_keeps_an_integer_of_any_size() -> None:
    assert strict_json.parse_exact(b"1" * 400) == int("1" * 400)
    assert strict_json.parse_exact('{"n":18446744073709551616}') == {"n": 2**64}


def test_the_fast_reader_takes_sixty_four_bit_integers_exactly_and_wider_ones_as_doubles() -> None:
    assert strict_json.parse(b"18446744073709551615") == 2**64 - 1
    assert strict_json.parse(b"18446744073709551616") == float(2**64)


def test_nesting_is_counted_to_the_level() -> None:
    assert strict_json.parse(nested(strict_json.MAX_DEPTH))
    with pytest.raises(MessageError, match="128"):
        strict_json.parse(nested(strict_json.MAX_DEPTH + 1))


@pytest.mark.parametrize("depth", [1, 2, 60, 253, 254])
def test_any_depth_up_to_what_can_be_written_may_be_asked_for(depth: int) -> None:
    strict_json.parse(nested(depth), max_depth=depth)
    with pytest.raises(MessageError):
        strict_json.parse(nested(depth + 1), max_depth=depth)


def test_many_brackets_beside_one_another_are_not_deep() -> None:
    wide = b"[" + b",".join([b"{}"] * 1000) + b"]"
    assert len(strict_json.parse(wide)) == 1000
    assert strict_json.parse(json.dumps("[" * 1000)) == "[" * 1000


@pytest.mark.parametrize("value", [2**64, "\ud800", {1: 2}, b"x", object()])
def test_what_json_cannot_hold_is_not_written(value: Any) -> None:
    with pytest.raises(MessageError):
        strict_json.dump(value)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), b"x", object()])
def test_the_spaced_writer_refuses_it_too(value: Any) -> None:
    with pytest.raises(MessageError):
        strict_json.dump_spaced(value)


def test_a_loop_is_refused_by_both_writers() -> None:
    loop: list[Any] = []
    loop.append(loop)
    for write in (strict_json.dump, strict_json.dump_spaced):
        with pytest.raises(MessageError):
            write(loop)


@given(st.binary(max_size=200) | st.text(max_size=200))
def test_garbage_raises_only_the_declared_error(data: bytes | str) -> None:
    for read in (strict_json.parse, strict_json.parse_exact):
        with contextlib.suppress(MessageError):
            read(data)


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-(2**63), 2**64 - 1)
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
        max_leaves=20,
    )
)
def test_what_was_written_reads_back_equal(value: Any) -> None:
    assert strict_json.parse(strict_json.dump(value)) == value
    assert strict_json.parse_exact(strict_json.dump_spaced(value)) == value


@pytest.mark.parametrize("text", [b"[" + b",".join([b"[]"] * 100) + b"]", b'{"a":1,"b":{"c":[1,2,3]}}' * 1])
def test_more_values_than_wanted_are_refused_before_they_are_made(text: bytes) -> None:
    count = strict_json.values(text)
    assert strict_json.parse(text, max_values=count) == json.loads(text)
    for data in (text, text.decode()):
        with pytest.raises(TooLargeError) as caught:
            strict_json.parse(data, max_values=count - 1)
        assert caught.value.limit == count - 1


@pytest.mark.parametrize(
    "text", ["a, b: [c] {d}\n" * 1000, '\\"[,:{' * 1000, '[{"a": 1, "b": [2]}]' * 1000, "\\" * 999]
)
def test_structure_inside_of_text_is_text(text: str) -> None:
    data = json.dumps({"text": text, text: "\\"}).encode()
    assert strict_json.values(data) == 4
    assert strict_json.parse(data, max_values=4) == json.loads(data)


def test_quotes_without_end_are_refused_and_not_taken_apart() -> None:
    with pytest.raises(TooLargeError):
        strict_json.parse(b"[" + b'"",' * 100_000 + b"1]", max_values=1000)


def made(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + sum(1 + made(each) for each in value.values())
    return 1 + sum(map(made, value)) if isinstance(value, list) else 1


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-9, 9) | st.text(alphabet='a"\\[]{},:ä'),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(alphabet='a"\\[{,:'), inner),
    )
)
def test_the_count_is_within_two_of_what_is_made(value: Any) -> None:
    counted = strict_json.values(json.dumps(value).encode())
    assert made(value) <= 2 * counted + 1
    assert counted <= 2 * made(value)
