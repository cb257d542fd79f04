# SPDX-License-Identifier: Apache-2.0
"""What a person at a terminal sees while a hub takes its time, and that programs see nothing of it."""

from __future__ import annotations

import contextlib
import os
import pty
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from thalovant.cli import progress as cli_progress

if TYPE_CHECKING:
    from conftest import Typed

# The hub stretches passwords the cheap way; a process of its own has to be told.
PROGRAM = """
import hashlib
from thalovant.protocol import noise
noise.stretch = lambda password, node_id: hashlib.sha256(f"{password}@{node_id}".encode()).digest()
from thalovant.cli import main
main()
"""


class Terminal:
    """A pseudo terminal; a program started in it writes to `seen`."""

    def __init__(self) -> None:
        self._ours, self.theirs = pty.openpty()
        self.seen = ""
        self._news = threading.Condition()
        self._thread = threading.Thread(target=self._read, name="terminal")
        self._thread.start()

    def _read(self) -> None:
        with contextlib.suppress(OSError):  # its other end is closed
            while part := os.read(self._ours, 4096):
                with self._news:
                    self.seen += part.decode(errors="replace")
                    self._news.notify_all()

    def wait_for(self, text: str) -> None:
        with self._news:
            assert self._news.wait_for(lambda: text in self.seen, 60), self.seen

    def close(self) -> None:
        os.close(self.theirs)
        self._thread.join()
        os.close(self._ours)


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    opened = Terminal()
    yield opened
    opened.close()


@pytest.fixture
def slow(hub: Any, typed: Typed) -> Any:
    """A hub that answers when the test says so; an identity of it lies here."""
    hub.script.answer = None
    hub.identity().save("me.identity.json")
    return hub


def start(*words: str, term: str = "xterm", **streams: Any) -> subprocess.Popen[str]:
    environment = {**os.environ, "TERM": term}
    return subprocess.Popen([sys.executable, "-c", PROGRAM, *words], text=True, env=environment, **streams)


@pytest.mark.parametrize("term", ["xterm", "dumb"])
def test_after_a_second_a_person_sees_that_it_goes_on(slow: Any, terminal: Terminal, term: str) -> None:
    program = start("ask", "hello", term=term, stdout=terminal.theirs, stderr=terminal.theirs)
    turn = slow.turns.get(timeout=60)
    terminal.wait_for("Still waiting: the hub has not answered yet")
    turn.answer("At last.")
    terminal.wait_for("At last.")
    assert program.wait(30) == 0
    if term == "xterm":
        assert "\x1b[2K" in terminal.seen.rpartition("Still waiting")[2]  # the line is wiped away again
        assert terminal.seen.rfind("\x1b[?25h") > terminal.seen.rfind("\x1b[?25l")  # and the cursor is back


def test_ctrl_c_takes_it_down(slow: Any, terminal: Terminal) -> None:
    program = start("ask", "hello", stdout=terminal.theirs, stderr=terminal.theirs)
    slow.turns.get(timeout=60)
    terminal.wait_for("Still waiting")
    program.send_signal(2)
    assert program.wait(30) == 130
    assert terminal.seen.rfind("\x1b[?25h") > terminal.seen.rfind("\x1b[?25l")
    assert "Traceback" not in terminal.seen


@pytest.mark.parametrize("how", ["json", "stdout is a pipe", "stderr is a pipe"])
def test_programs_see_nothing_of_it(
    slow: Any, terminal: Terminal, how: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    streams: dict[str, Any] = {"stdout": terminal.theirs, "stderr": terminal.theirs}
    words = ["ask", "hello"]
    if how == "json":
        words.append("--json")
    else:
        streams[how.split()[0]] = subprocess.PIPE
    program = start(*words, **streams)
    turn = slow.turns.get(timeout=60)
    with pytest.raises(subprocess.TimeoutExpired):
        program.wait(cli_progress.PATIENCE * 1.5)
    turn.answer("At last.")
    out, err = program.communicate(timeout=30)
    assert program.returncode == 0
    assert "waiting" not in terminal.seen + (out or "") + (err or "")
    assert "At last." in (out or "") + terminal.seen or how == "json"


def test_what_is_quick_shows_nothing_and_leaves_no_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    from rich import progress

    def timers() -> list[threading.Thread]:
        return [thread for thread in threading.enumerate() if thread.name == "thalovant-waiting"]

    drawn: list[object] = []
    monkeypatch.setattr(progress.Progress, "start", drawn.append)
    monkeypatch.setattr(cli_progress, "is_for_people", lambda stream: True)
    monkeypatch.setattr(cli_progress, "_is_pipe", lambda: False)
    monkeypatch.setattr(cli_progress, "PATIENCE", 3600.0)
    with cli_progress.waiting("something quick"):
        (timer,) = timers()
    timer.join(10)
    assert (timers(), drawn) == ([], [])


def test_a_block_that_ends_while_the_timer_fires_leaves_nothing_on_the_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    from rich import console, progress

    firing, ended = threading.Event(), threading.Event()
    drawn: list[object] = []

    class SlowConsole(console.Console):
        def __init__(self, **options: Any) -> None:
            super().__init__(**options)
            firing.set()
            assert ended.wait(10)

    monkeypatch.setattr(console, "Console", SlowConsole)
    monkeypatch.setattr(progress.Progress, "start", drawn.append)
    monkeypatch.setattr(cli_progress, "PATIENCE", 0.0)
    sign = cli_progress._Sign("x")
    assert firing.wait(10)
    sign.take_down()
    ended.set()
    sign._timer.join(10)
    assert drawn == []
