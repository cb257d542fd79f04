# SPDX-License-Identifier: Apache-2.0
"""A client's publishes with QoS 1: so many under way without a PUBACK, the others waiting behind them, all in order.

Nothing is ever sent twice on one connection, so of what was written only identifier, time and topic are kept. It knows
no packet but PUBLISH, and bounds nothing that waits: whoever publishes looks at `waiting` first.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from thalovant.protocol.mqtt.packets import EncodePublish


class ClientWindow:
    """`most` is how many may be under way; identifiers begin behind `last_id`. Times are the caller's own."""

    __slots__ = ("_encode", "_last_id", "_under_way", "_waiting", "_written", "most")

    def __init__(self, encode: EncodePublish, most: int, last_id: int) -> None:
        self.most = most
        self._encode = encode
        self._last_id = last_id
        self._under_way: dict[int, tuple[int, float, bytes]] = {}  # id: its number, when, topic; oldest first
        self._waiting: deque[tuple[bytes, bytes, bool]] = deque()
        self._written = 0

    @property
    def waiting(self) -> bool:
        """Whether a publish waits for an acknowledgement of an earlier one."""
        return bool(self._waiting)

    @property
    def under_way(self) -> int:
        """How many have been written and not been acknowledged."""
        return len(self._under_way)

    @property
    def queued(self) -> int:
        """How many were put so far; a mark for `settled`."""
        return self._written + len(self._waiting)

    def settled(self, mark: int) -> bool:
        """Whether everything that was put up to this mark has been acknowledged."""
        oldest = next(iter(self._under_way.values()), None)
        return oldest is None or oldest[0] > mark

    def oldest(self, now: float) -> float:
        """Since when the oldest one is under way; `now` when none is."""
        return next((written_at for _, written_at, _ in self._under_way.values()), now)

    def put(self, topic: bytes, payload: bytes, retain: bool, now: float) -> bytes | None:
        """The packet to write now, or None: it waits."""
        if self._waiting or len(self._under_way) >= self.most:
            self._waiting.append((topic, payload, retain))
            return None
        return self._write(topic, payload, retain, now)

    def acknowledged(self, packet_id: int) -> bytes | None:
        """A PUBACK came: the topic of what it is for, None when it is for nothing."""
        known = self._under_way.pop(packet_id, None)
        return None if known is None else known[2]

    def ready(self, now: float) -> Iterator[bytes]:
        """The packets that waited and may be written now."""
        while self._waiting and len(self._under_way) < self.most:
            yield self._write(*self._waiting.popleft(), now)

    def _write(self, topic: bytes, payload: bytes, retain: bool, now: float) -> bytes:
        packet_id = self._free_id()
        self._written += 1
        self._under_way[packet_id] = (self._written, now, topic)
        return self._encode(topic, payload, qos=1, packet_id=packet_id, retain=retain)

    def _free_id(self) -> int:
        # A PUBACK for an early one may be late; 65,535 ids and few under way always leave a free one.
        while True:
            self._last_id = self._last_id % 65_535 + 1
            if self._last_id not in self._under_way:
                return self._last_id
