# SPDX-License-Identifier: Apache-2.0
"""Reads the answers of an HTTP/1.1 server: bytes in, answers out (RFC 9112). Opens nothing, sends nothing.

A strict subset: what a server may do is read, what it must not do ends the connection. A general library takes longer
over one answer than everything else that an ask over HTTPS costs. No compression: nothing was allowed to be
compressed, so nothing can swell. Interim answers (1xx) are skipped.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

from thalovant.errors import ThalovantConnectionError

__all__ = ["MAX_HEAD", "Answer", "AnswerReader"]

MAX_HEAD: Final = 64 * 1024  # bytes of a status line with its headers, and of trailers
MAX_INTERIM: Final = 16
_MAX_CHUNK_LINE: Final = 1024

_HEAD = re.compile(
    rb"HTTP/1\.([01]) ([1-5][0-9]{2})(?: [^\x00\r\n]*)?((?:\r\n[!#$%&'*+.^_`|~0-9A-Za-z-]+:[^\x00\r\n]*)*)"
)
_LENGTH = re.compile(rb"[0-9]{1,18}")
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\x00\r\n]*)?")


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer. `headers`: names in lower case, in their order. `keep_alive`: another may follow it."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes
    keep_alive: bool


class AnswerReader:
    """The answers of one connection. `expect` before each; then `feed` until there is one."""

    __slots__ = ("_body", "_buffer", "_head", "_interim", "_left", "_max_body", "_searched", "_step", "_tunnels")

    def __init__(self, max_body: int) -> None:
        """`max_body`: bytes of the longest body that is read."""
        self._max_body = max_body
        self._buffer = bytearray()
        self._searched = 0  # bytes of the buffer in which no end of a head or line begins
        self._step: _Step = _NOTHING
        self._head: tuple[int, tuple[tuple[bytes, bytes], ...], bool] = (0, (), False)
        self._body = bytearray()
        self._left = 0
        self._interim = 0
        self._tunnels = False

    @property
    def begun(self) -> bool:
        """Whether a part of the answer that is due has come."""
        in_head = self._step is _READ_HEAD and not self._buffer and not self._interim
        return self._step is not _NOTHING and not in_head

    @property
    def left_over(self) -> bool:
        """Whether there is something behind the last answer."""
        return self._step is _NOTHING and bool(self._buffer)

    def expect(self, *, tunnel: bool = False) -> None:
        """A request was sent. `tunnel`: it was CONNECT, of whose answer the body is not read (RFC 9110, 9.3.6)."""
        self._step, self._tunnels, self._interim = _READ_HEAD, tunnel, 0

    def feed(self, data: bytes) -> Answer | None:
        """More bytes; the answer, once it is whole.

        Raises ThalovantConnectionError: it is not HTTP, too long, or nobody asked for it. The connection is then over.
        """
        if self._step is _NOTHING:
            raise ThalovantConnectionError("The hub's server sent something that was not asked for.")
        self._buffer += data
        return self._run()

    def feed_end(self) -> Answer | None:
        """No more bytes will come; the answer, if that is how it ends."""
        if self._step is not _READ_REST:
            return None
        self._body, self._buffer = self._buffer, bytearray()
        return self._whole()

    def _run(self) -> Answer | None:
        while self._step(self):
            if self._step is _NOTHING:
                return self._whole()
        return None

    def _whole(self) -> Answer:
        status, headers, keep_alive = self._head
        body, self._body = bytes(self._body), bytearray()
        self._step = _NOTHING
        # Bytes behind the answer are nobody's: what comes next would be taken for the answer to another request.
        return Answer(status, headers, body, keep_alive and not self._buffer)

    # Each step returns whether it got on; it needs more bytes otherwise.

    def _read_head(self) -> bool:
        end = self._find(b"\r\n\r\n")
        if (len(self._buffer) if end < 0 else end) > MAX_HEAD:
            raise _unreadable(f"its head has more than {MAX_HEAD} bytes")
        if end < 0:
            return False
        found = _HEAD.fullmatch(self._buffer, 0, end)
        if found is None:
            raise _unreadable("its head is malformed")
        modern, status = found[1] == b"1", int(found[2])
        headers = tuple([_header(line) for line in found[3].split(b"\r\n")[1:]])
        del self._buffer[: end + 4]
        if status < 200:
            self._skip_interim(status)
        else:
            self._begin_body(modern, status, headers)
        return True

    def _skip_interim(self, status: int) -> None:
        self._interim += 1
        if status == 101 or self._interim > MAX_INTERIM:
            raise _unreadable(f"it has status {status}")

    def _begin_body(self, modern: bool, status: int, headers: tuple[tuple[bytes, bytes], ...]) -> None:
        """How the body is framed (RFC 9112, 6.3); what could be read in two ways is not read at all."""
        tokens, codings, lengths = _framing(headers)
        keep_alive = b"close" not in tokens if modern else b"keep-alive" in tokens
        if codings and (codings != [b"chunked"] or lengths or not modern):
            raise _unreadable("its body is framed in a way that is not understood")
        if len(lengths) > 1 or not all(map(_LENGTH.fullmatch, lengths)):
            raise _unreadable("its length is malformed")
        self._left = int(next(iter(lengths), b"0"))
        if self._tunnels or status in (204, 304):
            self._step = _NOTHING
        elif codings:
            self._step = _READ_CHUNK_LINE
        elif lengths:
            self._admit(self._left)
            self._step = _READ_LENGTH
        else:
            self._step, keep_alive = _READ_REST, False
        self._head = (status, headers, keep_alive)

    def _read_length(self) -> bool:
        if len(self._buffer) < self._left:
            return False
        self._body = self._buffer[: self._left]
        del self._buffer[: self._left]
        self._step = _NOTHING
        return True

    def _read_rest(self) -> bool:
        self._admit(len(self._buffer))
        return False

    def _read_chunk_line(self) -> bool:
        line = self._line(_MAX_CHUNK_LINE)
        if line is None:
            return False
        found = _CHUNK.fullmatch(line)
        if found is None:
            raise _unreadable("a chunk of its body is malformed")
        self._left = int(found[1], 16)
        self._admit(len(self._body) + self._left)
        if self._left:
            self._step = _READ_CHUNK
        else:
            self._step, self._left = _READ_TRAILER, MAX_HEAD
        return True

    def _read_chunk(self) -> bool:
        if len(self._buffer) < self._left + 2:
            return False
        if self._buffer[self._left : self._left + 2] != b"\r\n":
            raise _unreadable("a chunk of its body is malformed")
        self._body += self._buffer[: self._left]
        del self._buffer[: self._left + 2]
        self._step = _READ_CHUNK_LINE
        return True

    def _read_trailer(self) -> bool:
        line = self._line(self._left)
        if line is None:
            return False
        self._left -= len(line) + 2
        if not line:
            self._step = _NOTHING
        return True

    def _line(self, most: int) -> bytes | None:
        end = self._find(b"\r\n")
        if (len(self._buffer) if end < 0 else end) > most:
            raise _unreadable("a line of its body is too long")
        if end < 0:
            return None
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 2]
        return line

    def _find(self, end: bytes) -> int:
        """Where it stands, or -1; what was searched before is not searched again."""
        found = self._buffer.find(end, self._searched)
        self._searched = 0 if found >= 0 else max(len(self._buffer) - len(end) + 1, 0)
        return found

    def _admit(self, size: int) -> None:
        if size > self._max_body:
            raise ThalovantConnectionError(f"The hub's server answered with more than {self._max_body} bytes.")


def _nothing(_: AnswerReader) -> bool:
    """No answer is due, or it is whole."""
    return False


_Step: TypeAlias = Callable[[AnswerReader], bool]
_NOTHING: _Step = _nothing
_READ_HEAD: _Step = AnswerReader._read_head
_READ_LENGTH: _Step = AnswerReader._read_length
_READ_REST: _Step = AnswerReader._read_rest
_READ_CHUNK_LINE: _Step = AnswerReader._read_chunk_line
_READ_CHUNK: _Step = AnswerReader._read_chunk
_READ_TRAILER: _Step = AnswerReader._read_trailer


def _header(line: bytes) -> tuple[bytes, bytes]:
    name, _, value = line.partition(b":")
    return name.lower(), value.strip(b" \t")


def _framing(headers: tuple[tuple[bytes, bytes], ...]) -> tuple[list[bytes], list[bytes], set[bytes]]:
    """What is said of the connection, the transfer codings, and the lengths."""
    connection: list[bytes] = []
    codings: list[bytes] = []
    lengths = set()
    for name, value in headers:
        if name == b"content-length":
            lengths.add(value)
        elif name == b"transfer-encoding":
            codings += _tokens(value)
        elif name == b"connection":
            connection += _tokens(value)
    return connection, codings, lengths


def _tokens(value: bytes) -> list[bytes]:
    return [token.strip(b" \t").lower() for token in value.split(b",")]


def _unreadable(why: str) -> ThalovantConnectionError:
    return ThalovantConnectionError(f"The answer of the hub's server cannot be read: {why}.")
