# SPDX-License-Identifier: Apache-2.0
"""What is on its way to the clients: the frames of each in order, the clients in turn, as fast as the broker takes it.

All of them share one connection. While there is room a frame is written at once; else it waits in its own client's
queue, where it counts for that client, and whoever has little to say does not wait behind one who has much. It will not
write anything itself, nor bound a queue.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from thalovant_server.gateways.share import Share

FRAME_COST = 64  # what a waiting frame counts beyond its bytes


class OutQueue:
    """The frames that wait for one client. `size`: their bytes, and so many for each."""

    __slots__ = ("_frames", "_share", "size")

    def __init__(self, share: Share) -> None:
        self._frames: deque[tuple[bytes, bytes]] = deque()
        self._share = share
        self.size = 0

    def __len__(self) -> int:
        return len(self._frames)

    def put(self, topic: bytes, payload: bytes) -> bool:
        """One more frame; False when its client holds too much with it."""
        self._frames.append((topic, payload))
        self.size += len(payload) + FRAME_COST
        return self._share.hold(self.size)

    def pop(self) -> tuple[bytes, bytes]:
        """The next frame, with its topic."""
        frame = self._frames.popleft()
        self.size -= len(frame[1]) + FRAME_COST
        self._share.hold(self.size)
        return frame

    def clear(self) -> None:
        """Forget what waits."""
        self._frames.clear()
        self.size = 0
        self._share.release()


class Outbound:
    """The queues of all clients, before one connection.

    Args:
        has_room: whether the connection takes a frame just now.
        write: gives it one: topic and payload.
    """

    __slots__ = ("_has_room", "_turns", "_waiting", "_write")

    def __init__(self, has_room: Callable[[], bool], write: Callable[[bytes, bytes], None]) -> None:
        self._has_room = has_room
        self._write = write
        self._turns: deque[OutQueue] = deque()
        self._waiting: set[int] = set()  # ids of the queues in `_turns`

    def put(self, queue: OutQueue, topic: bytes, payload: bytes) -> bool:
        """A frame for the client of that queue; False when it holds too much by now."""
        if not queue and not self._turns and self._has_room():
            self._write(topic, payload)
            return True
        if id(queue) not in self._waiting:
            self._waiting.add(id(queue))
            self._turns.append(queue)
        return queue.put(topic, payload)

    def drain(self) -> None:
        """Write what there is room for, a frame of each client in turn."""
        while self._turns and self._has_room():
            queue = self._turns.popleft()
            if queue:
                self._write(*queue.pop())
            if queue:
                self._turns.append(queue)
            else:
                self._waiting.discard(id(queue))

    def clear(self) -> None:
        """Forget everything that waits."""
        for queue in self._turns:
            queue.clear()
        self._turns.clear()
        self._waiting.clear()
