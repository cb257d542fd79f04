# SPDX-License-Identifier: Apache-2.0
"""What MQTT 5 says of each refusal and each end: a reason code, and a sentence that says what to do.

One table for the hub's vocabulary (`hub.refusal`) and for what only MQTT ends. CONNACK and DISCONNECT do not have the
same codes (MQTT 5, 3.2.2.2 and 3.14.2.1), so a reason has one for each. The sentences become reason strings: they are
constant, so no secret and nothing of what a client sent can be in one.

It will not decide anything, nor write a packet.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from thalovant.protocol.mqtt.reason_codes import ReasonCode as Code


@dataclass(frozen=True, slots=True)
class Reason:
    """`connack` refuses a login, `disconnect` ends a connection that is logged in.

    `advice` is the reason string; where it is empty, the sentence of whoever refuses is the better one.
    """

    connack: Code
    disconnect: Code
    advice: str = ""


def _both(code: Code, advice: str = "") -> Reason:
    return Reason(code, code, advice)


_FRESH = "Use the newest identity of this client, or create a fresh one."
_LATER = "Try again later, and wait longer each time."

UNSPECIFIED = _both(Code.UNSPECIFIED_ERROR)

_UNKNOWN = _both(Code.NOT_AUTHORIZED, f"This credential is not known here. {_FRESH}")
_MQTT_OFF = Reason(
    Code.NOT_AUTHORIZED,
    Code.ADMINISTRATIVE_ACTION,
    "The hub, or MQTT for this hub, is turned off. Its owner can turn it on.",
)
_NOT_OURS = Reason(
    Code.UNSPECIFIED_ERROR,
    Code.PAYLOAD_FORMAT_INVALID,
    "The hub cannot read this payload: connect again and begin with a clear hello.",
)

REASONS: Mapping[str, Reason] = MappingProxyType(
    {
        # The hub's, by the codes in `hub.refusal`.
        "unknown_key": _UNKNOWN,
        "wrong_hub": _UNKNOWN,
        "invalid_authorization": Reason(Code.BAD_USER_NAME_OR_PASSWORD, Code.NOT_AUTHORIZED, _FRESH),
        "revoked": _both(Code.NOT_AUTHORIZED, f"This credential was revoked or changed. {_FRESH}"),
        "rotated_out": _both(Code.NOT_AUTHORIZED, f"This credential was replaced. {_FRESH}"),
        "removed": _both(Code.NOT_AUTHORIZED, "This client was removed. Create a fresh identity."),
        "paused": _both(Code.NOT_AUTHORIZED, "This client is paused. Its owner can resume it."),
        "protocol_off": _MQTT_OFF,
        "hub_off": _MQTT_OFF,
        "handshake_failed": _both(Code.NOT_AUTHORIZED, f"The handshake failed: wrong password. {_FRESH}"),
        "key_mismatch": _both(
            Code.NOT_AUTHORIZED,
            "This credential belongs to another client key: use that one, or have the key reset.",
        ),
        "not_granted": _both(Code.NOT_AUTHORIZED),
        "protocol_error": _NOT_OURS,
        "decrypt": _NOT_OURS,
        "handshake_timeout": Reason(Code.UNSPECIFIED_ERROR, Code.MAXIMUM_CONNECT_TIME),
        "too_large": _both(Code.QUOTA_EXCEEDED, "The message is larger than this hub takes: send less at once."),
        "unresponsive": Reason(
            Code.UNSPECIFIED_ERROR,
            Code.IMPLEMENTATION_SPECIFIC_ERROR,
            "A message was begun and did not go on: connect again, and send it whole.",
        ),
        "internal": _both(Code.UNSPECIFIED_ERROR, "The server failed. Its log says why."),
        "restart": Reason(Code.SERVER_UNAVAILABLE, Code.SERVER_SHUTTING_DOWN, f"The server is going down. {_LATER}"),
        "session_lost": Reason(
            Code.SERVER_UNAVAILABLE, Code.SERVER_SHUTTING_DOWN, "The session is lost: connect again."
        ),
        "busy": _both(Code.SERVER_BUSY, f"The server is busy. {_LATER}"),
        "throttled": _both(
            Code.CONNECTION_RATE_EXCEEDED,
            "Too many attempts from this address have failed: wait some seconds, and check the user name and password.",
        ),
        "too_many_connections": _both(
            Code.QUOTA_EXCEEDED,
            "Too many connections of this credential: close one, or take its place with its client id.",
        ),
        "slow_reader": _both(Code.QUOTA_EXCEEDED, "Answers are not being read: read and acknowledge them faster."),
        "replaced": _both(Code.QUOTA_EXCEEDED, "Too many unfinished handshakes of this credential: finish one."),
        # What only MQTT refuses or ends.
        "bad_login": Reason(
            Code.BAD_USER_NAME_OR_PASSWORD, Code.NOT_AUTHORIZED, f"The user name or password is wrong. {_FRESH}"
        ),
        "mqtt_elsewhere": _both(
            Code.NOT_AUTHORIZED,
            "This hub meets its clients at another broker now: give the client a new identity, which names it.",
        ),
        "bad_client_id": Reason(
            Code.CLIENT_IDENTIFIER_NOT_VALID,
            Code.PROTOCOL_ERROR,
            "Use a client id of at most 128 characters, none of them a control character.",
        ),
        "bad_authentication_method": Reason(
            Code.BAD_AUTHENTICATION_METHOD,
            Code.PROTOCOL_ERROR,
            "Log in with user name and password alone: no authentication method is offered.",
        ),
        "small_packets": _both(Code.PACKET_TOO_LARGE),
        "bad_will": _both(Code.NOT_AUTHORIZED, "A will says offline on the client's own status topic, nothing else."),
        "denied_publish": _both(Code.NOT_AUTHORIZED),
        "taken_over": Reason(
            Code.UNSPECIFIED_ERROR,
            Code.SESSION_TAKEN_OVER,
            "Another connection came with the same client id: give each program its own.",
        ),
        "silent": Reason(
            Code.UNSPECIFIED_ERROR,
            Code.KEEP_ALIVE_TIMEOUT,
            "Nothing came for one and a half keep alive periods: send PINGREQ in time.",
        ),
        "not_binary": Reason(Code.UNSPECIFIED_ERROR, Code.PROTOCOL_ERROR),
        "stalled": _both(Code.QUOTA_EXCEEDED, "Nothing is taken of what waits for this client."),
    }
)


def reason_for(code: str) -> Reason | None:
    """The reason of a refusal or an end; None for an end that the client brought about and knows of."""
    return REASONS.get(code)
