# SPDX-License-Identifier: Apache-2.0
"""Frames on their way to one client that fetches them: in order, numbered, kept until they are known to have arrived.

It bounds nothing and knows no HTTP: `http_session` does the first, `https` and `http_exchange` the second.
"""

from __future__ import annotations

from collections import deque
from itertools import islice

from thalovant.protocol.exchange import MAX_FRAMES, Frame, cost

# What a queued frame counts beyond its bytes, so that empty ones are bounded too.
FRAME_COST = 64


class Outbox:
    """`size` is what is kept: bytes, and so many for each frame. Its length is what waits to be handed out."""

    __slots__ = ("_frames", "_handed_out", "first", "size")

    def __init__(self) -> None:
        self._frames: deque[Frame] = deque()
        self._handed_out = 0
        self.first = 0
        """The number of the first frame that is kept."""
        self.size = 0

    def __len__(self) -> int:
        return len(self._frames) - self._handed_out

    @property
    def kept(self) -> int:
        """Frames that are kept, those that were handed out included."""
        return len(self._frames)

    def put(self, sealed: bool, data: bytes) -> None:
        """One more frame."""
        self._frames.append((sealed, data))
        self.size += len(data) + FRAME_COST

    def fetch(self, sealed: bool) -> list[bytes]:
        """All that wait of one kind; handed out for good (contract 10.2)."""
        taken = [data for kind, data in self._frames if kind is sealed]
        left = [frame for frame in self._frames if frame[0] is not sealed]
        self._frames = deque(left)
        self._handed_out = 0
        self.size -= sum(map(len, taken)) + FRAME_COST * len(taken)
        return taken

    def acknowledge(self, following: int) -> bool:
        """The frames before that number have arrived; False when it is none that was handed out."""
        if following > self.first + self._handed_out:
            return False
        while self.first < following:
            self.size -= len(self._frames.popleft()[1]) + FRAME_COST
            self.first += 1
            self._handed_out -= 1
        return True

    def rewind(self) -> None:
        """An answer was lost: hand out again what was not acknowledged."""
        self._handed_out = 0

    def hand_out(self, most: int) -> tuple[int, list[Frame]]:
        """The next frames, of `most` bytes together or one, and the number of the first."""
        number, size = self.first + self._handed_out, 0
        frames: list[Frame] = []
        for frame in islice(self._frames, self._handed_out, self._handed_out + MAX_FRAMES):
            size += cost(frame[1])
            if frames and size > most:
                break
            frames.append(frame)
        self._handed_out += len(frames)
        return number, frames

    def clear(self) -> None:
        """Forget everything."""
        self.first += len(self._frames)
        self._frames.clear()
        self._handed_out = 0
        self.size = 0
