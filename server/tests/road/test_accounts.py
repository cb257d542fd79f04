# SPDX-License-Identifier: Apache-2.0
"""Tokens, people and device login, typed and called as their users do, against a real server."""

from __future__ import annotations

import asyncio
import json
import stat
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from thalovant import AsyncThalovantControlPlane, ThalovantControlPlane
from thalovant.cli.commands import main
from thalovant.config import read_login
from thalovant.errors import ThalovantAuthError, ThalovantDeviceLoginDenied
from thalovant_server.testing.in_process import InProcessServer

NEW = "a new and longer password"


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        assert self.code == 0, self.err
        return json.loads(self.out)


Typed = Callable[..., Ran]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcessServer]:
    with InProcessServer(tmp_path_factory.mktemp("accounts") / "data") as running:
        yield running


@pytest.fixture
def typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Typed:
    """Types one command in an empty directory."""
    monkeypatch.chdir(tmp_path)

    def run(*words: object) -> Ran:
        monkeypatch.setattr(sys, "argv", ["thalovant", *map(str, words)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            main()
        said = capsys.readouterr()
        return Ran(int(left.value.code or 0), said.out, said.err)

    return run


def login(typed: Typed, server: InProcessServer) -> Ran:
    ready = server.ready
    return typed(
        "login", ready["api_url"], "--ca", ready["ca_file"], "--email", ready["admin_email"],
        "--password-file", ready["admin_password_file"],
    )  # fmt: skip


@pytest.fixture
def signed_in(typed: Typed, server: InProcessServer) -> Typed:
    assert login(typed, server).code == 0
    return typed


@pytest.fixture
def admin(server: InProcessServer) -> Iterator[ThalovantControlPlane]:
    ca_pem = Path(server.ready["ca_file"]).read_text()
    with ThalovantControlPlane(server.ready["api_url"], ca_pem=ca_pem) as api:
        api.login(*server.admin)
        yield api


# -- tokens


def test_a_token_for_a_build_is_made_used_and_revoked(
    signed_in: Typed, server: InProcessServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "token"
    made = signed_in(
        "tokens", "create", "nightly", "--scope", "hubs:read", "--hub", "demo", "--expires", "90d", "--out", file
    )
    assert (made.code, made.err) == (0, ""), made
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    token = file.read_text().strip()
    assert token.startswith("tvpat_") and token not in made.out
    row = next(line for line in signed_in("tokens").out.splitlines() if line.startswith("nightly"))
    assert server.ready["hub_id"] in row and "never" in row

    with monkeypatch.context() as build:  # as a CI job does: no login, an address, a token, a CA
        build.setenv("HOME", str(tmp_path / "build"))
        build.setenv("XDG_CONFIG_HOME", str(tmp_path / "build"))
        build.setenv("THALOVANT_API_URL", server.ready["api_url"])
        build.setenv("THALOVANT_API_TOKEN", token)
        build.setenv("THALOVANT_CA_FILE", server.ready["ca_file"])
        assert [hub["slug"] for hub in signed_in("hubs", "--json").json] == ["demo"]
        refused = signed_in("identity", "create", "demo", "--name", "lamp")
        assert refused.code == 1 and "insufficient_scopes" in refused.err

    assert signed_in("tokens", "revoke", "nightly").code == 0
    assert signed_in("tokens", "list", "--json").json == []
    with (
        ThalovantControlPlane(
            server.ready["api_url"], access_token=token, ca_pem=Path(server.ready["ca_file"]).read_text()
        ) as api,
        pytest.raises(ThalovantAuthError),
    ):
        api.list_hubs()


def test_a_token_that_is_printed_is_alone_on_standard_output(signed_in: Typed) -> None:
    made = signed_in("tokens", "create", "alone", "--scope", "hubs:read")
    assert made.out.startswith("tvpat_") and len(made.out.split()) == 1
    as_json = signed_in("tokens", "create", "json", "--scope", "hubs:read", "--json").json
    assert as_json["access_token"].startswith("tvpat_") and as_json["name"] == "json"


def test_a_file_that_is_there_stays_and_no_token_is_made(signed_in: Typed, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("mine")
    refused = signed_in("tokens", "create", "twice", "--scope", "hubs:read", "--out", "token")
    assert refused.code == 1 and "(exists)" in refused.err
    assert (tmp_path / "token").read_text() == "mine"
    assert "twice" not in signed_in("tokens").out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("create", "x"), "--scope"),
        (("create", "x", "--scope", "root"), "--scope takes hubs:read"),
        (("create", "x", "--scope", "hubs:read", "--expires", "soon"), "7d"),
        (("create", "x", "--scope", "hubs:read", "--expires", "1s"), "60s at least"),
        (("create", "x", "--scope", "hubs:read", "--hub", "nowhere"), "demo"),
        (("revoke", "nothing"), "thalovant tokens lists them. (token_not_found)"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_cannot_be_done_is_said_in_one_line(signed_in: Typed, words: tuple[str, ...], said: str) -> None:
    refused = signed_in("tokens", *words)
    assert refused.code == 1 and said in refused.err and len(refused.err.splitlines()) == 1
    assert "HTTP" not in refused.err


# -- people


def test_somebody_is_invited_joins_changes_the_password_and_is_disabled(
    signed_in: Typed, server: InProcessServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    invited = signed_in("users", "invite", "ann@example.test", "--name", "Ann", "--out", "invitation")
    assert invited.code == 0 and "invitation is in invitation" in invited.out, invited
    assert (tmp_path / "invitation").read_text().strip() not in invited.out + invited.err
    (tmp_path / "first").write_text("the first long password\n")
    (tmp_path / "new").write_text(NEW)
    with monkeypatch.context() as ann:
        ann.setenv("XDG_CONFIG_HOME", str(tmp_path / "ann"))
        ca = ("--ca", server.ready["ca_file"])
        joined = signed_in(
            "join", server.ready["api_url"], *ca, "--token-file", "invitation", "--password-file", "first"
        )
        assert joined.code == 0, joined.err
        login = read_login()
        assert login is not None and login.email == "ann@example.test"
        assert "demo" in signed_in("hubs").out
        assert signed_in("identity", "create", "demo", "--name", "anns").code == 0
        assert "never seen" in signed_in("clients").out and "anns" in signed_in("clients", "demo").out
        assert signed_in("hubs", "create", "Ann's garden", "--json").json["visibility"] == "private"
        assert signed_in("hubs", "remove", "ann-s-garden", "--yes").code == 0
        again = signed_in("join", server.ready["api_url"], *ca, "--token-file", "invitation", "--password-file", "new")
        assert again.code == 1 and again.err.startswith("error: This invitation is not known here, was used")
        changed = signed_in("password", "--password-file", "first", "--new-password-file", "new")
        assert changed.code == 0, changed.err
        assert "password of ann@example.test" in changed.out
        assert f"thalovant login {server.ready['api_url']}" in changed.out
        assert signed_in("hubs").code == 0  # the sign-in in use stays
        wrong = signed_in("password", "--password-file", "first", "--new-password-file", "new")
        assert wrong.code == 1 and "wrong_password" in wrong.err
        assert "admin_required" in signed_in("users").err
        token = str(login.access_token)
        assert "Signed out" in signed_in("logout").out
        assert "thalovant login" in signed_in("hubs").err
        assert "thalovant login" in signed_in("logout").err
        ann.setenv("THALOVANT_API_TOKEN", token)
        assert "unset THALOVANT_API_TOKEN" in signed_in("hubs").err  # it is revoked
        assert "not_signed_in" in signed_in("password", "--password-file", "new", "--new-password-file", "first").err
        ann.delenv("THALOVANT_API_TOKEN")
    listed = {one["email"]: one for one in signed_in("users", "--json").json}
    assert listed["ann@example.test"]["display_name"] == "Ann"
    assert "disabled" in signed_in("users", "disable", "Ann@Example.test").out
    with monkeypatch.context() as ann:
        ann.setenv("XDG_CONFIG_HOME", str(tmp_path / "ann"))
        assert signed_in("hubs").code == 1
    assert "active" in signed_in("users", "enable", "ann@example.test").out


def test_the_last_admin_is_not_disabled(signed_in: Typed, server: InProcessServer) -> None:
    refused = signed_in("users", "disable", server.ready["admin_email"])
    assert refused.code == 1 and "last_admin" in refused.err


def test_an_invitation_that_was_lost_is_replaced(signed_in: Typed, server: InProcessServer, tmp_path: Path) -> None:
    first = signed_in("users", "invite", "bob@example.test").out
    assert "--again (email_in_use)" in signed_in("users", "invite", "bob@example.test").err
    second = signed_in("users", "invite", "bob@example.test", "--again", "--json").json["invitation_token"]
    (tmp_path / "token").write_text(first)
    (tmp_path / "password").write_text(NEW)
    words = ("join", server.ready["api_url"], "--ca", server.ready["ca_file"], "--password-file", "password")
    assert signed_in(*words, "--token-file", "token").code == 1
    (tmp_path / "token").write_text(second)
    assert signed_in(*words, "--token-file", "token", "--json").json["email"] == "bob@example.test"


# -- devices


class Approver:
    """Says yes or no to the first code that is shown, from another thread, as a person at a browser would."""

    def __init__(self, admin: ThalovantControlPlane, say: str = "approve", **limits: Any) -> None:
        self.shown: dict[str, Any] = {}
        self._admin, self._say, self._limits = admin, say, limits

    def __call__(self, begun: dict[str, Any]) -> None:
        self.shown = begun
        answer = self._admin.approve_device_login if self._say == "approve" else self._admin.deny_device_login
        thread = threading.Thread(target=answer, args=(begun["user_code"],), kwargs=self._limits)
        thread.start()
        thread.join()


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server asks for no pause between two questions: the answer is there before the first."""
    monkeypatch.setattr("thalovant_server.control.device.INTERVAL_SECONDS", 0)


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("kind", ["sync", "async"])
def test_signing_in_by_a_browser_from_a_program(
    server: InProcessServer, admin: ThalovantControlPlane, kind: str
) -> None:
    ca_pem = Path(server.ready["ca_file"]).read_text()
    approver = Approver(admin)
    wanted: dict[str, Any] = {"scopes": ["hubs:read"], "client_name": "a test", "open_browser": False}

    async def on_the_loop() -> tuple[dict[str, Any], dict[str, Any]]:
        async with AsyncThalovantControlPlane(server.ready["api_url"], ca_pem=ca_pem) as api:
            return await api.login_with_browser(prompt=approver, **wanted), await api.list_hubs()

    if kind == "async":
        told, hubs = asyncio.run(on_the_loop())
    else:
        with ThalovantControlPlane(server.ready["api_url"], ca_pem=ca_pem) as api:
            told, hubs = api.login_with_browser(prompt=approver, **wanted), api.list_hubs()
            api.revoke_api_token()  # signs out: the token_id was kept
            with pytest.raises(ThalovantAuthError):
                api.list_hubs()
    assert told["scopes"] == ["hubs:read"] and told["access_token"].startswith("tvpat_")
    assert [hub["slug"] for hub in hubs["data"]] == ["demo"]
    assert "device_code" not in approver.shown


@pytest.mark.usefixtures("at_once")
def test_a_program_that_is_denied_is_told_so(server: InProcessServer, admin: ThalovantControlPlane) -> None:
    with (
        ThalovantControlPlane(server.ready["api_url"], ca_pem=Path(server.ready["ca_file"]).read_text()) as api,
        pytest.raises(ThalovantDeviceLoginDenied),
    ):
        api.login_with_browser(open_browser=False, prompt=Approver(admin, "deny"))


@pytest.mark.usefixtures("at_once")
def test_login_browser_signs_the_command_line_in(
    typed: Typed, server: InProcessServer, admin: ThalovantControlPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    approver, shown = Approver(admin), []

    def show(begun: dict[str, Any]) -> None:
        shown.append(begun["user_code"])
        approver(begun)

    monkeypatch.setattr("thalovant.cli.login._show_code", show)
    words = ("login", server.ready["api_url"], "--ca", server.ready["ca_file"], "--browser", "--no-open")
    assert typed(*words, "--json").json["email"] == server.ready["admin_email"]
    assert len(shown) == 1 and "demo" in typed("hubs").out
    said = typed("tokens", "create", "x", "--scope", "hubs:read").err
    assert "`thalovant tokens` needs tokens:write" in said and "insufficient_scopes" in said
    assert typed(*words, "--scope", "tokens:write").code == 0
    kinds = {one["kind"] for one in typed("tokens", "--json").json}
    assert "device" in kinds


@pytest.mark.usefixtures("at_once")
def test_a_code_is_approved_and_denied_from_the_command_line(signed_in: Typed, server: InProcessServer) -> None:
    with ThalovantControlPlane(server.ready["api_url"], ca_pem=Path(server.ready["ca_file"]).read_text()) as api:
        yes, no = api.begin_device_login(client_name="pi"), api.begin_device_login()
        assert "pi (nobody has checked that name) asks for: hubs:read" in signed_in("device", "show", yes.user_code).out
        assert "--yes" in signed_in("device", "approve", yes.user_code).err  # nobody to ask here
        approved = signed_in(
            "device", "approve", yes.user_code.lower(), "--yes", "--scope", "hubs:read", "--hub", "demo"
        )
        assert approved.code == 0, approved.err
        assert "Signed in for demo only, with hubs:read." in approved.out
        assert "thalovant tokens revoke pi" in approved.out
        token = api.poll_device_login(yes)
        assert token.scopes == ("hubs:read",)
        assert signed_in("device", "deny", no.user_code, "--json").json["denied"]
        with pytest.raises(ThalovantDeviceLoginDenied):
            api.poll_device_login(no)
        assert signed_in("device", "approve", "BBBB-BBBB", "--yes").err.startswith("error: No device login waits")
