# SPDX-License-Identifier: Apache-2.0
"""From an identity to what is dialled: addresses, the authorization value, the names hubs' keys are pinned under.

Pure functions, equal to `contract/vectors/addresses.json` (contract 2 and 4.2). Opens nothing, resolves no name,
reads no environment. An address with the authorization in it is a secret: it is made here and never logged.
"""

from __future__ import annotations

import base64
import ipaddress
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, quote, urlsplit, urlunsplit

from thalovant.diagnoses import Diagnosis, diagnose, diagnosed
from thalovant.errors import ThalovantConnectionError, ThalovantUnsupportedProtocolError

if TYPE_CHECKING:
    from thalovant.hub_endpoints import HubProtocol
    from thalovant.identity import ThalovantIdentity

__all__ = [
    "MqttAddress",
    "authorization_query",
    "authorization_value",
    "choose_protocol",
    "https_base",
    "https_is_named",
    "mqtt_address",
    "pin_name",
    "why_no_mqtt",
    "wss_base",
    "wss_request",
]

_DEFAULT_PORTS = {"wss": 443, "ws": 80, "https": 443, "http": 80}
_MQTT_PORT = 8883


@dataclass(frozen=True, slots=True)
class MqttAddress:
    """A broker: host name or IP address without brackets, and port. TLS always (contract 2)."""

    host: str
    port: int


def authorization_value(useragent: str, access_key: str) -> str:
    """Return standard base64 of `<user agent>:<access key>` (contract 2), not yet percent-encoded."""
    return base64.b64encode(f"{useragent}:{access_key}".encode()).decode("ascii")


def authorization_query(useragent: str, access_key: str) -> str:
    """Return `authorization=<value>`, percent-encoded, to be appended to a query."""
    return f"authorization={quote(authorization_value(useragent, access_key), safe='')}"


def choose_protocol(identity: ThalovantIdentity, protocol: HubProtocol | None) -> HubProtocol:
    """Return the carrier to use: the asked one, else WSS if the identity allows it and has an address, else HTTPS.

    Raises `ThalovantUnsupportedProtocolError` for MQTT without credentials in the identity, and for a name that
    is no carrier.
    """
    if protocol is None:
        allowed = identity.supports_protocol("wss") and identity.endpoint_for("wss") is not None
        return "wss" if allowed else "https"
    if protocol == "mqtt" and identity.mqtt is None:
        raise diagnosed(ThalovantUnsupportedProtocolError, why_no_mqtt(identity))
    if protocol not in ("wss", "https", "mqtt"):
        raise ThalovantUnsupportedProtocolError(f"There is no protocol {protocol!r}: choose 'wss', 'https' or 'mqtt'.")
    return protocol


def why_no_mqtt(identity: ThalovantIdentity) -> Diagnosis:
    """Return why an identity without broker credentials has none (contract 3.5), as far as it tells itself."""
    has_mqtt = identity.supports_protocol("mqtt") or identity.data_plane_endpoints.mqtt is not None
    return diagnose("no_mqtt_block" if has_mqtt else "mqtt_not_enabled")


def wss_base(identity: ThalovantIdentity) -> str:
    """Return the WebSocket address without the authorization.

    Raises `ThalovantConnectionError` when the identity has none, and for `ws://` to another machine.
    """
    address = identity.endpoint_for("wss")
    if not address:
        raise diagnosed(
            ThalovantConnectionError, diagnose("no_address", said="This identity has no WSS address.", protocol="WSS")
        )
    return urlunsplit(_checked(address, ("wss", "ws"))._replace(fragment=""))


def wss_request(identity: ThalovantIdentity, useragent: str) -> str:
    """Return the whole WebSocket address: path and query kept, the authorization last. A secret."""
    parts = urlsplit(wss_base(identity))
    added = authorization_query(useragent, identity.access_key)
    return urlunsplit(parts._replace(query=f"{parts.query}&{added}" if parts.query else added))


def https_base(identity: ThalovantIdentity) -> str:
    """Return the HTTPS base, port always written, without a slash at its end.

    Raises `ThalovantConnectionError` when it is no HTTP address, and for `http://` to another machine.
    """
    address = identity.endpoint_base()
    _checked(address, ("https", "http"))
    return address.rstrip("/")


def https_is_named(identity: ThalovantIdentity) -> bool:
    """Whether the HTTPS base is more than a guess: an identity with addresses for other carriers only has none."""
    named = identity.data_plane_endpoints.as_dict()
    return "https" in named or not named


def mqtt_address(identity: ThalovantIdentity) -> MqttAddress:
    """Return the broker of the identity.

    Raises `ThalovantUnsupportedProtocolError` without credentials and `ThalovantConnectionError` for an address
    that is none, or that would be dialled without TLS.
    """
    if identity.mqtt is None:
        raise diagnosed(ThalovantUnsupportedProtocolError, why_no_mqtt(identity))
    parts = _split(identity.mqtt.endpoint, ("mqtts", "ssl", "mqtt", "tcp"))
    if parts.scheme not in ("mqtts", "ssl") and not identity.mqtt.tls:
        raise diagnosed(ThalovantConnectionError, diagnose("plain_mqtt_endpoint"))
    return MqttAddress(parts.hostname or "", parts.port or _MQTT_PORT)


def pin_name(identity: ThalovantIdentity, protocol: HubProtocol) -> str:
    """Return the name the hub's key is pinned under: `wss://host:port`; the HTTPS base for HTTPS and MQTT."""
    if protocol != "wss":
        return identity.endpoint_base().rstrip("/")
    parts = urlsplit(wss_base(identity))
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return f"{parts.scheme}://{host}:{parts.port or _DEFAULT_PORTS[parts.scheme]}"


def _checked(address: str, schemes: tuple[str, str]) -> SplitResult:
    """Split an address; only the first of the two schemes may leave this machine."""
    parts = _split(address, schemes)
    if parts.scheme != schemes[0] and not _is_loopback(parts.hostname or ""):
        plain = diagnose("plain_endpoint", scheme=parts.scheme, host=parts.hostname, secure=schemes[0])
        raise diagnosed(ThalovantConnectionError, plain)
    return parts


def _split(address: str, schemes: tuple[str, ...]) -> SplitResult:
    try:
        parts = urlsplit(address)
        fits = parts.scheme in schemes and bool(parts.hostname) and parts.port != 0
    except ValueError:
        fits, parts = False, urlsplit("")
    if not fits:
        said = f"The identity's address is not one of {', '.join(schemes)} with a host."
        raise diagnosed(ThalovantConnectionError, diagnose("no_address", said=said, protocol=schemes[0].upper()))
    return parts


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
