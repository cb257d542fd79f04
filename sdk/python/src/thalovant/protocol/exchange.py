# SPDX-License-Identifier: Apache-2.0
"""Bodies of `POST /exchange`, our addition to the HTTPS carrier: numbered frames both ways (docs/wire.md).

    request = next (8 bytes) | first (8) | wait (4, milliseconds) | again (1: 0 or 1) | frame*
    answer  = first (8) | frame*
    frame   = length (4) | kind (1: 0 clear, 1 sealed) | so many bytes

Numbers are big-endian; each side counts the frames it has sent from 0. It knows neither HTTP nor what is in a frame,
and keeps no count: its users do.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, TypeAlias

from thalovant.protocol.errors import ExchangeError

__all__ = [
    "MAX_FRAMES",
    "MAX_NUMBER",
    "MAX_WAIT",
    "Answer",
    "Exchange",
    "Frame",
    "cost",
    "read_answer",
    "read_exchange",
    "write_answer",
]

Frame: TypeAlias = tuple[bool, bytes]
"""Whether it is sealed, and its bytes."""

MAX_NUMBER: Final = 2**64 - 1
MAX_WAIT: Final = 2**32 - 1
MAX_FRAMES: Final = 256
"""Frames in one body. A mebibyte of empty ones would be two hundred thousand objects."""

_REQUEST = struct.Struct(">QQIB")
_ANSWER = struct.Struct(">Q")
_FRAME = struct.Struct(">I?")
_KINDS: Final = (0, 1)


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request: take these frames, then give what there is.

    `next` is the number of the first frame that the client has not got: those before it may be forgotten. `first` is
    the number of the first frame here, and means nothing without one. `wait`: for so many milliseconds the answer may
    be kept back until there is a frame for it. `again`: an answer was lost, so what was sent from `next` on is due
    once more.
    """

    next: int
    first: int
    wait: int
    again: bool = False
    frames: tuple[Frame, ...] = ()

    def encode(self) -> bytes:
        """The body."""
        return _written(_REQUEST.pack(self.next, self.first, self.wait, self.again), self.frames)


@dataclass(frozen=True, slots=True)
class Answer:
    """`first` is the number of the first of these frames, or of the next there will be."""

    first: int
    frames: list[Frame]


def read_exchange(body: bytes) -> Exchange:
    """What a request's body says. Raises `ExchangeError` when it is not of the form."""
    if len(body) < _REQUEST.size:
        raise ExchangeError("The body is shorter than the head of an exchange.")
    following, first, wait, again = _REQUEST.unpack_from(body)
    if again not in _KINDS:
        raise ExchangeError("The mark of a repeated exchange is neither 0 nor 1.")
    return Exchange(following, first, wait, bool(again), tuple(_read(body, _REQUEST.size)))


def write_answer(first: int, frames: Iterable[Frame]) -> bytes:
    """The body of an answer."""
    return _written(_ANSWER.pack(first), frames)


def read_answer(body: bytes) -> Answer:
    """What an answer's body says. Raises `ExchangeError` when it is not of the form."""
    if len(body) < _ANSWER.size:
        raise ExchangeError("The answer is shorter than the head of one.")
    (first,) = _ANSWER.unpack_from(body)
    return Answer(first, _read(body, _ANSWER.size))


def cost(data: bytes) -> int:
    """Bytes that a frame takes in a body."""
    return _FRAME.size + len(data)


def _written(head: bytes, frames: Iterable[Frame]) -> bytes:
    parts = [head]
    for sealed, data in frames:
        parts += (_FRAME.pack(len(data), sealed), data)
    return b"".join(parts)


def _read(body: bytes, at: int) -> list[Frame]:
    frames: list[Frame] = []
    size = len(body)
    while at < size:
        if size - at < _FRAME.size:
            raise ExchangeError("The body ends within the head of a frame.")
        length, kind = int.from_bytes(body[at : at + 4], "big"), body[at + 4]
        at += _FRAME.size
        if kind not in _KINDS:
            raise ExchangeError("A frame is neither clear nor sealed.")
        if length > size - at:
            raise ExchangeError("The body ends within a frame.")
        if len(frames) == MAX_FRAMES:
            raise ExchangeError(f"A body holds at most {MAX_FRAMES} frames.")
        frames.append((kind == 1, body[at : at + length]))
        at += length
    return frames
