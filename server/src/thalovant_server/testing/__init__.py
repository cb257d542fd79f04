# SPDX-License-Identifier: Apache-2.0
"""A real server for tests, ours and yours: its own process, free ports, its own data directory.

::

    with ServerProcess(tmp_path / "data") as server:
        api = ThalovantControlPlane(server.ready["api_url"])

It mocks nothing. Programs that know one bundle of certificates get it through :attr:`ServerProcess.environment`.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

START_SECONDS = 60.0
STOP_SECONDS = 30.0
READY_MARK = "Thalovant is ready"
COMPLAINT = re.compile(r"Warning:|Traceback|never retrieved|never awaited|level=critical|logger=asyncio")
# An agent's failure is the agent's; a slow callback may be a busy machine's.
NO_COMPLAINT = re.compile(r"event=agent_failed|event=\"Executing ")


class ServerProcess:
    """One `thalovant-server up` on free ports.

    Args:
        data: its data directory.
        agents: each `name=python:module:function`.
        options: further options of `thalovant-server up`.
        environment: variables added to this process's own.
        cwd: where it runs.
        strict: run Python in development mode, and judge the log: see :meth:`complaints`.
        inside: what the command is prefixed with, such as `testing.network.Host.inside`.
        module: is run; another than ours may change something before it calls ours.

    Raises:
        RuntimeError: the server ended before it was ready; carries what it said. With ``strict`` also when a block
            ends and the server did not end cleanly or complained.
    """

    def __init__(
        self,
        data: Path,
        *,
        agents: Sequence[str] = (),
        options: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        strict: bool = False,
        inside: Sequence[str] = (),
        module: str = "thalovant_server",
    ) -> None:
        self.data = data
        self._module = module
        self._python_options = ("-X", "dev") if strict else ()
        self.ready: dict[str, Any] = {}
        self.output: list[str] = []
        """Every line it wrote so far, standard output and standard error together."""
        self._command = [*inside, *self._arguments(agents, options)]
        # Settings of whoever runs the tests are not the test's.
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("THALOVANT_SERVER_")}
        self._environment = {**inherited, **(environment or {})}
        self._cwd = cwd
        self._process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None
        self._is_ready = threading.Event()
        self._news = threading.Condition()

    def start(self) -> Self:
        """Start it and wait until everything accepts; after :meth:`stop` or :meth:`kill` the ports stay the same."""
        self._is_ready.clear()
        self.output.clear()
        self._process = subprocess.Popen(  # noqa: S603 - our own program
            self._command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
            text=True, env=self._environment, cwd=self._cwd,
        )  # fmt: skip
        self._reader = threading.Thread(target=self._read, name="server-output", daemon=True)
        self._reader.start()
        if not self._is_ready.wait(START_SECONDS) or not self.ready_file.exists() or not self._saw_ready():
            self.kill()
            raise RuntimeError("the server did not get ready:\n" + "".join(self.output))
        self.ready = json.loads(self.ready_file.read_text())
        self._pin_ports()
        return self

    @property
    def pid(self) -> int:
        """The process id."""
        assert self._process is not None, "not started"  # noqa: S101 - a mistake of the test
        return self._process.pid

    @property
    def ready_file(self) -> Path:
        """Where the server writes how it is reached."""
        return self.data.parent / f"{self.data.name}.ready.json"

    @property
    def environment(self) -> dict[str, str]:
        """The variables by which every TLS library we know trusts this server, and the system's servers too."""
        bundle = str(self.ready["ca_bundle"])
        return {"SSL_CERT_FILE": bundle, "REQUESTS_CA_BUNDLE": bundle, "CURL_CA_BUNDLE": bundle}

    @property
    def admin(self) -> tuple[str, str]:
        """E-mail and password of the admin account."""
        return self.ready["admin_email"], Path(self.ready["admin_password_file"]).read_text().strip()

    def wait_for_line(self, text: str, timeout: float = 10.0, *, after: int = 0) -> str:
        """Wait until the server wrote a line that holds ``text``, past its first ``after`` lines; return that line."""

        def found() -> str | None:
            return next((line for line in self.output[after:] if text in line), None)

        with self._news:
            if not self._news.wait_for(found, timeout):
                raise TimeoutError(f"the server never wrote {text!r}:\n" + "".join(self.output))
            line = found()
        assert line is not None  # noqa: S101 - wait_for has just found it
        return line

    def stop(self) -> int:
        """Ask it to stop, wait until it did; return its exit code."""
        return self._end(signal.SIGTERM)

    def kill(self) -> int:
        """Kill it as a power cut would (SIGKILL)."""
        return self._end(signal.SIGKILL)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        code = self.stop() if self._process is not None and self._process.poll() is None else 0
        if self._python_options and error is None and (code or self.complaints()):
            raise RuntimeError(f"the server ended with {code} and these complaints:\n" + "".join(self.complaints()))

    def complaints(self) -> list[str]:
        """Return the lines of its log that no server in order writes: warnings of Python, tracebacks, faults."""
        return [line for line in self.output if COMPLAINT.search(line) and not NO_COMPLAINT.search(line)]

    def _arguments(self, agents: Sequence[str], options: Sequence[str]) -> list[str]:
        command = [sys.executable, *self._python_options, "-m", self._module, "up", "--data", str(self.data)]
        command += ["--ready-file", str(self.ready_file)]
        for agent in agents:
            command += ["--agent", agent]
        if "--api-port" not in options:
            command += ["--api-port", "0", "--mqtt-port", "0"]
        return [*command, *options]

    def _pin_ports(self) -> None:
        """A restarted server keeps its addresses: the identities that were made name them."""
        addresses = {"--api-port": "api_url", "--mqtt-port": "mqtt_endpoint", "--broker-port": "broker_endpoint"}
        for option, address in addresses.items():
            if option in self._command:
                self._command[self._command.index(option) + 1] = str(self.ready[address]).rsplit(":", 1)[1]

    def _read(self) -> None:
        assert self._process is not None and self._process.stdout is not None  # noqa: S101 - started just now
        for line in self._process.stdout:
            with self._news:
                self.output.append(line)
                self._news.notify_all()
            if READY_MARK in line:
                self._is_ready.set()
        self._process.stdout.close()
        self._is_ready.set()  # it ended: nobody need wait any longer

    def _saw_ready(self) -> bool:
        return any(READY_MARK in line for line in self.output)

    def _end(self, number: signal.Signals) -> int:
        assert self._process is not None and self._reader is not None, "not started"  # noqa: S101
        if self._process.poll() is None:
            self._process.send_signal(number)
        code = self._process.wait(STOP_SECONDS)
        self._reader.join(STOP_SECONDS)
        return code
