# SPDX-License-Identifier: Apache-2.0
"""Examines an identity: its file, the road of each carrier that it names, and what the control plane knows of it.

The carriers are walked at the same time, each on its own. What is found is judged in `doctor`.
"""

from __future__ import annotations

import asyncio
import os
import stat
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from thalovant.addresses import https_is_named, why_no_mqtt
from thalovant.api_discovery import find_api
from thalovant.carriers import carriers_for
from thalovant.credential_history import known_of, names_of, sentence_of, shown_of
from thalovant.diagnoses import Diagnosis, diagnose
from thalovant.doctor import Found, ThalovantDoctorReport, failed, noted, passed, report_of
from thalovant.errors import ThalovantError, ThalovantIdentityError
from thalovant.hub_endpoints import HubProtocol
from thalovant.probing import Patience, Probe
from thalovant.version import USER_AGENT

if TYPE_CHECKING:
    from thalovant.client import AsyncThalovantClient
    from thalovant.identity import ThalovantIdentity

__all__ = ["examine", "named_protocols", "unreadable"]

LOOKUP_SECONDS = 5.0
_OF_CARRIERS: dict[str, Any] = {
    "useragent": USER_AGENT,
    "connect_timeout": 4.0,
    "send_timeout": 8.0,
    "self_signed": False,
}
_NO_MQTT = {"mqtt_enabled_since", "mqtt_not_enabled", "no_mqtt_block"}
_UNREACHED = {"port_refused", "port_silent"}
_UNKNOWN = "credential_not_found"
_CREDENTIAL_CODES = {"broker_login_refused", "credential_refused", "credential_withdrawn", "wrong_password"}


async def examine(
    identity: ThalovantIdentity,
    protocols: Sequence[HubProtocol] | None = None,
    *,
    patience: Patience | None = None,
    ask: bool = True,
    ask_control_plane: bool = True,
    **options: Any,
) -> ThalovantDoctorReport:
    """Examine an identity; `protocols` None takes the carriers that it names. `options` are those of the client.

    Raises nothing for what is wrong: that is in the report.
    """
    roads = list(protocols) if protocols is not None else named_protocols(identity)
    patience = patience or Patience()
    make = _client_maker(identity, options)
    self_signed = bool(options.get("self_signed"))
    probes = [Probe(identity, road, make, patience, asks=ask, self_signed=self_signed) for road in roads]
    first = _identity_check(identity)
    walked = await asyncio.gather(*(probe.walk() for probe in probes))
    found = [first, *(one for walk in walked for one in walk)]
    failing = [road for road, walk in zip(roads, walked, strict=True) if not all(one.check.ok for one in walk)]
    notes = [] if identity.mqtt is not None or "mqtt" in roads else [why_no_mqtt(identity)]
    if not ask_control_plane:
        return report_of(identity.as_dict(), found, notes=notes)
    return await _joined(identity, found, failing, notes)


def named_protocols(identity: ThalovantIdentity) -> list[HubProtocol]:
    """The carriers that an identity names, by an address, a credential, or by saying that its hub has them on."""
    roads: list[HubProtocol] = []
    if identity.endpoint_for("wss"):
        roads.append("wss")
    if https_is_named(identity):
        roads.append("https")
    if identity.mqtt is not None or identity.data_plane_endpoints.mqtt or identity.supports_protocol("mqtt"):
        roads.append("mqtt")
    return roads


def unreadable(error: ThalovantIdentityError) -> ThalovantDoctorReport:
    """The report of an identity that could not be read."""
    diagnosis = error.diagnosis or diagnose("identity_unreadable", said=error)
    return report_of({}, [failed("identity", diagnosis, 0.0)])


def _identity_check(identity: ThalovantIdentity) -> Found:
    started = time.perf_counter()
    if identity.source_path is None:
        return passed("identity", f"of site {identity.site_id}, from no file", 0.0)
    file = Path(identity.source_path)
    try:
        mode = stat.S_IMODE(file.stat().st_mode)
    except OSError as error:
        said = f"{file} is gone ({error.strerror}); what was read from it is used."
        return failed("identity", diagnose("identity_unreadable", said=said), time.perf_counter() - started)
    took = time.perf_counter() - started
    if mode & 0o077 and os.name != "nt" and not os.environ.get("KUBERNETES_SERVICE_HOST"):
        return failed("identity", diagnose("identity_open_to_others", file=file, mode=f"{mode:04o}"), took)
    return passed("identity", f"{file} of site {identity.site_id}, mode {mode:04o}", took)


def _client_maker(
    identity: ThalovantIdentity, options: dict[str, Any]
) -> Callable[[HubProtocol], AsyncThalovantClient]:
    from thalovant.client import AsyncThalovantClient  # it offers `doctor()` itself

    def make(protocol: HubProtocol) -> AsyncThalovantClient:
        of_carrier = {name: options.get(name, standard) for name, standard in _OF_CARRIERS.items()}
        (transport,), _ = carriers_for(identity, protocol, None, None, **of_carrier)
        if protocol == "mqtt":
            transport.announces = False  # type: ignore[attr-defined]
        return AsyncThalovantClient(identity, transport=transport, auto_reconnect=False, **options)

    return make


async def _joined(
    identity: ThalovantIdentity, found: list[Found], failing: list[HubProtocol], notes: list[Diagnosis]
) -> ThalovantDoctorReport:
    """The report, with what the control plane knows where a login or a token is at hand."""
    shown = [one.diagnosis for one in found if one.diagnosis is not None]
    asked = await _asked(identity.access_key)
    answer, site_id = asked.answer, identity.site_id
    names = names_of(answer or {}, site_id)
    found.append(asked.told)
    known = _of_server(asked, shown, names, identity.mqtt.endpoint if identity.mqtt else "")
    if answer is None:
        if asked.told.check.code == _UNKNOWN and any(one.code in _CREDENTIAL_CODES for one in shown):
            known.append(diagnose("credential_unknown", **names))
        return report_of(identity.as_dict(), found, known, notes)
    explained, more = known_of(answer, shown, failing, has_mqtt=identity.mqtt is not None, site_id=site_id)
    known += explained
    if any(one.code in _NO_MQTT for one in more):
        notes = []  # it says more than that there is no MQTT
    return report_of(identity.as_dict(), found, known, [*notes, *more], shown_of(answer))


@dataclass(frozen=True)
class _Asked:
    """What came of asking the control plane at `api`: an answer or none, and that as a line.

    `answers` is whether anything answered there, None when nobody was asked.
    """

    answer: dict[str, Any] | None
    told: Found
    api: str = ""
    answers: bool | None = None


async def _asked(access_key: str) -> _Asked:
    """Ask the control plane, where a login is at hand. What comes of it is never a failure."""
    started = time.perf_counter()
    api = ""
    try:
        target = await asyncio.to_thread(find_api, None)
        if not target.access_token:
            return _Asked(None, noted("control plane", "not asked: nobody is signed in here (thalovant login)"))
        api = target.api_url
        answer = await _looked_up(access_key)
    except ThalovantError as error:
        unknown = error.code == _UNKNOWN
        said = "it does not know this identity, or it is not yours" if unknown else f"not asked: {error}"
        told = noted("control plane", said, time.perf_counter() - started, error.code)
        return _Asked(None, told, api, _answers(error) if api else None)
    return _Asked(answer, noted("control plane", sentence_of(answer), time.perf_counter() - started), api, True)


def _answers(error: ThalovantError) -> bool | None:
    """Whether a control plane that did not do what was asked is there at all; None when that cannot be told."""
    if getattr(error, "status_code", None) is not None:
        return True
    return False if error.diagnosis is not None and error.diagnosis.code in _UNREACHED else None


def _of_server(asked: _Asked, shown: Sequence[Diagnosis], names: dict[str, str], mqtt_endpoint: str) -> list[Diagnosis]:
    """A hub that cannot be reached on the machine of the control plane: only that port, or the server as a whole.

    Where the hub's MQTT is at an outside broker, on whatever machine, it is the broker that is not there.
    """
    host = urlsplit(asked.api).hostname
    if asked.answers is None or host is None:
        return []
    away = [one for one in shown if one.code == "hub_away"]
    if away:
        code = "hub_away/known" if asked.answers else "server_down"
        return [diagnose(code, said=one.happened, api=asked.api) for one in away]
    code = "port_wrong" if asked.answers else "server_down"
    # The sentence names host and port: "Nothing listens at localhost:1234."
    unreached = [one for one in shown if one.code in _UNREACHED]
    broker = urlsplit(mqtt_endpoint).netloc if (asked.answer or {}).get("broker") else ""
    codes = [(one, "broker_not_there" if broker and broker in one.happened else code) for one in unreached]
    there = [(one, code) for one, code in codes if code == "broker_not_there" or f"{host}:" in one.happened]
    return [diagnose(code, said=one.happened, api=asked.api, **names) for one, code in there]


async def _looked_up(access_key: str) -> dict[str, Any]:
    """What the control plane knows. The access key is no secret."""
    from thalovant.control_plane import AsyncThalovantControlPlane

    async with AsyncThalovantControlPlane(timeout=LOOKUP_SECONDS) as api:
        return await api.lookup_credential(access_key)
