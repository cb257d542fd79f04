# SPDX-License-Identifier: Apache-2.0
"""One client's connection to its hub's broker: one subscription, frames in order, its presence, a goodbye.

Sans-I/O, as `client_connection` is, which does what every MQTT client does. A session never outlives its connection.
"""

from __future__ import annotations

from collections.abc import Sequence

from thalovant.protocol.errors import ProtocolViolationError
from thalovant.protocol.mqtt.client_connection import (
    FAILURE,
    NOTHING_RETAINED,
    ClientConnection,
    Patience,
    Phase,
)
from thalovant.protocol.mqtt.client_events import (
    Event,
    Frame,
    LoggedIn,
    NobodyListens,
    NotTaken,
    PublishRefused,
    SubscriptionRefused,
    TopicKind,
)
from thalovant.protocol.mqtt.packets import Codec, Connack, Connect, Publish, Suback
from thalovant.protocol.mqtt.reason_codes import ReasonCode
from thalovant.protocol.topics import TopicSet


class MqttClientSession(ClientConnection):
    """One connection with `login`, in the version of `codec`; `qos` 0 or 1 is the client's own wish for its frames."""

    requests = 1  # the one SUBSCRIBE

    def __init__(self, codec: Codec, login: Connect, topics: TopicSet, qos: int, patience: Patience) -> None:
        super().__init__(codec, login, patience)
        self._c2s, self._s2c, self._status = (name.encode() for name in (topics.c2s, topics.s2c, topics.status))
        self._qos = qos

    def send(self, payload: bytes, now: float) -> Sequence[Event]:
        """Send a frame, or let it wait behind earlier ones. Dropped when the connection is over."""
        return self.publish(self._c2s, payload, now, qos=self._qos)

    def say(self, presence: bytes, now: float) -> Sequence[Event]:
        """Publish this client's presence, with QoS 1 and retained unless the broker takes no such thing."""
        return self.publish(self._status, presence, now, retain=True)

    def _let_in(self, packet: Connack, now: float, events: list[Event]) -> None:
        self.phase = Phase.SUBSCRIBING
        self._qos = min(self._qos, self._most_qos)
        events += self.subscribe([(self._s2c, self._qos | NOTHING_RETAINED)])

    def _subscribed(self, packet: Suback, events: list[Event]) -> None:
        if self.phase is not Phase.SUBSCRIBING or packet.packet_id != self.requests or len(packet.codes) != 1:
            raise ProtocolViolationError("SUBACK to another SUBSCRIBE than ours.")
        if packet.codes[0] >= FAILURE:
            self._end(SubscriptionRefused(packet.codes[0], packet.properties.reason_string or ""), events)
        else:
            self.phase = Phase.OPEN
            events.append(LoggedIn())

    def _arrived(self, packet: Publish, events: list[Event]) -> None:
        """What was retained belongs to no session, and other topics were not asked for."""
        if packet.topic == self._s2c and not packet.retain:
            events.append(Frame(packet.payload))

    def _not_taken(self, event: NotTaken, events: list[Event]) -> None:
        """A message that was refused is lost, and with it the session that it belonged to.

        So is a frame that nobody hears. To presence nobody needs to listen: it is retained.
        """
        if event.code == ReasonCode.NO_MATCHING_SUBSCRIBERS and event.topic == self._c2s:
            self._end(NobodyListens(), events, ReasonCode.DISCONNECT_WITH_WILL_MESSAGE)
        if event.code >= FAILURE:
            kind: TopicKind = "c2s" if event.topic == self._c2s else "status"
            self._end(PublishRefused(kind, event.code, event.said), events, ReasonCode.DISCONNECT_WITH_WILL_MESSAGE)
