# SPDX-License-Identifier: Apache-2.0
"""The HiveMessage: the JSON envelope of everything said inside a session (contract 7).

Reads and writes the envelope and checks its shape. It does not know what a message asks for, who may send it,
or how it is sealed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from thalovant.protocol import strict_json
from thalovant.protocol.errors import MessageError

MESSAGE_TYPES: Final = frozenset(
    {
        "bus",
        "shared_bus",
        "query",
        "cascade",
        "broadcast",
        "propagate",
        "escalate",
        "hello",
        "shake",
        "ping",
        "rendezvous",
        "intercom",
        "bin",
    }
)
"""Every `msg_type` of the wire. `bin` travels only as a binary frame."""

NESTING_TYPES: Final = frozenset({"query", "cascade", "broadcast", "propagate", "escalate"})
"""Types whose payload is itself a whole HiveMessage."""

UNKNOWN_TYPE: Final = "unknown_type"
"""`MessageError.code` for a `msg_type` we do not know. A hub ends the session, a client drops the message."""

MALFORMED_PAYLOAD: Final = "malformed_payload"
"""`MessageError.code` for a payload of another shape than its type needs. A hub answers
`hive.policy.denied` with this code and keeps the session (contract 9.4)."""

_OPTIONAL_TEXTS: Final = ("node", "target_site_id", "target_pubkey", "source_peer")


@dataclass(slots=True)
class HiveMessage:
    """One envelope. `payload` is an object whose shape depends on `msg_type`."""

    msg_type: str
    payload: dict[str, Any]
    metadata: dict[str, Any] = field(default_factory=dict)
    route: list[Any] = field(default_factory=list)
    node: str | None = None
    target_site_id: str | None = None
    target_pubkey: str | None = None
    source_peer: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """All eight keys in the order of the wire. Shares the payload, metadata and route."""
        return {
            "msg_type": self.msg_type,
            "payload": self.payload,
            "metadata": self.metadata,
            "route": self.route,
            "node": self.node,
            "target_site_id": self.target_site_id,
            "target_pubkey": self.target_pubkey,
            "source_peer": self.source_peer,
        }

    def encode(self) -> bytes:
        """Compact UTF-8 JSON with all eight keys. Raises `MessageError` for what JSON cannot hold."""
        return strict_json.dump(self.as_dict())

    def to_json(self) -> str:
        """The same with upstream's spacing, character for character. Raises `MessageError`."""
        return strict_json.dump_spaced(self.as_dict())

    @classmethod
    def decode(
        cls, data: bytes | str, *, max_depth: int = strict_json.MAX_DEPTH, max_values: int | None = None
    ) -> HiveMessage:
        """Read one envelope. Unknown further keys are dropped.

        Raises `MessageError`; its `code` is `unknown_type`, `malformed_payload` or `message`. `TooLargeError` when it
        holds more than `max_values` values. The length of `data` is the caller's to limit.
        """
        return cls.from_dict(strict_json.parse(data, max_depth=max_depth, max_values=max_values))

    @classmethod
    def from_dict(cls, value: Any) -> HiveMessage:
        """The same from a value that JSON was read into; shares its parts."""
        if not isinstance(value, dict):
            raise MessageError("A HiveMessage is a JSON object.")
        msg_type = _known_type(value.get("msg_type"))
        payload = value.get("payload")
        if not isinstance(payload, dict):
            payload = _missing_payload(msg_type)
        if msg_type == "bin":
            raise MessageError("A 'bin' message travels only as a binary frame.", code=MALFORMED_PAYLOAD)
        return cls(
            msg_type,
            payload,
            _metadata(value.get("metadata")),
            _route(value.get("route")),
            *[_optional_text(value, key) for key in _OPTIONAL_TEXTS],
        )

    def nested(self) -> HiveMessage:
        """The HiveMessage inside a `query`, `broadcast` and their like.

        Raises `MessageError` (`malformed_payload`) when the payload is not one.
        """
        try:
            return HiveMessage.from_dict(self.payload)
        except MessageError:
            text = f"The payload of {self.msg_type!r} is not a HiveMessage."
            raise MessageError(text, code=MALFORMED_PAYLOAD) from None

    def bus_parts(self) -> tuple[str, dict[str, Any], dict[str, Any]]:
        """Type, data and context of a `bus` message; missing data or context is empty.

        Raises `MessageError` (`malformed_payload`) for any other shape.
        """
        kind, data, context = (self.payload.get(key) for key in ("type", "data", "context"))
        data = {} if data is None else data
        context = {} if context is None else context
        if not isinstance(kind, str) or not isinstance(data, dict) or not isinstance(context, dict):
            text = "A bus message needs a text `type` and objects `data` and `context`."
            raise MessageError(text, code=MALFORMED_PAYLOAD)
        return kind, data, context


def bus(
    type: str,
    data: Mapping[str, Any] | None = None,
    context: Mapping[str, Any] | None = None,
) -> HiveMessage:
    """A `bus` message of this type."""
    return HiveMessage("bus", {"type": type, "data": dict(data or {}), "context": dict(context or {})})


def _known_type(msg_type: Any) -> str:
    if not isinstance(msg_type, str):
        raise MessageError("A HiveMessage needs a text `msg_type`.")
    if msg_type not in MESSAGE_TYPES:
        raise MessageError("A HiveMessage has an unknown `msg_type`.", code=UNKNOWN_TYPE)
    return msg_type


def _missing_payload(msg_type: str) -> dict[str, Any]:
    """Ping alone needs no payload; whatever else one carries is of no use to anyone."""
    if msg_type != "ping":
        raise MessageError(f"The payload of {msg_type!r} is not an object.", code=MALFORMED_PAYLOAD)
    return {}


def _metadata(value: Any) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise MessageError("The `metadata` of a HiveMessage is an object.")
    return value


def _route(value: Any) -> list[Any]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise MessageError("The `route` of a HiveMessage is a list.")
    return value


def _optional_text(value: Mapping[str, Any], key: str) -> str | None:
    text = value.get(key)
    if text is not None and not isinstance(text, str):
        raise MessageError(f"The `{key}` of a HiveMessage is text or null.")
    return text
