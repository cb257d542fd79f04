# SPDX-License-Identifier: Apache-2.0
"""What one connection received and has not worked through: taken in slices, in order, in its client's lane.

It will not parse anything (`step` does) nor pause a socket: whoever owns it looks at `pending` and `held` in `settle`.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING

from thalovant_server.gateways.lane import SLICE_SECONDS

if TYPE_CHECKING:
    from thalovant_server.gateways.lane import Lane


class Intake:
    """The bytes of one connection on their way to its parser.

    Args:
        lane: whose turns it takes; may be replaced once it is known who the client is.
        step: work through these bytes; returns how many packets that were, and whether it has more to do: it is
            then called with b"" before it gets more bytes. It must not raise.
        settle: called after every slice.
        chunk: bytes of a step at most.
    """

    __slots__ = ("_again", "_at", "_chunk", "_closed", "_data", "_settle", "_step", "_waiting", "held", "lane")

    def __init__(
        self,
        lane: Lane,
        step: Callable[[bytes], tuple[int, bool]],
        settle: Callable[[], None],
        *,
        chunk: int,
    ) -> None:
        self.lane = lane
        self.held = False  # while True nothing is worked through
        self._step = step
        self._settle = settle
        self._chunk = chunk
        self._data = b""
        self._at = 0
        self._again = False
        self._waiting = False
        self._closed = False

    @property
    def pending(self) -> bool:
        """Whether there is something left to work through."""
        return not self._closed and (self._again or self._at < len(self._data))

    @property
    def size(self) -> int:
        """Bytes that no step has seen yet."""
        return len(self._data) - self._at

    def receive(self, data: bytes) -> None:
        """More bytes: worked through at once, as far as a slice goes, when nobody of the lane waits."""
        if self._closed:
            return
        self._data = self._data[self._at :] + data if self._at < len(self._data) else data
        self._at = 0
        if self._waiting or self.held or self.lane.busy:
            self._settle()
            self._queue_up()
        else:
            self._work()

    def resume(self) -> None:
        """Go on with what was held."""
        self.held = False
        self._queue_up()

    def close(self) -> None:
        """Forget what is left, and whatever comes."""
        self._closed = True
        self._data, self._at = b"", 0

    def forget(self) -> None:
        """As `close`, and hold nothing of the connection any more: it need not wait for the garbage collector."""
        self.close()
        self._step, self._settle = _no_step, _no_settle

    def _work(self) -> None:
        """One slice."""
        self._waiting = False
        if self.held or self._closed:
            return
        most, done, until = self.lane.allowance(), 0, 0.0
        while done < most and self.pending:
            done += self._one()
            now = monotonic()
            until = until or now + SLICE_SECONDS
            if now >= until:
                break
        self.lane.spend(done)
        self._settle()
        self._queue_up()

    def _one(self) -> int:
        """One step."""
        chunk = b""
        if not self._again:
            chunk = self._data[self._at : self._at + self._chunk]
            self._at += len(chunk)
            if self._at >= len(self._data):
                self._data, self._at = b"", 0
        done, self._again = self._step(chunk)
        return done

    def _queue_up(self) -> None:
        if self.pending and not self.held and not self._waiting:
            self._waiting = True
            self.lane.wait(self._work)


def _no_step(data: bytes) -> tuple[int, bool]:
    return 0, False


def _no_settle() -> None:
    pass
