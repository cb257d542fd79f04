# SPDX-License-Identifier: Apache-2.0
"""A real Mosquitto for tests, on a free port, with TLS and the dynamic-security plugin, as `broker init` sets it up.

::

    with MosquittoProcess(tmp_path / "broker") as broker:
        server = ServerProcess(tmp_path / "data", options=broker.options)
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

from thalovant_server.brokers import mosquitto_files
from thalovant_server.brokers.mosquitto_files import Installed, Wanted
from thalovant_server.settings import BROKER_USER

START_SECONDS = 20.0
STOP_SECONDS = 20.0
ASK_AGAIN_SECONDS = 0.2
UNPACKED = Path(".cache/mosquitto/usr/sbin/mosquitto")


def installed() -> Installed:
    """Where Mosquitto is: on this machine, or where `make interop-env` unpacked it.

    Raises:
        SettingsError: nowhere.
    """
    return mosquitto_files.find_installed(str(UNPACKED.absolute()) if UNPACKED.exists() else None)


def environment() -> dict[str, str]:
    """What a program needs in its environment to find that Mosquitto."""
    return {"PATH": f"{installed().program.parent}{os.pathsep}{os.environ['PATH']}"}


class MosquittoProcess:
    """One Mosquitto.

    Args:
        folder: of its configuration and data.
        adjust: lines that are put at the end of its configuration.
    """

    def __init__(self, folder: Path, *, adjust: str = "") -> None:
        self.folder = folder
        self.output: list[str] = []
        self.port = free_port()
        self._adjust = adjust
        self._process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None
        self._installed = installed()
        self._news = threading.Condition()
        self.write()

    def write(self) -> None:
        """Write its configuration; the certificate is new each time, the authority and the secrets stay."""
        mosquitto_files.write(
            Wanted(self.folder, "127.0.0.1", self.port, says_all=True), self._installed.plugin, renew=True
        )
        with (self.folder / mosquitto_files.CONFIGURATION).open("a") as file:
            file.write(self._adjust + "\n")

    @property
    def url(self) -> str:
        """Where it is dialled."""
        return f"mqtts://localhost:{self.port}"

    @property
    def ca_file(self) -> Path:
        """The authority to trust for it."""
        return self.folder / mosquitto_files.AUTHORITY

    @property
    def password_file(self) -> Path:
        """The password of its administrator (`settings.BROKER_USER`)."""
        return self.folder / mosquitto_files.ADMIN_PASSWORD

    @property
    def admin(self) -> tuple[str, str]:
        """User and password of its administrator."""
        return BROKER_USER, self.password_file.read_text().strip()

    @property
    def options(self) -> tuple[str, ...]:
        """What makes `thalovant-server up` join it."""
        return (
            "--broker-url", self.url, "--broker-ca", str(self.ca_file), "--broker-password-file",
            str(self.password_file),
        )  # fmt: skip

    @property
    def pid(self) -> int:
        """The process id."""
        assert self._process is not None, "not started"  # noqa: S101 - a mistake of the test
        return self._process.pid

    def start(self) -> Self:
        """Start it and wait until it accepts.

        Raises:
            RuntimeError: it did not start; carries what it said.
        """
        command = [str(self._installed.program), "-c", str(self.folder / mosquitto_files.CONFIGURATION)]
        before = len(self.output)
        self._process = subprocess.Popen(  # noqa: S603 - a program that was looked for
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, text=True
        )
        self._reader = threading.Thread(target=self._read, name="broker-output", daemon=True)
        self._reader.start()
        try:
            self.wait_for_line(" running", START_SECONDS, after=before)
        except TimeoutError as error:
            self.kill()
            raise RuntimeError(str(error)) from None
        return self

    def wait_for_line(self, text: str, timeout: float = 10.0, *, after: int = 0) -> str:
        """Wait until it wrote a line that holds `text`, past its first `after` lines; return that line."""

        def found() -> str | None:
            return next((line for line in self.output[after:] if text in line), None)

        with self._news:
            self._news.wait_for(lambda: found() or self._has_ended(), timeout)
            line = found()
        if line is None:
            raise TimeoutError(f"the broker never wrote {text!r}:\n" + "".join(self.output))
        return line

    def freeze(self) -> None:
        """Stop it in its tracks (SIGSTOP); `thaw` lets it go on."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def reload(self) -> None:
        """Have it read its configuration and certificates again (SIGHUP)."""
        self._signal(signal.SIGHUP)

    def stop(self) -> int:
        """Ask it to stop, wait until it did; return its exit code."""
        return self._end(signal.SIGTERM)

    def kill(self) -> int:
        """Kill it as a power cut would (SIGKILL)."""
        return self._end(signal.SIGKILL)

    def wipe(self) -> None:
        """Forget all that it knew, as if it were installed anew; its certificates and its administrator stay."""
        shutil.rmtree(self.folder / "data")
        (self.folder / mosquitto_files.SECURITY).unlink()
        self.write()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None and self._process.poll() is None:
            self.thaw()
            self.stop()

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None, "not started"  # noqa: S101
        self._process.send_signal(number)

    def _end(self, number: signal.Signals) -> int:
        assert self._process is not None and self._reader is not None, "not started"  # noqa: S101
        code: int | None = None
        for _ in range(int(STOP_SECONDS / ASK_AGAIN_SECONDS)):
            self._process.send_signal(number)  # none where it has ended already
            # Again and again: in the moment in which it says that it runs it forgets the first time.
            with contextlib.suppress(subprocess.TimeoutExpired):
                code = self._process.wait(ASK_AGAIN_SECONDS)
                break
        if code is None:
            raise TimeoutError("the broker does not end:\n" + "".join(self.output))
        self._reader.join(STOP_SECONDS)
        return code

    def _has_ended(self) -> bool:
        return self._process is not None and self._process.poll() is not None

    def _read(self) -> None:
        assert self._process is not None and self._process.stdout is not None  # noqa: S101 - started just now
        for line in self._process.stdout:
            with self._news:
                self.output.append(line)
                self._news.notify_all()
        self._process.stdout.close()
        with self._news:
            self._news.notify_all()


def free_port() -> int:
    """Return a port that is free just now: Mosquitto cannot be asked for one and tell which it took."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])
