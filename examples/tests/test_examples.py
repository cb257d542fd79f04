# SPDX-License-Identifier: Apache-2.0
"""Every example, started as its first lines say, against a real server that runs the agent among them."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from thalovant import ThalovantClient, ThalovantControlPlane, ThalovantIdentity
from thalovant_server.testing import ServerProcess

EXAMPLES = Path(__file__).parents[1]
PAHO = EXAMPLES.parent / ".cache/paho/bin/python"
LONGEST = 60  # lines

EXECUTE = """
import sys, nbformat
from nbclient import NotebookClient
notebook = nbformat.read(sys.argv[1], as_version=4)
NotebookClient(notebook, timeout=60, kernel_name="python3").execute()
nbformat.write(notebook, sys.argv[2])
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server started in the directory of the examples, with the agent that is there."""
    data = tmp_path_factory.mktemp("examples") / "data"
    with ServerProcess(data, agents=["default=python:agent:reply"], cwd=EXAMPLES, strict=True) as running:
        yield running


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """That of a newcomer: a home of one's own, no certificate variables."""
    home = tmp_path / "home"
    home.mkdir()
    left_out = ("THALOVANT_", "SSL_", "REQUESTS_", "CURL_", "XDG_", "PYTHON", "JUPYTER")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(left_out)}
    return {**kept, "HOME": str(home), "PYTHONDONTWRITEBYTECODE": "1", "PYTHONWARNINGS": "error"}


@pytest.fixture
def make_identity(server: ServerProcess, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ThalovantIdentity]:
    """Make a client of the demo hub."""
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)

    def make(name: str) -> ThalovantIdentity:
        with ThalovantControlPlane(server.ready["api_url"]) as api:
            api.login(*server.admin)
            return api.create_client_identity(server.ready["hub_id"], name=name).identity

    return make


@pytest.fixture
def identity_file(make_identity: Any, tmp_path: Path) -> Callable[[str], Path]:
    """Make a client and keep its identity in a file, as `thalovant identity create` does."""
    return lambda name: make_identity(name).save(tmp_path / f"{name}.identity.json")


def run(*words: object, environment: dict[str, str], said: str | None = None) -> list[str]:
    """Run a program to its end; the lines that it wrote."""
    ran = subprocess.run(
        [*map(str, words)], input=said, capture_output=True, text=True, env=environment, timeout=60, check=False
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    return ran.stdout.splitlines()


def test_a_sensor(identity_file: Any, environment: dict[str, str]) -> None:
    words = ["sensor.py", identity_file("greenhouse"), "--every", "0", "--count", "30"]
    lines = run(sys.executable, EXAMPLES / words[0], *words[1:], environment=environment)
    readings = [
        float(found[1]) for line in lines if (found := re.match(r"Noted: ([\d.]+) degrees in the greenhouse", line))
    ]
    assert len(readings) == 30
    warnings = [line for line in lines if line == "-> opening the window"]
    assert len(warnings) == sum(reading > 30 for reading in readings)
    assert all("Open the window." in line for line in lines if line.startswith("Noted: 3") and "Noted: 30 " not in line)


def test_a_sensor_whose_hub_is_away_says_so_and_goes_on(identity_file: Any, environment: dict[str, str]) -> None:
    file = identity_file("lonely")
    values = json.loads(file.read_text())
    values["mqtt"]["endpoint"] = "mqtts://localhost:1"
    file.write_text(json.dumps(values))
    words = [EXAMPLES / "sensor.py", file, "--every", "0", "--count", "2"]
    lines = run(sys.executable, *words, environment=environment)
    assert len(lines) == 2 and all(line.startswith("no answer: ") for line in lines)


def test_a_sensor_ends_with_ctrl_c(identity_file: Any, environment: dict[str, str]) -> None:
    words = [sys.executable, str(EXAMPLES / "sensor.py"), str(identity_file("brief")), "--place", "attic"]
    with subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    ) as program:  # fmt: skip
        assert program.stdout is not None
        assert "degrees in the attic" in program.stdout.readline()
        program.send_signal(signal.SIGINT)
        rest = program.stdout.read()
    assert (program.returncode, "Traceback" in rest) == (0, False)


def test_a_bot(identity_file: Any, environment: dict[str, str]) -> None:
    said = (
        "ada: It is 21.5 degrees in the library\nbob: How warm is the library?\n\nno colon\nada:\n"
        "ada: how warm is the crypt?\neve: hello\n"
    )
    assert run(sys.executable, EXAMPLES / "bot.py", identity_file("bot"), environment=environment, said=said) == [
        "ada: Noted: 21.5 degrees in the library.",
        "bob: It is 21.5 degrees in the library.",
        "ada: Nobody has told me of the crypt.",
        "eve: Tell me how warm it is somewhere, or ask me.",
    ]


def test_the_agent_in_parts(make_identity: Any, tmp_path: Path) -> None:
    with ThalovantClient(make_identity("asker"), noise_state_dir=str(tmp_path / "noise")) as client:
        reply = client.ask("It is 35 degrees in the Attic")
        assert reply.utterances == ("Noted: 35 degrees in the attic.", "Open the window.")
        assert client.ask("How warm is the ATTIC?").text == "It is 35 degrees in the attic."
        assert client.ask("It is -3.5 degrees in the ice house.").text == "Noted: -3.5 degrees in the ice house."


class Device:
    """The example device, running; what it wrote."""

    def __init__(self, file: Path, environment: dict[str, str]) -> None:
        self._program = subprocess.Popen(
            [str(PAHO), str(EXAMPLES / "device.py"), str(file)],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment,
        )  # fmt: skip
        self.lines: list[str] = []
        self._news = threading.Condition()
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        assert self._program.stdout is not None
        for line in self._program.stdout:
            with self._news:
                self.lines.append(line.rstrip())
                self._news.notify_all()

    def wait_for(self, line: str, times: int = 1) -> None:
        with self._news:
            assert self._news.wait_for(lambda: self.lines.count(line) >= times, 30), self.lines

    def end(self, number: signal.Signals) -> int:
        self._program.send_signal(number)
        code = self._program.wait(30)
        self._thread.join()
        assert self._program.stdout is not None
        self._program.stdout.close()
        return code


@pytest.mark.foreign
def test_a_device_on_a_stock_client(identity_file: Any, environment: dict[str, str], server: ServerProcess) -> None:
    file = identity_file("doorbell")
    device = Device(file, environment)
    try:
        device.wait_for("connected: Success")
        device.wait_for("/status: online")
        server.stop()
        server.start()  # on the same ports: the device is back by itself
        device.wait_for("connected: Success", 2)
        device.wait_for("/status: online", 2)
    finally:
        assert device.end(signal.SIGTERM) == 0
    assert set(device.lines) <= {"connected: Success", "/status: online", "/status: offline"}
    again = Device(file, environment)
    try:
        again.wait_for("/status: online")
    finally:
        again.end(signal.SIGTERM)
    assert again.lines[:3] == ["connected: Success", "/status: offline", "/status: online"]  # it had been told as gone


@pytest.mark.foreign
def test_a_device_that_is_not_let_in_says_so(identity_file: Any, environment: dict[str, str]) -> None:
    file = identity_file("stranger")
    values = json.loads(file.read_text())
    values["mqtt"]["password"] = "wrong"
    file.write_text(json.dumps(values))
    device = Device(file, environment)
    try:
        device.wait_for("connected: Bad user name or password")
    finally:
        device.end(signal.SIGKILL)


def test_the_notebook(make_identity: Any, environment: dict[str, str], tmp_path: Path) -> None:
    config = Path(environment["HOME"]) / ".config/thalovant/config.yaml"
    make_identity("notebook").save_to_config(config, profile="notebook")
    done = tmp_path / "done.ipynb"
    ran = subprocess.run(
        [sys.executable, "-c", EXECUTE, str(EXAMPLES / "notebook.ipynb"), str(done)],
        capture_output=True, text=True, timeout=110, check=False,
        env={**environment, "PYTHONWARNINGS": "default", "JUPYTER_PLATFORM_DIRS": "1"},
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    outputs = ["".join(_texts(cell)) for cell in json.loads(done.read_text())["cells"] if cell["cell_type"] == "code"]
    assert outputs[0].startswith("notebook is connected over wss, in ")
    assert "degrees in the" in outputs[1] or "Nobody has told me of the greenhouse." in outputs[1]
    assert sum(line.count("#") for line in outputs[2].splitlines()) == 50 and "median" in outputs[2]
    assert "Noted: 13 degrees in the garden." in outputs[3]


def _texts(cell: dict[str, Any]) -> Iterator[str]:
    for output in cell["outputs"]:
        assert output["output_type"] != "error", output
        yield "".join(output.get("text") or output["data"]["text/plain"])


@pytest.mark.parametrize("file", sorted(EXAMPLES.glob("*.py")), ids=lambda file: file.name)
def test_each_is_short_and_says_how_it_is_started(file: Path) -> None:
    text = file.read_text()
    assert len(text.splitlines()) <= LONGEST
    if file.name != "seed_sample.py":
        assert text.startswith('"""') and re.search(rf"\n    .*{file.stem}", text.split('"""')[1])


def test_the_notebook_is_kept_without_what_it_printed() -> None:
    cells = json.loads((EXAMPLES / "notebook.ipynb").read_text())["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
    assert sum(len(cell["source"]) for cell in code) <= LONGEST


def test_all_of_them_are_listed() -> None:
    listed = set(re.findall(r"\]\(([\w.]+)\)", (EXAMPLES / "README.md").read_text()))
    assert listed == {file.name for file in EXAMPLES.iterdir() if file.suffix in (".py", ".ipynb")}


def test_pip_installs_into_the_environment_that_is_activated() -> None:
    """Without a pip of its own the next one in PATH answers, and what it installs is not found here."""
    pip = Path(sys.executable).with_name("pip")
    told = subprocess.run([pip, "--version"], capture_output=True, text=True, check=True, timeout=60).stdout
    assert sys.prefix in told
