# SPDX-License-Identifier: Apache-2.0
"""What the control plane knows of a credential, read as what is wrong with it (`POST /v1/clients/lookup`). No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from thalovant.diagnoses import Diagnosis, diagnose
from thalovant.hub_endpoints import HubProtocol

__all__ = ["known_of", "shown_of"]

_NO_MQTT = {"mqtt_not_enabled", "no_mqtt_block"}
_KEPT = ("status", "why", "ended_at")
_OF_CLIENT = ("id", "name", "active")
_OF_HUB = ("id", "slug", "name", "active", "protocols")


def known_of(
    answer: Mapping[str, Any], shown: Sequence[Diagnosis], failing: Iterable[HubProtocol], *, has_mqtt: bool
) -> tuple[list[Diagnosis], list[Diagnosis]]:
    """What explains the diagnoses that the walk has shown, and what is worth knowing beside it.

    `failing` are the carriers that do not lead to the hub, `has_mqtt` whether the identity holds broker credentials.
    """
    client, hub = _mapping(answer, "client"), _mapping(answer, "hub")
    name = _text(client, "name") or _text(client, "id")
    known = _ended(answer, name) if answer.get("status") == "ended" else _switched_off(client, hub, name, failing)
    if not known and answer.get("status") == "live" and any(one.code == "broker_login_refused" for one in shown):
        known.append(diagnose("broker_login_of_another"))
    notes = []
    if answer.get("status") == "grace":
        until = _text(_mapping(answer, "credential"), "expires_at") or "soon"
        notes.append(diagnose("credential_in_grace", when=until, client=name))
    if not has_mqtt and "mqtt" in _texts(hub, "protocols") and answer.get("status") != "ended":
        since = diagnose("mqtt_enabled_since", client=_text(client, "id") or "CLIENT_ID")
        asked = any(one.code in _NO_MQTT for one in shown)
        (known if asked else notes).append(since)
    return known, notes


def shown_of(answer: Mapping[str, Any]) -> dict[str, Any]:
    """The part of the answer that a report shows; nothing in it is a secret."""
    shown: dict[str, Any] = {name: answer.get(name) for name in _KEPT}
    shown["client"] = (
        {name: _mapping(answer, "client").get(name) for name in _OF_CLIENT} if answer.get("client") else None
    )
    shown["hub"] = {name: _mapping(answer, "hub").get(name) for name in _OF_HUB} if answer.get("hub") else None
    credential = _mapping(answer, "credential")
    shown["credential"] = {name: value for name, value in credential.items() if name != "topic_prefix"} or None
    return shown


def sentence_of(answer: Mapping[str, Any]) -> str:
    """The answer in one line for people."""
    client, hub = _mapping(answer, "client"), _mapping(answer, "hub")
    parts = [f"the credential is {answer.get('status') or 'known'}"]
    if client:
        parts.append(
            f"client {_text(client, 'name') or _text(client, 'id')}{'' if client.get('active', True) else ' (paused)'}"
        )
    if hub:
        on = ", ".join(_texts(hub, "protocols")) or "nothing"
        parts.append(
            f"hub {_text(hub, 'slug') or _text(hub, 'id')}{'' if hub.get('active', True) else ' (off)'} with {on} on"
        )
    return "; ".join(parts)


def _ended(answer: Mapping[str, Any], name: str) -> list[Diagnosis]:
    why, when = str(answer.get("why") or "ended"), str(answer.get("ended_at") or "an unknown day")
    if why in ("rotated", "replaced"):
        code = "credential_rotated" if why == "rotated" else "credential_rotated/replaced"
        return [diagnose(code, when=when, client=name or "the client")]
    if why == "removed":
        return [diagnose("client_removed", when=when)]
    if why == "hub_removed":
        return [diagnose("hub_removed", when=when)]
    return [diagnose("credential_ended", when=when, why=why)]


def _switched_off(
    client: Mapping[str, Any], hub: Mapping[str, Any], name: str, failing: Iterable[HubProtocol]
) -> list[Diagnosis]:
    known = []
    if hub.get("active") is False:
        known.append(diagnose("hub_off"))
    if client.get("active") is False:
        known.append(diagnose("client_paused", client=name))
    on = _texts(hub, "protocols")
    off = [one for one in failing if on and one not in on and not (one == "https" and "http" in on)]
    if off and not known:
        known.append(diagnose("protocol_off", protocol=", ".join(off).upper()))
    return known


def _mapping(values: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = values.get(name)
    return value if isinstance(value, Mapping) else {}


def _text(values: Mapping[str, Any], name: str) -> str:
    value = values.get(name)
    return value if isinstance(value, str) else ""


def _texts(values: Mapping[str, Any], name: str) -> list[str]:
    value = values.get(name)
    return [one for one in value if isinstance(one, str)] if isinstance(value, list) else []
