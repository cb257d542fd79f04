# SPDX-License-Identifier: Apache-2.0
"""The command line against a real HTTPS server: what is printed, what is kept, and the exit codes."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import typer

import thalovant.sync_client
from thalovant import ThalovantConnectionInfo, ThalovantIdentity, ThalovantTimeoutError, __version__
from thalovant.cli import admission, app
from thalovant.config import Login, read_login, save_login

if TYPE_CHECKING:
    from conftest import Certificates, Ran, ScriptedServer, Seen, Typed

SAMPLES = {
    sample["id"]: sample
    for sample in json.loads((Path(__file__).parents[4] / "contract" / "control-plane.samples.json").read_text())[
        "samples"
    ]
}
EXCHANGES = SAMPLES["clients.create_identity.mqtt"]["exchanges"]
HUB: dict[str, Any] = EXCHANGES[0]["response"]["json"]
MADE: dict[str, Any] = {**EXCHANGES[1]["response"]["json"], "operation": None}
OTHER_HUB = {**HUB, "id": "hub-2", "slug": "garden", "name": "The Garden", "spec": {"agent": "echo"}}
TOKEN = "tvpat_not-to-be-printed"  # the fixture `typed` looks for it
IDENTITY = {"access_key": "k", "password": "secret-p", "site_id": "s", "default_master": "wss://hub.example:1"}


def commands(command: Any, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command with the words that call it, groups included."""
    yield words, command
    for name, below in getattr(command, "commands", {}).items():
        yield from commands(below, (*words, name))


def has_json(command: Any) -> bool:
    return any("--json" in option.opts for option in command.params)


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "password"
    path.write_text("correct horse\n")
    return path


@dataclass
class Account:
    """A small control plane: sign-in, hubs, clients."""

    ca_pem: str = ""
    hubs: list[dict[str, Any]] = field(default_factory=lambda: [HUB])
    made: dict[str, Any] = field(default_factory=lambda: dict(MADE))
    public: list[dict[str, Any]] = field(default_factory=list)
    paged: bool = False
    operations: list[dict[str, Any]] = field(default_factory=list)
    """What `GET /v1/operations/op-1` answers, one after the other; the last one again and again."""

    def __call__(self, seen: Seen) -> tuple[int, Any]:
        if seen.path == "/v1/ca.pem":
            return 200, None
        if seen.path == "/v1/auth/token":
            right = seen.json == {"email": "ada@example.test", "password": "correct horse"}
            return (200, {"access_token": TOKEN, "token_id": "tok-1"}) if right else (401, {"detail": "Wrong password"})
        if seen.path == "/v1/public/hubs":
            return 200, {"data": self.public, "meta": {"next": None}}
        if seen.headers.get("authorization") != f"Bearer {TOKEN}":
            return 401, {"detail": "Could not validate credentials"}
        if (seen.method, seen.path) == ("GET", "/v1/hubs"):
            return 200, self._page(seen)
        if (seen.method, seen.path) == ("GET", "/v1/clients"):
            return 200, {"data": [], "meta": {"next": None}}
        if seen.path == "/v1/operations/op-1":
            return 200, self.operations.pop(0) if len(self.operations) > 1 else self.operations[0]
        if seen.method == "GET":
            return 200, next(hub for hub in [*self.hubs, *self.public] if seen.path == f"/v1/hubs/{hub['id']}")
        if seen.method == "PATCH":
            return self._change(seen)
        if seen.path == "/v1/hubs":
            return 201, {**OTHER_HUB, **seen.json}
        if seen.method == "POST":
            return 201, self.made
        return 204, None

    def _page(self, seen: Seen) -> dict[str, Any]:
        if not self.paged:
            return {"data": self.hubs, "meta": {"next": None}}
        index = int(seen.query.get("cursor", "0"))
        following = str(index + 1) if index + 1 < len(self.hubs) else None
        return {"data": self.hubs[index : index + 1], "meta": {"next": following}}

    def _change(self, seen: Seen) -> tuple[int, Any]:
        if seen.json.get("spec", {}).get("agent") == "undeclared":
            return 422, {"detail": "There is no agent 'undeclared'.", "code": "unknown_agent"}
        return 200, {**HUB, **seen.json, "spec": {**HUB["spec"], **seen.json.get("spec", {})}}


@pytest.fixture
def account(api_server: ScriptedServer) -> Account:
    api_server.script = account = Account()
    return account


@pytest.fixture
def signed_in(typed: Typed, account: Account, api_server: ScriptedServer, certificates: Certificates) -> Typed:
    save_login(Login(api_server.url, certificates.ca_pem, TOKEN, "tok-1"))
    return typed


class TestWords:
    def test_version_and_help(self, typed: Typed) -> None:
        assert typed("--version").as_tuple() == (0, f"thalovant {__version__}\n", "")
        assert typed("--help").code == 0
        assert all(name in typed("--help").out for name in ("login", "hubs", "identity", "ask"))

    @pytest.mark.parametrize("words", [(), ("identity",)])
    def test_without_a_command_it_shows_the_help(self, typed: Typed, words: tuple[str, ...]) -> None:
        ran = typed(*words)
        assert (ran.code, ran.err) == (0, "")
        assert ran.out.startswith("Usage: thalovant")

    @pytest.mark.parametrize(
        "words",
        [
            ("bogus",),
            ("login",),
            ("hubs", "--bogus"),
            ("hubs", "set"),
            ("hubs", "set", "kitchen"),
            ("identity", "create", "kitchen"),
            ("identity", "create", "--name", "x", "--protocol", "pigeon"),
            ("ask",),
            ("ask", "hi", "--timeout", "soon"),
            ("login", "https://h", "--email", "a"),
            ("login", "https://h", "--ca", "x", "--ca-fingerprint", "y"),
        ],
    )
    def test_typed_wrongly_is_one(self, typed: Typed, words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("sys.stdin", open("/dev/null"))  # noqa: SIM115, PTH123 - closed with the test
        ran = typed(*words)
        sys.stdin.close()
        assert (ran.code, ran.out) == (1, "")
        assert ran.err.startswith("error: ")
        assert len(ran.err.splitlines()) == 1

    @pytest.mark.parametrize(
        "words",
        [
            *(
                (),
                ("login",),
                ("logout",),
                ("tokens", "create"),
                ("ask",),
                ("listen",),
                ("emit",),
                ("health",),
                ("hubs",),
                ("hubs", "set"),
                ("config",),
            ),
            *(
                ("identity", "create"),
                ("identity", "reset-key"),
                ("config", "add"),
                ("config", "env"),
                ("config", "set"),
            ),
        ],
    )
    def test_help_shows_how_it_is_typed(self, typed: Typed, words: tuple[str, ...]) -> None:
        ran = typed(*words, "--help")
        assert (ran.code, ran.err) == (0, "")
        said = ran.out.partition("\n  Examples:\n")[2].splitlines()
        assert said and all(line.strip().startswith(("thalovant ", "eval")) for line in said)
        assert any(f"thalovant {' '.join(words)}".strip() in line for line in said)

    def test_every_command_has_json(self) -> None:
        lacking = {words for words, command in commands(typer.main.get_command(app)) if not has_json(command)}
        assert lacking == {(), ("identity",), ("config",), ("device",)}, "these print their help"

    @pytest.mark.parametrize("words", [("bogus", "--json"), ("ask", "--json"), ("hubs", "set", "x", "--json")])
    def test_typed_wrongly_is_json_too(self, typed: Typed, words: tuple[str, ...]) -> None:
        ran = typed(*words)
        told = json.loads(ran.err)
        assert (ran.code, ran.out, told["error"]["code"]) == (1, "", "usage")
        assert set(told) == {"error"} and set(told["error"]) == {"code", "message"}

    def test_json_is_an_option_and_not_what_is_said(self, typed: Typed) -> None:
        assert typed("ask", "--", "--json").err.startswith("error: Found no identity.")

    def test_a_shell_gets_its_completion(self, typed: Typed, monkeypatch: pytest.MonkeyPatch) -> None:
        ThalovantIdentity.from_mapping(IDENTITY).save_to_config(profile="kitchen")
        for words, offered in (("thalovant con", "config"), ("thalovant ask hi --profile ki", "kitchen")):
            monkeypatch.setenv("_THALOVANT_COMPLETE", "complete_bash")
            monkeypatch.setenv("COMP_WORDS", words)
            monkeypatch.setenv("COMP_CWORD", str(len(words.split()) - 1))
            assert typed().as_tuple() == (0, f"{offered}\n", "")

    def test_as_a_module_and_as_a_script(self) -> None:
        for command in ([sys.executable, "-m", "thalovant"], [str(Path(sys.executable).parent / "thalovant")]):
            ran = subprocess.run([*command, "--version"], capture_output=True, text=True, timeout=60, check=False)
            assert (ran.returncode, ran.stdout) == (0, f"thalovant {__version__}\n")


class TestLogin:
    def login(self, typed: Typed, url: str, secret: Path, *more: object) -> Ran:
        return typed("login", url, "--email", "ada@example.test", "--password-file", secret, *more)

    def test_with_the_ca_file(
        self,
        typed: Typed,
        account: Account,
        api_server: ScriptedServer,
        certificates: Certificates,
        secret: Path,
    ) -> None:
        ran = self.login(typed, f"{api_server.url}/v1/", secret, "--ca", certificates.ca_file)
        assert ran.code == 0, ran.err
        assert api_server.url in ran.out
        assert "correct horse" not in ran.out
        kept = read_login()
        assert kept == Login(api_server.url, certificates.ca_pem, TOKEN, "tok-1", "ada@example.test")
        assert typed("hubs").code == 0

    def test_with_the_fingerprint(
        self, typed: Typed, api_server: ScriptedServer, certificates: Certificates, secret: Path
    ) -> None:
        shown = ":".join(certificates.fingerprint[i : i + 2] for i in range(0, 64, 2)).upper()
        other = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
        api_server.will(200, raw=(other + certificates.ca_pem).encode())
        api_server.will(200, {"access_token": TOKEN})
        ran = self.login(typed, api_server.url, secret, "--ca-fingerprint", shown)
        assert ran.code == 0, ran.err
        kept = read_login()
        assert kept is not None
        assert (kept.ca_pem or "").strip() == certificates.ca_pem.strip()
        first = api_server.seen[0]
        assert (first.path, first.json, first.headers.get("authorization")) == ("/v1/ca.pem", None, None)

    @pytest.mark.parametrize("fingerprint", ["00" * 32, "short", "zz" * 32])
    def test_a_wrong_fingerprint_sends_no_password(
        self,
        typed: Typed,
        api_server: ScriptedServer,
        certificates: Certificates,
        secret: Path,
        fingerprint: str,
    ) -> None:
        api_server.will(200, raw=certificates.ca_pem.encode())
        ran = self.login(typed, api_server.url, secret, "--ca-fingerprint", fingerprint)
        assert (ran.code, ran.out) == (1, "")
        assert "fingerprint" in ran.err
        assert all(seen.method == "GET" for seen in api_server.seen)
        assert read_login() is None

    def test_the_named_ca_is_the_only_one_trusted(
        self, typed: Typed, account: Account, api_server: ScriptedServer, certificates: Certificates, secret: Path,
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_certificates: Any,
    ) -> None:  # fmt: skip
        monkeypatch.setenv("SSL_CERT_FILE", str(certificates.ca_file))
        other = make_certificates(tmp_path)
        ran = self.login(typed, api_server.url, secret, "--ca", other.ca_file)
        assert ran.code == 1
        assert "not trusted" in ran.err
        assert api_server.seen == []

    def test_as_json(
        self, typed: Typed, account: Account, api_server: ScriptedServer, certificates: Certificates, secret: Path,
        lonely: Path,
    ) -> None:  # fmt: skip
        ran = self.login(typed, api_server.url, secret, "--ca", certificates.ca_file, "--json")
        saved = str(lonely / "config.yaml")
        assert json.loads(ran.out) == {"api_url": api_server.url, "email": "ada@example.test", "saved_in": saved}
        secret.write_text("wrong")
        told = json.loads(self.login(typed, api_server.url, secret, "--json").err)["error"]
        assert told["code"] == "not_authorized" and told["message"].startswith("Wrong password.")

    def test_without_trust_it_says_what_to_type(
        self, typed: Typed, account: Account, api_server: ScriptedServer, secret: Path
    ) -> None:
        ran = self.login(typed, api_server.url, secret)
        assert (ran.code, ran.out) == (1, "")
        assert f"thalovant login {api_server.url} --ca DIR/ca.pem" in ran.err
        assert f"thalovant login {api_server.url} --ca-fingerprint SHA256` (`thalovant-server up` prints it)" in ran.err
        assert api_server.seen == []

    def test_a_second_login_keeps_the_ca(self, signed_in: Typed, api_server: ScriptedServer, secret: Path) -> None:
        assert self.login(signed_in, api_server.url, secret).code == 0

    def test_a_wrong_password(
        self,
        typed: Typed,
        account: Account,
        api_server: ScriptedServer,
        certificates: Certificates,
        secret: Path,
    ) -> None:
        secret.write_text("wrong")
        ran = self.login(typed, api_server.url, secret, "--ca", certificates.ca_file)
        assert ran.code == 1
        assert ran.err == (
            "error: Wrong password. The administrator's first password is in the server's data directory, in the file "
            "admin-password. (not_authorized)\n"
        )
        assert read_login() is None

    def test_a_password_file_that_others_may_read(
        self, typed: Typed, secret: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("thalovant.cli.output.is_for_people", lambda _: True)
        for mode, told in ((0o644, True), (0o600, False)):
            secret.chmod(mode)
            assert ("chmod 600" in self.login(typed, "https://127.0.0.1:1", secret).err) is told

    @pytest.mark.parametrize("content", [None, "", "\n", "\xff"])
    def test_an_unusable_password_file(self, typed: Typed, tmp_path: Path, content: str | None) -> None:
        path = tmp_path / "my-password"
        if content is not None:
            path.write_text(content, encoding="latin-1")
        ran = self.login(typed, "https://localhost:1", path)
        assert ran.code == 1
        assert "my-password" in ran.err

    def test_it_asks_a_person(
        self, typed: Typed, account: Account, api_server: ScriptedServer, certificates: Certificates,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:  # fmt: skip
        monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
        monkeypatch.setattr("builtins.input", lambda prompt: "ada@example.test")
        monkeypatch.setattr("getpass.getpass", lambda prompt: "correct horse")
        ran = typed("login", api_server.url, "--ca", certificates.ca_file)
        assert ran.code == 0, ran.err

        def gone(prompt: str) -> str:
            raise EOFError

        monkeypatch.setattr("getpass.getpass", gone)
        assert typed("login", api_server.url, "--ca", certificates.ca_file).code == 130

    def test_an_address_without_a_scheme_is_https(
        self, typed: Typed, account: Account, api_server: ScriptedServer, certificates: Certificates, secret: Path
    ) -> None:
        ran = self.login(typed, api_server.url.removeprefix("https://"), secret, "--ca", certificates.ca_file)
        assert ran.code == 0, ran.err
        kept = read_login()
        assert kept is not None and kept.api_url == api_server.url

    def test_plain_http_to_an_encrypted_port(self, typed: Typed, api_server: ScriptedServer, secret: Path) -> None:
        ran = self.login(typed, api_server.url.replace("https:", "http:"), secret)
        assert ran.code == 1
        assert "Use https:" in ran.err

    @pytest.mark.parametrize("url", ["h", "ftp://h", "https://u:secret@h"])
    def test_an_address_that_is_none(self, typed: Typed, url: str) -> None:
        ran = typed("login", url)
        assert ran.code == 1
        assert "secret" not in ran.err


class TestToken:
    """A token in the environment goes before the sign-in, and whoever is refused because of it is told so."""

    def test_it_is_named_where_it_is_refused(
        self, signed_in: Typed, api_server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("THALOVANT_API_TOKEN", "tvpat_other")
        for status, code in ((401, "invalid_token"), (403, "insufficient_scopes")):
            api_server.script = lambda _, status=status, code=code: (
                status, {"detail": "Insufficient scopes", "code": code},
            )  # fmt: skip
            said = signed_in("hubs", "set", "kitchen", "--mqtt").err
            assert "The token in THALOVANT_API_TOKEN" in said and "unset THALOVANT_API_TOKEN" in said
        assert "`thalovant hubs set` needs hubs:write" in said

    def test_a_sign_in_says_that_it_is_not_used(
        self, typed: Typed, account: Account, api_server: ScriptedServer, certificates: Certificates, secret: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:  # fmt: skip
        monkeypatch.setenv("THALOVANT_API_TOKEN", "tvpat_other")
        words = ("--email", "ada@example.test", "--password-file", secret, "--ca", certificates.ca_file)
        assert "unset THALOVANT_API_TOKEN" in typed("login", api_server.url, *words).out

    def test_the_password_and_the_way_out_are_those_of_the_sign_in(
        self, signed_in: Typed, api_server: ScriptedServer, secret: Path, monkeypatch: pytest.MonkeyPatch,
        tmp_path: Path,
    ) -> None:  # fmt: skip
        monkeypatch.setenv("THALOVANT_API_TOKEN", "tvpat_other")
        (tmp_path / "new").write_text("a longer password\n")
        assert signed_in("password", "--password-file", secret, "--new-password-file", tmp_path / "new").code == 0
        assert json.loads(signed_in("logout", "--json").out) == {"api_url": api_server.url, "revoked": True}
        assert [(seen.method, seen.path) for seen in api_server.seen] == [
            ("POST", "/v1/users/me/password"),
            ("DELETE", "/v1/auth/api-tokens/tok-1"),
        ]
        assert {seen.headers["authorization"] for seen in api_server.seen} == {f"Bearer {TOKEN}"}
        kept = read_login()
        assert kept is not None and kept.ca_pem and (kept.access_token, kept.token_id, kept.email) == (None,) * 3

    def test_signing_out_of_a_server_that_is_away(self, typed: Typed) -> None:
        save_login(Login("https://127.0.0.1:1", None, TOKEN, "tok-1"))
        assert typed("logout").code == 1
        assert read_login() is not None and "works until it ends" in typed("logout", "--forget").out
        assert "not_signed_in" in typed("logout").err


class TestHubs:
    def test_the_table(self, signed_in: Typed, account: Account) -> None:
        account.hubs = [HUB, OTHER_HUB]
        account.paged = True
        lines = signed_in("hubs").out.splitlines()
        assert lines[0].split() == ["HUB", "NAME", "ID", "CARRIERS", "VISIBILITY", "AGENT"]
        assert lines[1].split() == ["kitchen", "Kitchen", "hub-1", "wss,https,mqtt", HUB["visibility"], "(default)"]
        assert lines[2].split() == ["garden", "The", "Garden", "hub-2", "wss", HUB["visibility"], "echo"]

    def test_json_and_none(self, signed_in: Typed, account: Account) -> None:
        assert json.loads(signed_in("hubs", "--json").out) == [HUB]
        assert json.loads(signed_in("hubs", "list", "--json").out) == [HUB]
        assert signed_in("hubs", "list") == signed_in("hubs")
        account.hubs = []
        assert "no hub" in signed_in("hubs").out

    def test_public_hubs_of_others_are_there_too(self, signed_in: Typed, account: Account) -> None:
        account.hubs, account.public = [HUB], [HUB, OTHER_HUB]
        _, own, other = signed_in("hubs").out.splitlines()
        assert own.startswith("kitchen") and other.startswith("garden") and other.endswith("public, not yours")
        assert json.loads(signed_in("hubs", "--json").out) == [HUB, OTHER_HUB]

    def test_one_is_made(self, signed_in: Typed, api_server: ScriptedServer) -> None:
        ran = signed_in("hubs", "create", "The Garden", "--agent", "echo", "--no-mqtt", "--public")
        assert ran.code == 0, ran.err
        assert api_server.seen[-1].json == {
            "name": "The Garden",
            "visibility": "public",
            "spec": {
                "version": "1",
                "agent": "echo",
                "protocols": {"wss": {"enabled": True}, "http": {"enabled": True}, "mqtt": {"enabled": False}},
            },
        }
        assert "thalovant identity create garden --name NAME" in ran.out
        assert json.loads(signed_in("hubs", "create", "x", "--json").out)["visibility"] == "private"
        assert "needs a carrier" in signed_in("hubs", "create", "x", "--no-mqtt", "--no-wss", "--no-https").err

    def test_public_and_private(self, signed_in: Typed, api_server: ScriptedServer) -> None:
        for word in ("private", "public"):
            assert word in signed_in("hubs", "set", "kitchen", f"--{word}").out
            assert api_server.seen[-1].json == {"visibility": word}

    def test_removing_asks(self, signed_in: Typed, api_server: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
        monkeypatch.setattr("builtins.input", lambda _: "n")
        assert "Nothing was removed" in signed_in("hubs", "remove", "kitchen").err
        assert all(seen.method == "GET" for seen in api_server.seen)
        removed = json.loads(signed_in("hubs", "remove", "kitchen", "--yes", "--json").out)
        assert removed == {"hub_id": "hub-1", "slug": "kitchen", "removed": True}
        assert (api_server.seen[-1].method, api_server.seen[-1].headers["if-match"]) == ("DELETE", HUB["etag"])

    def test_a_server_does_not_steer_the_terminal(self, signed_in: Typed, account: Account) -> None:
        account.hubs = [{**HUB, "slug": "a\x1b[2Jb"}]
        assert "\x1b" not in signed_in("hubs").out

    def test_not_signed_in(self, typed: Typed, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("THALOVANT_API_URL", "https://127.0.0.1:1")
        ran = typed("hubs")
        assert ran.code == 1
        assert "thalovant login https://127.0.0.1:1" in ran.err

    def test_nothing_there(self, typed: Typed, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("THALOVANT_API_URL", "http://127.0.0.1:1")
        monkeypatch.setenv("THALOVANT_API_TOKEN", TOKEN)
        ran = typed("hubs")
        assert ran.code == 1
        assert "thalovant-server up --data DIR" in ran.err
        assert "nothing listens there. Looked at" in ran.err
        assert ran.err.endswith("(api_unreachable)\n")

    def test_a_change_names_what_changes_only(self, signed_in: Typed, api_server: ScriptedServer) -> None:
        ran = signed_in("hubs", "set", "kitchen", "--mqtt", "--no-wss", "--agent", "echo")
        assert ran.code == 0, ran.err
        patch = api_server.seen[-1]
        assert (patch.method, patch.path, patch.headers["if-match"]) == ("PATCH", "/v1/hubs/hub-1", HUB["etag"])
        assert patch.json == {
            "spec": {"protocols": {"wss": {"enabled": False}, "mqtt": {"enabled": True}}, "agent": "echo"}
        }
        assert "clients rotate" not in ran.out  # MQTT was on before

    def test_mqtt_that_was_off_needs_new_credentials(self, signed_in: Typed, account: Account) -> None:
        account.hubs = [{**HUB, "spec": {"protocols": {"mqtt": {"enabled": False}}}}]
        assert "clients rotate" in signed_in("hubs", "set", "kitchen", "--mqtt").out
        assert "clients rotate" not in signed_in("hubs", "set", "kitchen", "--no-mqtt").out

    @pytest.mark.parametrize(
        ("words", "change"),
        [
            (("--mqtt",), {"enabled": True}),
            (("--mqtt", "on"), {"enabled": True}),
            (("--no-mqtt",), {"enabled": False}),
            (("--mqtt", "off"), {"enabled": False}),
            (("--mqtt", "link"), {"enabled": True, "via": "link"}),
            (("--mqtt=embedded",), {"enabled": True, "via": "embedded"}),
        ],
    )
    def test_mqtt_is_on_off_here_or_at_the_broker(
        self, signed_in: Typed, api_server: ScriptedServer, words: tuple[str, ...], change: dict[str, Any]
    ) -> None:
        for line in ((*words, "kitchen"), ("kitchen", *words), ("kitchen", *words, "--json")):
            ran = signed_in("hubs", "set", *line)
            assert ran.code == 0, ran.err
            assert api_server.seen[-1].json == {"spec": {"protocols": {"mqtt": change}}}
        assert signed_in("hubs", "create", *words, "The Garden").code == 0
        assert api_server.seen[-1].json["spec"]["protocols"]["mqtt"] == change

    def test_a_word_that_is_none_is_told_the_four(self, signed_in: Typed, api_server: ScriptedServer) -> None:
        ran = signed_in("hubs", "set", "kitchen", "--mqtt=bridge")
        assert ran.code == 1 and all(word in ran.err for word in ("on", "off", "embedded", "link"))
        assert "embedded, link" in signed_in("hubs", "set", "kitchen").err
        assert all(seen.method == "GET" for seen in api_server.seen)

    def test_a_hub_at_an_outside_broker_is_seen_as_such(self, signed_in: Typed, account: Account) -> None:
        at_the_broker = {**HUB, "spec": {"protocols": {"mqtt": {"enabled": True, "via": "link"}}}}
        account.hubs = [at_the_broker]
        assert "wss,mqtt(link)" in signed_in("hubs").out
        moved = signed_in("hubs", "set", "kitchen", "--mqtt", "embedded").out
        assert "MQTT moved" in moved and "thalovant clients rotate NAME" in moved
        account.hubs = [HUB]
        assert "mqtt(link)" not in signed_in("hubs").out
        assert "MQTT moved" in signed_in("hubs", "set", "kitchen", "--mqtt", "link").out
        assert "MQTT moved" not in signed_in("hubs", "set", "kitchen", "--mqtt", "embedded").out
        assert "MQTT moved" not in signed_in("hubs", "set", "kitchen", "--mqtt").out

    def test_no_agent_is_the_default_one(self, signed_in: Typed, api_server: ScriptedServer) -> None:
        ran = signed_in("hubs", "set", "kitchen", "--no-agent")
        assert api_server.seen[-1].json == {"spec": {"agent": None}}
        assert ran.out.split()[-1] == "(default)"
        assert signed_in("hubs", "set", "kitchen", "--no-agent", "--agent", "echo").code == 1

    def test_a_refusal_keeps_the_servers_words(self, signed_in: Typed) -> None:
        ran = signed_in("hubs", "set", "hub-1", "--agent", "undeclared")
        assert ran.code == 1
        assert ran.err.endswith("There is no agent 'undeclared'. (unknown_agent)\n")

    def test_a_refusal_in_json(self, signed_in: Typed) -> None:
        ran = signed_in("hubs", "set", "hub-1", "--agent", "undeclared", "--json")
        told = json.loads(ran.err)["error"]
        assert (ran.code, ran.out, told["code"], told["status_code"]) == (1, "", "unknown_agent", 422)
        assert "There is no agent 'undeclared'." in told["message"]

    def test_an_unknown_hub(self, signed_in: Typed) -> None:
        ran = signed_in("hubs", "set", "cellar", "--mqtt")
        assert ran.err == "error: There is no hub 'cellar'; there are: kitchen. (unknown_hub)\n"


REQUESTED = {
    "id": "op-1", "kind": "client.admission", "aggregate_type": "client", "status": "requested",
    "created_at": "2026-11-22T10:00:00.000Z", "updated_at": "2026-11-22T10:00:00.000Z",
    "links": {"self": "/v1/operations/op-1"},
}  # fmt: skip
READY = {**REQUESTED, "status": "ready"}
REFUSED = {**REQUESTED, "status": "failed", "error_code": "broker_refused", "error_message": "It is full."}


class TestAdmission:
    """A client behind an outside broker: its identity is kept at once, and the command waits for the broker."""

    CREATE = ("identity", "create", "--name", "x")

    @pytest.fixture(autouse=True)
    def soon(self, monkeypatch: pytest.MonkeyPatch, account: Account) -> None:
        monkeypatch.setattr(admission, "LOOK_EVERY", 0.001)
        account.made = {**MADE, "operation": REQUESTED}

    def test_it_is_waited_for(self, signed_in: Typed, account: Account, api_server: ScriptedServer) -> None:
        account.operations = [REQUESTED, REQUESTED, READY]
        ran = signed_in(*self.CREATE)
        assert (ran.code, ran.err) == (0, "")
        assert [seen.path for seen in api_server.seen].count("/v1/operations/op-1") == 3
        assert json.loads(signed_in(*self.CREATE, "--again", "--out", "y.json", "--json").out)["admitted"] is True

    def test_nobody_asks_about_what_is_ready_already(
        self, signed_in: Typed, account: Account, api_server: ScriptedServer
    ) -> None:
        account.made = {**MADE, "operation": READY}
        assert signed_in(*self.CREATE).code == 0
        assert "/v1/operations/op-1" not in [seen.path for seen in api_server.seen]

    def test_what_takes_long_is_told_and_the_identity_is_there(
        self, signed_in: Typed, account: Account, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(admission, "PATIENCE", 0.01)
        account.operations = [REQUESTED]
        ran = signed_in(*self.CREATE)
        assert ran.code == 0
        assert "has not taken the client up yet" in ran.err and "thalovant-server health" in ran.err
        assert "x.identity.json" in ran.err and Path("x.identity.json").exists()
        ran = signed_in(*self.CREATE, "--again", "--out", "y.json", "--json")
        assert json.loads(ran.out)["admitted"] is False

    def test_what_fails_says_why_and_where_the_identity_is(self, signed_in: Typed, account: Account) -> None:
        account.operations = [REFUSED]
        ran = signed_in(*self.CREATE)
        assert ran.code == 1 and Path("x.identity.json").exists()
        assert "x.identity.json" in ran.err and "It is full." in ran.err and "(admission_failed)" in ran.err


class TestIdentities:
    def test_of_a_public_hub(self, signed_in: Typed, account: Account, api_server: ScriptedServer) -> None:
        account.hubs, account.public = [], [{**HUB, "spec": {}}]
        for words in ((), ("kitchen",)):
            ran = signed_in("identity", "create", *words, "--name", f"lamp{len(words)}")
            assert ran.code == 0, ran.err
            assert api_server.seen[-1].json["hub_id"] == "hub-1"

    def test_the_only_hub_needs_no_name(self, signed_in: Typed, api_server: ScriptedServer) -> None:
        ran = signed_in("identity", "create", "--name", "kitchen light/1")
        assert ran.code == 0, ran.err
        path = Path("kitchen-light-1.identity.json")
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert ThalovantIdentity.from_file(path).mqtt is not None
        assert api_server.seen[-1].json["name"] == "kitchen light/1"
        assert "mqtt" in ran.out
        assert "broker-secret" not in ran.out

    def test_by_slug_and_id_and_to_a_place(self, signed_in: Typed, account: Account, tmp_path: Path) -> None:
        account.hubs = [HUB, OTHER_HUB]
        for hub in ("kitchen", "hub-1"):
            out = tmp_path / f"{hub}.json"
            assert signed_in("identity", "create", hub, "--name", "x", "--out", out).code == 0
            assert out.exists()
        ran = signed_in("identity", "create", "--name", "x")
        assert ran.err == "error: Say which hub; there are: kitchen, garden. (which_hub)\n"

    def test_as_a_profile(self, signed_in: Typed, api_server: ScriptedServer) -> None:
        ran = signed_in("identity", "create", "--name", "x", "--profile", "kitchen")
        assert ran.code == 0, ran.err
        assert "its identity is in the profile kitchen." in ran.out
        assert ran.out.endswith('Next: thalovant ask "Is anybody there?" --profile kitchen\n')
        assert ThalovantIdentity.from_config().mqtt is not None
        assert list(Path.cwd().iterdir()) == []
        made = len(api_server.seen)
        ran = signed_in("identity", "create", "--name", "y", "--profile", "kitchen")
        assert ran.err == "error: There is a profile 'kitchen' already; choose another name. (exists)\n"
        assert len(api_server.seen) == made
        assert "--out or --profile, not both" in signed_in(
            "identity", "create", "--name", "y", "--profile", "a", "--out", "b"
        ).err  # fmt: skip

    def test_in_json(self, signed_in: Typed, lonely: Path) -> None:
        made = {"client_id": "client-1", "name": "x", "carriers": ["wss", "https", "mqtt"], "admitted": True}
        ran = signed_in("identity", "create", "--name", "x", "--json")
        assert json.loads(ran.out) == {**made, "file": "x.identity.json"}
        ran = signed_in("identity", "create", "--name", "x", "--profile", "kitchen", "--json")
        assert json.loads(ran.out) == {**made, "profile": "kitchen", "config": str(lonely / "config.yaml")}
        assert read_login() is not None

    def test_an_existing_file_is_kept_and_no_client_made(self, signed_in: Typed, api_server: ScriptedServer) -> None:
        Path("x.identity.json").write_text("precious")
        ran = signed_in("identity", "create", "--name", "x")
        assert ran.code == 1
        assert "exists already; choose another --out (or --name)" in ran.err
        assert api_server.seen == []

    def test_a_name_that_the_server_refuses_is_told_plainly(
        self, signed_in: Typed, account: Account, api_server: ScriptedServer
    ) -> None:
        usual = account.__call__
        said = "Schema validation failed: name must not contain /"
        refusal = {"detail": said, "code": "validation_failed"}
        api_server.script = lambda seen: (422, refusal) if seen.method == "POST" else usual(seen)
        ran = signed_in("identity", "create", "--name", "a/b")
        assert ran.err == "error: name must not contain / (validation_failed)\n"

    def test_a_client_nobody_can_use_is_deleted_again(
        self, signed_in: Typed, account: Account, api_server: ScriptedServer
    ) -> None:
        account.made["initial_identify"] = {**MADE["initial_identify"], "mqtt": None}
        account.made["etag"] = 'W/"1"'
        api_script = account.__call__

        def with_etag(seen: Seen) -> tuple[int, Any]:
            if seen.method == "GET" and seen.path == "/v1/clients/client-1":
                return 200, MADE
            return api_script(seen)

        api_server.script = with_etag
        ran = signed_in("identity", "create", "--name", "x", "--protocol", "mqtt")
        assert ran.code == 1
        assert "Enable MQTT on the hub and create a fresh identity" in ran.err
        assert (api_server.seen[-1].method, api_server.seen[-1].path) == ("DELETE", "/v1/clients/client-1")
        assert not Path("x.identity.json").exists()
        ran = signed_in("identity", "create", "--name", "x", "--out", "n" * 250)
        assert "not saved" in ran.err
        assert api_server.seen[-1].method == "DELETE"


class TestResetKey:
    def test_it_is_asked_of_the_server(self, signed_in: Typed, api_server: ScriptedServer) -> None:
        ran = signed_in("identity", "reset-key", "client-1", "--number", "2")
        assert (ran.code, ran.err) == (0, "")
        assert "client-1" in ran.out
        seen = api_server.seen[-1]
        assert (seen.method, seen.path) == ("POST", "/v1/clients/client-1/credentials/2/reset-key")

    def test_in_json(self, signed_in: Typed) -> None:
        ran = signed_in("identity", "reset-key", "client-1", "--json")
        assert json.loads(ran.out) == {"client_id": "client-1", "number": 1, "reset": True}

    def test_a_number_that_is_none(self, signed_in: Typed, api_server: ScriptedServer) -> None:
        assert signed_in("identity", "reset-key", "client-1", "--number", "0").code == 1
        assert api_server.seen == []


@dataclass
class FakeReply:
    display_text: str
    ok: bool = True

    def as_dict(self) -> dict[str, Any]:
        return {"text": self.display_text}


class FakeClient:
    """Stands where the data plane's client does: these tests are about words, the road tests ask a real hub."""

    used: list[tuple[str, str | None, str]]
    answer: FakeReply | BaseException

    def __init__(self, identity: ThalovantIdentity, *, protocol: str | None = None) -> None:
        self.identity, self.protocol = identity, protocol

    def __enter__(self) -> FakeClient:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def connection_info(self) -> ThalovantConnectionInfo:
        return ThalovantConnectionInfo("ready")

    def ask(self, text: str, *, timeout: float, lang: str) -> FakeReply:
        FakeClient.used.append((self.identity.site_id, self.protocol, text))
        if isinstance(FakeClient.answer, BaseException):
            raise FakeClient.answer
        return FakeClient.answer


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> type[FakeClient]:
    FakeClient.used, FakeClient.answer = [], FakeReply("Hello.")
    monkeypatch.setattr(thalovant.sync_client, "ThalovantClient", FakeClient)
    return FakeClient


def keep_identity(path: Path, site_id: str = "s") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**IDENTITY, "site_id": site_id}))
    path.chmod(0o600)
    return path


class TestAsk:
    def test_the_only_identity_here(self, typed: Typed, hub: type[FakeClient]) -> None:
        keep_identity(Path("one.identity.json"))
        assert typed("ask", "Hi?", "--protocol", "mqtt").as_tuple() == (0, "Hello.\n", "")
        assert hub.used == [("s", "mqtt", "Hi?")]
        assert json.loads(typed("ask", "Hi?", "--json").out) == {"text": "Hello."}

    def test_where_an_identity_comes_from(
        self, typed: Typed, hub: type[FakeClient], tmp_path: Path, lonely: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        keep_identity(lonely / "config.yaml", "configured")
        typed("ask", "Hi?")
        keep_identity(Path("one.identity.json"), "here")
        typed("ask", "Hi?")
        monkeypatch.setenv("THALOVANT_IDENTITY", str(keep_identity(tmp_path / "env.json", "environment")))
        typed("ask", "Hi?")
        typed("ask", "Hi?", "--identity", keep_identity(tmp_path / "named.json", "named"))
        assert [site for site, _, _ in hub.used] == ["configured", "here", "environment", "named"]

    def test_several_words_and_a_carrier_in_any_case(self, typed: Typed, hub: type[FakeClient]) -> None:
        keep_identity(Path("one.identity.json"))
        assert typed("ask", "Is", "anybody", "there", "--protocol", "MQTT").code == 0
        assert hub.used == [("s", "mqtt", "Is anybody there")]

    @pytest.mark.parametrize("text", ["", " "])
    def test_nothing_is_not_asked(self, typed: Typed, hub: type[FakeClient], text: str) -> None:
        keep_identity(Path("one.identity.json"))
        ran = typed("ask", text)
        assert (ran.code, hub.used) == (1, [])
        assert "the text is empty" in ran.err

    def test_two_identities_here_must_be_told_apart(self, typed: Typed) -> None:
        for name in ("b", "a"):
            keep_identity(Path(f"{name}.identity.json"))
        ran = typed("ask", "Hi?")
        assert ran.code == 1
        assert "a.identity.json, b.identity.json" in ran.err

    def test_none_says_where_it_looked(self, typed: Typed, lonely: Path) -> None:
        ran = typed("ask", "Hi?")
        assert ran.code == 1
        for place in ("--identity", "THALOVANT_IDENTITY", str(Path.cwd()), str(lonely / "config.yaml")):
            assert place in ran.err
        assert "config.yaml (no such file). Type: thalovant login https://localhost:8443 --ca DIR/ca.pem" in ran.err
        assert "then thalovant identity create --name NAME (no_identity)" in ran.err
        assert ".." not in ran.err

    def test_a_login_is_no_identity(self, typed: Typed, lonely: Path) -> None:
        save_login(Login("https://h:1", None, TOKEN))
        ran = typed("ask", "Hi?")
        assert "config.yaml (holds a login but no identity). Type: thalovant identity create" in ran.err
        assert "Missing required" not in ran.err
        (lonely / "config.yaml").write_text("[")
        assert "is not YAML. Type: thalovant login" in typed("ask", "Hi?").err

    def test_one_that_others_can_read_is_refused(self, typed: Typed) -> None:
        keep_identity(Path("one.identity.json")).chmod(0o644)
        ran = typed("ask", "Hi?")
        assert ran.code == 1
        assert "chmod 600" in ran.err

    def test_an_answer_cut_short_is_no_success(self, typed: Typed, hub: type[FakeClient]) -> None:
        keep_identity(Path("one.identity.json"))
        hub.answer = FakeReply("Half an", ok=False)
        assert typed("ask", "Hi?").as_tuple() == (1, "Half an\n", "error: The answer was cut short. (incomplete)\n")

    @pytest.mark.parametrize(
        ("error", "code", "said"),
        [
            (ThalovantTimeoutError("No answer\nwithin 1 second."), 1, "error: No answer within 1 second. (timeout)\n"),
            (KeyboardInterrupt(), 130, ""),
            (RuntimeError("a bug"), 1, "error: RuntimeError: a bug (unexpected)\n"),
        ],
    )
    def test_errors_are_one_line(
        self, typed: Typed, hub: type[FakeClient], error: BaseException, code: int, said: str
    ) -> None:
        keep_identity(Path("one.identity.json"))
        hub.answer = error
        ran = typed("ask", "Hi?")
        assert (ran.code, ran.out) == (code, "")
        assert ran.err.strip() == said.strip()
