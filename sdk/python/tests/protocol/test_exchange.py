# SPDX-License-Identifier: Apache-2.0
"""The bodies of an exchange: what is written is read again, and rubbish is one kind of error."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalovant.protocol.errors import ExchangeError, ProtocolError
from thalovant.protocol.exchange import (
    MAX_FRAMES,
    MAX_NUMBER,
    MAX_WAIT,
    Answer,
    Exchange,
    Frame,
    cost,
    read_answer,
    read_exchange,
    write_answer,
)

NUMBERS = st.integers(0, MAX_NUMBER)
FRAMES = st.lists(st.tuples(st.booleans(), st.binary(max_size=200)), max_size=20)


@given(NUMBERS, NUMBERS, st.integers(0, MAX_WAIT), st.booleans(), FRAMES)
def test_a_request_is_read_as_it_was_written(
    following: int, first: int, wait: int, again: bool, frames: list[Frame]
) -> None:
    exchange = Exchange(following, first, wait, again, tuple(frames))
    body = exchange.encode()
    assert read_exchange(body) == exchange
    assert len(body) == 21 + sum(cost(data) for _, data in frames)


@given(NUMBERS, FRAMES)
def test_an_answer_is_read_as_it_was_written(first: int, frames: list[Frame]) -> None:
    assert read_answer(write_answer(first, frames)) == Answer(first, frames)


def test_the_bytes_of_both() -> None:
    """As docs/wire.md draws them."""
    request = Exchange(next=2, first=1, wait=25_000, again=True, frames=((False, b"hi"), (True, b"\xff")))
    assert request.encode().hex(" ", 1) == (
        "00 00 00 00 00 00 00 02 00 00 00 00 00 00 00 01 00 00 61 a8 01 00 00 00 02 00 68 69 00 00 00 01 01 ff"
    )
    assert write_answer(258, [(True, b"")]).hex(" ", 1) == "00 00 00 00 00 00 01 02 00 00 00 00 01"


@given(st.binary(max_size=300))
def test_rubbish_raises_the_declared_error_only(body: bytes) -> None:
    for read in (read_exchange, read_answer):
        try:
            read(body)
        except ProtocolError as error:
            assert type(error) is ExchangeError and error.text.endswith(".")


@given(FRAMES.filter(bool), st.data())
def test_a_body_cut_short_is_an_error_or_has_fewer_frames(frames: list[Frame], data: st.DataObject) -> None:
    body = write_answer(7, frames)
    cut = body[: data.draw(st.integers(0, len(body) - 1))]
    try:
        answer = read_answer(cut)
    except ExchangeError:
        return
    assert answer.first == 7 and answer.frames == frames[: len(answer.frames)] and len(answer.frames) < len(frames)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"", "shorter"),
        (bytes(20), "shorter"),
        (bytes(20) + b"\x02", "neither 0 nor 1"),
        (bytes(21) + b"\x00\x00\x00\x00", "within the head"),
        (bytes(21) + b"\x00\x00\x00\x00\x02", "neither clear nor sealed"),
        (bytes(21) + b"\x00\x00\x00\x02\x01x", "within a frame"),
        (bytes(21) + b"\xff\xff\xff\xff\x01x", "within a frame"),
    ],
)
def test_what_is_wrong_is_said(body: bytes, text: str) -> None:
    with pytest.raises(ExchangeError, match=text) as caught:
        read_exchange(body)
    assert caught.value.code == "exchange"


@pytest.mark.parametrize("count", [MAX_FRAMES, MAX_FRAMES + 1])
def test_a_body_holds_so_many_frames(count: int) -> None:
    body = write_answer(0, [(True, b"")] * count)
    if count <= MAX_FRAMES:
        assert len(read_answer(body).frames) == count
    else:
        with pytest.raises(ExchangeError, match="at most 256"):
            read_answer(body)
