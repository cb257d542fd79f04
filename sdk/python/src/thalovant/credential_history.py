# SPDX-License-Identifier: Apache-2.0
"""What the control plane knows of a credential, read as what is wrong with it (`POST /v1/clients/lookup`). No I/O."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from thalovant.diagnoses import Diagnosis, diagnose
from thalovant.hub_endpoints import HubProtocol

__all__ = ["known_of", "names_of", "sentence_of", "shown_of"]

_NO_MQTT = {"mqtt_not_enabled", "no_mqtt_block"}
_DENIED = "policy_denied"
_KEPT = ("status", "why", "ended_at")
_FAILED = ("failed", "timed_out")
_OF_CLIENT = ("id", "name", "active")
_OF_HUB = ("id", "slug", "name", "active", "protocols")


def known_of(
    answer: Mapping[str, Any],
    shown: Sequence[Diagnosis],
    failing: Iterable[HubProtocol],
    *,
    has_mqtt: bool,
    site_id: str = "",
) -> tuple[list[Diagnosis], list[Diagnosis]]:
    """What explains the diagnoses that the walk has shown, and what is worth knowing beside it.

    `failing` are the carriers that do not lead to the hub, `has_mqtt` whether the identity holds broker credentials,
    `site_id` what a client is called that the answer does not name.
    """
    names = names_of(answer, site_id)
    status = answer.get("status")
    known = _ended(answer, names) if status == "ended" else _switched_off(answer, names, failing)
    if not known and status in ("live", "grace"):
        known += _of_broker(answer, shown, names)
    if not known and status == "live":
        known += _of_another_file(shown, names)
    known += [diagnose("policy_denied/known", said=one.happened, **names) for one in shown if one.code == _DENIED]
    notes = []
    if status == "grace":
        until = _text(_mapping(answer, "credential"), "expires_at") or "soon"
        notes.append(diagnose("credential_in_grace", when=until, **names))
    if not has_mqtt and status != "ended":
        asked = any(one.code in _NO_MQTT for one in shown)
        (known if asked else notes).extend(_without_mqtt(answer, names))
    return known, notes


def names_of(answer: Mapping[str, Any], site_id: str = "") -> dict[str, str]:
    """What client and hub are called in a sentence (`client`) and in what is to be typed (`typed`, `hub`)."""
    client, hub = _mapping(answer, "client"), _mapping(answer, "hub")
    name = _text(client, "name") or _text(client, "id") or site_id
    slug = _text(hub, "slug") or _text(hub, "id")
    typed = {"typed": shlex.quote(name) if name else "NAME", "hub": shlex.quote(slug) if slug else "HUB"}
    return {"client": name or "the client", **typed}


def _of_broker(answer: Mapping[str, Any], shown: Sequence[Diagnosis], names: Mapping[str, str]) -> list[Diagnosis]:
    """Why the outside broker at which the hub's MQTT is does not let the client in, or nobody is met there."""
    broker, codes = _mapping(answer, "broker"), {one.code for one in shown}
    if not broker or not codes & {"broker_login_refused", "hub_away", "hub_silent"}:
        return []
    if broker.get("admitted") is None:
        return [diagnose("server_without_broker", **names)]
    if "broker_login_refused" not in codes:
        return []
    if broker.get("admitted") is True:
        return [diagnose("broker_login_of_another/link", **names)]
    operation = _mapping(broker, "operation")
    if operation.get("status") == "requested":
        return [diagnose("not_admitted_yet", when=_text(operation, "created_at") or "this day", **names)]
    if operation.get("status") in _FAILED:
        said = _text(operation, "error_message") or "it did not say why."
        return [diagnose("admission_failed", said=said, **names)]
    return [diagnose("broker_lost_credential", **names)]


def _of_another_file(shown: Sequence[Diagnosis], names: Mapping[str, str]) -> list[Diagnosis]:
    """A live credential that is refused: what is in the file beside its access key is not what belongs to it."""
    known = []
    if any(one.code == "broker_login_refused" for one in shown):
        known.append(diagnose("broker_login_of_another", **names))
    wrong = next((one for one in shown if one.code == "wrong_password"), None)
    if wrong is not None:
        known.append(diagnose("wrong_password/known", said=wrong.happened, **names))
    return known


def _without_mqtt(answer: Mapping[str, Any], names: Mapping[str, str]) -> list[Diagnosis]:
    """Why an identity has no broker credentials: the hub has no MQTT, or has it since, or the file was shortened."""
    hub = _mapping(answer, "hub")
    if "mqtt" not in _texts(hub, "protocols"):
        return [diagnose("mqtt_not_enabled/known", **names)] if hub else []
    had = _mapping(answer, "credential").get("mqtt") is True
    return [diagnose("no_mqtt_block/known" if had else "mqtt_enabled_since", **names)]


def shown_of(answer: Mapping[str, Any]) -> dict[str, Any]:
    """The part of the answer that a report shows; nothing in it is a secret."""
    shown: dict[str, Any] = {name: answer.get(name) for name in _KEPT}
    shown["client"] = (
        {name: _mapping(answer, "client").get(name) for name in _OF_CLIENT} if answer.get("client") else None
    )
    shown["hub"] = {name: _mapping(answer, "hub").get(name) for name in _OF_HUB} if answer.get("hub") else None
    shown["broker"] = _broker_shown(answer)
    credential = _mapping(answer, "credential")
    shown["credential"] = {name: value for name, value in credential.items() if name != "topic_prefix"} or None
    return shown


def _broker_shown(answer: Mapping[str, Any]) -> dict[str, Any] | None:
    broker = _mapping(answer, "broker")
    return {"admitted": broker.get("admitted"), "operation": dict(_mapping(broker, "operation"))} if broker else None


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
    if broker := _mapping(answer, "broker"):
        parts.append(f"the hub's broker {'has' if broker.get('admitted') is True else 'does not have'} it")
    return "; ".join(parts)


def _ended(answer: Mapping[str, Any], names: Mapping[str, str]) -> list[Diagnosis]:
    why, when = str(answer.get("why") or "ended"), str(answer.get("ended_at") or "an unknown day")
    codes = {
        "rotated": "credential_rotated",
        "replaced": "credential_rotated/replaced",
        "removed": "client_removed",
        "hub_removed": "hub_removed",
    }
    return [diagnose(codes.get(why, "credential_ended"), when=when, why=why, **names)]


def _switched_off(
    answer: Mapping[str, Any], names: Mapping[str, str], failing: Iterable[HubProtocol]
) -> list[Diagnosis]:
    client, hub = _mapping(answer, "client"), _mapping(answer, "hub")
    known = []
    if hub.get("active") is False:
        known.append(diagnose("hub_off"))
    if client.get("active") is False:
        known.append(diagnose("client_paused", **names))
    on = _texts(hub, "protocols")
    off = [one for one in failing if on and one not in on and not (one == "https" and "http" in on)]
    if off and not known:
        options = " ".join(f"--{one}" for one in off)
        known.append(diagnose("protocol_off/known", protocol=", ".join(off).upper(), options=options, **names))
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
