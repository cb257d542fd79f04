# SPDX-License-Identifier: Apache-2.0
"""What can happen on a client's MQTT connection, as values: `client_connection` and `client_session` make them.

Nothing here is for people.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

TopicKind = Literal["c2s", "status"]
"""A topic that a client publishes on, as the identity's fields are named; the topic itself is nobody's business."""


@dataclass(frozen=True, slots=True)
class Frame:
    """A message on this client's own topic."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class Accepted:
    """The broker has accepted the login, in MQTT `level`; `session_present`: it goes on with an earlier session."""

    session_present: bool
    level: int


@dataclass(frozen=True, slots=True)
class Subscribed:
    """SUBACK: a code for each filter of the SUBSCRIBE; from 0x80 on they are failures."""

    packet_id: int
    codes: tuple[int, ...]
    said: str = ""


@dataclass(slots=True)
class Arrived:
    """A message on some topic that was asked for. `again`: it may have been sent before (the DUP flag).

    `packet_id`: under which number it then came; None with QoS 0, which is never sent again.
    """

    topic: bytes
    payload: bytes = field(repr=False)
    retained: bool = False
    again: bool = False
    packet_id: int | None = None


@dataclass(frozen=True, slots=True)
class NotTaken:
    """PUBACK with a code (MQTT 5): from 0x80 on the message is lost; 0x10 says that nobody has subscribed."""

    topic: bytes = field(repr=False)
    code: int
    said: str = ""


@dataclass(frozen=True, slots=True)
class LoggedIn:
    """The broker has accepted the login and the subscription: frames may go."""


@dataclass(frozen=True, slots=True)
class VersionRefused:
    """The broker does not speak this version of MQTT."""


@dataclass(frozen=True, slots=True)
class LoginRefused:
    """CONNACK with a failure. `said` is its reason string, `instead` its server reference (MQTT 5)."""

    code: int
    said: str = ""
    instead: str = ""


@dataclass(frozen=True, slots=True)
class SubscriptionRefused:
    """SUBACK with a failure for the only filter."""

    code: int
    said: str = ""


@dataclass(frozen=True, slots=True)
class PublishRefused:
    """PUBACK with a failure (MQTT 5): the message is lost, and with it the session that it belonged to."""

    kind: TopicKind
    code: int
    said: str = ""


@dataclass(frozen=True, slots=True)
class NobodyListens:
    """PUBACK 0x10 (MQTT 5) to a frame: the hub has not subscribed to this client's topic, so the frame is lost."""


@dataclass(frozen=True, slots=True)
class PacketTooLarge:
    """A packet of ours is longer than the broker takes, in bytes (MQTT 5). It was not sent."""

    size: int
    limit: int


@dataclass(frozen=True, slots=True)
class BrokerLeft:
    """DISCONNECT of the broker (MQTT 5), with its reason string and server reference."""

    code: int
    said: str = ""
    instead: str = ""


@dataclass(frozen=True, slots=True)
class Violated:
    """The broker did what MQTT forbids; `reason` is safe to show, `code` is what a broker of MQTT 5 was told."""

    reason: str
    code: int


@dataclass(frozen=True, slots=True)
class Unanswered:
    """The broker is silent: no answer to a publish or a ping within so many seconds."""

    what: Literal["publish", "ping"]
    seconds: float


Ending: TypeAlias = (
    VersionRefused
    | LoginRefused
    | SubscriptionRefused
    | PublishRefused
    | NobodyListens
    | PacketTooLarge
    | BrokerLeft
    | Violated
    | Unanswered
)
"""The last event of a connection; there is none when its owner ends it."""

Event: TypeAlias = Frame | LoggedIn | Accepted | Subscribed | Arrived | NotTaken | Ending
