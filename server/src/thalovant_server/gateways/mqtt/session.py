# SPDX-License-Identifier: Apache-2.0
"""One MQTT connection as a state machine, of version 3.1.1 or 5 as its CONNECT says: packets in, what to do out.

What a client may publish and hear is in `rights`, topics are compared as whole byte strings, one look-up each.
Session present is always 0, nothing outlives the connection. Where the versions differ: 3.1.1 can only close the
connection of whoever does what may not be, 5 says why, and a denied PUBLISH that is acknowledged leaves it standing.

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
from thalovant.protocol.mqtt.properties import NOTHING, Properties
from thalovant.protocol.mqtt.reason_codes import ReasonCode
from thalovant.protocol.mqtt.v5 import V5
from thalovant.protocol.mqtt.v311 import V311
from thalovant.protocol.topics import STATUS
from thalovant_server.gateways.mqtt.bounds import Bounds
from thalovant_server.gateways.mqtt.reasons import UNSPECIFIED, reason_for
from thalovant_server.gateways.mqtt.rights import Denial, filter_denial, publish_denial
from thalovant_server.gateways.mqtt.terms import FRAME_BYTES, LEAST_PACKET, Answer, publish_size, terms_of
from thalovant_server.gateways.mqtt.window import Window
from thalovant_server.hub.refusal import CREDENTIAL, PROTOCOL, Refusal

# What is refused before anybody asks who the client is.
BAD_CLIENT_ID = Refusal(
    "bad_client_id", "a client id is too long or has a control character", PROTOCOL, 500, mqtt.IDENTIFIER_REJECTED
)
BAD_METHOD = Refusal(
    "bad_authentication_method", "an authentication method beside user name and password", CREDENTIAL, 403
)
SMALL_PACKETS = Refusal(
    "small_packets", f"Allow packets of {LEAST_PACKET} bytes and more: a hub's answers are larger.", PROTOCOL, 500
)

DENIED_SUBSCRIBE = "denied_subscribe"
DENIED_PUBLISH = "denied_publish"

_PINGRESP = V311.encode(mqtt.Pingresp())  # the same in both versions
_PRIVATE = 0x80  # from this protocol level on: 3.1 and 3.1.1 between brokers
_ONLY_WHEN_NEW = 0x10  # retain handling 1 (MQTT 5, 3.8.3.1)


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
    """The client published its status: `online` or `offline`. `retain` is the flag that it was published with."""

    payload: bytes
    retain: bool = False


@dataclass(slots=True)
class Granted:
    """The client now hears `<prefix>/<segment>`, and what is retained there is due."""

    segment: str


@dataclass(slots=True)
class Left:
    """The client no longer hears `<prefix>/<segment>`."""

    segment: str


@dataclass(slots=True)
class Denied:
    """A filter of a SUBSCRIBE was not granted, or a PUBLISH was denied: something for the audit log."""

    code: str
    topic: bytes


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
    """The state of one connection. `will` is what to publish when it ends now, None after DISCONNECT.

    `terms` are those of its CONNECT, and of a 3.1.1 client before that.
    """

    __slots__ = (
        "_bounds",
        "_encode",
        "_granted",
        "_options",
        "_segments",
        "_topics",
        "_unreleased",
        "_window",
        "phase",
        "terms",
        "will",
    )

    def __init__(self, bounds: Bounds) -> None:
        self.phase = Phase.WAITING
        self.will: mqtt.Will | None = None
        self.terms = terms_of(mqtt.Connect(""), bounds)
        self._encode = self.terms.codec.encode
        self._bounds = bounds
        self._segments: Mapping[bytes, str] = {}
        self._topics: dict[str, bytes] = {}
        self._granted: dict[str, int] = {}
        self._options: dict[str, int] = {}
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

    def wants(self, segment: str, option: int) -> bool:
        """Whether it is, with that option: `packets.NO_LOCAL` or `packets.RETAIN_AS_PUBLISHED`."""
        return self._options.get(segment, 0) & option != 0

    def receive(self, packet: mqtt.Packet) -> list[Output]:
        """What to do about a packet of the client. After `Over`, nothing."""
        if self.phase is Phase.OPEN:
            handler = _HANDLERS.get(type(packet))
            return handler(self, packet) if handler is not None else self._violation(packet)
        if self.phase is Phase.WAITING and isinstance(packet, mqtt.Connect):
            return self._connect(packet)
        return [] if self.phase is Phase.OVER else self._violation(packet)

    def fail(self, error: MqttError) -> list[Output]:
        """What to do when the bytes were no packet. A CONNECT whose version is known is answered in it."""
        if self.phase is Phase.OVER:
            return []
        answer: list[Output] = []
        if self.phase is Phase.WAITING:
            answer = [Send(data) for data in _bad_connect(error)]
        return answer + self._over(error.code, error.reason, error.reason_code)

    def accept(
        self, segments: Mapping[bytes, str], will: mqtt.Will | None, assigned: str | None = None
    ) -> list[Output]:
        """The login is good. `segments` are the topics the client has: whole topic to its last segment.

        `assigned` is the client id of a client that came without one.
        """
        self.phase = Phase.OPEN
        self.will = will
        self._segments = segments
        self._topics = {segment: topic for topic, segment in segments.items()}
        self._window = Window(self.terms.in_flight, self.terms.codec.encode_publish)
        return self._say(self.terms.welcome(self._bounds, assigned))

    def refuse(self, why: Refusal) -> list[Output]:
        """The login is not good, and this is why."""
        reason = reason_for(why.code) or UNSPECIFIED
        code = int(reason.connack) if self.terms.five else why.connack
        data = self.terms.say(mqtt.Connack(False, code), reason.advice or why.reason)
        answer: list[Output] = [] if data is None else [Send(data)]
        return answer + self._over("refused", f"The login was refused with CONNACK {code}.")

    def publish(self, segment: str, payload: bytes, retain: bool = False) -> list[Output]:
        """Send to `<prefix>/<segment>`, if the client hears it, with QoS 1 at most and in the order of the
        calls. One that is larger than the client takes is not sent, and what was to be heard is over with it.
        """
        qos = self._granted.get(segment)
        if qos is None or self.phase is not Phase.OPEN:
            return []
        topic = self._topics[segment]
        if not self.terms.takes_publish(topic, payload, qos):
            return [] if segment == STATUS else self._too_large(topic, payload)
        return [Send(data) for data in self._window.put(topic, payload, qos, retain)]

    def goodbye(self, code: str, reason: str) -> list[Output]:
        """What to write before the connection is ended from our side: in MQTT 5 why, in 3.1.1 nothing."""
        why = reason_for(code)
        if self.phase is not Phase.OPEN or why is None:
            return []
        return self._farewell(why.disconnect, why.advice or reason)

    def end(self) -> mqtt.Will | None:
        """The connection is over for another reason; the will that is to be published, if any."""
        self.phase = Phase.OVER
        will, self.will = self.will, None
        return will

    # -- CONNECT ----------------------------------------------------------------------------------------------

    def _connect(self, packet: mqtt.Connect) -> list[Output]:
        self.phase = Phase.DECIDING
        self.terms = terms_of(packet, self._bounds)
        self._encode = self.terms.codec.encode
        if not self.terms.takes(LEAST_PACKET):
            return self.refuse(SMALL_PACKETS)
        if packet.properties.authentication_method is not None:
            return self.refuse(BAD_METHOD)  # MQTT-4.12.0-1
        if not self._good_client_id(packet):
            return self.refuse(BAD_CLIENT_ID)
        return [Login(packet)]

    def _good_client_id(self, packet: mqtt.Connect) -> bool:
        """Short, and fit for a log; in 3.1.1 not empty unless the session is clean (MQTT-3.1.3-8)."""
        name = packet.client_id
        if not name:
            return packet.clean_session or self.terms.five
        return len(name) <= self._bounds.client_id_chars and all(unicodedata.category(c) != "Cc" for c in name)

    # -- PUBLISH to us ----------------------------------------------------------------------------------------

    def _published(self, packet: mqtt.Publish) -> list[Output]:
        if packet.properties is not NOTHING and (misuse := self._misused(packet.properties)):
            return misuse
        segment = self._segments.get(packet.topic, "")
        denial = publish_denial(segment, packet)
        if denial is not None:
            return self._denied(packet, denial)
        if segment == STATUS:
            return self._answered(packet, StatusSaid(packet.payload, packet.retain))
        return self._answered(packet, Inbound(segment, packet.payload))

    def _misused(self, properties: Properties) -> list[Output]:
        """Properties that a client may not send. The others mean nothing to a hub: they are checked and dropped."""
        if properties.topic_alias is not None:  # 3.3.2.3.4
            text = "Topic aliases are not offered: send each PUBLISH with its topic."
            return self._over("topic_alias", text, ReasonCode.TOPIC_ALIAS_INVALID)
        if properties.subscription_identifiers:  # MQTT-3.3.4-6
            text = "A subscription identifier is the server's to send."
            return self._over("mqtt_protocol_violation", text, ReasonCode.PROTOCOL_ERROR)
        return []

    def _denied(self, packet: mqtt.Publish, denial: Denial) -> list[Output]:
        """3.1.1 can only close. 5 says it in the acknowledgement; where there is none it ends, or nobody would know."""
        denied = Denied(DENIED_PUBLISH, packet.topic)
        if packet.packet_id is None or not self.terms.five:
            return [denied, *self._over(DENIED_PUBLISH, denial.advice, denial.code)]
        answer: Answer = mqtt.Puback(packet.packet_id, denial.code)
        if packet.qos == 2:
            self._unreleased.discard(packet.packet_id)  # MQTT-4.3.3-9: after this PUBREC the identifier is free
            answer = mqtt.Pubrec(packet.packet_id, denial.code)
        return [*self._say(answer, denial.advice), denied]

    def _answered(self, packet: mqtt.Publish, arrived: Output) -> list[Output]:
        """Acknowledge first: whoever waits for it to go on need not wait for the hub."""
        if packet.packet_id is None:
            return [arrived]
        if packet.qos == 2 and packet.packet_id in self._unreleased:
            return [Send(self._encode(mqtt.Pubrec(packet.packet_id)))]  # the same one again: delivered once (4.3.3)
        if len(self._unreleased) >= self._bounds.unreleased and (packet.qos == 2 or self.terms.five):
            text = "Too many PUBLISHes with QoS 2 are not released: keep to the Receive Maximum of the CONNACK."
            return self._over("unreleased", text, ReasonCode.RECEIVE_MAXIMUM_EXCEEDED)
        if packet.qos == 1:
            return [Send(self._encode(mqtt.Puback(packet.packet_id))), arrived]
        self._unreleased.add(packet.packet_id)
        return [Send(self._encode(mqtt.Pubrec(packet.packet_id))), arrived]

    def _released(self, packet: mqtt.Pubrel) -> list[Output]:
        code = ReasonCode.SUCCESS
        if packet.packet_id in self._unreleased:
            self._unreleased.remove(packet.packet_id)
        elif self.terms.five:
            code = ReasonCode.PACKET_IDENTIFIER_NOT_FOUND
        return self._say(mqtt.Pubcomp(packet.packet_id, code))

    # -- PUBLISH to the client --------------------------------------------------------------------------------

    def _acknowledged(self, packet: mqtt.Puback) -> list[Output]:
        """Whatever its code: a client that does not want a message has had it all the same."""
        return [Send(data) for data in self._window.acknowledged(packet.packet_id)]

    def _too_large(self, topic: bytes, payload: bytes) -> list[Output]:
        """The session that lost a frame is over, and nothing but a DISCONNECT can tell its client."""
        needed = publish_size(topic, max(len(payload), FRAME_BYTES), 1)
        text = f"The hub's answer is larger than this client takes: allow packets of {needed} bytes."
        return self._over("client_packet_size", text, ReasonCode.PACKET_TOO_LARGE)

    # -- SUBSCRIBE and UNSUBSCRIBE ----------------------------------------------------------------------------

    def _subscribe(self, packet: mqtt.Subscribe) -> list[Output]:
        if packet.properties.subscription_identifiers:  # MQTT 5, 3.2.2.3.12
            text = "Subscription identifiers are not offered: subscribe without one."
            return self._over("subscription_identifier", text, ReasonCode.SUBSCRIPTION_IDENTIFIERS_NOT_SUPPORTED)
        codes: list[int] = []
        denials: list[Denial] = []
        due: list[str] = []
        refused = b""  # the first of them
        for topic_filter, options in packet.filters:
            segment = self._segments.get(topic_filter, "")
            denial = filter_denial(segment, topic_filter)
            if denial is not None:
                codes.append(denial.code if self.terms.five else mqtt.REFUSED)
                denials.append(denial)
                refused = refused or topic_filter
                continue
            if self._grant(segment, options):
                due.append(segment)
            codes.append(self._granted[segment])
        answer = self._say(mqtt.Suback(packet.packet_id, tuple(codes)), denials[0].advice if denials else "")
        if denials:
            answer.append(Denied(DENIED_SUBSCRIBE, refused))
        return answer + [Granted(segment) for segment in dict.fromkeys(due)]

    def _grant(self, segment: str, options: int) -> bool:
        """Whether what is retained there is due (MQTT 5, 3.8.3.1); to a client of 3.1.1 it always is."""
        new = segment not in self._granted
        self._granted[segment] = min(options & 3, 1)
        self._options[segment] = options
        handling = options & mqtt.RETAIN_HANDLING
        return not handling or (new and handling == _ONLY_WHEN_NEW)

    def _unsubscribe(self, packet: mqtt.Unsubscribe) -> list[Output]:
        codes, left = [], []
        for topic_filter in packet.filters:
            segment = self._segments.get(topic_filter, "")
            if self._granted.pop(segment, None) is None:
                codes.append(ReasonCode.NO_SUBSCRIPTION_EXISTED)
                continue
            codes.append(ReasonCode.SUCCESS)
            del self._options[segment]
            left.append(segment)
        answer = self._say(mqtt.Unsuback(packet.packet_id, tuple(codes) if self.terms.five else ()))
        return answer + [Left(segment) for segment in left]

    # -- the rest ---------------------------------------------------------------------------------------------

    def _ping(self, packet: mqtt.Pingreq) -> list[Output]:
        return [Send(_PINGRESP)]

    def _disconnect(self, packet: mqtt.Disconnect) -> list[Output]:
        if packet.properties.session_expiry_interval and not self.terms.expires:
            text = "A session that was to end with its connection cannot be prolonged."  # MQTT 5, 3.14.2.2.2
            return self._over("mqtt_protocol_violation", text, ReasonCode.PROTOCOL_ERROR)
        if packet.code == ReasonCode.NORMAL_DISCONNECTION:
            self.will = None  # MQTT-3.14.4-3; any other code publishes it (MQTT 5, 3.1.2.5)
        return self._over("disconnect", "The client disconnected.")

    def _violation(self, packet: mqtt.Packet) -> list[Output]:
        name = type(packet).__name__.upper()
        return self._over("mqtt_protocol_violation", f"A {name} where it may not be.", ReasonCode.PROTOCOL_ERROR)

    def _say(self, packet: Answer, advice: str = "") -> list[Output]:
        data = self.terms.say(packet, advice)
        if data is not None:
            return [Send(data)]
        text = "The answer is larger than this client takes: ask for less at once, or allow larger packets."
        return self._over("client_packet_size", text, ReasonCode.PACKET_TOO_LARGE)

    def _farewell(self, code: int, reason: str) -> list[Output]:
        """DISCONNECT, which only a client of MQTT 5 that is logged in can be sent (MQTT-3.14.0-1)."""
        if not self.open or not self.terms.five:
            return []
        data = self.terms.say(mqtt.Disconnect(code), reason)
        return [] if data is None else [Send(data)]

    def _over(self, code: str, reason: str, why: int | None = None) -> list[Output]:
        """The end; `why` is for the client, None when it knows."""
        farewell = [] if why is None else self._farewell(why, reason)
        self.phase = Phase.OVER
        return [*farewell, Over(code, reason)]


def _bad_connect(error: MqttError) -> list[bytes]:
    """The CONNACK for a CONNECT that is not acceptable. Of 3.1.1 there is none for one of its own (MQTT-3.1.4-1).

    One for another version is of 5 for a later one, of 3.1.1 for an earlier one and for private ones. It has no
    reason string: what the client takes is not known.
    """
    if error.level is not None and V5.level <= error.level < _PRIVATE:
        return [V5.encode(mqtt.Connack(False, error.reason_code))]
    if isinstance(error, mqtt.UnsupportedVersionError):
        return [V311.encode(mqtt.Connack(False, mqtt.UNACCEPTABLE_VERSION))]  # MQTT-3.1.2-2
    return []


_HANDLERS: dict[type[Any], Callable[[MqttSession, Any], list[Output]]] = {
    mqtt.Publish: MqttSession._published,
    mqtt.Puback: MqttSession._acknowledged,
    mqtt.Pubrel: MqttSession._released,
    mqtt.Subscribe: MqttSession._subscribe,
    mqtt.Unsubscribe: MqttSession._unsubscribe,
    mqtt.Pingreq: MqttSession._ping,
    mqtt.Disconnect: MqttSession._disconnect,
}
