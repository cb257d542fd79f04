# SPDX-License-Identifier: Apache-2.0
"""Every call of the control plane as its steps (contract 3 and 4), for both twins. No I/O; time is handed in.

A call is a generator: it yields requests and pauses, is sent each answer's object or has its error thrown in,
and returns the result.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from urllib.parse import unquote, urlsplit

from thalovant import bootstrap
from thalovant.api_address import normalized_root, path_segment
from thalovant.api_session import ApiRequest, ApiSession, Call, Pause
from thalovant.bootstrap import BootstrapIdentityResult
from thalovant.errors import (
    ThalovantAdmissionFailedError,
    ThalovantAdmissionTimeoutError,
    ThalovantAPIError,
    ThalovantAuthError,
    ThalovantTimeoutError,
    ThalovantUnsupportedConnectionTypeError,
)
from thalovant.hub_endpoints import HubProtocol
from thalovant.operation import OperationResource

Clock = Callable[[], float]
OperationReference = OperationResource | Mapping[str, Any] | str

_RENAMED = {
    "ownerId": "owner_id",
    "runtimeGroupId": "runtime_group_id",
    "capacityProfile": "capacity_profile",
    "isLocked": "is_locked",
}


def one(request: ApiRequest) -> Call[dict[str, Any]]:
    """A call of one request whose answer is handed through."""
    return (yield request)


def login(session: ApiSession, email: str, password: str, extras: Mapping[str, str | None]) -> Call[dict[str, Any]]:
    """Sign in and keep the token (contract 3.1); `extras` go along where they hold something."""
    body = {"email": email, "password": password} | {name: value for name, value in extras.items() if value}
    answer = yield ApiRequest("POST", "/v1/auth/token", body=body, signed=False)
    session.remember(answer)
    return answer


def revoke_api_token(session: ApiSession, token_id: str | None) -> Call[None]:
    """Revoke a token, by default the one in use, which is then forgotten (contract 3.7)."""
    target = token_id or session.token_id
    if not target:
        raise ThalovantAPIError("No API token id to revoke: pass token_id, or sign in first.")
    own = target == session.token_id
    try:
        yield ApiRequest("DELETE", f"/v1/auth/api-tokens/{path_segment(target)}")
    except ThalovantAuthError as error:
        if not own or error.status_code != 401:
            raise
    if own:
        session.forget()


def get_profile() -> Call[dict[str, Any]]:
    """Who is signed in; the `data` envelope is taken off (contract 3.7)."""
    answer = yield ApiRequest("GET", "/v1/users/profile")
    data = answer.get("data")
    return data if isinstance(data, dict) else answer


def list_public_hubs(limit: int, cursor: str | None) -> Call[dict[str, Any]]:
    """A page of the public hubs; needs no sign-in (contract 3.2)."""
    return one(ApiRequest("GET", "/v1/public/hubs", {"limit": limit, "cursor": cursor}, signed=False))


def get_public_hub(hub_ref: str) -> Call[dict[str, Any]]:
    """One public hub by slug or id; needs no sign-in (contract 3.2)."""
    return one(ApiRequest("GET", f"/v1/public/hubs/{path_segment(hub_ref)}", signed=False))


def list_hubs(limit: int, cursor: str | None, owner_id: str | None) -> Call[dict[str, Any]]:
    """A page of the hubs of the one who is signed in (contract 3.3)."""
    return one(ApiRequest("GET", "/v1/hubs", {"limit": limit, "cursor": cursor, "owner_id": owner_id}))


def get_hub(hub_id: str) -> Call[dict[str, Any]]:
    """One hub by id (contract 3.3)."""
    return one(ApiRequest("GET", f"/v1/hubs/{path_segment(hub_id)}"))


def create_hub(payload: Mapping[str, Any], idempotency_key: str | None) -> Call[dict[str, Any]]:
    """Make a hub; fields go out in snake case (contract 4.3). A key is made up when none is given."""
    return one(ApiRequest("POST", "/v1/hubs", body=_renamed(payload), headers=_idempotency(idempotency_key)))


def update_hub(hub_id: str, payload: Mapping[str, Any], etag: str) -> Call[dict[str, Any]]:
    """Change a hub that is still as `etag` says (contract 4.3)."""
    path = f"/v1/hubs/{path_segment(hub_id)}"
    return one(ApiRequest("PATCH", path, body=_renamed(payload), headers={"if-match": etag}))


def delete_hub(hub_id: str, etag: str) -> Call[None]:
    """Delete a hub that is still as `etag` says (contract 4.3)."""
    yield ApiRequest("DELETE", f"/v1/hubs/{path_segment(hub_id)}", headers={"if-match": etag})


def create_client(payload: Mapping[str, Any], idempotency_key: str | None) -> Call[dict[str, Any]]:
    """Make a client from a body as it is (contract 4.1). A key is made up when none is given."""
    return one(ApiRequest("POST", "/v1/clients", body=dict(payload), headers=_idempotency(idempotency_key)))


def list_clients(
    hub_id: str | None, limit: int, cursor: str | None, owner_id: str | None, include_spec: bool
) -> Call[dict[str, Any]]:
    """A page of clients; `include_spec` is only said when it is False (contract 4.1)."""
    query = {"limit": limit, "hub_id": hub_id, "cursor": cursor, "owner_id": owner_id}
    return one(ApiRequest("GET", "/v1/clients", query | ({} if include_spec else {"include_spec": "false"})))


def get_client(client_id: str) -> Call[dict[str, Any]]:
    """One client by id (contract 4.1)."""
    return one(ApiRequest("GET", f"/v1/clients/{path_segment(client_id)}"))


def delete_client(client_id: str, etag: str | None) -> Call[None]:
    """Delete a client (contract 4.1).

    One that is gone counts as deleted; after one 412 it is tried again with a fresh etag.
    """
    path = f"/v1/clients/{path_segment(client_id)}"
    for last in (False, True):
        try:
            match = etag or _etag((yield ApiRequest("GET", path)))
            yield ApiRequest("DELETE", path, headers={"if-match": match})
        except ThalovantAPIError as error:
            if error.status_code == 404:
                return
            if error.status_code != 412 or last:
                raise
            etag = None
        else:
            return


def reset_client_key(client_id: str, number: int) -> Call[None]:
    """Let one credential of a client in with a new Noise key (our own addition to the contract)."""
    yield ApiRequest("POST", f"/v1/clients/{path_segment(client_id)}/credentials/{number:d}/reset-key")


def create_client_identity(
    hub: str | Mapping[str, Any],
    *,
    idempotency_key: str | None,
    preferred: Iterable[HubProtocol],
    connection_type: str | None,
    **client: Any,
) -> Call[BootstrapIdentityResult]:
    """Make a client of a hub and an identity for it (contract 3.4): one POST, after a GET for a hub given by id."""
    wanted = tuple(preferred)
    known: Mapping[str, Any] = hub if isinstance(hub, Mapping) else (yield from get_hub(hub))
    body = bootstrap.client_body(known, connection_type=connection_type, **client)
    headers = _idempotency(idempotency_key)
    made = yield ApiRequest("POST", "/v1/clients", body=body, headers=headers, connection_type=connection_type)
    if connection_type is not None and bootstrap.connection_type_of(made) != connection_type:
        yield from _undo(made)
        raise ThalovantUnsupportedConnectionTypeError(
            f"The Thalovant API did not make a '{connection_type}' connection "
            f"(it answered '{bootstrap.connection_type_of(made) or 'no type'}')."
        )
    return bootstrap.result_of(known, body, made, wanted)


def get_operation(operation_id: str) -> Call[OperationResource]:
    """One operation by id (contract 4.2). Raises ThalovantAPIError when it cannot be read."""
    answer = yield ApiRequest("GET", f"/v1/operations/{path_segment(operation_id)}")
    return OperationResource.from_dict(answer)


def wait_for_operation(
    root: str, operation: OperationReference, timeout: float, poll_interval: float, clock: Clock
) -> Call[OperationResource]:
    """Poll an operation until it is ready (contract 4.2).

    Raises ThalovantTimeoutError at the deadline, ThalovantAPIError with the operation's own code when it
    failed.
    """
    operation_id = _operation_id(root, operation)
    deadline = clock() + timeout
    while True:
        try:
            current = yield from get_operation(operation_id)
        except ThalovantAPIError as error:
            wait = _wait_after(error, poll_interval)
        else:
            if current.is_ready:
                return current
            _refuse_failed(current)
            wait = poll_interval
        if clock() + wait > deadline:
            raise ThalovantTimeoutError(f"Operation {operation_id} was not ready within {timeout:g} seconds.")
        yield Pause(wait)


def wait_for_admission(
    root: str,
    connection: BootstrapIdentityResult | OperationReference | None,
    timeout: float,
    poll_interval: float,
    clock: Clock,
) -> Call[None]:
    """Wait until the hub takes a new client (contract 4.2).

    Nothing to wait for, or a 404, counts as admitted.
    """
    operation = connection.operation if isinstance(connection, BootstrapIdentityResult) else connection
    if operation is None:
        return
    try:
        yield from wait_for_operation(root, operation, timeout, poll_interval, clock)
    except ThalovantTimeoutError as error:
        raise ThalovantAdmissionTimeoutError(f"The hub did not admit the connection in time: {error}") from error
    except ThalovantAPIError as error:
        if error.status_code == 404:
            return
        if error.status_code in (401, 403):
            raise
        raise _not_admitted(error) from error


def _undo(made: Mapping[str, Any]) -> Call[None]:
    """Delete the client nobody asked for; the error that follows matters more than a failure here."""
    client_id, etag = made.get("id"), made.get("etag")
    if isinstance(client_id, str) and client_id:
        with contextlib.suppress(ThalovantAPIError):
            yield from delete_client(client_id, etag if isinstance(etag, str) else None)


def _renamed(payload: Mapping[str, Any]) -> dict[str, Any]:
    return {_RENAMED.get(name, name): value for name, value in payload.items()}


def _idempotency(key: str | None) -> dict[str, str]:
    return {"idempotency-key": key or str(uuid.uuid4())}


def _etag(resource: Mapping[str, Any]) -> str:
    etag = resource.get("etag")
    if not isinstance(etag, str) or not etag:
        raise ThalovantAPIError("The client resource has no etag; it cannot be deleted safely.")
    return etag


def _operation_id(root: str, operation: OperationReference) -> str:
    if isinstance(operation, OperationResource):
        return operation.id
    if isinstance(operation, Mapping):
        links = operation.get("links")
        named = operation.get("id") or (links.get("self") if isinstance(links, Mapping) else None)
        return _operation_id(root, named) if isinstance(named, str) else _operation_id(root, "")
    return _id_in_link(root, operation) if "/" in operation else operation


def _id_in_link(root: str, link: str) -> str:
    """The id in `/v1/operations/{id}`, as a path or as an address below the same root (contract 4.2)."""
    path = link.removeprefix(normalized_root(root)) if "://" in link else link
    if not path.startswith("/v1/operations/") or urlsplit(path).path != path:
        raise ThalovantAPIError("The operation's link does not lead to this API; it was not followed.")
    return unquote(path.removeprefix("/v1/operations/"))


def _wait_after(error: ThalovantAPIError, poll_interval: float) -> float:
    status = error.status_code or 0
    if status == 429:
        return max(poll_interval, error.retry_after_seconds or 0.0)
    if 500 <= status < 600:
        return poll_interval
    raise error


def _refuse_failed(operation: OperationResource) -> None:
    if operation.is_failed:
        said = f": {operation.error_message}" if operation.error_message else "."
        raise ThalovantAPIError(
            f"Operation {operation.id} ended with status {operation.status}{said}",
            code=operation.error_code,
            detail=operation.error_message,
        )


def _not_admitted(error: ThalovantAPIError) -> ThalovantAdmissionFailedError:
    own = error.status_code is None
    return ThalovantAdmissionFailedError(
        f"The hub could not admit the connection: {error}",
        error_code=error.__dict__.get("code") if own else None,  # not the class's own code
        status_code=error.status_code,
        code=None if own else error.code,
        detail=error.detail,
        problem=error.problem,
    )
