# SPDX-License-Identifier: Apache-2.0
"""Reading answers: what a server may send, in any split; rubbish; and never otherwise than a known library."""

from __future__ import annotations

from itertools import pairwise

import h11
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from thalovant.errors import ThalovantConnectionError
from thalovant.transports.http11 import MAX_HEAD, Answer, AnswerReader

LIMIT = 1000

# (bytes, status, body, kept alive, whether it ends with the connection)
GOOD = [
    (b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello", 200, b"hello", True, False),
    (b"HTTP/1.1 200\r\nContent-Length:0\r\n\r\n", 200, b"", True, False),
    (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b"", True, False),
    (b"HTTP/1.1 304 X\r\ncontent-length: 77\r\n\r\n", 304, b"", True, False),
    (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 2\r\n\r\nhi", 200, b"hi", True, False),
    (b"HTTP/1.1 200 OK\r\nConnection: x, Close\r\ncontent-length: 2\r\n\r\nhi", 200, b"hi", False, False),
    (b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nhi", 200, b"hi", False, False),
    (b"HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 2\r\n\r\nhi", 200, b"hi", True, False),
    (b"HTTP/1.1 404 Not Found \xe9\r\nx:\t a b \t\r\ncontent-length: 1\r\n\r\n!", 404, b"!", True, False),
    (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 X\r\nl: x\r\n\r\nHTTP/1.1 204 X\r\n\r\n", 204, b"", True, False),
    (b"HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", 200, b"abc", True, False),
    (
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n00a ; x=y\r\n0123456789\r\n1\r\n!\r\n0\r\nt: x\r\n\r\n",
        200,
        b"0123456789!",
        True,
        False,
    ),
    (b"HTTP/1.1 200 OK\r\n\r\nuntil the end", 200, b"until the end", False, True),
    (b"HTTP/1.1 200 OK\r\n\r\n", 200, b"", False, True),
]

BAD = [
    b"\r\n\r\n",
    b"HTTP/2 200 OK\r\n\r\n",
    b"HTTP/1.1 20 OK\r\n\r\n",
    b"HTTP/1.1 600 OK\r\n\r\n",
    b"HTTP/1.1 2000\r\n\r\n",
    b"HTTP/1.1 200 O\x00K\r\n\r\n",
    b"HTTP/1.1 200 OK\nx: y\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nx y\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nx : y\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n: y\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nx: y\r\n folded\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nx: y\x00z\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nx: y\nz\r\n\r\n",
    b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
    b"HTTP/1.1 200 OK\r\ncontent-length: +1\r\n\r\n",
    b"HTTP/1.1 200 OK\r\ncontent-length: 1, 1\r\n\r\n",
    b"HTTP/1.1 200 OK\r\ncontent-length: \xb2\r\n\r\n",
    b"HTTP/1.1 200 OK\r\ncontent-length: \r\n\r\n",
    b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
    b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999999999999\r\n\r\n",
    b"HTTP/1.1 200 OK\r\ncontent-length: 1001\r\n\r\n",
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\n",
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n",
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n",
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-length: 3\r\n\r\n",
    b"HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
    b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n" * 17,
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nx\r\n",
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n-1\r\n",
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n\r\n",
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nabc\r\n",
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3e9\r\n",
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1f4\r\n" + b"x" * 500 + b"\r\n1f5\r\n",
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + b"0" * 1025,
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n" + b"t: x\r\n" * 20_000,
    b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 20_000,
    b"x" * (MAX_HEAD + 1),
    b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 1001,
]


def read(parts: list[bytes], *, end: bool = False) -> Answer | None:
    reader = AnswerReader(LIMIT)
    reader.expect()
    for part in parts:
        answer = reader.feed(part)
        if answer is not None:
            return answer
    return reader.feed_end() if end else None


def split(data: bytes, cuts: list[int]) -> list[bytes]:
    at = [0, *sorted({cut % (len(data) + 1) for cut in cuts}), len(data)]
    return [data[start:end] for start, end in pairwise(at)]


CUTS = st.lists(st.integers(0, 2**16), max_size=8)


@given(st.sampled_from(GOOD), CUTS)
def test_any_split_gives_the_same_answer(good: tuple[bytes, int, bytes, bool, bool], cuts: list[int]) -> None:
    data, status, body, kept, at_the_end = good
    answer = read(split(data, cuts), end=at_the_end)
    assert answer is not None
    assert (answer.status, answer.body, answer.keep_alive) == (status, body, kept)


@pytest.mark.parametrize("good", GOOD, ids=range(len(GOOD)))
def test_it_is_read_byte_by_byte_and_not_before_it_is_whole(good: tuple[bytes, int, bytes, bool, bool]) -> None:
    data, status, _, _, at_the_end = good
    reader = AnswerReader(LIMIT)
    assert not reader.begun
    reader.expect()
    for at in range(len(data) - 1):
        assert reader.feed(data[at : at + 1]) is None
        assert reader.begun
    answer = reader.feed(data[-1:])
    if at_the_end:
        assert answer is None
        answer = reader.feed_end()
    else:
        assert reader.feed_end() is None
    assert answer is not None and answer.status == status and not reader.begun


@given(st.sampled_from(BAD), CUTS)
def test_what_is_wrong_is_an_error_in_any_split(data: bytes, cuts: list[int]) -> None:
    with pytest.raises(ThalovantConnectionError) as caught:
        read(split(data, cuts))
    assert type(caught.value) is ThalovantConnectionError


@given(st.lists(st.binary(max_size=50), max_size=8))
@example([b"HTTP/1.1 200 OK\r\n\r\n"])
def test_rubbish_raises_the_declared_error_only(parts: list[bytes]) -> None:
    try:
        read(parts, end=True)
    except ThalovantConnectionError as error:
        assert str(error).endswith(".")


TEXT = st.text(st.characters(codec="ascii", exclude_categories=("Cc",)), max_size=12).map(str.encode)
NAME = st.sampled_from([b"x", b"Connection", b"Content-Length", b"Transfer-Encoding", b"set-cookie", b"x y"])
VALUE = st.one_of(
    TEXT, st.sampled_from([b"close", b"keep-alive", b"chunked", b"0", b"3", b"03", b"5", b"3, 3", b"gzip"])
)
BODY = st.one_of(
    st.binary(max_size=12), st.sampled_from([b"abc", b"3\r\nabc\r\n0\r\n\r\n", b"3;x\r\nabc\r\n0\r\nx: y\r\n\r\n"])
)


@given(
    st.sampled_from([b"1.0", b"1.1"]),
    st.sampled_from([b"200", b"204", b"304", b"404", b"503", b"99"]),
    st.lists(st.tuples(NAME, VALUE), max_size=4),
    BODY,
    CUTS,
)
def test_what_it_reads_a_known_library_reads_too(
    version: bytes, status: bytes, headers: list[tuple[bytes, bytes]], body: bytes, cuts: list[int]
) -> None:
    """Never more generous: an answer is the library's answer, to the byte."""
    lines = [b"HTTP/%s %s X" % (version, status), *(b"%s: %s" % header for header in headers)]
    data = b"\r\n".join(lines) + b"\r\n\r\n" + body
    try:
        answer = read(split(data, cuts), end=True)
    except ThalovantConnectionError:
        return
    theirs = h11_reads(data)
    if answer is None:
        assert theirs is None
    else:
        assert (answer.status, answer.body) == theirs


def h11_reads(data: bytes) -> tuple[int, bytes] | None:
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method="GET", target="/", headers=[("host", "x")]))
    client.send(h11.EndOfMessage())
    client.receive_data(data)
    client.receive_data(b"")
    status, body = 0, bytearray()
    while True:
        try:
            event = client.next_event()
        except h11.RemoteProtocolError:
            return None
        if isinstance(event, h11.Response):
            status = event.status_code
        elif isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage):
            return status, bytes(body)
        elif event in (h11.NEED_DATA, h11.PAUSED) or isinstance(event, h11.ConnectionClosed):
            return None


def test_several_answers_follow_each_other() -> None:
    reader = AnswerReader(LIMIT)
    for data, status, body, kept, at_the_end in GOOD:
        if not at_the_end:
            reader.expect()
            answer = reader.feed(data)
            assert answer is not None and (answer.status, answer.body, answer.keep_alive) == (status, body, kept)


def test_what_nobody_asked_for_is_an_error() -> None:
    reader = AnswerReader(LIMIT)
    with pytest.raises(ThalovantConnectionError, match="not asked for"):
        reader.feed(b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\n\r\n")


def test_what_stands_behind_an_answer_ends_the_connection() -> None:
    reader = AnswerReader(LIMIT)
    reader.expect()
    answer = reader.feed(b"HTTP/1.1 204 X\r\n\r\nHTTP/1.1 204 X\r\n\r\n")
    assert answer is not None and not answer.keep_alive and reader.left_over


def test_of_the_answer_of_a_proxy_only_the_head_is_read() -> None:
    for data, left in (
        (b"HTTP/1.0 200 Connection established\r\ncontent-length: 5\r\n\r\n", b""),
        (b"HTTP/1.1 200 X\r\ntransfer-encoding: chunked\r\n\r\n", b""),
        (b"HTTP/1.1 403 No\r\n\r\nbecause", b"because"),
    ):
        reader = AnswerReader(LIMIT)
        reader.expect(tunnel=True)
        answer = reader.feed(data)
        assert answer is not None and answer.body == b"" and reader.left_over is bool(left)


@pytest.mark.parametrize("size", [LIMIT, LIMIT + 1])
@pytest.mark.parametrize("framing", ["length", "chunked", "end"])
def test_a_body_is_read_up_to_its_limit(size: int, framing: str) -> None:
    body = b"x" * size
    heads = {"length": b"content-length: %d\r\n" % size, "chunked": b"transfer-encoding: chunked\r\n", "end": b""}
    framed = b"1\r\nx\r\n%x\r\n%s\r\n0\r\n\r\n" % (size - 1, body[1:]) if framing == "chunked" else body
    data = b"HTTP/1.1 200 OK\r\n" + heads[framing] + b"\r\n" + framed
    if size > LIMIT:
        with pytest.raises(ThalovantConnectionError, match="more than 1000 bytes"):
            read([data], end=True)
    else:
        answer = read([data], end=True)
        assert answer is not None and answer.body == body


def test_headers_are_kept_in_their_order() -> None:
    answer = read([b"HTTP/1.1 204 X\r\nSet-Cookie: a=1\r\nx: \t y \r\nset-cookie: b=2\r\n\r\n"])
    assert answer is not None
    assert answer.headers == ((b"set-cookie", b"a=1"), (b"x", b"y"), (b"set-cookie", b"b=2"))
