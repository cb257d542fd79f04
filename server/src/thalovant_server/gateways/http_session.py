# SPDX-License-Identifier: Apache-2.0
"""One polling session of the HTTPS road: its cookie and what waits to be fetched (contract section 10.2).

It will not read requests (`gateways.https`).
"""

from __future__ import annotations

import base64
import secrets
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from thalovant_server.hub import refusal
from thalovant_server.hub.refusal import Refusal

if TYPE_CHECKING:
    from thalovant_server.hub.budget import Account
    from thalovant_server.hub.clock import Timer
    from thalovant_server.hub.connection import Connection
    from thalovant_server.hub.limits import Limits

CARRIER = "https"
# What a queued frame counts beyond its bytes, so that empty ones are bounded too.
FRAME_COST = 64


class HttpSession:
    """The `Link` of a connection whose client comes and asks. Bounded in frames and bytes; over it the session ends."""

    __slots__ = (
        "_budget",
        "_clear",
        "_limits",
        "_on_close",
        "_sealed",
        "_size",
        "access_key",
        "carrier",
        "connection",
        "cookie",
        "ended",
        "remote",
        "timer",
    )

    def __init__(
        self,
        access_key: str,
        remote: str,
        limits: Limits,
        budget: Account,
        on_close: Callable[[HttpSession], None],
    ) -> None:
        self.access_key = access_key
        self.carrier = CARRIER
        self.remote = remote
        self.cookie = secrets.token_hex(16)
        self.connection: Connection | None = None
        self.ended: Refusal | None = None
        self.timer: Timer | None = None
        self._limits = limits
        self._budget = budget
        self._on_close = on_close
        self._clear: deque[str] = deque()
        self._sealed: deque[bytes] = deque()
        self._size = 0

    def __repr__(self) -> str:
        return f"<HttpSession {self.connection!r} waiting={len(self)}>"

    def __len__(self) -> int:
        """Frames that wait to be fetched."""
        return len(self._clear) + len(self._sealed)

    @property
    def ready(self) -> bool:
        """The handshake is over and the session lives."""
        return self.connection is not None and self.connection.ready and self.ended is None

    def send_clear(self, data: bytes) -> None:
        """Queue one text frame."""
        if self._count(len(data)):
            self._clear.append(data.decode("utf-8"))

    def send_sealed(self, frames: list[bytes]) -> None:
        """Queue sealed frames."""
        for frame in frames:
            if not self._count(len(frame)):
                return
            self._sealed.append(frame)

    def close(self, why: Refusal) -> None:
        """What is queued can still be fetched; then the poller hears that there is no session."""
        self.ended = why
        self._on_close(self)

    def take_clear(self) -> list[str]:
        """Fetch and forget all text frames."""
        taken = list(self._clear)
        self._clear.clear()
        self._free()
        return taken

    def take_sealed(self) -> list[str]:
        """Fetch and forget all sealed frames, in base64."""
        taken = [base64.b64encode(frame).decode("ascii") for frame in self._sealed]
        self._sealed.clear()
        self._free()
        return taken

    def discard(self) -> None:
        """Forget what nobody will fetch."""
        self._clear.clear()
        self._sealed.clear()
        self._free()

    def _count(self, size: int) -> bool:
        """Make room for one frame, or end the session: a frame left out would break the Noise session anyway."""
        if self.ended is not None:
            return False
        limits, cost = self._limits, size + FRAME_COST
        full = len(self) >= limits.out_frames or self._size + cost > limits.out_bytes
        if full or not self._budget.take(cost):
            if self.connection is None:  # its very first frames: the server is full
                self.ended = refusal.BUSY
            else:
                self.connection.end(refusal.SLOW_READER)
            return False
        self._size += cost
        return True

    def _free(self) -> None:
        if not self._clear and not self._sealed:
            self._budget.give(self._size)
            self._size = 0
