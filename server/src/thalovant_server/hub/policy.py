# SPDX-License-Identifier: Apache-2.0
"""May this client send this? One pure decision a message (contract sections 9.4, 10.1 and 11).

Deny by default: a bus message's type must be in the client's `allowed_types`, and it may not address what is blocked. A
denial is a message that carries the request id, so that it ends the right ask; only a kind of frame without its grant
may end the connection. How much a client may send is `hub.allowance`'s.

It will not send, remember or look anything up.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import orjson

from thalovant.protocol.errors import MessageError
from thalovant_server.hub.ask import Ask, Cancel, malformed, request_id_of
from thalovant_server.hub.block_lists import blocked_intent, blocked_skill

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
    query_id: str | None = None  # of the `query` frame that is denied


@dataclass(frozen=True, slots=True)
class Close:
    """This kind of frame is not granted: end the connection with 4003, or deny it where that is heard."""

    frame_type: str
    denial: Deny


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
    query_id = _query_id(message, limits) if kind == "query" else None
    try:
        inner, fault = message.nested(), ""
    except MessageError as error:
        inner, fault = None, error.text
    request_id = (None if inner is None else request_id_of(inner.payload, limits)) or query_id
    query_id = query_id or (request_id if kind == "query" else None)
    if not getattr(permissions, GRANTS[kind]):
        reason = f"'{kind}' frames are not granted to this client"
        denial = Deny(kind, "not_granted", reason, {"grant": GRANTS[kind]}, request_id, query_id)
        return Close(kind, denial)
    if inner is None:
        return replace(malformed_payload(kind, request_id, fault), query_id=query_id)
    if kind != "query":
        return unsupported_frame(kind, request_id)
    return _query(permissions, inner, request_id, query_id, limits)


def _query_id(message: HiveMessage, limits: Limits) -> str | None:
    found = message.metadata.get("query_id")
    return found if isinstance(found, str) and 0 < len(found) <= limits.request_id_chars else None


def _query(
    permissions: Permissions, inner: HiveMessage, request_id: str | None, query_id: str | None, limits: Limits
) -> Decision:
    """An utterance in a `query` frame (contract 9.5): judged as one on the bus, answered in such frames."""
    if query_id is None:
        return malformed_payload("query", reason="metadata.query_id must name the query")
    if inner.msg_type != "bus":
        return replace(malformed_payload("query", request_id, "a query holds a 'bus' message"), query_id=query_id)
    match _bus(permissions, inner.payload, limits):
        case Allow(ask=Ask() as ask):
            return Allow(replace(ask, request_id=request_id, query_id=query_id))
        case Deny() as denial:
            return replace(denial, request_id=request_id, query_id=query_id)
    return Deny("query", "unsupported_type", "a query asks; it can do nothing else", {}, request_id, query_id)


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
    blocked = _blocked(permissions, bus_type, payload.get("data") or {}, request_id)
    if blocked is not None:
        return blocked
    if bus_type not in UTTERANCES:
        reason = f"nothing on this hub listens to {bus_type}"
        return Deny(bus_type, "unsupported_type", reason, {"msg_type": bus_type}, request_id)
    return _ask(bus_type, payload, request_id, limits)


def _not_in_list(permissions: Permissions, bus_type: str, request_id: str | None) -> Deny:
    named = bus_type[:200]
    data = {"msg_type": named, "allowed": sorted(permissions.allowed_types)}
    return Deny(named, "acl_disallowed_type", f"{named} not in allowed_types", data, request_id)


def _blocked(permissions: Permissions, bus_type: str, data: dict[str, Any], request_id: str | None) -> Deny | None:
    named = bus_type[:200]
    if (skill := blocked_skill(permissions, bus_type, data)) is not None:
        reason = f"the skill {skill} is blocked for this client"
        return Deny(named, "acl_blocked_skill", reason, {"skill_id": skill}, request_id)
    if (intent := blocked_intent(permissions, bus_type, data)) is not None:
        reason = f"the intent {intent} is blocked for this client"
        return Deny(named, "acl_blocked_intent", reason, {"intent": intent}, request_id)
    return None


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
