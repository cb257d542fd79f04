# SPDX-License-Identifier: Apache-2.0
"""One MQTT 3.1.1 connection as a state machine: packets in, what to do out.

A client has exactly its own topics (architecture decision 2): it may publish to `c2s` or `in` and to
`status`, and subscribe to `s2c`, `out` and `status`; topics are compared as whole byte strings, one look-up
each. Session present is always 0, nothing outlives the connection.

It will not touch a socket, read a clock, or know who may log in: it asks with `Login`, and whoever drives it
answers with `accept` or `refuse` before the next packet.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any, TypeAlias

from thalovant.protocol.errors import MqttError
from thalovant.protocol.mqtt import packets as mqtt
from thalovant.protocol.mqtt.v311 import encode
from thalovant.protocol.topics import OFFLINE, ONLINE, SPELLINGS, STATUS
from thalovant_server.gateways.mqtt.bounds import Bounds
from thalovant_server.gateways.mqtt.window import Window

PUBLISHED = frozenset({*SPELLINGS, STATUS})
SUBSCRIBED = frozenset({*SPELLINGS.values(), STATUS})
STATUSES = frozenset({ONLINE, OFFLINE})

_PINGRESP = encode(mqtt.Pingresp())


@dataclass(slots=True)
class Send:
    """Write these bytes, after everything before them."""

    data: bytes


@dataclass(slots=True)
class Login:
    """Decide about this CONNECT now: `accept` or `refuse`."""

    connect: mqtt.Connect


@dataclass(slots=True)
class Inbound:
    """A payload for the hub, on `<prefix>/<segment>`: `c2s` or `in`."""

    segment: str
    payload: bytes = field(repr=False)


@dataclass(slots=True)
class StatusSaid:
    """The client published its status: `online` or `offline`."""

    payload: bytes


@dataclass(slots=True)
class Granted:
    """The client now hears `<prefix>/<segment>`; what is retained there is due."""

    segment: str


@dataclass(slots=True)
class Left:
    """The client no longer hears `<prefix>/<segment>`."""

    segment: str


@dataclass(slots=True)
class Denied:
    """So many filters of a SUBSCRIBE were not granted: something for the audit log."""

    filters: int


@dataclass(slots=True)
class Over:
    """The connection is over: write what is to be written, then close."""

    code: str
    reason: str


Output: TypeAlias = Send | Login | Inbound | StatusSaid | Granted | Left | Denied | Over


class Phase(Enum):
    """Where a connection stands."""

    WAITING = auto()  # for its CONNECT
    DECIDING = auto()  # whether it may log in
    OPEN = auto()
    OVER = auto()


class MqttSession:
    """The state of one connection. `will` is what to publish when it ends now, None after DISCONNECT."""

    __slots__ = ("_bounds", "_granted", "_segments", "_topics", "_unreleased", "_window", "phase", "will")

    def __init__(self, bounds: Bounds) -> None:
        self.phase = Phase.WAITING
        self.will: mqtt.Will | None = None
        self._bounds = bounds
        self._segments: Mapping[bytes, str] = {}
        self._topics: dict[str, bytes] = {}
        self._granted: dict[str, int] = {}
        self._unreleased: set[int] = set()
        self._window = Window(bounds.in_flight)

    @property
    def open(self) -> bool:
        """Whether the client is logged in."""
        return self.phase is Phase.OPEN

    @property
    def waiting_bytes(self) -> int:
        """Payload bytes that wait for the client's acknowledgements."""
        return self._window.waiting_bytes

    @property
    def waiting(self) -> int:
        """PUBLISHes that wait for the client's acknowledgements."""
        return self._window.waiting

    def hears(self, segment: str) -> bool:
        """Whether the client is subscribed to `<prefix>/<segment>`."""
        return segment in self._granted

    def receive(self, packet: mqtt.Packet) -> list[Output]:
        """What to do about a packet of the client. After `Over`, nothing."""
        if self.phase is Phase.OPEN:
            handler = _HANDLERS.get(type(packet))
            return handler(self, packet) if handler is not None else self._violation(packet)
        if self.phase is Phase.WAITING and isinstance(packet, mqtt.Connect):
            return self._connect(packet)
        return [] if self.phase is Phase.OVER else self._violation(packet)

    def fail(self, error: MqttError) -> list[Output]:
        """What to do when the bytes were no packet. Another version of MQTT is told so (MQTT-3.1.2-2)."""
        if self.phase is Phase.OVER:
            return []
        answer: list[Output] = []
        if self.phase is Phase.WAITING and isinstance(error, mqtt.UnsupportedVersionError):
            answer = [Send(encode(mqtt.Connack(False, mqtt.UNACCEPTABLE_VERSION)))]
        return answer + self._over(error.code, error.reason)

    def accept(self, segments: Mapping[bytes, str], will: mqtt.Will | None) -> list[Output]:
        """The login is good. `segments` are the topics the client has: whole topic to its last segment."""
        self.phase = Phase.OPEN
        self.will = will
        self._segments = segments
        self._topics = {segment: topic for topic, segment in segments.items()}
        return [Send(encode(mqtt.Connack(False, mqtt.ACCEPTED)))]

    def refuse(self, code: int) -> list[Output]:
        """The login is not good; `code` is the return code of the CONNACK."""
        answer: list[Output] = [Send(encode(mqtt.Connack(False, code)))]
        return answer + self._over("refused", f"The login was refused with CONNACK {code}.")

    def publish(self, segment: str, payload: bytes, retain: bool = False) -> list[Output]:
        """Send to `<prefix>/<segment>`, if the client hears it, with QoS 1 at most and in the order of the
        calls.
        """
        qos = self._granted.get(segment)
        if qos is None or self.phase is not Phase.OPEN:
            return []
        return [Send(data) for data in self._window.put(self._topics[segment], payload, qos, retain)]

    def end(self) -> mqtt.Will | None:
        """The connection is over for another reason; the will that is to be published, if any."""
        self.phase = Phase.OVER
        will, self.will = self.will, None
        return will

    def _connect(self, packet: mqtt.Connect) -> list[Output]:
        self.phase = Phase.DECIDING
        if not self._good_client_id(packet):
            return self.refuse(mqtt.IDENTIFIER_REJECTED)
        return [Login(packet)]

    def _good_client_id(self, packet: mqtt.Connect) -> bool:
        """Not empty unless the session is clean (MQTT-3.1.3-8), short, and fit for a log."""
        name = packet.client_id
        if not name:
            return packet.clean_session
        return len(name) <= self._bounds.client_id_chars and all(unicodedata.category(c) != "Cc" for c in name)

    def _published(self, packet: mqtt.Publish) -> list[Output]:
        segment = self._segments.get(packet.topic)
        if segment not in PUBLISHED:
            return self._over("denied_publish", "A PUBLISH to a topic that this client does not have.")
        if segment == STATUS:
            if packet.payload not in STATUSES:
                return self._over("denied_publish", "A status that is neither online nor offline.")
            arrived: Output = StatusSaid(packet.payload)
        elif packet.retain:
            return self._over("denied_publish", "A retained PUBLISH to the hub.")
        else:
            arrived = Inbound(segment, packet.payload)
        return self._answered(packet, arrived)

    def _answered(self, packet: mqtt.Publish, arrived: Output) -> list[Output]:
        """Acknowledge first: whoever waits for it to go on need not wait for the hub."""
        if packet.packet_id is None:
            return [arrived]
        if packet.qos == 1:
            return [Send(encode(mqtt.Puback(packet.packet_id))), arrived]
        answer = Send(encode(mqtt.Pubrec(packet.packet_id)))
        if packet.packet_id in self._unreleased:
            return [answer]  # the same one again: delivered once (MQTT 4.3.3)
        if len(self._unreleased) >= self._bounds.unreleased:
            return self._over("unreleased", "Too many PUBLISHes with QoS 2 that are not released.")
        self._unreleased.add(packet.packet_id)
        return [answer, arrived]

    def _released(self, packet: mqtt.Pubrel) -> list[Output]:
        self._unreleased.discard(packet.packet_id)
        return [Send(encode(mqtt.Pubcomp(packet.packet_id)))]

    def _acknowledged(self, packet: mqtt.Puback) -> list[Output]:
        return [Send(data) for data in self._window.acknowledged(packet.packet_id)]

    def _subscribe(self, packet: mqtt.Subscribe) -> list[Output]:
        codes, granted = [], []
        for topic_filter, qos in packet.filters:
            segment = self._segments.get(topic_filter)
            if segment in SUBSCRIBED:
                self._granted[segment] = min(qos, 1)
                granted.append(segment)
            codes.append(mqtt.REFUSED if segment not in SUBSCRIBED else self._granted[segment])
        answer: list[Output] = [Send(encode(mqtt.Suback(packet.packet_id, tuple(codes))))]
        denied = codes.count(mqtt.REFUSED)
        answer += [Denied(denied)] if denied else []
        return answer + [Granted(segment) for segment in dict.fromkeys(granted)]

    def _unsubscribe(self, packet: mqtt.Unsubscribe) -> list[Output]:
        left = []
        for topic_filter in packet.filters:
            segment = self._segments.get(topic_filter, "")
            if self._granted.pop(segment, None) is not None:
                left.append(segment)
        answer: list[Output] = [Send(encode(mqtt.Unsuback(packet.packet_id)))]
        return answer + [Left(segment) for segment in left]

    def _ping(self, packet: mqtt.Pingreq) -> list[Output]:
        return [Send(_PINGRESP)]

    def _disconnect(self, packet: mqtt.Disconnect) -> list[Output]:
        self.will = None  # MQTT-3.14.4-3
        return self._over("disconnect", "The client disconnected.")

    def _violation(self, packet: mqtt.Packet) -> list[Output]:
        name = type(packet).__name__.upper()
        return self._over("mqtt_protocol_violation", f"A {name} where it may not be.")

    def _over(self, code: str, reason: str) -> list[Output]:
        self.phase = Phase.OVER
        return [Over(code, reason)]


_HANDLERS: dict[type[Any], Callable[[MqttSession, Any], list[Output]]] = {
    mqtt.Publish: MqttSession._published,
    mqtt.Puback: MqttSession._acknowledged,
    mqtt.Pubrel: MqttSession._released,
    mqtt.Subscribe: MqttSession._subscribe,
    mqtt.Unsubscribe: MqttSession._unsubscribe,
    mqtt.Pingreq: MqttSession._ping,
    mqtt.Disconnect: MqttSession._disconnect,
}
