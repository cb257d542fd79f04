# SPDX-License-Identifier: Apache-2.0
"""Which messages of the broker were dealt with already, for those that it sends again after the link was cut.

A broker sends again what it has no PUBACK for, under the number that it had (MQTT-4.4.0-1), and the PUBACK may be what
got lost. We acknowledge in order, so what is under way are the last ones that came: no more than the receive
maximum. It knows no topic and no client.
"""

from __future__ import annotations

COMPARED_BYTES = 4096  # from the end of a payload, where a sealed frame has its tag


class Redeliveries:
    """The last `most` messages with QoS 1: their numbers, and what tells their payloads apart."""

    __slots__ = ("_most", "_seen")

    def __init__(self, most: int) -> None:
        self._most = most
        self._seen: dict[int, int] = {}

    def note(self, packet_id: int, payload: bytes, again: bool) -> bool:
        """Take note of a message that came; False when it came before. `again`: the broker says that it may have."""
        mark = hash(payload[-COMPARED_BYTES:])
        before = self._seen.pop(packet_id, None)
        self._seen[packet_id] = mark
        if again and before == mark:
            return False
        if len(self._seen) > self._most:
            del self._seen[next(iter(self._seen))]
        return True

    def clear(self) -> None:
        """The broker has forgotten what was under way."""
        self._seen.clear()
