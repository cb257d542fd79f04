# SPDX-License-Identifier: Apache-2.0
"""The client's side of one MQTT connection, 3.1.1 or 5, whatever it is for: log in, then subscribe, publish and hear.

Sans-I/O. Bytes and the time go in, events come out of the same call; what is to be written waits in `out` until it is
taken. Nothing that arrives makes a method raise: what is wrong ends the connection with one `Ending`, and everything
after it is ignored. It knows no socket, no words for people, and never connects again.

With MQTT 5 both sides' limits are kept: what the broker asks for in its CONNACK here, what is asked of it there. Topic
aliases are neither used nor taken, no extended authentication is offered. What it is for says the class above it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum, auto

from thalovant.protocol.errors import MqttError, ProtocolViolationError
from thalovant.protocol.mqtt.client_events import (
    Accepted,
    Arrived,
    BrokerLeft,
    Ending,
    Event,
    LoginRefused,
    NotTaken,
    PacketTooLarge,
    Subscribed,
    Unanswered,
    VersionRefused,
    Violated,
)
from thalovant.protocol.mqtt.client_window import ClientWindow
from thalovant.protocol.mqtt.fields import encode_remaining_length
from thalovant.protocol.mqtt.framing import PacketReader
from thalovant.protocol.mqtt.packets import (
    ACCEPTED,
    UNACCEPTABLE_VERSION,
    Codec,
    Connack,
    Connect,
    Disconnect,
    Packet,
    Pingreq,
    Pingresp,
    Puback,
    Publish,
    Suback,
    Subscribe,
    Unsuback,
    Unsubscribe,
)
from thalovant.protocol.mqtt.properties import NOTHING, Properties
from thalovant.protocol.mqtt.reason_codes import DISCONNECT_CODES, ReasonCode
from thalovant.protocol.mqtt.v5 import V5
from thalovant.protocol.mqtt.versions import ANSWER

MAX_PACKET = 1_048_576  # bytes of a packet that is taken here
MAX_UNDER_WAY = 64  # publishes of ours without a PUBACK
RECEIVE_MAXIMUM = 256  # the same of the broker's

NOTHING_RETAINED = 0x20
"""An option of a filter: send nothing retained for it (retain handling 2 of MQTT 5, 3.8.3.1)."""
FAILURE = 0x80  # the first reason code that is one
_QOS = 3
_NONE: tuple[Event, ...] = ()


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds: for the answer to a publish; of having written nothing before a ping is sent; for the ping's answer."""

    publish: float
    before_ping: float
    ping: float


@dataclass(frozen=True, slots=True)
class Limits:
    """What is taken of a broker: bytes of a packet, publishes at once; and how many of ours may be under way."""

    packet_bytes: int = MAX_PACKET
    receive_maximum: int = RECEIVE_MAXIMUM
    under_way: int = MAX_UNDER_WAY


class Phase(Enum):
    """What the connection waits for."""

    CONNECTING = auto()
    SUBSCRIBING = auto()
    OPEN = auto()
    OVER = auto()


class ClientConnection:
    """One connection with `login`, in the version of `codec`.

    Times are seconds on any clock that only goes forward. A login without a clean session may go on with an earlier
    connection's: give its `window`. `session_expiry`: seconds for which the broker keeps it (MQTT 5).
    """

    requests = 16
    """Identifiers up to here are for SUBSCRIBE and UNSUBSCRIBE, in turn, so that no more of those may wait for their
    answers at a time; the others are for publishes.
    """

    def __init__(
        self,
        codec: Codec,
        login: Connect,
        patience: Patience,
        *,
        limits: Limits = Limits(),
        session_expiry: int = 0,
        window: ClientWindow | None = None,
    ) -> None:
        self.codec = codec
        self.client_id = login.client_id
        self.phase = Phase.CONNECTING
        self.heard = False
        """Whether the broker has said anything at all."""
        self.out: list[bytes] = []
        """Packets to be written, in order; `take` takes them."""
        self.before_ping = patience.before_ping
        self.window = window or self._new_window(limits.under_way)
        """What is under way; for a connection that goes on with this one's session."""
        self._is_5 = codec.level == V5.level
        self._login = login
        self._limits = limits
        self._session_expiry = session_expiry
        self._patience = patience
        self._reader = PacketReader(limits.packet_bytes, ANSWER if self._is_5 else codec)
        self._largest: int | None = None  # bytes of a packet that the broker takes
        self._most_qos = 1
        self._retains = True
        self.offers_wildcards = True
        """Whether it is a broker as most are; what serves its own clients alone offers none (MQTT 5, 3.2.2.3.11)."""
        self._last_request = 0
        self._unsubscribing: set[int] = set()  # identifiers without an UNSUBACK
        self._wrote_at = 0.0
        self._pinged_at: float | None = None

    def _new_window(self, most: int) -> ClientWindow:
        return ClientWindow(self.codec.encode_publish, most, self.requests, self.requests + 1)

    def start(self) -> None:
        """Say CONNECT."""
        properties = NOTHING
        if self._is_5:
            properties = Properties(
                session_expiry_interval=self._session_expiry,
                receive_maximum=self._limits.receive_maximum,
                maximum_packet_size=self._limits.packet_bytes,
            )
        self.out.append(self.codec.encode(replace(self._login, level=self.codec.level, properties=properties)))

    @property
    def over(self) -> bool:
        """Whether nothing more is delivered, and nothing more sent than what is in `out`."""
        return self.phase is Phase.OVER

    @property
    def congested(self) -> bool:
        """Whether publishes wait for acknowledgements of earlier ones."""
        return self.window.waiting and not self.over

    @property
    def queued(self) -> int:
        """How many publishes with QoS 1 there were so far; a mark for `settled`."""
        return self.window.queued

    def settled(self, mark: int) -> bool:
        """Whether nothing up to this mark waits for the broker's word any more."""
        return self.over or self.window.settled(mark)

    def take(self, now: float) -> bytes:
        """What is to be written now; at least one packet must be in `out`."""
        data = self.out[0] if len(self.out) == 1 else b"".join(self.out)
        self.out.clear()
        self._wrote_at = now
        return data

    def stop(self) -> None:
        """Be told that the connection is gone."""
        self.phase = Phase.OVER
        self.out.clear()

    # What comes in

    def receive(self, data: bytes, now: float) -> list[Event]:
        """What the broker's bytes mean, in order."""
        events: list[Event] = []
        self.heard = True
        try:
            while not self.over:
                alone = self.phase is Phase.CONNECTING  # its CONNACK settles how the rest is read
                packets = self._reader.feed(data, 1 if alone else None)
                for packet in packets:
                    self._receive(packet, now, events)
                if not (alone and packets):
                    break
                data = b""
            if self._reader.error is not None:
                raise self._reader.error
        except MqttError as error:
            self._violated(error, events)
        return events

    def _receive(self, packet: Packet, now: float, events: list[Event]) -> None:
        phase = self.phase
        if phase is Phase.OVER:
            return
        if type(packet) is Publish and phase is not Phase.CONNECTING:
            self._deliver(packet, events)
        elif type(packet) is Puback and phase is Phase.OPEN:
            self._acknowledged(packet, now, events)
        elif type(packet) is Pingresp and phase is Phase.OPEN:
            self._pinged_at = None
        elif type(packet) is Connack and phase is Phase.CONNECTING:
            self._answered(packet, now, events)
        elif type(packet) is Suback and phase is not Phase.CONNECTING:
            self._subscribed(packet, events)
        elif type(packet) is Unsuback and packet.packet_id in self._unsubscribing:
            self._unsubscribing.remove(packet.packet_id)
        elif type(packet) is Disconnect and self._is_5:
            said = packet.properties
            self._end(BrokerLeft(packet.code, said.reason_string or "", said.server_reference or ""), events)
        else:
            raise ProtocolViolationError(f"{type(packet).__name__.upper()} where none is expected.")

    def _answered(self, packet: Connack, now: float, events: list[Event]) -> None:
        said = packet.properties
        if packet.code == (ReasonCode.UNSUPPORTED_PROTOCOL_VERSION if self._is_5 else UNACCEPTABLE_VERSION):
            self._end(VersionRefused(), events)
        elif packet.code != ACCEPTED:
            self._end(LoginRefused(packet.code, said.reason_string or "", said.server_reference or ""), events)
        elif packet.session_present and self._is_5 and self._login.clean_session:  # MQTT-3.2.2-4
            raise ProtocolViolationError("The broker holds a session for a client id that was just made up.")
        else:
            self._reader.version = self.codec
            self._agree(said)
            self._let_in(packet, now, events)

    def _let_in(self, packet: Connack, now: float, events: list[Event]) -> None:
        """CONNACK says yes: the session goes on, or a new one begins."""
        self.phase = Phase.OPEN
        if packet.session_present:
            self.window.begin_again()
        else:
            self.window = self._new_window(self.window.most)
        events.append(Accepted(packet.session_present, self.codec.level))
        self.out += self.window.ready(now)

    def _agree(self, terms: Properties) -> None:
        """Keep to what the CONNACK of a broker of MQTT 5 asks for (3.2.2.3)."""
        most = self._limits.under_way
        self.window.most = min(most, terms.receive_maximum or most)
        self._largest = terms.maximum_packet_size
        self._retains = terms.retain_available != 0
        self.offers_wildcards = terms.wildcard_subscription_available != 0
        if terms.maximum_qos is not None:
            self._most_qos = min(1, terms.maximum_qos)
        self.client_id = terms.assigned_client_identifier or self.client_id
        if terms.server_keep_alive:
            self.before_ping = min(self.before_ping, terms.server_keep_alive / 2)

    def _subscribed(self, packet: Suback, events: list[Event]) -> None:
        events.append(Subscribed(packet.packet_id, packet.codes, packet.properties.reason_string or ""))

    def _deliver(self, packet: Publish, events: list[Event]) -> None:
        """Take a message."""
        if packet.qos == 2:
            raise ProtocolViolationError("PUBLISH with QoS 2, which was not asked for.")
        if packet.properties.topic_alias is not None:  # our topic alias maximum is 0 (MQTT-3.1.2-27)
            raise ProtocolViolationError(
                "PUBLISH with a topic alias, which is not taken.", reason_code=ReasonCode.TOPIC_ALIAS_INVALID
            )
        self._arrived(packet, events)
        if packet.packet_id is not None:
            self._confirm(packet.packet_id)

    def _arrived(self, packet: Publish, events: list[Event]) -> None:
        events.append(Arrived(packet.topic, packet.payload, packet.retain, packet.dup, packet.packet_id))

    def _confirm(self, packet_id: int) -> None:
        # Not held against MQTT-3.3.4-9: a flood makes Mosquitto 2.0 send as many more as it had queued, and hanging up
        # on it would punish everybody else on that connection.
        self.out.append(self.codec.encode(Puback(packet_id)))

    def _acknowledged(self, packet: Puback, now: float, events: list[Event]) -> None:
        topic = self.window.acknowledged(packet.packet_id)
        if topic is None:
            return
        if packet.code:
            self._not_taken(NotTaken(topic, packet.code, packet.properties.reason_string or ""), events)
        if not self.over:
            self.out += self.window.ready(now)

    def _not_taken(self, event: NotTaken, events: list[Event]) -> None:
        events.append(event)

    # What goes out

    def subscribe(self, filters: Sequence[tuple[bytes, int]]) -> Sequence[Event]:
        """Ask for these filters, each with its options; of those, 3.1.1 has the QoS alone.

        `Subscribed` answers it: SUBSCRIBEs are answered in their order.
        """
        asked = tuple((each, options if self._is_5 else options & _QOS) for each, options in filters)
        return _NONE if self.over else self._send(Subscribe(self._next_request(), asked))

    def unsubscribe(self, filters: Sequence[bytes]) -> Sequence[Event]:
        """Ask for these filters no longer."""
        if self.over:
            return _NONE
        packet_id = self._next_request()
        self._unsubscribing.add(packet_id)
        return self._send(Unsubscribe(packet_id, tuple(filters)))

    def fits(self, topic: bytes, payload: bytes) -> bool:
        """Whether the broker takes a packet as large as that; to publish a larger one is the end."""
        return self._largest is None or _publish_size(topic, payload, 1) <= self._largest

    def publish(
        self, topic: bytes, payload: bytes, now: float, *, qos: int = 1, retain: bool = False
    ) -> Sequence[Event]:
        """Publish, or let it wait behind earlier ones. Dropped when the connection is over.

        QoS and retain are less than asked for where the broker takes no such thing.
        """
        if self.over:
            return _NONE
        qos, retain = min(qos, self._most_qos), retain and self._retains
        if self._largest is not None and (too_large := self._too_large(_publish_size(topic, payload, qos))):
            return too_large
        if not qos:
            self.out.append(self.codec.encode_publish(topic, payload, qos=0, retain=retain))
        elif packet := self.window.put(topic, payload, retain, now):
            self.out.append(packet)
        return _NONE

    def leave(self) -> None:
        """Say DISCONNECT, all being well: the broker forgets the will, and the session."""
        if not self.over:
            self.phase = Phase.OVER
            forget = Properties(session_expiry_interval=0) if self._is_5 and self._session_expiry else NOTHING
            self.out.append(self.codec.encode(Disconnect(properties=forget)))

    def ping(self) -> None:
        """Ask the broker for a sign of life; its owner waits for it."""
        if not self.over:
            self.out.append(self.codec.encode(Pingreq()))

    def look(self, now: float) -> Sequence[Event]:
        """See whether the broker is still there; to be called a few times within `before_ping`."""
        if self.over:
            return _NONE
        if now - self.window.oldest(now) > self._patience.publish:
            return self._given_up(Unanswered("publish", self._patience.publish))
        if self._pinged_at is not None:
            silent = now - self._pinged_at > self._patience.ping
            return self._given_up(Unanswered("ping", self._patience.ping)) if silent else _NONE
        if now - self._wrote_at >= self.before_ping:
            self._pinged_at = now
            self.ping()
        return _NONE

    def _send(self, packet: Packet) -> list[Event]:
        data = self.codec.encode(packet)
        events = self._too_large(len(data))
        if not self.over:
            self.out.append(data)
        return events

    def _next_request(self) -> int:
        self._last_request = self._last_request % self.requests + 1
        return self._last_request

    def _too_large(self, size: int) -> list[Event]:
        """The end, if that is more than the broker takes (MQTT-3.2.2-15): nothing can follow what was not sent."""
        events: list[Event] = []
        if self._largest is not None and size > self._largest:
            self._end(PacketTooLarge(size, self._largest), events, ReasonCode.DISCONNECT_WITH_WILL_MESSAGE)
        return events

    # The end

    def _violated(self, error: MqttError, events: list[Event]) -> None:
        if not self.over:
            code = error.reason_code if error.reason_code in DISCONNECT_CODES else ReasonCode.PROTOCOL_ERROR
            self._end(Violated(error.reason, code), events, code)

    def _given_up(self, ending: Ending) -> list[Event]:
        """End without a word: nobody listens."""
        events: list[Event] = []
        self._end(ending, events)
        self.out.clear()
        return events

    def _end(self, ending: Ending, events: list[Event], told: int | None = None) -> None:
        """`told` is the reason that a broker of MQTT 5 hears; 3.1.1 has no word for any, and DISCONNECT would lie."""
        self.phase = Phase.OVER
        events.append(ending)
        if told is not None and self._is_5:
            self.out.append(self.codec.encode(Disconnect(told)))


def _publish_size(topic: bytes, payload: bytes, qos: int) -> int:
    """Bytes of a PUBLISH without properties."""
    body = len(topic) + len(payload) + (5 if qos else 3)  # their lengths, the identifier, no properties
    return 1 + len(encode_remaining_length(body)) + body
