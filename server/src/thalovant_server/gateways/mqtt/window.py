# SPDX-License-Identifier: Apache-2.0
"""PUBLISHes on their way to one client: strictly in order, so many unacknowledged, the others waiting.

Within one connection nothing is ever sent again (MQTT does so only after a reconnect, and nothing outlives a
connection here), so only the identifiers of what was sent are kept, not the payloads. Whoever
holds a window bounds what waits in it by `waiting_bytes` and `waiting`. It knows no socket.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from thalovant.protocol.mqtt.packets import EncodePublish
from thalovant.protocol.mqtt.v311 import V311


class Window:
    """The identifiers in flight, and the queue behind them. `most` is how many may be in flight."""

    __slots__ = ("_encode", "_in_flight", "_last_id", "_most", "_waiting", "waiting_bytes")

    def __init__(self, most: int, encode: EncodePublish = V311.encode_publish) -> None:
        self._most = most
        self._encode = encode
        self._last_id = 0
        self._in_flight: set[int] = set()
        self._waiting: deque[tuple[bytes, bytes, int, bool]] = deque()
        self.waiting_bytes = 0

    @property
    def waiting(self) -> int:
        """PUBLISHes that wait for an acknowledgement of an earlier one."""
        return len(self._waiting)

    def put(self, topic: bytes, payload: bytes, qos: int, retain: bool = False) -> Iterator[bytes]:
        """Take one PUBLISH; the packets that may be written now, in order."""
        self._waiting.append((topic, payload, qos, retain))
        self.waiting_bytes += len(payload)
        return self._ready()

    def acknowledged(self, packet_id: int) -> Iterator[bytes]:
        """A PUBACK came; the packets that may be written now. One for an unknown identifier changes nothing."""
        self._in_flight.discard(packet_id)
        return self._ready()

    def _ready(self) -> Iterator[bytes]:
        while self._waiting and (not self._waiting[0][2] or len(self._in_flight) < self._most):
            topic, payload, qos, retain = self._waiting.popleft()
            self.waiting_bytes -= len(payload)
            yield self._encode(topic, payload, qos=qos, packet_id=self._new_id() if qos else None, retain=retain)

    def _new_id(self) -> int:
        """An identifier that is not in use (MQTT-2.3.1-2); there always is one, `most` being far below 65535."""
        while True:
            self._last_id = self._last_id % 65_535 + 1
            if self._last_id not in self._in_flight:
                self._in_flight.add(self._last_id)
                return self._last_id
