# SPDX-License-Identifier: Apache-2.0
"""The five minutes of the README, typed: login, hubs, identity create, ask."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from thalovant_server.testing import ServerProcess

Typed = Callable[..., subprocess.CompletedProcess[str]]
COMMAND = (sys.executable, "-m", "thalovant")


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """A newcomer's: a home of one's own, no certificate variables."""
    home = tmp_path / "newcomer"
    home.mkdir()
    left_out = ("THALOVANT_", "SSL_", "REQUESTS_", "CURL_", "XDG_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(left_out)}
    return {**kept, "HOME": str(home)}


@pytest.fixture
def typed(environment: dict[str, str], tmp_path: Path) -> Typed:
    """Type one command."""

    def run(*words: str, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*COMMAND, *words], capture_output=True, text=True, env={**environment, **more}, cwd=tmp_path, timeout=60,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip

    return run


@pytest.fixture
def logged_in(typed: Typed, server: ServerProcess) -> Typed:
    """The newcomer after `thalovant login`."""
    ready = server.ready
    run = typed(
        "login", ready["api_url"], "--ca", ready["ca_file"], "--email", ready["admin_email"],
        "--password-file", ready["admin_password_file"],
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert server.admin[1] not in run.stdout + run.stderr
    return typed


def test_from_login_to_an_answer_on_each_carrier(logged_in: Typed, tmp_path: Path) -> None:
    assert "demo" in logged_in("hubs").stdout
    made = logged_in("identity", "create", "demo", "--name", "kitchen-light")
    assert made.returncode == 0, made.stderr
    file = tmp_path / "kitchen-light.identity.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    for carrier in ("mqtt", "wss", "https"):
        asked = logged_in("ask", "Is anybody there?", "--protocol", carrier)
        assert (asked.stdout, asked.returncode) == ("Is anybody there?\n", 0), asked.stderr
    as_json = json.loads(logged_in("ask", "again", "--identity", str(file), "--json").stdout)
    assert as_json["text"] == "again"


def test_login_by_fingerprint(typed: Typed, server: ServerProcess) -> None:
    from thalovant_server.certificates import fingerprint

    ready = server.ready
    rest = ("--email", ready["admin_email"], "--password-file", ready["admin_password_file"])
    right = fingerprint(Path(ready["ca_file"]).read_text())
    wrong = typed("login", ready["api_url"], "--ca-fingerprint", "00" * 32, *rest)
    assert (wrong.returncode, wrong.stdout) == (1, "")
    assert "fingerprint" in wrong.stderr
    assert typed("login", ready["api_url"], "--ca-fingerprint", right, *rest).returncode == 0
    assert "demo" in typed("hubs").stdout


def test_login_without_trust_says_what_to_type(typed: Typed, server: ServerProcess) -> None:
    ready = server.ready
    run = typed(
        "login", ready["api_url"], "--email", ready["admin_email"], "--password-file", ready["admin_password_file"]
    )
    assert run.returncode == 1
    assert "--ca" in run.stderr
    assert "Traceback" not in run.stderr


def test_a_wrong_login_is_one_line(typed: Typed, server: ServerProcess, tmp_path: Path) -> None:
    (tmp_path / "wrong").write_text("wrong\n")
    (tmp_path / "wrong").chmod(0o600)
    run = typed(
        "login", server.ready["api_url"], "--ca", server.ready["ca_file"], "--email", "nobody@example.com",
        "--password-file", str(tmp_path / "wrong"),
    )  # fmt: skip
    assert run.returncode == 1
    assert run.stderr.startswith("error: ")
    assert len(run.stderr.strip().splitlines()) == 1


def test_nothing_there_says_where_it_looked(typed: Typed) -> None:
    run = typed("hubs", THALOVANT_API_URL="https://127.0.0.1:1")
    assert run.returncode == 1
    assert "https://127.0.0.1:1" in run.stderr
    assert "Traceback" not in run.stderr


def test_ask_without_an_identity_says_where_it_looked(typed: Typed) -> None:
    run = typed("ask", "anybody?")
    assert run.returncode == 1
    assert "identity" in run.stderr


def test_an_identity_that_others_can_read_is_refused(logged_in: Typed, tmp_path: Path) -> None:
    logged_in("identity", "create", "demo", "--name", "loose")
    file = tmp_path / "loose.identity.json"
    file.chmod(0o644)
    run = logged_in("ask", "hm?", "--identity", str(file))
    assert run.returncode == 1
    assert "chmod" in run.stderr


def test_mqtt_is_turned_on_and_an_agent_chosen(logged_in: Typed, server: ServerProcess) -> None:
    assert logged_in("hubs", "set", "demo", "--agent", "parts").returncode == 0
    assert logged_in("hubs", "set", "demo", "--agent", "undeclared").returncode == 1
    assert logged_in("hubs", "set", "demo", "--agent", "echo").returncode == 0


def test_ctrl_c_is_130(logged_in: Typed, server: ServerProcess, tmp_path: Path, environment: dict[str, str]) -> None:
    """Ask an agent that never ends, then press Ctrl-C once the ask is on its way."""
    logged_in("identity", "create", "demo", "--name", "impatient")
    assert logged_in("hubs", "set", "demo", "--agent", "forever").returncode == 0
    try:
        said_before = len(server.output)
        words = [*COMMAND, "ask", "for ever", "--protocol", "mqtt", "--timeout", "60"]
        with subprocess.Popen(words, env=environment, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
            server.wait_for_line("session_ready", timeout=20, after=said_before)
            process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=20)
        assert process.returncode == 130
        assert "Traceback" not in said
    finally:
        logged_in("hubs", "set", "demo", "--agent", "echo")


def test_a_profile_from_its_making_to_an_answer_on_another_machine(logged_in: Typed, tmp_path: Path) -> None:
    made = logged_in("identity", "create", "demo", "--name", "travels", "--profile", "travels", "--json")
    assert json.loads(made.stdout)["carriers"] == ["wss", "https", "mqtt"], made.stderr
    assert not list(tmp_path.glob("*.identity.json"))
    lines = logged_in("config", "env").stdout
    elsewhere = dict(entry.split("=", 1) for entry in _shell(f"{lines}\nenv -0", tmp_path).split("\0") if "=" in entry)
    home = tmp_path / "elsewhere"
    home.mkdir()
    asked = logged_in("ask", "from afar", HOME=str(home), **_only_ours(elsewhere))
    assert (asked.stdout, asked.returncode) == ("from afar\n", 0), asked.stderr
    # Its key was made there, so here it is another client; the operator lets it in again.
    refused = logged_in("ask", "from here", "--profile", "travels", "--json")
    assert json.loads(refused.stderr)["error"]["code"] == "client_key_rejected"
    client_id = json.loads(made.stdout)["client_id"]
    assert logged_in("identity", "reset-key", client_id).returncode == 0
    assert logged_in("ask", "from here", "--profile", "travels").stdout == "from here\n"


def test_a_file_kept_as_a_profile_is_the_same_client(logged_in: Typed, tmp_path: Path) -> None:
    logged_in("identity", "create", "demo", "--name", "kept", "--out", "kept.json")
    assert logged_in("ask", "file", "--identity", "kept.json").stdout == "file\n"
    assert logged_in("config", "add", "kept", "--identity", "kept.json", "--use").returncode == 0
    (tmp_path / "kept.json").unlink()
    for carrier in ("mqtt", "wss", "https"):
        assert logged_in("ask", "profile", "--protocol", carrier).stdout == "profile\n"


def test_health_of_each_carrier(logged_in: Typed, server: ServerProcess) -> None:
    logged_in("identity", "create", "demo", "--name", "well", "--profile", "well")
    for carrier in ("mqtt", "wss", "https"):
        run = logged_in("health", "--protocol", carrier, "--json")
        seen = json.loads(run.stdout)
        assert (run.returncode, seen["ok"], seen["hub"]) == (0, True, server.ready["hub_id"]), run.stderr
    assert logged_in("health").stdout.startswith("The hub is well: wss to wss://localhost:")


def test_a_message_that_is_not_granted_is_refused_by_name(logged_in: Typed) -> None:
    logged_in("identity", "create", "demo", "--name", "talks", "--profile", "talks")
    for carrier in ("mqtt", "wss", "https"):
        run = logged_in("emit", "not.granted", "{}", "--protocol", carrier, "--json")
        assert (run.returncode, run.stdout) == (1, "")
        assert json.loads(run.stderr)["error"]["code"] == "acl_disallowed_type"
    sent = logged_in("emit", "recognizer_loop:utterance", '{"utterances": ["hello"]}')
    assert (sent.stdout, sent.returncode) == ("Sent recognizer_loop:utterance.\n", 0), sent.stderr


def _shell(script: str, folder: Path) -> str:
    """Run a script that sets variables, each exported; return what it prints."""
    return subprocess.run(["sh", "-ac", script], capture_output=True, text=True, check=True, cwd=folder, env={}).stdout


def _only_ours(variables: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in variables.items() if name.startswith("THALOVANT_")}
