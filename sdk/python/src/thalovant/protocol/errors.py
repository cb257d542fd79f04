# SPDX-License-Identifier: Apache-2.0
"""Every error that the wire code can raise, drawn as one tree.

    ProtocolError
    ├── NoiseError              a Noise message or key is not acceptable
    │   ├── AuthenticationError the message was not made with these keys, or not in this order
    │   └── NonceExhaustedError the cipher has used up its counter
    ├── FrameError              sealed frames in an impossible sequence
    ├── MessageError            a HiveMessage, or a binary frame, is malformed
    ├── TooLargeError           a stated limit was passed
    ├── TopicError              a topic name, filter or prefix cannot be used
    ├── SessionError            the session was used in a state that does not allow it
    ├── ExchangeError           a body of the HTTPS carrier's exchange is malformed
    └── MqttError               an MQTT packet or exchange is not acceptable
        ├── MalformedPacketError    the bytes are not a packet
        ├── PacketTooLargeError     the packet is longer than this side takes
        └── ProtocolViolationError  a packet, or a value in it, that the standard forbids

Each has a stable `code` for programs and a sentence for people. No error here ever carries key material,
plaintext or a password. These never leave the SDK's public surface as they are: the root modules turn them
into `thalovant.errors`.
"""

from __future__ import annotations

from typing import ClassVar

from thalovant.protocol.mqtt.reason_codes import ReasonCode


class ProtocolError(Exception):
    """Root of the tree. `code` is stable across versions; `text` is the sentence."""

    default_code: ClassVar[str] = "protocol"

    def __init__(self, text: str, *, code: str | None = None) -> None:
        super().__init__(text)
        self.text = text
        self.code = code or self.default_code


class NoiseError(ProtocolError):
    """A Noise message, key or use of the handshake is not acceptable (Noise revision 34)."""

    default_code = "noise"


class AuthenticationError(NoiseError):
    """A Noise message does not authenticate: other keys, other bytes or another order."""

    default_code = "noise_authentication"


class NonceExhaustedError(NoiseError):
    """The 64-bit counter of a cipher is used up; only a new handshake helps (Noise 5.1)."""

    default_code = "noise_nonce_exhausted"


class FrameError(ProtocolError):
    """Sealed frames came in a sequence the contract forbids (contract 6.1). Fatal for the session."""

    default_code = "frame"


class MessageError(ProtocolError):
    """A HiveMessage or a binary frame is malformed (contract 7 and 8)."""

    default_code = "message"


class TooLargeError(ProtocolError):
    """A stated limit was passed. `limit` is that limit, in bytes unless the text says otherwise."""

    default_code = "too_large"

    def __init__(self, text: str, *, limit: int, code: str | None = None) -> None:
        super().__init__(text, code=code)
        self.limit = limit


class TopicError(ProtocolError):
    """A topic name, filter or prefix cannot be used (contract 10.3, MQTT 4.7). `topic` is what was given."""

    default_code = "topic"

    def __init__(self, text: str, *, topic: str = "", code: str | None = None) -> None:
        super().__init__(text, code=code)
        self.topic = topic


class SessionError(ProtocolError):
    """The session was asked for something its state does not allow, such as sending before it is ready."""

    default_code = "session"


class ExchangeError(ProtocolError):
    """A body of `POST /exchange` is malformed (docs/wire.md)."""

    default_code = "exchange"


class MqttError(ProtocolError):
    """An MQTT packet or exchange is not acceptable. `reason` is a short sentence that is safe to log.

    `reason_code` is what MQTT 5 says of it in a CONNACK or DISCONNECT (MQTT 5, 2.4). `level` is the protocol level
    that a CONNECT named, where it is a CONNECT that is not acceptable and that much of it could be read.
    """

    default_code = "mqtt"
    default_reason_code: ClassVar[ReasonCode] = ReasonCode.UNSPECIFIED_ERROR

    def __init__(self, reason: str, *, code: str | None = None, reason_code: ReasonCode | None = None) -> None:
        super().__init__(reason, code=code)
        self.reason = reason
        self.reason_code = reason_code or self.default_reason_code
        self.level: int | None = None


class MalformedPacketError(MqttError):
    """The bytes are not an MQTT packet (MQTT 1.2, "malformed packet")."""

    default_code = "mqtt_malformed_packet"
    default_reason_code = ReasonCode.MALFORMED_PACKET


class PacketTooLargeError(MqttError):
    """The packet announces more bytes than this side takes. `size` and `limit` are in bytes."""

    default_code = "mqtt_packet_too_large"
    default_reason_code = ReasonCode.PACKET_TOO_LARGE

    def __init__(self, reason: str, *, size: int = 0, limit: int = 0) -> None:
        super().__init__(reason)
        self.size = size
        self.limit = limit


class ProtocolViolationError(MqttError):
    """A well-formed packet says or stands where the standard forbids it (MQTT 5, 1.2, "protocol error")."""

    default_code = "mqtt_protocol_violation"
    default_reason_code = ReasonCode.PROTOCOL_ERROR
