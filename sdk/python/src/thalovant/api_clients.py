# SPDX-License-Identifier: Apache-2.0
"""What is done with a client after it was made, as steps: rotation, pause, policy, look-up, audit log.

These routes are our own addition to contract 4.1 (a server tells of them at `/v1/docs`). As in api_calls a call
is a generator; no I/O.
"""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Iterable, Mapping
from typing import Any

from thalovant import bootstrap
from thalovant.api_address import path_segment
from thalovant.api_calls import get_client, get_hub, one
from thalovant.api_session import ApiRequest, Call
from thalovant.bootstrap import SECRET_BYTES, BootstrapIdentityResult
from thalovant.errors import ThalovantAPIError, ThalovantAPIUnreachableError
from thalovant.hub_endpoints import HubProtocol
from thalovant.presence import ClientPresence

DEFAULT_GRACE = 86_400
"""Seconds that the old credential works on after a rotation."""

PAGE = 1_000
"""Rows of a page to ask for; a server gives fewer where that is too many."""


def rotate_client_identity(
    client_id: str, grace_seconds: int, idempotency_key: str | None, preferred: Iterable[HubProtocol]
) -> Call[BootstrapIdentityResult]:
    """Give a client a second credential: a GET of the client and of its hub, then the POST.

    The POST is sent once more under the same key when its answer was lost: the server gives the first answer again, so
    nothing is rotated twice.
    """
    wanted = tuple(preferred)
    client = yield from get_client(client_id)
    hub = yield from get_hub(_text(client, "hub_id"))
    fresh = {name: secrets.token_urlsafe(SECRET_BYTES) for name in ("apiKey", "password")}
    path = f"/v1/clients/{path_segment(client_id)}/rotate"
    body = {"grace_seconds": grace_seconds, "spec": fresh}
    post = ApiRequest("POST", path, body=body, headers={"idempotency-key": idempotency_key or str(uuid.uuid4())})
    try:
        rotated = yield post
    except ThalovantAPIUnreachableError:
        rotated = yield post
    return bootstrap.result_of(hub, {"spec": fresh | {"siteId": _site_id(client)}}, rotated, wanted)


def finish_rotation(client_id: str, force: bool) -> Call[dict[str, Any]]:
    """End the old credential before its time."""
    return one(ApiRequest("POST", f"/v1/clients/{path_segment(client_id)}/rotate/finish", body={"force": force}))


def cancel_rotation(client_id: str) -> Call[dict[str, Any]]:
    """Drop the new credential; the old one stays."""
    return one(ApiRequest("POST", f"/v1/clients/{path_segment(client_id)}/rotate/cancel"))


def update_client(client_id: str, payload: Mapping[str, Any], etag: str | None) -> Call[dict[str, Any]]:
    """Change a client that is still as `etag` says; without one, as it is now."""
    path = f"/v1/clients/{path_segment(client_id)}"
    return _changed(path, payload, etag)


def get_client_policy(client_id: str) -> Call[dict[str, Any]]:
    """What a client may send, how much, and what it has used today."""
    return one(ApiRequest("GET", _policy(client_id)))


def update_client_policy(client_id: str, payload: Mapping[str, Any], etag: str | None) -> Call[dict[str, Any]]:
    """Change a policy that is still as `etag` says; without one, as it is now."""
    return _changed(_policy(client_id), payload, etag)


def lookup_credential(access_key: str) -> Call[dict[str, Any]]:
    """What became of a credential; the key travels in the body, so that no log of addresses has it."""
    return one(ApiRequest("POST", "/v1/clients/lookup", body={"access_key": access_key}))


def list_audit(filters: Mapping[str, str | None], limit: int, cursor: str | None) -> Call[dict[str, Any]]:
    """A page of the audit log, newest first."""
    return one(ApiRequest("GET", "/v1/audit", {"limit": limit, "cursor": cursor, **filters}))


def export_audit(filters: Mapping[str, str | None]) -> ApiRequest:
    """The audit log as JSON lines; the body is read part by part."""
    return ApiRequest("GET", "/v1/audit/export", filters, headers={"accept": "application/x-ndjson"})


def get_audit_key() -> Call[str]:
    """The public key that exports are signed with."""
    answer = yield ApiRequest("GET", "/v1/audit/key", signed=False)
    return str(answer.get("public_key") or "")


def presence(hub_id: str) -> Call[list[ClientPresence]]:
    """Who of a hub's clients is online: all of them, page by page."""
    path, found, cursor = f"/v1/hubs/{path_segment(hub_id)}/presence", list[ClientPresence](), None
    while True:
        page = yield ApiRequest("GET", path, {"limit": PAGE, "cursor": cursor})
        rows, meta = page.get("data"), page.get("meta")
        found += [ClientPresence.from_dict(row) for row in rows or () if isinstance(row, Mapping)]
        following = meta.get("next") if isinstance(meta, Mapping) else None
        if not isinstance(following, str) or following == cursor:
            return found
        cursor = following


def get_client_presence(client_id: str) -> Call[ClientPresence]:
    """Whether one client is online."""
    return ClientPresence.from_dict((yield ApiRequest("GET", f"/v1/clients/{path_segment(client_id)}/presence")))


def presence_events(hub_id: str) -> ApiRequest:
    """The same as events, and then each change; the body is read part by part."""
    path = f"/v1/hubs/{path_segment(hub_id)}/presence/events"
    return ApiRequest("GET", path, headers={"accept": "text/event-stream"})


def _policy(client_id: str) -> str:
    return f"/v1/clients/{path_segment(client_id)}/policy"


def _changed(path: str, payload: Mapping[str, Any], etag: str | None) -> Call[dict[str, Any]]:
    """Send a PATCH; when no etag was given, the one that is read, and after one 412 once more."""
    if etag is not None:
        return (yield _patch(path, payload, etag))
    try:
        return (yield _patch(path, payload, _etag((yield ApiRequest("GET", path)))))
    except ThalovantAPIError as error:
        if error.status_code != 412:
            raise
    return (yield _patch(path, payload, _etag((yield ApiRequest("GET", path)))))


def _patch(path: str, payload: Mapping[str, Any], etag: str) -> ApiRequest:
    return ApiRequest("PATCH", path, body=dict(payload), headers={"if-match": etag})


def _etag(resource: Mapping[str, Any]) -> str:
    return _text(resource, "etag")


def _text(resource: Mapping[str, Any], name: str) -> str:
    value = resource.get(name)
    if not isinstance(value, str) or not value:
        raise ThalovantAPIError(f"The Thalovant API answered a client without {name}; nothing was changed.")
    return value


def _site_id(client: Mapping[str, Any]) -> str:
    spec = client.get("spec")
    site = spec.get("siteId") if isinstance(spec, Mapping) else None
    return site if isinstance(site, str) and site else bootstrap.normalized_site_id(str(client.get("name") or ""))
