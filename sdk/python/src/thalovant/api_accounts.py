# SPDX-License-Identifier: Apache-2.0
"""Device login, API tokens, people and their passwords, as steps.

Device login is contract 4.4; the rest is our own addition (a server tells of it at `/v1/docs`). As in api_calls a call
is a generator; no I/O.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from thalovant.api_address import path_segment
from thalovant.api_calls import one
from thalovant.api_session import ApiRequest, ApiSession, Call, Pause
from thalovant.device_login import DEFAULT_INTERVAL, ApiToken, DeviceAuthorization, DeviceLoginRequest
from thalovant.errors import (
    ThalovantAPIError,
    ThalovantAPIUnreachableError,
    ThalovantDeviceLoginDenied,
    ThalovantDeviceLoginExpired,
    ThalovantDeviceLoginPending,
)

SLOWER = 5.0
"""Seconds that `slow_down` adds to the interval, for good (RFC 8628, 3.5)."""

_SAID = {
    "access_denied": (ThalovantDeviceLoginDenied, "The sign-in was denied in the browser."),
    "expired_token": (ThalovantDeviceLoginExpired, "Nobody answered the sign-in in time: start it again."),
}


# -- device login


def begin_device_login(
    scopes: Iterable[str] | None, client_name: str | None, client_id: str | None
) -> Call[DeviceAuthorization]:
    """Ask for codes; members that say nothing are left out."""
    given = {"scopes": list(scopes or ()), "client_name": client_name, "client_id": client_id}
    body = {name: value for name, value in given.items() if value}
    answer = yield ApiRequest("POST", "/v1/auth/device/authorize", body=body, signed=False)
    return DeviceAuthorization.from_dict(answer)


def poll_device_login(session: ApiSession, authorization: DeviceAuthorization | str) -> Call[ApiToken]:
    """Ask once for the token, and keep it; until then the errors say what to do."""
    code, interval = authorization, DEFAULT_INTERVAL
    if isinstance(authorization, DeviceAuthorization):
        code, interval = authorization.device_code, authorization.interval
    try:
        answer = yield ApiRequest("POST", "/v1/auth/device/token", body={"device_code": code}, signed=False)
    except ThalovantAPIError as error:
        raise _meant(error, interval) from None
    token = ApiToken.from_dict(answer)
    session.remember(answer)
    return token


def _meant(error: ThalovantAPIError, interval: float) -> ThalovantAPIError:
    """The outcome that an answer stands for; only a 400 stands for one (contract 4.4)."""
    said = (error.problem or {}).get("error") if error.status_code == 400 else None
    told: dict[str, Any] = {"status_code": 400, "detail": error.detail}
    if said in ("authorization_pending", "slow_down"):
        wait = interval + (SLOWER if said == "slow_down" else 0.0)
        return ThalovantDeviceLoginPending("Nobody has answered in the browser yet.", interval=wait, **told)
    if isinstance(said, str) and said in _SAID:
        kind, sentence = _SAID[said]
        return kind(sentence, **told)
    return error


def wait_for_device_login(
    session: ApiSession, authorization: DeviceAuthorization, timeout: float, now: Callable[[], float]
) -> Call[ApiToken]:
    """Ask until somebody answers; a server that is away or busy for a while is asked again."""
    deadline = now() + min(timeout, float(authorization.expires_in))
    interval = authorization.interval
    while True:
        pause = max(interval, 0.0)
        if now() + pause > deadline:
            raise ThalovantDeviceLoginExpired(_SAID["expired_token"][1])
        yield Pause(pause)
        try:
            return (yield from poll_device_login(session, authorization))
        except ThalovantDeviceLoginPending as pending:
            interval += pending.interval - authorization.interval
        except ThalovantAPIError as error:
            interval += _longer_wait(error)


def _longer_wait(error: ThalovantAPIError) -> float:
    """How much longer to wait after an error that passes; any other is raised again."""
    passing = isinstance(error, ThalovantAPIUnreachableError) or error.status_code == 429
    if not passing and (error.status_code is None or error.status_code < 500):
        raise error
    return SLOWER


def describe_device_login(user_code: str) -> Call[DeviceLoginRequest]:
    """Who asks for what."""
    answer = yield ApiRequest("GET", _code(user_code))
    return DeviceLoginRequest.from_dict(answer)


def approve_device_login(
    user_code: str, scopes: Iterable[str] | None, hub_ids: Iterable[str] | None
) -> Call[dict[str, Any]]:
    """Say yes, to all that was asked for or to less."""
    given = {"scopes": scopes, "hub_ids": hub_ids}
    body = {name: list(value) for name, value in given.items() if value is not None}
    return one(ApiRequest("POST", f"{_code(user_code)}/approve", body=body))


def deny_device_login(user_code: str) -> Call[None]:
    """Say no."""
    yield ApiRequest("POST", f"{_code(user_code)}/deny")


def _code(user_code: str) -> str:
    return f"/v1/auth/device/codes/{path_segment(user_code)}"


# -- tokens


def create_api_token(
    name: str, scopes: Iterable[str], hub_ids: Iterable[str] | None, expires_in_seconds: int | None
) -> Call[dict[str, Any]]:
    """Make a token for a program."""
    body: dict[str, Any] = {"name": name, "scopes": list(scopes), "expires_in_seconds": expires_in_seconds}
    body["hub_ids"] = None if hub_ids is None else list(hub_ids)
    return one(ApiRequest("POST", "/v1/auth/api-tokens", body=body))


def list_api_tokens(limit: int, cursor: str | None, kind: str | None, owner_id: str | None) -> Call[dict[str, Any]]:
    """A page of tokens, without themselves."""
    query = {"limit": limit, "cursor": cursor, "kind": kind, "owner_id": owner_id}
    return one(ApiRequest("GET", "/v1/auth/api-tokens", query))


# -- people


def list_users(limit: int, cursor: str | None) -> Call[dict[str, Any]]:
    """A page of accounts."""
    return one(ApiRequest("GET", "/v1/users", {"limit": limit, "cursor": cursor}))


def invite_user(email: str, display_name: str | None, role: str) -> Call[dict[str, Any]]:
    """Make an account that waits for its password."""
    body = {"email": email, "display_name": display_name, "role": role}
    return one(ApiRequest("POST", "/v1/users", body=body))


def invite_user_again(user_id: str) -> Call[dict[str, Any]]:
    """Give out another invitation."""
    return one(ApiRequest("POST", f"/v1/users/{path_segment(user_id)}/invite"))


def update_user(user_id: str, payload: Mapping[str, Any]) -> Call[dict[str, Any]]:
    """Change an account."""
    return one(ApiRequest("PATCH", f"/v1/users/{path_segment(user_id)}", body=payload))


def accept_invitation(token: str, password: str, display_name: str | None) -> Call[dict[str, Any]]:
    """Choose a password; the `data` envelope is taken off."""
    body = {"token": token, "password": password, "display_name": display_name}
    answer = yield ApiRequest("POST", "/v1/auth/invitations/accept", body=body, signed=False)
    data = answer.get("data")
    return data if isinstance(data, dict) else answer


def change_password(current_password: str, new_password: str) -> Call[None]:
    """Change one's own password."""
    body = {"current_password": current_password, "new_password": new_password}
    yield ApiRequest("POST", "/v1/users/me/password", body=body)
