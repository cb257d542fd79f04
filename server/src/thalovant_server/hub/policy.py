# SPDX-License-Identifier: Apache-2.0
"""May this client send this? One pure decision a message (contract sections 9.4, 10.1 and 11).

Deny by default: a bus message's type must be in the credential's `allowed_types`. A denial is a message that
carries the request id, so that it ends the right ask; only a kind of frame without its grant ends the connection.

It will not send, remember or look anything up.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import orjson

from thalovant.protocol.errors import MessageError
from thalovant_server.hub.ask import Ask, Cancel, malformed, request_id_of

if TYPE_CHECKING:
    from thalovant.protocol.messages import HiveMessage
    from thalovant_server.directory import Permissions
    from thalovant_server.hub.limits import Limits

UTTERANCES = frozenset({"recognizer_loop:utterance", "ovos.utterance.handle"})
CANCEL = "thalovant.ask.cancel"

# Frame kind → the grant it needs (contract section 11).
GRANTS = {
    "broadcast": "can_broadcast",
    "propagate": "can_propagate",
    "cascade": "can_propagate",
    "escalate": "can_escalate",
    "query": "can_escalate",
}


@dataclass(frozen=True, slots=True)
class Allow:
    """Go on: an ask for the agent, or a cancellation of one."""

    ask: Ask | Cancel


@dataclass(frozen=True, slots=True)
class Deny:
    """Answer `hive.policy.denied` with these fields; the connection stays."""

    denied_type: str
    code: str
    reason: str
    data: dict[str, Any] = field(default_factory=dict)
    request_id: str | None = None


@dataclass(frozen=True, slots=True)
class Close:
    """End the connection with 4003: this kind of frame is not granted."""

    frame_type: str


@dataclass(frozen=True, slots=True)
class Ignore:
    """Harmless and of no consequence."""


@dataclass(frozen=True, slots=True)
class NoRendezvous:
    """Answer that this node keeps no mailbox (vectors/refusals.json, "rendezvous frame")."""


Decision = Allow | Deny | Close | Ignore | NoRendezvous


def decide(permissions: Permissions, message: HiveMessage, limits: Limits) -> Decision:
    """Judge one message of an admitted client. Never raises, whatever the message holds."""
    kind = message.msg_type
    if kind == "bus":
        return _bus(permissions, message.payload, limits)
    if kind in GRANTS:
        return _routed(permissions, message, kind, limits)
    if kind in {"ping", "hello"}:
        return Ignore()
    if kind == "rendezvous":
        return NoRendezvous()
    return unsupported_frame(kind)


def unsupported_frame(kind: str, request_id: str | None = None) -> Deny:
    """The denial of a kind of frame that this hub does not serve to anybody."""
    return Deny(kind, "unsupported_frame", f"this hub does not take '{kind}' frames", request_id=request_id)


def _routed(permissions: Permissions, message: HiveMessage, kind: str, limits: Limits) -> Decision:
    if not getattr(permissions, GRANTS[kind]):
        return Close(kind)
    try:
        inner = message.nested()
    except MessageError as error:
        return malformed_payload(kind, reason=error.text)
    found = request_id_of(inner.payload, limits)
    query_id = message.metadata.get("query_id")
    if found is None and isinstance(query_id, str) and len(query_id) <= limits.request_id_chars:
        found = query_id
    return unsupported_frame(kind, found)


def malformed_payload(kind: str, request_id: str | None = None, reason: str = "") -> Deny:
    """The denial of a payload that is not of its kind's shape (contract 9.4)."""
    return Deny(kind, "malformed_payload", reason or f"'{kind}' payload is malformed", request_id=request_id)


def _bus(permissions: Permissions, payload: dict[str, Any], limits: Limits) -> Decision:
    fault = malformed(payload)
    request_id = request_id_of(payload, limits)
    if fault:
        return malformed_payload("bus", request_id, fault)
    bus_type: str = payload["type"]
    if bus_type == CANCEL:
        return _cancel(payload, limits)
    if bus_type not in permissions.allowed_types:
        return _not_in_list(permissions, bus_type, request_id)
    if bus_type not in UTTERANCES:
        reason = f"nothing on this hub listens to {bus_type}"
        return Deny(bus_type, "unsupported_type", reason, {"msg_type": bus_type}, request_id)
    return _ask(bus_type, payload, request_id, limits)


def _not_in_list(permissions: Permissions, bus_type: str, request_id: str | None) -> Deny:
    named = bus_type[:200]
    data = {"msg_type": named, "allowed": sorted(permissions.allowed_types)}
    return Deny(named, "acl_disallowed_type", f"{named} not in allowed_types", data, request_id)


def _cancel(payload: dict[str, Any], limits: Limits) -> Decision:
    wanted = (payload.get("data") or {}).get("request_id")
    if not isinstance(wanted, str) or not 0 < len(wanted) <= limits.request_id_chars:
        return malformed_payload(CANCEL, reason="data.request_id must name the ask to cancel")
    return Allow(Cancel(wanted))


def _ask(bus_type: str, payload: dict[str, Any], request_id: str | None, limits: Limits) -> Decision:
    data: dict[str, Any] = payload.get("data") or {}
    context: dict[str, Any] = payload.get("context") or {}
    try:
        data_json = orjson.dumps(data, option=orjson.OPT_SORT_KEYS)
        context_json = orjson.dumps(context)
    except TypeError:  # orjson: nested deeper than it can write, so no answer could carry it back
        return malformed_payload(bus_type, request_id, "nested too deeply")
    if len(context_json) > limits.context_bytes:
        return malformed_payload(bus_type, request_id, f"context is larger than {limits.context_bytes} bytes")
    try:
        ask = Ask.read(bus_type, data, context, request_id, data_json, context_json, limits)
    except ValueError as fault:
        return malformed_payload(bus_type, request_id, str(fault))
    return Allow(ask)
