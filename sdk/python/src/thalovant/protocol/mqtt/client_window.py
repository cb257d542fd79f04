# SPDX-License-Identifier: Apache-2.0
"""A client's publishes with QoS 1: so many under way without a PUBACK, the others waiting behind them, all in order.

Nothing is ever sent twice on one connection. A session that goes on over the next connection sends again what was not
acknowledged, before anything new (MQTT-4.4.0-1 in both standards); its owner calls `begin_again` for that. It knows no
packet but PUBLISH, and bounds nothing that waits: whoever publishes looks at `waiting` first.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

from thalovant.protocol.mqtt.packets import EncodePublish


class _Sent(NamedTuple):
    number: int
    written_at: float
    topic: bytes
    payload: bytes
    retain: bool


class _Waiting(NamedTuple):
    topic: bytes
    payload: bytes
    retain: bool
    packet_id: int | None = None  # of one that was written on an earlier connection


class ClientWindow:
    """`most` is how many may be under way; identifiers begin behind `last_id`, and again at `first` once all were used.

    Times are the caller's own.
    """

    __slots__ = (
        "_encode", "_first", "_last_id", "_under_way", "_waiting", "_written",
        "most", "under_way_bytes", "waiting_bytes",
    )  # fmt: skip

    def __init__(self, encode: EncodePublish, most: int, last_id: int, first: int = 1) -> None:
        self.most = most
        self.waiting_bytes = 0
        """Bytes of the payloads that wait."""
        self.under_way_bytes = 0
        """Bytes of the payloads that have been written and not been acknowledged."""
        self._encode = encode
        self._last_id = last_id
        self._first = first
        self._under_way: dict[int, _Sent] = {}  # by identifier; oldest first
        self._waiting: deque[_Waiting] = deque()
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
        return oldest is None or oldest.number > mark

    def oldest(self, now: float) -> float:
        """Since when the oldest one is under way; `now` when none is."""
        return next((sent.written_at for sent in self._under_way.values()), now)

    def put(self, topic: bytes, payload: bytes, retain: bool, now: float) -> bytes | None:
        """The packet to write now, or None: it waits."""
        if self._waiting or len(self._under_way) >= self.most:
            self._waiting.append(_Waiting(topic, payload, retain))
            self.waiting_bytes += len(payload)
            return None
        return self._write(topic, payload, retain, None, now)

    def acknowledged(self, packet_id: int) -> bytes | None:
        """A PUBACK came: the topic of what it is for, None when it is for nothing."""
        known = self._under_way.pop(packet_id, None)
        if known is None:
            return None
        self.under_way_bytes -= len(known.payload)
        return known.topic

    def ready(self, now: float) -> Iterator[bytes]:
        """The packets that waited and may be written now."""
        while self._waiting and len(self._under_way) < self.most:
            topic, payload, retain, packet_id = self._waiting.popleft()
            self.waiting_bytes -= len(payload)
            yield self._write(topic, payload, retain, packet_id, now)

    def begin_again(self) -> None:
        """Go on over another connection: what was under way waits again, in front, under its identifiers."""
        again = [_Waiting(each.topic, each.payload, each.retain, known) for known, each in self._under_way.items()]
        self._waiting.extendleft(reversed(again))
        self.waiting_bytes += sum(len(each.payload) for each in again)
        self._written -= len(again)
        self._under_way.clear()
        self.under_way_bytes = 0

    def _write(self, topic: bytes, payload: bytes, retain: bool, known: int | None, now: float) -> bytes:
        packet_id = self._free_id() if known is None else known
        self._written += 1
        self._under_way[packet_id] = _Sent(self._written, now, topic, payload, retain)
        self.under_way_bytes += len(payload)
        return self._encode(topic, payload, qos=1, packet_id=packet_id, retain=retain, dup=known is not None)

    def _free_id(self) -> int:
        # A PUBACK for an early one may be late; 65,535 ids and few under way always leave a free one.
        while True:
            self._last_id = self._last_id + 1 if self._last_id < 65_535 else self._first
            if self._last_id not in self._under_way:
                return self._last_id
