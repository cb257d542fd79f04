# SPDX-License-Identifier: Apache-2.0
"""Programs that we did not write, started as their users start them: the published SDK, and stock MQTT clients."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from thalovant_server.testing import ServerProcess

ROOT = Path(__file__).parents[1]
PUBLISHED_PYTHON = ROOT / ".cache/published/bin/python"
UNPACKED_MOSQUITTO = ROOT / ".cache/mosquitto/usr"
AGENTS = ROOT / "interop/agents"


class PublishedError(Exception):
    """What the published SDK raised: its own class name, its bases and its words."""

    def __init__(self, answer: dict[str, Any]) -> None:
        super().__init__(f"{answer['error']}: {answer['text']}")
        self.name: str = answer["error"]
        self.kinds: list[str] = answer["kinds"]
        self.code: str | None = answer["code"]
        self.quota: dict[str, Any] | None = answer["quota"]


class Published:
    """The published SDK, one process of it."""

    def __init__(self, server: ServerProcess, home: Path) -> None:
        home.mkdir(parents=True, exist_ok=True)
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "THALOVANT_API_URL": server.ready["api_url"],
            **server.environment,
        }
        self._process = subprocess.Popen(
            [PUBLISHED_PYTHON, ROOT / "interop/published/driver.py"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, cwd=home,
        )  # fmt: skip

    def __call__(self, do: str, **arguments: Any) -> Any:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, "the published SDK's process died"
        answer = json.loads(line)
        if "ok" not in answer:
            raise PublishedError(answer)
        return answer["ok"]

    def close(self) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close()


class ForeignError(Exception):
    """A stock client could not do it: its own error's name and words."""


class Foreign:
    """A stock MQTT client, one process of it: `interop/<name>/driver.py`, or `driver.js` for mqtt.js.

    Each call is one command of the driver; it waits for the answer.
    """

    def __init__(self, name: str) -> None:
        folder, environment = ROOT / "interop" / name, ROOT / ".cache" / name
        javascript = (folder / "driver.js").exists()
        command = ["node", folder / "driver.js"] if javascript else [environment / "bin/python", folder / "driver.py"]
        self.name = name
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={"PATH": os.environ["PATH"], "PACKAGES": str(environment)},
        )  # fmt: skip

    def __call__(self, do: str, **arguments: Any) -> Any:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, f"{self.name}'s process died"
        answer = json.loads(line)
        if "ok" not in answer:
            raise ForeignError(f"{self.name} {do}: {answer['error']}: {answer['text']}")
        return answer["ok"]

    def vanish(self) -> None:
        """End it as a power cut would: no DISCONNECT, the socket just closes."""
        self._process.kill()
        self.close()

    def close(self) -> None:
        """End the process."""
        if self._process.poll() is None:
            assert self._process.stdin is not None
            self._process.stdin.close()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(10)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()


def mosquitto(program: str, *arguments: str) -> subprocess.Popen[str]:
    """Start mosquitto_pub, mosquitto_sub or mosquitto_rr; each line it writes is there at once.

    End it with ``kill``: mosquitto_sub 2.0 disconnects inside its handler of SIGTERM, and waits for ever on its own
    lock when the signal comes while it takes in a message.
    """
    environment = dict(os.environ)
    if shutil.which("mosquitto_sub") is None:
        environment["PATH"] = f"{UNPACKED_MOSQUITTO / 'bin'}:{environment['PATH']}"
    return subprocess.Popen(
        ["stdbuf", "-oL", program, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
    )
