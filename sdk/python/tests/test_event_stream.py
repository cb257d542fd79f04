# SPDX-License-Identifier: Apache-2.0
"""Server-sent events: however the bytes are cut, the events are the same, and nothing but the declared error comes."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from thalovant import event_stream
from thalovant.errors import ThalovantAPIError
from thalovant.event_stream import EventStream, ServerSentEvent

Event = ServerSentEvent
PIECES = st.sampled_from(
    [b"\r", b"\n", b"\r\n", b"data", b":", b" ", b"event", b"id: 7", b"x", b"\xef\xbb\xbf", b"\xff", b"\xc3", b"\xa4"]
)  # fmt: skip
STREAMS = st.lists(PIECES, max_size=40).map(b"".join)


def read(stream: bytes) -> list[ServerSentEvent]:
    return EventStream().feed(stream)


@pytest.mark.parametrize(
    ("stream", "events"),
    [
        (b"data: a\n\n", [Event("message", "a")]),
        (b"event: presence\ndata: {}\n\n", [Event("presence", "{}")]),
        (b"data:a\r\ndata:  b\rdata\n\r\n", [Event("message", "a\n b\n")]),
        (b": keep-alive\n\n: another\n\n", []),
        (b"event: ready\n\ndata: later\n\n", [Event("message", "later")]),
        (b"id: 1\nretry: 5\nunknown: x\ndata: a\n\n", [Event("message", "a")]),
        (b"\xef\xbb\xbfdata: a\n\n", [Event("message", "a")]),
        (b"data: \xff\n\n", [Event("message", "\ufffd")]),
        (b"data: not the end\n", []),
    ],
    ids=["plain", "named", "lines", "comments", "no-data", "unknown", "mark", "no-text", "unfinished"],
)
def test_how_a_stream_is_read(stream: bytes, events: list[ServerSentEvent]) -> None:
    assert read(stream) == events


@given(STREAMS, st.lists(st.integers(0, 200), max_size=20))
@example(b"data: a\r\ndata: b\r\n\r\n", [8, 8])
def test_any_cut_gives_the_same_events(stream: bytes, cuts: list[int]) -> None:
    reader, events = EventStream(), []
    places = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    for start, end in pairwise(places):
        events += reader.feed(stream[start:end])
    assert events == read(stream)


@given(st.binary(max_size=300), st.binary(max_size=300))
def test_garbage_is_read_without_an_error(first: bytes, second: bytes) -> None:
    reader = EventStream()
    for event in reader.feed(first) + reader.feed(second):
        assert isinstance(event, ServerSentEvent)


@pytest.mark.parametrize("piece", [b"x" * 50, b"data: " + b"x" * 40 + b"\n"], ids=["line", "event"])
def test_an_event_has_a_bound(monkeypatch: pytest.MonkeyPatch, piece: bytes) -> None:
    monkeypatch.setattr(event_stream, "MAX_EVENT", 120)
    reader = EventStream()
    for _ in range(2):
        assert reader.feed(piece) == []
    with pytest.raises(ThalovantAPIError, match="more than 120 bytes"):
        reader.feed(piece)


def test_many_small_events_are_no_large_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_stream, "MAX_EVENT", 120)
    assert len(read(b"data: x\n\n" * 100)) == 100
