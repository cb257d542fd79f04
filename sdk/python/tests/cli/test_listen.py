# SPDX-License-Identifier: Apache-2.0
"""`thalovant listen` against a hub on real sockets: what it prints, and every way in which it ends."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from thalovant import keeping
from thalovant.cli import listen as cli_listen
from thalovant.protocol import noise
from thalovant.protocol.messages import bus

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


@contextmanager
def telling(hub: Any, *messages: Any) -> Iterator[None]:
    """Once a client is in, the hub says all of it."""

    def tell() -> None:
        hub.hello.get(timeout=30)
        for message in messages:
            hub.tell_all(message)

    thread = threading.Thread(target=tell, name="telling")
    thread.start()
    yield
    thread.join()


@pytest.fixture
def with_identity(hub: Any, typed: Typed) -> Typed:
    hub.identity().save("me.identity.json")
    return typed


@pytest.fixture
def started(hub: Any, typed: Typed, lonely: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts commands as processes of their own, where an identity of the hub is."""
    hub.identity().save("me.identity.json")
    programs: list[subprocess.Popen[str]] = []

    def start(*words: str, **options: Any) -> subprocess.Popen[str]:
        command = [sys.executable, "-X", "dev", "-c", PROGRAM, *words]
        program = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)
        programs.append(program)
        return program

    yield start
    for program in programs:
        if program.poll() is None:
            program.kill()
        program.communicate()


@pytest.fixture
def listening(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Set once the command is connected, and dialling again takes no time."""
    begun = threading.Event()
    monkeypatch.setattr(cli_listen, "hint", lambda _: begun.set())
    monkeypatch.setattr(keeping, "FIRST_REDIAL", 0.05)
    return begun


@pytest.mark.parametrize("carrier", ["wss", "https", "mqtt"])
def test_each_event_is_a_line(with_identity: Typed, hub: Any, carrier: str) -> None:
    events = (
        bus("speak", {"utterance": "<speak>Hi.</speak>"}, {}),
        bus("my.event", {"a": "é"}, {}),
        bus("other", {}, {}),
    )
    with telling(hub, *events, bus("speak", {"utterance": "Bye."}, {})):
        ran = with_identity("listen", "my.event", "speak", "speak", "--max-events", 3, "--protocol", carrier)
    assert ran.as_tuple() == (0, 'speak  Hi.\nmy.event  {"a":"é"}\nspeak  Bye.\n', "")


def test_as_json_each_is_one_document(with_identity: Typed, hub: Any) -> None:
    with telling(hub, bus("my.event", {"text": "two\nlines"}, {"x": 1}), bus("my.event", {}, {})):
        ran = with_identity("listen", "my.event", "--json", "--max-events", 2)
    first, second = map(json.loads, ran.out.splitlines())
    assert (ran.code, ran.err) == (0, "")
    assert (first["name"], first["data"], first["context"]) == ("my.event", {"text": "two\nlines"}, {"x": 1})
    names = {"name", "data", "context", "text", "display_text", "session_id", "request_id", "display_items"}
    assert set(second) == names


def test_an_event_does_not_steer_the_terminal(with_identity: Typed, hub: Any) -> None:
    with telling(hub, bus("speak", {"utterance": "a\x1b[2J\nb"}, {})):
        assert with_identity("listen", "speak", "--max-events", 1).out == "speak  a?[2J?b\n"


def test_time_is_up(with_identity: Typed, hub: Any) -> None:
    assert with_identity("listen", "my.event", "--timeout", "0.1").as_tuple() == (0, "", "")
    ran = with_identity("listen", "my.event", "--timeout", "0.1", "--max-events", 1)
    assert ran.as_tuple() == (1, "", "error: 0 of 1 events came within 0.1 s. (timeout)\n")


def test_what_does_not_fit_is_counted(with_identity: Typed, hub: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli_listen, "MAX_WAITING", 1)
    say, seen = cli_listen.say, threading.Event()

    def slowly(text: str) -> None:
        assert seen.wait(10)  # the rest has come by then
        say(text)

    original = cli_listen._Inbox.put

    def put(inbox: Any, event: Any) -> None:
        original(inbox, event)
        if event.data["n"] == 4:
            seen.set()

    monkeypatch.setattr(cli_listen, "say", slowly)
    monkeypatch.setattr(cli_listen._Inbox, "put", put)
    with telling(hub, *(bus("my.event", {"n": number}, {}) for number in range(5))):
        ran = with_identity("listen", "my.event", "--json", "--timeout", "2")
    printed = len(ran.out.splitlines())
    assert printed < 5
    assert ran.err == f"{5 - printed} events were dropped: what reads them is slower than the hub.\n"


def test_a_hub_that_lets_nobody_in(with_identity: Typed, hub: Any) -> None:
    hub.script.knows_key = False
    ran = with_identity("listen", "my.event", "--protocol", "wss", "--json")
    assert (ran.code, ran.out) == (1, "")
    assert json.loads(ran.err)["error"]["code"] == "hub_refused"


def test_a_hub_that_becomes_another_one_ends_it(with_identity: Typed, hub: Any, listening: threading.Event) -> None:
    def change() -> None:
        assert listening.wait(30)
        hub.script.static_private = noise.generate_private_key()
        hub.cut()

    thread = threading.Thread(target=change)
    thread.start()
    ran = with_identity("listen", "my.event", "--protocol", "wss")
    thread.join()
    assert (ran.code, ran.out) == (1, "")
    assert "shows another key" in ran.err


@pytest.fixture
def is_back() -> Iterator[threading.Event]:
    """Set once the connection's log says that it is up again: what is sent before that may come before that."""
    back, log, notice = threading.Event(), logging.getLogger("thalovant.connection"), logging.Handler()
    notice.emit = lambda record: back.set() if record.getMessage() == "connected again" else None  # type: ignore[method-assign]
    log.addHandler(notice)
    yield back
    log.removeHandler(notice)


def test_it_goes_on_after_the_connection_dropped(
    with_identity: Typed, hub: Any, listening: threading.Event, is_back: threading.Event
) -> None:
    def drop() -> None:
        assert listening.wait(30)
        hub.hello.get(timeout=30)
        hub.cut()
        assert is_back.wait(30)
        hub.soon(hub.sessions[-1].send, bus("my.event", {"after": 1}, {}))

    thread = threading.Thread(target=drop)
    thread.start()
    ran = with_identity("listen", "my.event", "--protocol", "wss", "--max-events", 1)
    thread.join()
    assert (ran.code, ran.out) == (0, 'my.event  {"after":1}\n')
    first, second = ran.err.splitlines()
    assert first.startswith("cut off: ") and first.endswith("; trying again") and second == "connected again"


@pytest.mark.parametrize("as_json", [False, True])
def test_a_credential_that_is_over_is_told_at_once_and_given_up_soon(
    with_identity: Typed, hub: Any, listening: threading.Event, monkeypatch: pytest.MonkeyPatch, as_json: bool
) -> None:
    monkeypatch.setattr(keeping, "CREDENTIAL_PATIENCE", 0.05)

    def end() -> None:
        assert listening.wait(30)
        hub.hello.get(timeout=30)
        hub.script.knows_key = False
        hub.cut()

    thread = threading.Thread(target=end)
    thread.start()
    ran = with_identity("listen", "my.event", "--protocol", "wss", *(["--json"] if as_json else []))
    thread.join()
    first, last = ran.err.splitlines()
    assert (ran.code, ran.out) == (1, "")
    if as_json:
        assert json.loads(first)["notice"].startswith("cut off: ")
        assert json.loads(last)["error"]["diagnosis"] == "credential_refused"
    else:
        assert first.startswith("cut off: ") and "create a fresh identity" in last.lower()


def test_ctrl_c(started: Any, hub: Any) -> None:
    program = started("listen", "my.event", "--json")
    hub.hello.get(timeout=60)
    hub.tell_all(bus("my.event", {}, {}))
    assert json.loads(program.stdout.readline())["name"] == "my.event"  # a line is there at once
    program.send_signal(signal.SIGINT)
    out, err = program.communicate(timeout=30)
    assert (program.returncode, out, err) == (130, "", "")


def test_a_reader_that_goes_ends_it_without_a_word(started: Any, hub: Any) -> None:
    program = started("listen", "my.event")
    hub.hello.get(timeout=60)
    program.stdout.close()
    assert program.wait(30) in (0, 1)  # no event is needed for it to notice
    assert program.stderr.read() == ""


def test_a_reader_that_goes_while_events_come(started: Any, hub: Any) -> None:
    reading, writing = os.pipe()
    command = [sys.executable, "-X", "dev", "-c", PROGRAM, "listen", "my.event"]
    program = subprocess.Popen(command, stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    hub.hello.get(timeout=60)
    os.close(reading)
    while program.poll() is None:
        hub.tell_all(bus("my.event", {"x": "y" * 1000}, {}))
        try:
            program.wait(0.05)
        except subprocess.TimeoutExpired:
            continue
    assert program.stderr is not None
    assert (program.returncode in (0, 1), program.stderr.read()) == (True, "")
    program.stderr.close()
