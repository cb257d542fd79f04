# SPDX-License-Identifier: Apache-2.0
"""Whole messages to sealed frames and back: the marker byte, chunks and reassembly (contract 6.1).

One `FrameWriter` and one `FrameReader` per session, each with its own cipher. Neither knows what a message
means. Every error of a reader is fatal for its session: the counters no longer agree.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

from thalovant.protocol.errors import AuthenticationError, FrameError, TooLargeError
from thalovant.protocol.noise import TAG_LENGTH, CipherState

CHUNK_SIZE: Final = 65_000
"""Bytes of a message in one frame; sealed, such a frame has 65,017 bytes."""

MAX_MESSAGE: Final = 33_554_432
"""The longest message the wire knows, in bytes."""

REMEMBERED: Final = 256
"""Frames that are known again where a carrier may bring one twice: as many as may be on their way at once."""

_WHOLE_TEXT, _WHOLE_BINARY, _FIRST_TEXT, _FIRST_BINARY, _MIDDLE, _LAST = range(6)
_MARKERS: Final = tuple(bytes([marker]) for marker in range(6))


@dataclass(frozen=True, slots=True)
class Frame:
    """One whole message: JSON text in UTF-8, or a binary frame (contract 8)."""

    body: bytes
    binary: bool


class FrameWriter:
    """Seals messages for one direction."""

    __slots__ = ("_encrypt",)

    def __init__(self, cipher: CipherState) -> None:
        self._encrypt = cipher.encrypt

    def seal(self, body: bytes, *, binary: bool = False) -> list[bytes]:
        """The frames of one message, to be sent in this order with nothing in between.

        Raises `TooLargeError` over 32 MiB, before anything is sealed; `NoiseError` when the counter is used up.
        """
        if len(body) <= CHUNK_SIZE:
            return [self._encrypt(_MARKERS[_WHOLE_BINARY if binary else _WHOLE_TEXT] + body)]
        if len(body) > MAX_MESSAGE:
            raise TooLargeError(f"A message holds at most {MAX_MESSAGE} bytes.", limit=MAX_MESSAGE)
        last = (len(body) - 1) // CHUNK_SIZE * CHUNK_SIZE
        frames = [self._chunk(_FIRST_BINARY if binary else _FIRST_TEXT, body, 0)]
        frames += [self._chunk(_MIDDLE, body, start) for start in range(CHUNK_SIZE, last, CHUNK_SIZE)]
        frames.append(self._chunk(_LAST, body, last))
        return frames

    def _chunk(self, marker: int, body: bytes, start: int) -> bytes:
        return self._encrypt(_MARKERS[marker] + body[start : start + CHUNK_SIZE])


class FrameReader:
    """Opens the frames of one direction and puts chunked messages together."""

    __slots__ = ("_binary", "_decrypt", "_max_message", "_parts", "_tags")

    def __init__(self, cipher: CipherState, *, max_message: int = MAX_MESSAGE, remembered: int = 0) -> None:
        """`max_message` is the longest message taken, in bytes.

        `remembered`: how many of the latest frames are known when they come again, and are dropped then; for a carrier
        that delivers at least once (MQTT, QoS 1). A frame is opened once in any case: what authenticates is the next
        one in order.
        """
        self._decrypt = cipher.decrypt
        self._tags: deque[bytes] | None = deque(maxlen=remembered) if remembered else None
        self._max_message = max_message
        self._parts: bytearray | None = None
        self._binary = False

    @property
    def buffered(self) -> int:
        """Bytes held of a message whose last chunk has not come."""
        return 0 if self._parts is None else len(self._parts)

    def open(self, frame: bytes) -> Frame | None:
        """The message that this frame completes, or None when more chunks are due, or when it came before.

        Raises `NoiseError` when it does not decrypt, `FrameError` when it may not stand here, `TooLargeError` when
        the message passes `max_message`. All are fatal; what was held is let go.
        """
        plain = self._decrypt(frame) if self._tags is None else self._decrypted_once(frame, self._tags)
        if plain is None:
            return None
        if not plain:
            self._parts = None
            raise FrameError("A sealed frame is empty.")
        marker = plain[0]
        if marker <= _WHOLE_BINARY and self._parts is None:
            if len(plain) - 1 > self._max_message:
                raise self._too_large()
            return Frame(plain[1:], marker == _WHOLE_BINARY)
        return self._collect(marker, plain)

    def _decrypted_once(self, frame: bytes, tags: deque[bytes]) -> bytes | None:
        """The plaintext, or None when the frame is one of the latest again."""
        try:
            plain = self._decrypt(frame)
        except AuthenticationError:
            if frame[-TAG_LENGTH:] in tags:
                return None
            raise
        tags.append(frame[-TAG_LENGTH:])
        return plain

    def _collect(self, marker: int, plain: bytes) -> Frame | None:
        self._admit(marker)
        if self._parts is None:
            self._parts, self._binary = bytearray(), marker == _FIRST_BINARY
        if len(self._parts) + len(plain) - 1 > self._max_message:
            raise self._too_large()
        self._parts += memoryview(plain)[1:]
        if marker != _LAST:
            return None
        body, self._parts = bytes(self._parts), None
        return Frame(body, self._binary)

    def _admit(self, marker: int) -> None:
        """Refuse what may not stand here, and hold nothing afterwards."""
        fault = None
        if marker > _LAST:
            fault = "A sealed frame has an unknown marker."
        elif marker in (_MIDDLE, _LAST) and self._parts is None:
            fault = "A sealed frame continues a message that was never begun."
        elif marker < _MIDDLE and self._parts is not None:
            fault = "A sealed frame begins a message inside another."
        if fault:
            self._parts = None
            raise FrameError(fault)

    def _too_large(self) -> TooLargeError:
        self._parts = None
        limit = self._max_message
        return TooLargeError(f"A message is longer than the {limit} bytes taken here.", limit=limit)
