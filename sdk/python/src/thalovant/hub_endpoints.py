# SPDX-License-Identifier: Apache-2.0
"""Where a hub can be reached and which carriers it has on, as the control plane says it (contract 3.3).

Values only: nothing here opens a connection, and no MQTT address is ever guessed from a domain.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast
from urllib.parse import SplitResult, urlsplit, urlunsplit

from thalovant.identity_fields import text_of

HubProtocol = Literal["wss", "https", "mqtt"]

DEFAULT_PROTOCOL_PREFERENCE: tuple[HubProtocol, ...] = ("wss", "https", "mqtt")

SCHEMES = frozenset({"http", "https", "ws", "wss", "mqtt", "mqtts"})
"""Schemes of a data plane endpoint; an address with any other one is dropped (contract 3.3)."""

_ENDPOINT_NAMES: dict[HubProtocol, tuple[str, ...]] = {
    "https": ("https", "http"),
    "wss": ("wss", "ws"),
    "mqtt": ("mqtt", "mqtts"),
}
_FLAG_NAMES = {"wss": ("wss", "websocket"), "http": ("http", "https"), "mqtt": ("mqtt",)}
_YES = frozenset({"yes", "on", "1", "true"})
_NO = frozenset({"no", "off", "0", "false"})


@dataclass(frozen=True, repr=False)
class HubDataPlaneEndpoints:
    """One address a carrier; None where the hub names none."""

    https: str | None = None
    wss: str | None = None
    mqtt: str | None = None

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any] | None) -> HubDataPlaneEndpoints:
        """Read `https`/`http`, `wss`/`ws` and `mqtt`/`mqtts`; what is no address is dropped."""
        found = values if isinstance(values, Mapping) else {}
        return cls(**{name: _first_address(found, names) for name, names in _ENDPOINT_NAMES.items()})

    @classmethod
    def from_hub(cls, hub: Mapping[str, Any]) -> HubDataPlaneEndpoints:
        """Read a hub resource; `domain` fills in WSS and HTTPS where they are switched on (contract 3.3)."""
        named = cls.from_mapping(_first_mapping(hub, ("data_plane_endpoints", "dataPlaneEndpoints", "endpoints")))
        host = _host_of_domain(hub.get("domain"))
        if not host:
            return named
        flags = HubProtocolSettings.from_mapping(hub)
        return cls(
            https=named.https or (f"https://{host}" if flags.http else None),
            wss=named.wss or (f"wss://{host}" if flags.wss else None),
            mqtt=named.mqtt,
        )

    def endpoint_for(self, protocol: HubProtocol) -> str | None:
        """The address of one carrier; None when there is none or the carrier is unknown."""
        return cast("str | None", getattr(self, protocol)) if protocol in _ENDPOINT_NAMES else None

    def http_base(self, fallback_master: str, fallback_port: int, fallback_path: str) -> str:
        """The base of the HTTPS carrier, port always written (vectors/addresses.json).

        With an `https` address: that one, `fallback_port` added when it names none. Without: the master with
        `wss` read as `https`, the port, and `fallback_path`.
        """
        if self.https:
            return _with_port(self.https, fallback_port)
        path = fallback_path.strip("/")
        return _with_port(fallback_master, fallback_port) + (f"/{path}" if path else "")

    def as_dict(self, *, redact_credentials: bool = False) -> dict[str, str]:
        """The addresses that are known; `redact_credentials` takes `user:password@` out of them."""
        known = ((name, self.endpoint_for(name)) for name in _ENDPOINT_NAMES)
        return {name: without_user_info(url) if redact_credentials else url for name, url in known if url}

    def __repr__(self) -> str:
        shown = self.as_dict(redact_credentials=True)
        return f"HubDataPlaneEndpoints({', '.join(f'{name}={shown.get(name)!r}' for name in _ENDPOINT_NAMES)})"


@dataclass(frozen=True)
class HubProtocolSettings:
    """Which carriers a hub has switched on. `http` is the HTTPS carrier; its name is that of the wire."""

    wss: bool = True
    http: bool = False
    mqtt: bool = False

    @property
    def https(self) -> bool:
        """Whether the HTTPS carrier is on: `http` under the name of the carrier."""
        return self.http

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any] | None) -> HubProtocolSettings:
        """Read a hub, an identity, or the group itself.

        A hub's group is `spec.protocols`, `protocols`, then `network` (contract 3.3).
        """
        group = _protocol_group(values) if isinstance(values, Mapping) else {}
        standard = cls()
        return cls(**{name: _first_flag(group, names, getattr(standard, name)) for name, names in _FLAG_NAMES.items()})

    def is_enabled(self, protocol: HubProtocol) -> bool:
        """True when the carrier is switched on; False for an unknown one."""
        return {"wss": self.wss, "https": self.http, "mqtt": self.mqtt}.get(protocol, False)

    def enabled_protocols(self) -> tuple[HubProtocol, ...]:
        """The carriers that are on, in the order wss, https, mqtt."""
        return tuple(protocol for protocol in DEFAULT_PROTOCOL_PREFERENCE if self.is_enabled(protocol))

    def as_dict(self) -> dict[str, dict[str, bool]]:
        """The group as a hub's spec writes it."""
        return {name: {"enabled": bool(getattr(self, name))} for name in _FLAG_NAMES}


@dataclass(frozen=True)
class SelectedHubEndpoint:
    """A carrier and the address it will dial."""

    protocol: HubProtocol
    endpoint: str


def select_data_plane_endpoint(
    endpoints: HubDataPlaneEndpoints,
    protocols: HubProtocolSettings,
    preferred_protocols: Iterable[HubProtocol] = DEFAULT_PROTOCOL_PREFERENCE,
) -> SelectedHubEndpoint | None:
    """The first preferred carrier that is on and has an address, else None (contract 3.4.4)."""
    for protocol in preferred_protocols:
        endpoint = endpoints.endpoint_for(protocol)
        if endpoint and protocols.is_enabled(protocol):
            return SelectedHubEndpoint(protocol, endpoint)
    return None


def mqtt_via(hub: Mapping[str, Any]) -> Literal["embedded", "link"]:
    """Where a hub's MQTT is: at the server's own endpoint, or at an outside broker that it is linked with."""
    said = _first_mapping(_protocol_group(hub), ("mqtt",)).get("via")
    return "link" if said == "link" else "embedded"


def hub_display_name(hub: Mapping[str, Any]) -> str:
    """The name to show: catalog title, else a name that is not the slug, else the slug as a title."""
    spec = _first_mapping(hub, ("spec",))
    title = _first_mapping(spec, ("catalog",)).get("title")
    if isinstance(title, str) and title.strip():
        return title.strip()
    name, slug = (str(hub.get(key) or "").strip() for key in ("name", "slug"))
    if name and name != slug:
        return name
    return slug.replace("-", " ").replace("_", " ").title() or "A Thalovant hub"


def without_user_info(url: str) -> str:
    """`url` without `user:password@`."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "<unreadable address>"
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def read_flag(value: object) -> bool | None:
    """A yes/no of the wire: a boolean, 1/0, a word, or `{"enabled": ...}`; None when it says neither."""
    if isinstance(value, Mapping):
        return read_flag(value.get("enabled"))
    if isinstance(value, bool):
        return value
    word = text_of(value).lower()
    return True if word in _YES else False if word in _NO else None


def _protocol_group(values: Mapping[str, Any]) -> Mapping[str, Any]:
    spec = _first_mapping(values, ("spec",))
    for name in ("protocols", "network"):
        for holder in (spec, values):
            if group := _first_mapping(holder, (name,)):
                return group
    return values


def _first_flag(group: Mapping[str, Any], names: Iterable[str], standard: bool) -> bool:
    flags = (read_flag(group[name]) for name in names if name in group)
    return next((flag for flag in flags if flag is not None), standard)


def _first_mapping(values: Mapping[str, Any], names: Iterable[str]) -> Mapping[str, Any]:
    found = (values.get(name) for name in names)
    return next((value for value in found if isinstance(value, Mapping)), {})


def _first_address(values: Mapping[str, Any], names: Iterable[str]) -> str | None:
    found = (_address(values.get(name)) for name in names)
    return next((address for address in found if address), None)


def _address(value: object) -> str | None:
    """`value` when it is an address of a known scheme with a host, without a trailing `/`; else None."""
    text = value.strip() if isinstance(value, str) else ""
    parts = _split(text)
    if parts is None or parts.scheme.lower() not in SCHEMES or not parts.hostname or not text.isprintable():
        return None
    return text.rstrip("/")


def _split(text: str) -> SplitResult | None:
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError:
        return None
    return parts


def _host_of_domain(domain: object) -> str | None:
    text = domain.strip() if isinstance(domain, str) else ""
    address = _address(text if "://" in text else f"https://{text}")
    return urlsplit(address).netloc.rpartition("@")[2] if address else None


def _with_port(url: str, port: int) -> str:
    """`url` on http(s) with its port written, without a trailing `/`. A bare host means https."""
    parts = _split(url if "://" in url else f"https://{url}")
    if parts is None:
        return url
    scheme = {"wss": "https", "ws": "http"}.get(parts.scheme, parts.scheme)
    netloc = parts.netloc if parts.port else f"{parts.netloc.rstrip(':')}:{port}"
    return urlunsplit((scheme, netloc, parts.path.rstrip("/"), parts.query, ""))
