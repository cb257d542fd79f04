# SPDX-License-Identifier: Apache-2.0
"""Why a connection is refused or ended: one vocabulary for all carriers.

A refusal has one code of ours and its translation into each carrier's own words, so that the same event looks the
same on every road (architecture decision 9). The published SDKs read WebSocket 1008 as "your credentials are
refused, stop trying" (contract section 10.1), so only refusals of a credential carry it; everything else is a drop
that a client redials.

It will not decide anything: who is refused is the business of `hub.connection`, `hub.policy` and the gateways.
"""

from dataclasses import dataclass

# WebSocket close codes (RFC 6455 section 7.4.1; 4003 from contract section 10.1).
CREDENTIAL = 1008
PROTOCOL = 1002
TOO_BIG = 1009
FAULT = 1011
RESTART = 1012
OVERLOAD = 1013
NOT_GRANTED = 4003

# MQTT 3.1.1 section 3.2.2.3: return codes of CONNACK.
CONNACK_UNAVAILABLE = 3
CONNACK_BAD_LOGIN = 4
CONNACK_NOT_AUTHORIZED = 5


@dataclass(frozen=True, slots=True)
class Refusal:
    """One reason to end a connection, in the words of each carrier.

    `reason` is shown to whoever is refused: plain, at most 123 bytes (RFC 6455 section 5.5.1), never a secret.
    `connack` is what MQTT answers when the refusal comes before its CONNACK; after it, MQTT 3.1.1 can only close.
    """

    code: str
    reason: str
    ws_code: int
    http_status: int
    connack: int = CONNACK_UNAVAILABLE

    @property
    def of_credential(self) -> bool:
        """True when trying again with the same credential is pointless."""
        return self.ws_code == CREDENTIAL


class Refused(Exception):  # the vocabulary's own exception; carries a Refusal to the gateway
    """Raised to a gateway that asked to admit somebody: `refusal` says what to answer, after `hold_back` seconds."""

    def __init__(self, refusal: Refusal, hold_back: float = 0.0) -> None:
        super().__init__(f"{refusal.code}: {refusal.reason}")
        self.refusal = refusal
        self.hold_back = hold_back

    @property
    def code(self) -> str:
        """The refusal's stable code."""
        return self.refusal.code


UNKNOWN_KEY = Refusal("unknown_key", "invalid api key", CREDENTIAL, 403, CONNACK_NOT_AUTHORIZED)
# Looks like an unknown key on purpose: whoever holds a key of one hub learns nothing about another.
WRONG_HUB = Refusal("wrong_hub", "invalid api key", CREDENTIAL, 403, CONNACK_NOT_AUTHORIZED)
# Of keys that are over: who has one had the identity, and is told at its own hub what to do.
ROTATED_OUT = Refusal(
    "rotated_out", "this credential was replaced: use the client's newest identity", CREDENTIAL, 403,
    CONNACK_NOT_AUTHORIZED,
)  # fmt: skip
REMOVED = Refusal("removed", "this client was removed", CREDENTIAL, 403, CONNACK_NOT_AUTHORIZED)
INVALID_AUTHORIZATION = Refusal("invalid_authorization", "invalid authorization", CREDENTIAL, 400, CONNACK_BAD_LOGIN)
REVOKED = Refusal("revoked", "this credential was revoked", CREDENTIAL, 403, CONNACK_NOT_AUTHORIZED)
# Told to whoever has the key: it is its owner's business to resume it, and a new identity would not help.
PAUSED = Refusal("paused", "this client is paused", CREDENTIAL, 403, CONNACK_NOT_AUTHORIZED)
PROTOCOL_OFF = Refusal(
    "protocol_off", "this protocol is turned off for this hub", CREDENTIAL, 403, CONNACK_NOT_AUTHORIZED
)
MQTT_ELSEWHERE = Refusal(
    "mqtt_elsewhere", "this hub meets its clients at another broker", CREDENTIAL, 403, CONNACK_NOT_AUTHORIZED
)
HUB_OFF = Refusal("hub_off", "this hub is turned off", CREDENTIAL, 403, CONNACK_NOT_AUTHORIZED)
HANDSHAKE_FAILED = Refusal("handshake_failed", "handshake failure: wrong password or altered offer", CREDENTIAL, 403)
KEY_MISMATCH = Refusal("key_mismatch", "this access key belongs to another client key", CREDENTIAL, 403)

PROTOCOL_ERROR = Refusal("protocol_error", "invalid message", PROTOCOL, 500)
UNDECIPHERABLE = Refusal("decrypt", "a frame did not decrypt", PROTOCOL, 500)
HANDSHAKE_TIMEOUT = Refusal("handshake_timeout", "the handshake took too long", PROTOCOL, 500)
TOO_LARGE = Refusal("too_large", "message too big", TOO_BIG, 500)
NOT_ALLOWED = Refusal("not_granted", "this kind of frame is not allowed for this client", NOT_GRANTED, 500)
UNRESPONSIVE = Refusal("unresponsive", "no sign of life", FAULT, 500)
INTERNAL = Refusal("internal", "the server failed", FAULT, 500)
RESTARTING = Refusal("restart", "the server is going down", RESTART, 503)
# Where only the hub knows that a session is gone: its carrier was lost between the hub and an outside broker.
SESSION_LOST = Refusal("session_lost", "the session is lost, connect again", RESTART, 503)
BUSY = Refusal("busy", "the server is busy, try again later", OVERLOAD, 503)
# Not of the credential: it was not looked at. Whoever waits is.
THROTTLED = Refusal("throttled", "too many failed attempts from here, try again later", OVERLOAD, 429)
TOO_MANY_CONNECTIONS = Refusal("too_many_connections", "too many connections of this credential", OVERLOAD, 503)
SLOW_READER = Refusal("slow_reader", "answers are not being read", OVERLOAD, 503)
REPLACED = Refusal("replaced", "a newer session took this one's place", OVERLOAD, 503)


def not_allowed(frame_type: str) -> Refusal:
    """The 4003 refusal that names the kind of frame (contract section 10.1)."""
    reason = f"{frame_type.upper()[:32]} is not allowed for this client"
    return Refusal(NOT_ALLOWED.code, reason, NOT_GRANTED, NOT_ALLOWED.http_status)
