# SPDX-License-Identifier: Apache-2.0
"""A new client of a hub, from the request body to an identity that connects (contract 3.4). No I/O.

The answer's `initial_identify` decides; what was generated here is only used by a server that sends none.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any
from urllib.parse import urlsplit

from thalovant.addresses import why_no_mqtt
from thalovant.diagnoses import diagnose, diagnosed
from thalovant.errors import ThalovantAPIError, ThalovantUnsupportedProtocolError
from thalovant.hub_endpoints import (
    DEFAULT_PROTOCOL_PREFERENCE,
    HubDataPlaneEndpoints,
    HubProtocol,
    HubProtocolSettings,
    SelectedHubEndpoint,
    select_data_plane_endpoint,
)
from thalovant.identity import ThalovantIdentity
from thalovant.operation import OperationResource
from thalovant.secret_names import without_secrets

_LOCAL_PORT = 443
SECRET_BYTES = 32


@dataclass(frozen=True)
class BootstrapIdentityResult:
    """A client that was made: its identity, the hub and client resources, and where it would connect."""

    identity: ThalovantIdentity
    hub: dict[str, Any]
    client: dict[str, Any] = field(repr=False)
    endpoint: SelectedHubEndpoint | None
    operation: OperationResource | None = None

    @property
    def client_id(self) -> str | None:
        """The client's id, wanted for deleting it."""
        value = self.client.get("id")
        return value if isinstance(value, str) and value else None

    @property
    def connection_type(self) -> str | None:
        """The kind of connection the server says it made."""
        return connection_type_of(self.client)

    @property
    def selected_protocol(self) -> HubProtocol | None:
        """The first preferred carrier that the hub has on and names an address for."""
        return self.endpoint.protocol if self.endpoint else None

    def as_dict(self, *, include_secrets: bool = False) -> dict[str, Any]:
        """The result as a mapping, safe to log unless `include_secrets`."""
        return {
            "identity": self.identity.as_dict(include_secrets=include_secrets),
            "hub": dict(self.hub),
            "client": dict(self.client) if include_secrets else without_secrets(self.client),
            "selected_protocol": self.selected_protocol,
            "selected_endpoint": self.endpoint.endpoint if self.endpoint else None,
            "operation": asdict(self.operation) if self.operation else None,
        }


def client_body(
    hub: Mapping[str, Any],
    *,
    name: str,
    site_id: str | None,
    spec: Mapping[str, Any] | None,
    owner_id: str | None,
    active: bool,
    connection_type: str | None,
) -> dict[str, Any]:
    """The body of `POST /v1/clients` with new secrets (contract 3.4.2). Raises ThalovantAPIError without a hub id."""
    hub_id = hub.get("id")
    if not isinstance(hub_id, str) or not hub_id:
        raise ThalovantAPIError("Hub resource is missing id.")
    whole: dict[str, Any] = {"version": "1", **(spec or {})}
    whole.pop("cryptoKey", None)
    if connection_type is not None:
        whole["connection_type"] = connection_type
    whole |= {"apiKey": secrets.token_urlsafe(SECRET_BYTES), "password": secrets.token_urlsafe(SECRET_BYTES)}
    whole["siteId"] = normalized_site_id(site_id or name)
    body: dict[str, Any] = {"hub_id": hub_id, "name": name, "spec": whole, "active": active}
    return body if owner_id is None else body | {"owner_id": owner_id}


def normalized_site_id(text: str) -> str:
    """`_` and blanks become single `-`; nothing left becomes `thalovant-client-` and eight hex digits."""
    site = re.sub(r"\s+", "-", text.strip().replace("_", "-"))
    return site or f"thalovant-client-{secrets.token_hex(4)}"


def result_of(
    hub: Mapping[str, Any], body: Mapping[str, Any], client: dict[str, Any], preferred: Iterable[HubProtocol]
) -> BootstrapIdentityResult:
    """Make the result of an answer (contract 3.4.4).

    Raises ThalovantIdentityError when `initial_identify` lacks a field, ThalovantAPIError when nothing says
    where to connect; the client exists on the server by then.
    """
    endpoints = HubDataPlaneEndpoints.from_hub(hub)
    protocols = HubProtocolSettings.from_mapping(hub)
    endpoint = select_data_plane_endpoint(endpoints, protocols, preferred)
    block = client.get("initial_identify")
    values = dict(block) if isinstance(block, Mapping) else _local_identity(hub, body, endpoints, endpoint)
    values |= {"data_plane_endpoints": endpoints.as_dict(), "protocols": protocols.as_dict()}
    identity = ThalovantIdentity.from_mapping(values)
    return BootstrapIdentityResult(identity, dict(hub), client, endpoint, _operation(client))


def connection_type_of(client: Mapping[str, Any]) -> str | None:
    """The kind of connection a client resource names."""
    spec = client.get("spec")
    kind = spec.get("connection_type") if isinstance(spec, Mapping) else None
    return kind if isinstance(kind, str) and kind else None


def require_runtime_protocol(
    result: BootstrapIdentityResult, protocol: HubProtocol | None = None
) -> SelectedHubEndpoint:
    """The address of a carrier that the new identity can really use.

    `protocol` None means the one selected at creation. Raises ThalovantUnsupportedProtocolError saying what
    is missing.
    """
    wanted = protocol or result.selected_protocol or "wss"
    if wanted not in DEFAULT_PROTOCOL_PREFERENCE:
        raise ThalovantUnsupportedProtocolError(f"Unsupported protocol: {wanted}. There are wss, https and mqtt.")
    endpoint = result.identity.data_plane_endpoints.endpoint_for(wanted)
    if not endpoint or not result.identity.supports_protocol(wanted):
        code = "mqtt_not_enabled" if wanted == "mqtt" else "protocol_not_enabled"
        raise diagnosed(ThalovantUnsupportedProtocolError, diagnose(code, protocol=wanted.upper()))
    if wanted == "mqtt" and result.identity.mqtt is None:
        raise diagnosed(ThalovantUnsupportedProtocolError, why_no_mqtt(result.identity))
    return SelectedHubEndpoint(wanted, endpoint)


def _local_identity(
    hub: Mapping[str, Any],
    body: Mapping[str, Any],
    endpoints: HubDataPlaneEndpoints,
    selected: SelectedHubEndpoint | None,
) -> dict[str, Any]:
    spec = body["spec"]
    return {
        "access_key": spec["apiKey"],
        "password": spec["password"],
        "site_id": spec["siteId"],
        "default_master": _local_master(hub, endpoints, selected),
        "default_port": _LOCAL_PORT,
    }


def _local_master(
    hub: Mapping[str, Any], endpoints: HubDataPlaneEndpoints, selected: SelectedHubEndpoint | None
) -> str:
    if endpoints.https:
        parts = urlsplit(endpoints.https)
        return f"{parts.scheme}://{parts.netloc}"
    domain = hub.get("domain")
    if isinstance(domain, str) and domain.strip():
        return f"https://{domain.strip().rpartition('://')[2].rstrip('/')}"
    if selected is None:
        raise ThalovantAPIError("The hub names neither a domain nor an endpoint; nothing says where to connect.")
    return selected.endpoint


def _operation(client: Mapping[str, Any]) -> OperationResource | None:
    payload = client.get("operation")
    try:
        return OperationResource.from_dict(payload) if isinstance(payload, Mapping) else None
    except ThalovantAPIError:
        return None  # contract 1.6: one that cannot be read is dropped
