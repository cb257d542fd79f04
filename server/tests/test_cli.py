# SPDX-License-Identifier: Apache-2.0
"""The operator's command line, typed: what it shows, how it leaves, and that the service it installs starts."""

from __future__ import annotations

import ctypes
import json
import os
import pty
import re
import shlex
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from thalovant_server.settings import Settings, option_name, variable_name
from thalovant_server.testing import ServerProcess

COMMAND = (sys.executable, "-m", "thalovant_server")
Typed = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """A home of one's own, and no settings."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("THALOVANT_", "XDG_"))}
    return {**kept, "HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path / "config"), "COLUMNS": "200"}


@pytest.fixture
def typed(environment: dict[str, str], tmp_path: Path) -> Typed:
    """Type one command."""

    def run(*words: str, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*COMMAND, *words], capture_output=True, text=True, env={**environment, **more}, cwd=tmp_path, timeout=60,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip

    return run


@pytest.mark.parametrize("command", ["up", "config", "health", "install-service", "prove-isolation"])
def test_every_setting_is_an_option_of_every_command_that_takes_them(command: str, typed: Typed) -> None:
    run = typed(command, "--help")
    assert run.returncode == 0
    for name in Settings.model_fields:
        assert f"--{option_name(name)} " in run.stdout
    assert "8443" in run.stdout


def test_help_fits_a_narrow_terminal(typed: Typed) -> None:
    for words in ((), ("up",)):
        run = typed(*words, "--help", COLUMNS="80")
        assert run.returncode == 0 and max(map(len, run.stdout.splitlines())) <= 80
        cut = re.findall(r"[^=\]](?:…|\.\.\.)", run.stdout)
        assert cut == [], "but for `[ARGS]...` and `default=…`"
    assert "up               Start the server.\n" in typed("--help").stdout


def test_config_shows_what_was_said_where(typed: Typed, tmp_path: Path) -> None:
    file = tmp_path / "config" / "thalovant" / "server.toml"
    file.parent.mkdir(parents=True)
    file.write_text('data = "store"\nmqtt-port = 9883\n')
    words = ("config", "--public-host", "hub.example", "--public-host", "192.0.2.7")
    run = typed(*words, THALOVANT_SERVER_API_PORT="9443")
    assert run.returncode == 0, run.stderr
    rows = [line.split() for line in run.stdout.splitlines()]
    assert ["data", str(file.parent / "store"), f"{file}:1"] in rows
    assert ["api-port", "9443", "THALOVANT_SERVER_API_PORT"] in rows
    assert ["public-host", "hub.example", "192.0.2.7", "--public-host"] in rows
    shown = json.loads(typed(*words, "--json").stdout)
    assert shown["settings"]["mqtt-port"] == {"value": 9883, "from": f"{file}:2"}


@pytest.mark.parametrize(
    ("words", "more", "told"),
    [
        (["config"], {}, "--data DIR"),
        (["up"], {}, "--data DIR"),
        (["config", "--data", "d", "--api-port", "x"], {}, "--api-port is 'x'"),
        (["config", "--data", "d", "--config", "none.toml"], {}, "no such file"),
        (["config", "--data", "d"], {"THALOVANT_SERVER_PROT": "1"}, "THALOVANT_SERVER_PROT is no setting"),
        (["up", "--data", "d"], {"THALOVANT_SERVER_API_PORT": "1e3"}, "THALOVANT_SERVER_API_PORT is '1e3'"),
        (
            ["health", "--data", "d", "--api-port", "1"],
            {},
            "No server in order at https://127.0.0.1:1: nothing listens there.",
        ),
        (["health", "--data", "d", "--api-port", "0"], {}, "--ready-file"),
        (["health", "--data", "d", "--api-port", "0", "--ready-file", "none"], {}, "the server is not up"),
        (["install-service", "--user", "--api-port", "0"], {}, "A service keeps its ports"),
        (["install-service", "--print", "--run-as", "root"], {}, "nothing that only root may do"),
    ],
)
def test_a_mistake_is_a_sentence_and_exit_code_1(
    words: list[str], more: dict[str, str], told: str, typed: Typed, tmp_path: Path
) -> None:
    run = typed(*words, **more)
    assert (run.returncode, run.stdout) == (1, "")
    assert run.stderr.startswith("error: ") and told in run.stderr
    assert "Traceback" not in run.stderr
    assert not (tmp_path / "d").exists(), "nothing was made"


def test_a_server_runs_from_a_file_and_the_environment_and_says_that_it_is_well(
    typed: Typed, environment: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "server.toml").write_text('host = "::"\npublic-host = ["127.0.0.9"]\n')
    more = {**environment, "THALOVANT_SERVER_DRAIN_SECONDS": "0.5"}
    options = ["--config", str(tmp_path / "server.toml")]
    with ServerProcess(tmp_path / "data", options=options, environment=more, strict=True) as server:
        assert server.ready["api_url"].startswith("https://127.0.0.9:")
        port = server.ready["api_url"].rsplit(":", 1)[1]
        for words in (["--api-port", port], ["--api-port", "0", "--ready-file", str(server.ready_file)]):
            run = typed("health", "--data", str(server.data), *options, *words)
            assert (run.returncode, run.stderr) == (0, ""), run.stderr
            assert run.stdout.startswith("ok: thalovant-server ")
        other = typed("health", "--data", str(tmp_path / "other"), *options, "--api-port", port)
        assert other.returncode == 1 and "certificate verify failed" in other.stderr, "another server's authority"


def test_something_else_that_answers_is_not_well(typed: Typed) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:

        def answer() -> None:
            accepted, _ = other.accept()
            accepted.sendall(b"220 mail\r\n")
            accepted.close()

        thread = threading.Thread(target=answer)
        thread.start()
        run = typed("health", "--data", "d", "--api-port", str(other.getsockname()[1]))
        thread.join()
    assert run.returncode == 1 and "No server in order" in run.stderr
    assert "what listens there does not speak TLS" in run.stderr and "_ssl.c" not in run.stderr


class Manager:
    """A service manager, as far as the server talks to one."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.path)
        self._socket.settimeout(60)

    def wait_for(self, state: str) -> str:
        """Wait for a datagram that begins with a state."""
        while not (heard := self._socket.recv(4096).decode()).startswith(state):
            pass
        return heard

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    made = Manager(tmp_path / "notify")
    yield made
    made.close()


def two_free_ports() -> list[str]:
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:
        return [str(each.getsockname()[1]) for each in (one, two)]


def no_new_code() -> None:
    """What MemoryDenyWriteExecute= asks of the kernel (prctl(2), PR_SET_MDWE), where it has it."""
    ctypes.CDLL(None).prctl(65, 1, 0, 0, 0)


def test_the_installed_service_starts_with_the_settings_and_tells_its_manager(
    typed: Typed, environment: dict[str, str], tmp_path: Path, manager: Manager
) -> None:
    (tmp_path / "answers.py").write_text("def reply(text: str) -> str:\n    return text\n")
    api, mqtt = two_free_ports()
    words = ["--api-port", api, "--mqtt-port", mqtt, "--agent", "default=python:answers:reply", "--drain-seconds", "1"]
    run = typed("install-service", "--user", *words, THALOVANT_SERVER_DATA=str(tmp_path / "da ta%"))
    assert run.returncode == 0, run.stderr
    assert "systemctl --user enable --now thalovant-server" in run.stdout
    unit = (tmp_path / "config/systemd/user/thalovant-server.service").read_text()
    assert (
        typed("install-service", "--user", *words, "--print", THALOVANT_SERVER_DATA=str(tmp_path / "da ta%")).stdout
        == unit
    )
    said = dict(line.split("=", 1) for line in unit.splitlines() if "=" in line and not line.startswith("#"))
    command = [word.replace("%%", "%").replace("$$", "$") for word in shlex.split(said["ExecStart"])]
    process = subprocess.Popen(
        command, env={**environment, "NOTIFY_SOCKET": manager.path}, cwd=said["WorkingDirectory"].replace("%%", "%"),
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, preexec_fn=no_new_code,
        umask=int(said["UMask"], 8),
    )  # fmt: skip
    try:
        assert f"STATUS=Serving https://localhost:{api}" in manager.wait_for("READY=1")
        assert (tmp_path / "da ta%" / "thalovant.db").exists()
        health = typed("health", "--data", str(tmp_path / "da ta%"), "--api-port", api)
        assert health.returncode == 0, health.stderr
        process.send_signal(signal.SIGHUP)  # ExecReload
        manager.wait_for("RELOADING=1")
        manager.wait_for("READY=1")
        process.terminate()
        manager.wait_for("STOPPING=1")
        assert process.wait(30) == 0
    finally:
        process.kill()
        output = process.communicate()[0]
    assert "Traceback" not in output


@pytest.mark.parametrize("nohup", [False, True])
def test_a_server_outlives_its_terminal_only_if_it_is_meant_to(
    nohup: bool, environment: dict[str, str], tmp_path: Path, manager: Manager
) -> None:
    """Whoever closes the window has stopped the server; whoever typed nohup has not."""
    words = [*COMMAND, "up", "--data", str(tmp_path / "data"), "--api-port", "0", "--mqtt-port", "0"]
    environment["NOTIFY_SOCKET"] = manager.path
    with (tmp_path / "log").open("w") as log:
        pid, terminal = pty.fork()
        if pid == 0:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
            if nohup:
                signal.signal(signal.SIGHUP, signal.SIG_IGN)
            os.execve(words[0], words, environment)
    try:
        manager.wait_for("READY=1")
        os.close(terminal)
        manager.wait_for("RELOADING=1" if nohup else "STOPPING=1")
    finally:
        os.kill(pid, signal.SIGTERM)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert status == 0, (tmp_path / "log").read_text()


def test_the_environments_names_are_those_of_the_options() -> None:
    assert variable_name("public_host") == "THALOVANT_SERVER_PUBLIC_HOST"
    assert option_name("public_host") == "public-host"
