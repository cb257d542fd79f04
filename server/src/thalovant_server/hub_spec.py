# SPDX-License-Identifier: Apache-2.0
"""What a hub's `spec` means to this server: which carriers are on, which agent answers, how large a message
may be.

The spec is the caller's document: unknown keys are kept, save those that hold secrets. What this server acts on is
checked and written in one spelling. No key may name code, a command or an address for the agent (architecture
decision 8). Stores nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from thalovant_server.directory import DEFAULT_MAX_MESSAGE, MqttVia
from thalovant_server.errors import ForbiddenAgentError, ForbiddenTextError
from thalovant_server.identifiers import check_name
from thalovant_server.spec_bounds import check_bounds
from thalovant_server.spec_keys import merged, plain_key, without_secrets

WIRE_MAX_MESSAGE = 33_554_432
SMALLEST_MAX_MESSAGE = 1024
DEFAULT_AGENT = "default"
"""Names the server's default agent in a spec, as naming none does."""

Agents = Callable[[], Collection[str]]
"""Returns the names of the agents that the operator has declared."""

# Spelling of the resource (contract 3.3): carrier, whether it is on when nothing is said, other spellings.
_PROTOCOLS: dict[str, tuple[str, bool, tuple[str, ...]]] = {
    "wss": ("wss", True, ("websocket",)),
    "http": ("https", False, ("https",)),
    "mqtt": ("mqtt", False, ()),
}
_YES = frozenset({"true", "yes", "on", "1"})
_NO = frozenset({"false", "no", "off", "0"})
_PUBLIC = ("version", "catalog", "protocols")
_CODE_KEYS = frozenset({"module", "command", "entrypoint", "exec", "script", "handler", "callable"})


def checked_spec(spec: Mapping[str, Any], agents: Agents, *, via: MqttVia = "embedded") -> dict[str, Any]:
    """Return a whole spec in our spelling, without secrets, its protocols all written out.

    Args:
        spec: as its maker sent it.
        agents: that it may name.
        via: where the hub's MQTT is when the spec does not say.

    Raises:
        ForbiddenTextError: a part that this server acts on is not usable; names it.
    """
    result: dict[str, Any] = without_secrets(dict(spec))
    _check_version(result.get("version"))
    _check_agent(result, agents)
    _check_title(result.get("catalog"))
    _check_limits(result.get("limits"))
    result["protocols"] = _protocols(result.get("protocols"), via)
    check_bounds(result)
    return result


def merged_spec(spec: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``spec`` with ``patch`` laid over it key by key: objects merge, null removes (contract 4.3)."""
    renamed = {**patch, "protocols": _objects(_renamed(patch["protocols"]))} if _has_protocols(patch) else patch
    return merged(spec, renamed)


def public_part(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return what anybody may read of a spec: version, catalog and protocols (contract 3.3)."""
    return without_secrets({key: spec[key] for key in _PUBLIC if key in spec})  # type: ignore[no-any-return]


def carriers(spec: Mapping[str, Any]) -> frozenset[str]:
    """Return those of ``wss``, ``https``, ``mqtt`` that a checked spec has on."""
    protocols = spec["protocols"]
    return frozenset(carrier for key, (carrier, _, _) in _PROTOCOLS.items() if protocols[key]["enabled"])


def mqtt_via(spec: Mapping[str, Any]) -> MqttVia:
    """Return where the MQTT of a checked spec is; of one from before there was a choice, at the embedded endpoint."""
    return "link" if spec["protocols"]["mqtt"].get("via") == "link" else "embedded"


def agent(spec: Mapping[str, Any]) -> str | None:
    """Return the name of the agent that a checked spec asks for, None for the server's default."""
    name = spec.get("agent")
    return name if isinstance(name, str) and name != DEFAULT_AGENT else None


def max_message(spec: Mapping[str, Any]) -> int:
    """Return the largest inbound message of a checked spec, in bytes."""
    limits = spec.get("limits") or {}
    return int(limits.get("max_message_bytes") or DEFAULT_MAX_MESSAGE)


def title(spec: Mapping[str, Any], name: str) -> str:
    """Return what a hub is called where people read: the catalog's title, else its name."""
    catalog = spec.get("catalog")
    text = catalog.get("title") if isinstance(catalog, dict) else None
    return text if isinstance(text, str) and text.strip() else name


def _check_version(version: object) -> None:
    if not isinstance(version, str) or not version.strip() or len(version) > 64:
        raise ForbiddenTextError("spec.version", 'must be a text such as "1"')


def _check_agent(spec: Mapping[str, Any], agents: Agents) -> None:
    for key in spec:
        plain = plain_key(key)
        if plain in _CODE_KEYS or (plain.startswith("agent") and key != "agent"):
            raise ForbiddenAgentError(
                f"spec.{key[:64]}", "is not for the API: agents are declared by the operator, spec.agent names one"
            )
    name = spec.get("agent")
    if name is None:
        return
    if name != DEFAULT_AGENT and name not in list(agents()):
        known = ", ".join(sorted({*agents(), DEFAULT_AGENT}))
        raise ForbiddenAgentError("spec.agent", f"names no agent that this server has; it has: {known}")


def _check_title(catalog: object) -> None:
    text = catalog.get("title") if isinstance(catalog, dict) else None
    if text is not None and not isinstance(text, str):
        raise ForbiddenTextError("spec.catalog.title", "must be a text")
    if isinstance(text, str) and text.strip():
        check_name("spec.catalog.title", text)


def _check_limits(limits: object) -> None:
    if limits is None:
        return
    if not isinstance(limits, dict):
        raise ForbiddenTextError("spec.limits", "must be an object")
    size = limits.get("max_message_bytes")
    if size is None:
        return
    if type(size) is not int or not SMALLEST_MAX_MESSAGE <= size <= WIRE_MAX_MESSAGE:
        raise ForbiddenTextError(
            "spec.limits.max_message_bytes", f"must be from {SMALLEST_MAX_MESSAGE} to {WIRE_MAX_MESSAGE}"
        )


def _protocols(given: object, via: MqttVia) -> dict[str, Any]:
    renamed = _renamed({} if given is None else given)
    for key, (_, default, _) in _PROTOCOLS.items():
        renamed[key] = _flag(key, renamed.get(key), default)
    renamed["mqtt"]["via"] = _via(renamed["mqtt"].get("via"), via)
    return renamed


def _via(said: object, default: MqttVia) -> MqttVia:
    if said is None:
        return default
    if said not in ("embedded", "link"):
        raise ForbiddenTextError(
            "spec.protocols.mqtt.via", 'must be "embedded" (MQTT at this server) or "link" (at the outside broker)'
        )
    return "link" if said == "link" else "embedded"


def _renamed(given: object) -> dict[str, Any]:
    """Return protocols under our spelling; it wins over another spelling beside it."""
    if not isinstance(given, dict):
        raise ForbiddenTextError("spec.protocols", "must be an object")
    result = dict(given)
    for key, (_, _, others) in _PROTOCOLS.items():
        for other in others:
            if other in result:
                value = result.pop(other)
                result.setdefault(key, value)
    return result


def _objects(protocols: dict[str, Any]) -> dict[str, Any]:
    """Return protocols with each flag of ours in an object: one that is laid over another keeps its details."""
    flags = {key: protocols[key] for key in _PROTOCOLS if protocols.get(key) is not None}
    return protocols | {key: flag if isinstance(flag, dict) else {"enabled": flag} for key, flag in flags.items()}


def _flag(key: str, value: object, default: bool) -> dict[str, Any]:
    details = dict(value) if isinstance(value, dict) else {}
    said = details.get("enabled") if isinstance(value, dict) else value
    details["enabled"] = default if said is None else _yes_or_no(key, said)
    return details


def _yes_or_no(key: str, said: object) -> bool:
    word = str(said).strip().lower() if isinstance(said, (bool, int, str)) else ""
    if word not in _YES | _NO:
        raise ForbiddenTextError(f"spec.protocols.{key}", 'must be true, false or {"enabled": true or false}')
    return word in _YES


def _has_protocols(patch: Mapping[str, Any]) -> bool:
    return patch.get("protocols") is not None
