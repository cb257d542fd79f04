# SPDX-License-Identifier: Apache-2.0
"""A client's whole life, typed: made, asked, rotated, paused, resumed, removed; and a machine's own rotation."""

from __future__ import annotations

import contextlib
import json
import shlex
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from thalovant import ClientPresence, ThalovantAuthError, ThalovantClient, ThalovantControlPlane, ThalovantIdentity
from thalovant.cli import main
from thalovant.protocol import noise
from thalovant_server import audit_export
from thalovant_server.errors import AuditExportError
from thalovant_server.testing.directory import cheap_stretch
from thalovant_server.testing.in_process import InProcessServer

CARRIERS = ("mqtt", "wss", "https")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcessServer]:
    """One server for the file; passwords are stretched cheaply, there and here; it logs nothing to our output."""
    logging = structlog.get_config()
    with pytest.MonkeyPatch.context() as patch, InProcessServer(tmp_path_factory.mktemp("life")) as running:
        patch.setattr(noise, "stretch", cheap_stretch)
        structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
        yield running
        structlog.configure(**logging)


class Shell:
    """Types commands in this process, in a directory of one's own."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch, self._capsys = monkeypatch, capsys

    def __call__(self, line: str) -> str:
        """Type what works; returns what it prints."""
        code, out, err = self.run(line)
        assert code == 0, err
        return out

    def refused(self, line: str) -> str:
        """Type what does not; returns the one line that says why."""
        code, out, err = self.run(line)
        assert (code, out, err.count("\n")) == (1, "", 1)
        return err

    def run(self, line: str) -> tuple[Any, str, str]:
        self._monkeypatch.setattr(sys, "argv", ["thalovant", *shlex.split(line, comments=True)])
        with pytest.raises(SystemExit) as left:
            main()
        out, err = self._capsys.readouterr()
        return left.value.code, out, err


def signed_in(server: InProcessServer, token: str | None) -> ThalovantControlPlane:
    ca_pem = Path(server.ready["ca_file"]).read_text()
    return ThalovantControlPlane(server.ready["api_url"], access_token=token, ca_pem=ca_pem)


@pytest.fixture(scope="module")
def token(server: InProcessServer) -> str:
    """A sign-in for the file, as signing in takes a while."""
    with signed_in(server, None) as api:
        return str(api.login(*server.admin)["access_token"])


@pytest.fixture
def shell(
    server: InProcessServer,
    token: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Shell:
    """A shell of somebody who is signed in, in a directory of its own."""
    monkeypatch.chdir(tmp_path)
    for name, value in (
        ("API_URL", server.ready["api_url"]),
        ("API_TOKEN", token),
        ("CA_FILE", server.ready["ca_file"]),
    ):
        monkeypatch.setenv(f"THALOVANT_{name}", value)
    return Shell(monkeypatch, capsys)


def here() -> list[str]:
    """The files in this directory."""
    return sorted(path.name for path in Path.cwd().iterdir() if path.is_file())


def key_of(file: str) -> str:
    return ThalovantIdentity.from_file(file).access_key


def test_the_whole_life_of_a_client(shell: Shell) -> None:
    shell("identity create demo --name lamp")
    old, new = "--identity lamp.identity.json", "--identity lamp.new.identity.json"
    for carrier in CARRIERS:
        assert shell(f"ask hello {old} --protocol {carrier}") == "hello\n"

    assert "lamp.new.identity.json" in shell("clients rotate lamp")
    assert "--force" in shell.refused("clients finish lamp")
    assert "clients cancel lamp" in shell.refused("clients rotate lamp --out third")
    assert not Path("third").exists()
    for carrier in CARRIERS:
        assert (
            shell(f"ask both {old} --protocol {carrier}") == shell(f"ask both {new} --protocol {carrier}") == "both\n"
        )

    with ThalovantClient.from_identity_file("lamp.identity.json", auto_reconnect=False) as connected:
        connected.connect()
        assert "has ended" in shell("clients finish lamp")
        connected.wait_closed(5)
    assert "(hub_refused)" in shell.refused(f"ask old {old} --protocol wss")
    assert "rotate lamp" in shell.refused("clients finish lamp")

    shell("clients pause lamp")
    for carrier in CARRIERS:
        assert "paused" in shell.refused(f"ask paused {new} --protocol {carrier}")
    code, told, _ = shell.run(f"doctor {new}")
    assert (code, "thalovant clients resume lamp" in told) == (1, True)
    shell("clients resume lamp")
    assert shell(f"ask again {new}") == "again\n"
    shell("clients rename lamp lantern")
    shell("clients remove lantern --yes")
    assert "(hub_refused)" in shell.refused(f"ask gone {new} --protocol wss")
    assert "no client 'lantern'" in shell.refused("clients show lantern")


def readme(section: str) -> list[str]:
    """The commands of `thalovant` that the README shows in a section."""
    text = (Path(__file__).parents[3] / "README.md").read_text()
    lines = text.partition(f"\n## {section}\n")[2].partition("\n## ")[0].splitlines()
    return [line.partition("thalovant ")[2] for line in lines if line.startswith("    thalovant ")]


def test_who_is_online_rotate_and_revoke_of_the_readme_line_by_line(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each line as it is there, one after the other, where the five minutes end; a person says yes to what is asked."""
    shell("identity create demo --name kitchen-light")
    shell('ask "Is anybody there?" --protocol mqtt')
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("builtins.input", lambda _: "y")
    lines = readme("Who is online, rotate, revoke")
    said = {line.partition("#")[0].strip(): shell(line) for line in lines}
    assert "clients remove kitchen-light" in said and "clients finish kitchen-light" in said
    log = said["audit --client kitchen-light"]
    assert all(action in log for action in ("client.removed", "client.paused", "policy.changed", "credential.rotated"))


def test_a_rotation_that_is_cancelled_leaves_the_old_one(shell: Shell) -> None:
    shell("identity create demo --name door")
    shell("clients rotate door --grace 30m --profile new-door")
    shell("clients cancel door")
    assert shell("ask hello --identity door.identity.json") == "hello\n"
    shell.refused("ask hello --profile new-door --protocol wss")
    shell("clients rotate door --grace 0 --out now.json")
    shell.refused("ask hello --identity door.identity.json --protocol wss")
    assert shell("ask hello --identity now.json") == "hello\n"


def test_a_machine_rotates_its_own_identity_file(shell: Shell) -> None:
    shell("identity create demo --name gate")
    before = key_of("gate.identity.json")
    shell("ask hello")  # the only identity in this directory
    assert "holds the new identity" in shell("identity rotate")
    file = Path("gate.identity.json")
    assert key_of("gate.identity.json") != before
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert here() == ["gate.identity.json"]
    assert shell("ask hello") == "hello\n"
    shell("clients finish gate")
    rotated = json.loads(shell("identity rotate --grace 0 --json"))
    assert (rotated["name"], Path(rotated["file"]).name) == ("gate", "gate.identity.json")
    assert shell("ask hello") == "hello\n"


def test_a_try_that_was_interrupted_is_taken_up(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """The power fails before the new identity has connected; the file is behind a link."""
    shell("identity create demo --name mast --out kept.json")
    Path("mast.identity.json").symlink_to("kept.json")
    before = key_of("kept.json")
    with monkeypatch.context() as patch:
        patch.setattr("thalovant.cli.identity_rotation._connect", interrupted)
        assert shell.run("identity rotate")[0] == 130
    made = key_of("kept.json.new")
    assert key_of("kept.json") == before != made
    shell("identity rotate")
    assert (key_of("kept.json"), here()) == (made, ["kept.json", "mast.identity.json"])
    assert shell("ask hello") == "hello\n"


def interrupted(*_: Any) -> None:
    raise KeyboardInterrupt


def test_a_machine_rotates_its_own_profile(shell: Shell) -> None:
    shell("identity create demo --name pump --profile pump")
    assert "the profile pump holds the new identity" in shell("identity rotate --profile pump")
    shell("clients finish pump")
    assert shell("ask hello --profile pump") == "hello\n"
    shell("clients pause pump")
    assert "clients resume pump" in shell.refused("identity rotate --profile pump")
    shell("clients remove pump --yes")
    assert "identity create" in shell.refused("identity rotate --profile pump")
    assert "somebody else's" in shell.refused("identity rotate --identity " + foreign())


def foreign() -> str:
    identity = ThalovantIdentity.from_mapping(
        {"access_key": "k" * 43, "password": "p", "site_id": "s", "default_master": "wss://localhost:1"}
    )
    return str(identity.save("foreign.json"))


def test_a_rotation_that_cannot_connect_changes_nothing(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """The new identity is made to look for its hub where nobody listens."""
    shell("identity create demo --name well")
    before = Path("well.identity.json").read_text()
    monkeypatch.setattr("thalovant.cli.identity_rotation.PATIENCE", 0.001)
    assert "Nothing was changed" in shell.refused("identity rotate")
    assert Path("well.identity.json").read_text() == before
    assert here() == ["well.identity.json"]
    assert shell("ask hello") == "hello\n"
    assert "one credential" in shell.refused("clients cancel well")


def test_a_policy_as_typed_is_what_the_hub_holds(shell: Shell) -> None:
    shell("identity create demo --name sensor")
    assert "(acl_disallowed_type)" in shell.refused("emit my.reading {}")
    shell("clients policy sensor --allow-type my.reading --rate 60/1m --quota 500")
    assert "(unsupported_type)" in shell.refused("emit my.reading {}")  # it may, but nobody listens to it there
    assert "60 messages in 60 s" in shell("clients policy sensor")
    shell("clients policy sensor --deny-type my.reading")
    assert "(acl_disallowed_type)" in shell.refused("emit my.reading {}")
    shell("clients policy sensor --quota 0")
    assert "quota" in shell.refused("ask hello")
    assert json.loads(shell("clients policy sensor --reset --json"))["daily_quota"] is None
    assert shell("ask hello") == "hello\n"


class TestPresence:
    def test_the_table_tells_who_is_online_and_why_not(self, shell: Shell) -> None:
        shell("identity create demo --name porch")
        assert "Never seen." in shell("clients show porch")
        with ThalovantClient.from_identity_file("porch.identity.json", protocol="mqtt") as connected:
            connected.connect()
            (row,) = [line for line in shell("clients demo").splitlines() if line.startswith("porch ")]
            assert all(word in row for word in ("online", "mqtt", "127.0.0.1"))
            shown = json.loads(shell("clients show porch --json"))
            assert (shown["presence"]["state"], shown["credentials"][0]["last_used"]["carrier"]) == ("online", "mqtt")
        assert "Offline since" in shell("clients show porch") and "disconnected" in shell("clients show porch")

    def test_a_watch_goes_on_over_a_restart(self, server: InProcessServer, token: str) -> None:
        """What changed while the server was down comes once it is back; who is as before is not told again."""
        with contextlib.ExitStack() as stack:
            api = stack.enter_context(signed_in(server, token))
            made = [api.create_client_identity("demo", name=name) for name in ("fan", "fire")]
            ids = [one.client_id or "" for one in made]
            watch = (one for one in stack.enter_context(contextlib.closing(api.watch_presence("demo"))))

            def following(client_id: str, state: str) -> ClientPresence:
                return next(one for one in watch if (one.client_id, one.state) == (client_id, state))

            for client_id in ids:
                following(client_id, "never_seen")
            client = stack.enter_context(ThalovantClient(made[0].identity, protocol="wss", auto_reconnect=False))
            client.connect()
            assert following(ids[0], "online").carrier == "wss"
            server.stop()
            server.start()
            assert following(ids[0], "offline").why == "server_stopped"
            api.pause_client(ids[1])
            assert following(ids[1], "revoked").why == "paused"
            api.delete_client(ids[1])
            assert following(ids[1], "revoked").why == "removed"

    def test_who_may_not_watch_is_told(self, server: InProcessServer) -> None:
        with signed_in(server, "tvpat_wrong") as api, pytest.raises(ThalovantAuthError):
            next(api.watch_presence("demo"))


def test_a_rotation_that_is_asked_for_again_is_the_same(server: InProcessServer, token: str) -> None:
    with signed_in(server, token) as api:
        made = api.create_client_identity("demo", name="twice").client_id or ""
        first, again = (api.rotate_client_identity(made, idempotency_key="rotation-1") for _ in range(2))
        assert first.identity == again.identity
        assert len(api.get_client(made)["credentials"]) == 2
        found = api.lookup_credential(first.identity.access_key)
        assert (found["status"], found["credential"]["number"]) == ("live", 2)


def test_the_audit_log_as_typed(shell: Shell) -> None:
    shell("identity create demo --name watched")
    shell("clients pause watched")
    _, paused, made = shell("audit --client watched").splitlines()
    assert "client.paused" in paused and "admin@" in paused and "client.created" in made
    shell("audit export audit.jsonl --client watched")
    check = shell("audit export all.jsonl").splitlines()[1].partition("thalovant-server ")[2].split()
    assert check[:2] == ["verify-audit", "all.jsonl"]
    key = check[3]
    with Path("audit.jsonl").open("rb") as lines:
        assert audit_export.verify(lines, key).entries == 2
    Path("audit.jsonl").write_text(Path("audit.jsonl").read_text().replace("client.paused", "client.healed"))
    with Path("audit.jsonl").open("rb") as lines, pytest.raises(AuditExportError):
        audit_export.verify(lines, key)


def test_a_rotation_brings_the_broker_credential_of_mqtt_that_was_off(shell: Shell) -> None:
    shell("hubs set demo --no-mqtt")
    shell("identity create demo --name early")
    try:
        assert "clients rotate" in shell("hubs set demo --mqtt")
        assert ThalovantIdentity.from_file("early.identity.json").mqtt is None
        shell("identity rotate")
        assert shell("ask hello --protocol mqtt") == "hello\n"
    finally:
        shell("hubs set demo --mqtt")
