# SPDX-License-Identifier: Apache-2.0
"""Device login, tokens and people, by both twins against a real HTTPS server that follows a script."""

from __future__ import annotations

import asyncio
import webbrowser
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from thalovant import api_accounts
from thalovant.api_session import ApiRequest, ApiSession, Pause
from thalovant.control_plane import AsyncThalovantControlPlane, ThalovantControlPlane
from thalovant.device_login import ApiToken, DeviceAuthorization
from thalovant.errors import (
    ThalovantAPIError,
    ThalovantAPIUnreachableError,
    ThalovantDeviceLoginDenied,
    ThalovantDeviceLoginExpired,
    ThalovantDeviceLoginPending,
)

if TYPE_CHECKING:
    from conftest import Certificates, ScriptedServer

BEGUN = {
    "device_code": "the-device-code", "user_code": "BCDF-GHJK", "verification_uri": "https://h:1/v1/device",
    "verification_uri_complete": "https://h:1/v1/device?user_code=BCDF-GHJK", "interval": 0, "expires_in": 900,
}  # fmt: skip
TOKEN = {
    "access_token": "tvpat_given", "token_type": "bearer", "scopes": ["hubs:read"], "token_id": "tok-1",
    "expires_at": None,
}  # fmt: skip

Use = Callable[[Any], Any]
Call = Callable[[Use], Any]


@pytest.fixture(params=["sync", "async"])
def call(
    request: pytest.FixtureRequest, api_server: ScriptedServer, certificates: Certificates, lonely: object
) -> Call:
    """Runs `use(api)` with one of the two classes."""
    arguments: dict[str, Any] = {"access_token": "tvpat_mine", "ca_pem": certificates.ca_pem}

    def blocking(use: Use) -> Any:
        with ThalovantControlPlane(api_server.url, **arguments) as api:
            return use(api), api.access_token

    async def on_the_loop(use: Use) -> Any:
        async with AsyncThalovantControlPlane(api_server.url, **arguments) as api:
            return await use(api), api.access_token

    return blocking if request.param == "sync" else lambda use: asyncio.run(on_the_loop(use))


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The pages that a browser was told to open, instead of opening them."""
    pages: list[str] = []
    monkeypatch.setattr(webbrowser, "open", pages.append)
    return pages


def refused(server: ScriptedServer, error: str, status: int = 400) -> None:
    server.will(status, {"error": error, "detail": "as the contract has it"})


def test_signing_in_by_a_browser(call: Call, api_server: ScriptedServer, opened: list[str]) -> None:
    shown: list[dict[str, Any]] = []
    api_server.will(200, BEGUN)
    refused(api_server, "authorization_pending")
    api_server.will(200, TOKEN)
    told, token = call(lambda api: api.login_with_browser(scopes=["hubs:read"], client_name="pi", prompt=shown.append))
    assert told == TOKEN and token == "tvpat_given"
    assert opened == [BEGUN["verification_uri_complete"]]
    assert shown == [{name: value for name, value in BEGUN.items() if name != "device_code"}]
    begun, *polls = api_server.seen
    assert begun.json == {"scopes": ["hubs:read"], "client_name": "pi"}
    assert all(each.json == {"device_code": "the-device-code"} for each in polls) and len(polls) == 2
    assert all("authorization" not in each.headers for each in api_server.seen)


def test_without_a_browser_the_code_is_told_on_standard_error(
    call: Call, api_server: ScriptedServer, opened: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    api_server.will(200, {**BEGUN, "verification_uri_complete": None})
    api_server.will(200, TOKEN)
    call(lambda api: api.login_with_browser(open_browser=False))
    captured = capsys.readouterr()
    assert opened == [] and captured.out == ""
    assert "https://h:1/v1/device" in captured.err and "BCDF-GHJK" in captured.err
    assert "the-device-code" not in captured.err


@pytest.mark.parametrize(
    ("error", "kind", "interval"),
    [
        ("authorization_pending", ThalovantDeviceLoginPending, 7.0),
        ("slow_down", ThalovantDeviceLoginPending, 12.0),
        ("access_denied", ThalovantDeviceLoginDenied, None),
        ("expired_token", ThalovantDeviceLoginExpired, None),
    ],
)
def test_each_answer_of_the_contract_is_an_error_of_its_own(
    call: Call, api_server: ScriptedServer, error: str, kind: type[ThalovantAPIError], interval: float | None
) -> None:
    refused(api_server, error)
    with pytest.raises(kind) as caught:
        call(lambda api: api.poll_device_login(DeviceAuthorization.from_dict({**BEGUN, "interval": 7})))
    assert caught.value.status_code == 400
    assert getattr(caught.value, "interval", None) == interval
    assert "the-device-code" not in str(caught.value)


@pytest.mark.parametrize(("status", "error"), [(428, "authorization_pending"), (400, "invalid_grant"), (400, "")])
def test_any_other_answer_is_an_api_error(call: Call, api_server: ScriptedServer, status: int, error: str) -> None:
    refused(api_server, error, status)
    with pytest.raises(ThalovantAPIError) as caught:
        call(lambda api: api.poll_device_login("the-device-code"))
    assert type(caught.value) is ThalovantAPIError


def test_polling_by_the_code_alone_keeps_the_token(call: Call, api_server: ScriptedServer) -> None:
    api_server.will(200, TOKEN)
    token, kept = call(lambda api: api.poll_device_login("the-device-code"))
    assert token == ApiToken("tvpat_given", "bearer", ("hubs:read",), None, "tok-1") and kept == "tvpat_given"


class Waiting:
    """Drives the waiting without I/O: answers in line, a clock that pauses move."""

    def __init__(self, *answers: dict[str, Any] | ThalovantAPIError, expires_in: int = 900) -> None:
        self.now, self.pauses = 0.0, []
        session = ApiSession("https://h", access_token=None, token_id=None, user_agent="test")
        begun = DeviceAuthorization.from_dict({**BEGUN, "interval": 5, "expires_in": expires_in})
        self.steps = api_accounts.wait_for_device_login(session, begun, 900.0, lambda: self.now)
        self.answers = list(answers)

    def run(self) -> ApiToken:
        step = next(self.steps)
        try:
            while True:
                if isinstance(step, Pause):
                    self.pauses.append(step.seconds)
                    self.now += step.seconds
                    step = self.steps.send({})
                    continue
                assert isinstance(step, ApiRequest)
                answer = self.answers.pop(0)
                thrown = isinstance(answer, ThalovantAPIError)
                step = self.steps.throw(answer) if thrown else self.steps.send(answer)  # type: ignore[arg-type]
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]


def said(error: str) -> ThalovantAPIError:
    return ThalovantAPIError("no", status_code=400, problem={"error": error})


def test_slow_down_makes_every_later_pause_five_seconds_longer() -> None:
    pending, slow = said("authorization_pending"), said("slow_down")
    waiting = Waiting(pending, slow, pending, slow, pending, TOKEN)
    assert waiting.run().access_token == "tvpat_given"
    assert waiting.pauses == [5.0, 5.0, 10.0, 10.0, 15.0, 15.0]


@pytest.mark.parametrize(
    "error",
    [ThalovantAPIUnreachableError("gone"), ThalovantAPIError("busy", status_code=503),
     ThalovantAPIError("slowly", status_code=429)],
    ids=["unreachable", "503", "429"],
)  # fmt: skip
def test_a_server_that_is_away_for_a_while_is_asked_again(error: ThalovantAPIError) -> None:
    waiting = Waiting(error, TOKEN)
    assert waiting.run().token_id == "tok-1"
    assert waiting.pauses == [5.0, 10.0]


def test_any_other_error_ends_the_waiting() -> None:
    with pytest.raises(ThalovantAPIError) as caught:
        Waiting(ThalovantAPIError("no", status_code=404)).run()
    assert caught.value.status_code == 404


def test_nobody_waits_longer_than_the_code_is_good() -> None:
    waiting = Waiting(*[said("authorization_pending")] * 9, expires_in=14)
    with pytest.raises(ThalovantDeviceLoginExpired):
        waiting.run()
    assert waiting.pauses == [5.0, 5.0]


CALLS: list[tuple[str, Use, str, Any]] = [
    ("describe", lambda api: api.describe_device_login("BC/F"), "GET /v1/auth/device/codes/BC%2FF", None),
    (
        "approve",
        lambda api: api.approve_device_login("B", scopes=("hubs:read",)),
        "POST /v1/auth/device/codes/B/approve",
        {"scopes": ["hubs:read"]},
    ),
    ("deny", lambda api: api.deny_device_login("B"), "POST /v1/auth/device/codes/B/deny", None),
    (
        "create token",
        lambda api: api.create_api_token("n", scopes=["hubs:read"], hub_ids=("h",), expires_in_seconds=60),
        "POST /v1/auth/api-tokens",
        {"name": "n", "scopes": ["hubs:read"], "hub_ids": ["h"], "expires_in_seconds": 60},
    ),
    ("list tokens", lambda api: api.list_api_tokens(kind="api", cursor="c"), "GET /v1/auth/api-tokens", None),
    ("list users", lambda api: api.list_users(limit=5), "GET /v1/users", None),
    (
        "invite",
        lambda api: api.invite_user("a@b", role="admin"),
        "POST /v1/users",
        {"email": "a@b", "display_name": None, "role": "admin"},
    ),
    ("invite again", lambda api: api.invite_user_again("user/1"), "POST /v1/users/user%2F1/invite", None),
    ("update", lambda api: api.update_user("u", {"active": False}), "PATCH /v1/users/u", {"active": False}),
    (
        "password",
        lambda api: api.change_password("old", "new"),
        "POST /v1/users/me/password",
        {"current_password": "old", "new_password": "new"},
    ),
]


@pytest.mark.parametrize(("use", "line", "body"), [row[1:] for row in CALLS], ids=[row[0] for row in CALLS])
def test_each_call_is_one_request_with_the_token(
    call: Call, api_server: ScriptedServer, use: Use, line: str, body: Any
) -> None:
    api_server.will(200, {"scopes": []})
    call(use)
    (seen,) = api_server.seen
    assert f"{seen.method} {seen.path}" == line and seen.json == body
    assert seen.headers["authorization"] == "Bearer tvpat_mine"


def test_accepting_an_invitation_sends_no_token(call: Call, api_server: ScriptedServer) -> None:
    api_server.will(200, {"data": {"email": "a@b"}})
    account, _ = call(lambda api: api.accept_invitation("tvinv_x", "a long password"))
    assert account == {"email": "a@b"}
    assert "authorization" not in api_server.seen[0].headers
