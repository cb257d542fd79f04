# SPDX-License-Identifier: Apache-2.0
"""`thalovant listen`: print the events of a hub as they come, until told to stop.

When it is cut off it says so on standard error, once, and again when it is back.

It ends after so many events or seconds, with Ctrl-C, when nobody reads its output any more, and when the hub has let
this client go for good. Events wait in a bounded queue for a reader that is slower than the hub; what does not fit is
dropped and counted.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import select
import stat
import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

from thalovant.cli.errors import CommandError
from thalovant.cli.identity import chosen_identity
from thalovant.cli.options import AsJson, Carriers, ConfigFile, IdentityFile, Profile, roads
from thalovant.cli.output import examples, hint, json_line, printable, say
from thalovant.cli.progress import waiting
from thalovant.errors import ThalovantConnectionError, ThalovantTimeoutError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from thalovant.events import ThalovantEvent
    from thalovant.sync_client import ThalovantClient

__all__ = ["LISTEN_EXAMPLES", "listen"]

MAX_WAITING = 256
LOOK_AROUND = 0.5  # seconds between two looks whether somebody still reads, and the hub is still there

LISTEN_EXAMPLES = examples(
    "thalovant listen speak",
    "thalovant listen speak ovos.utterance.handled --json | jq .data",
    "thalovant listen my.event --max-events 1 --timeout 30",
)


def listen(
    events: Annotated[list[str], typer.Argument(help="Names of the events to hear.", metavar="EVENT")],
    protocol: Carriers = None,
    identity: IdentityFile = None,
    profile: Profile = None,
    config: ConfigFile = None,
    timeout: Annotated[float | None, typer.Option(help="Stop then.", min=0.1, metavar="SECONDS")] = None,
    max_events: Annotated[int | None, typer.Option(help="Stop after so many.", min=1, metavar="NUMBER")] = None,
    as_json: AsJson = False,
) -> None:
    """Print the events of a hub as they come.

    With --json each is an object on a line of its own. Ctrl-C ends it with exit code 130. With --max-events, fewer of
    them within --timeout are an error.
    """
    who = chosen_identity(identity, profile, config)
    from thalovant.sync_client import ThalovantClient

    inbox = _Inbox()
    with contextlib.ExitStack() as stack:
        client = stack.enter_context(contextlib.closing(ThalovantClient(who, **roads(protocol))))
        for name in dict.fromkeys(events):
            client.on(name, inbox.put)
        with waiting("connecting to the hub"):
            client.connect()
        hint(f"Listening for {', '.join(events)}; Ctrl-C ends.")
        stack.enter_context(_notices(as_json=as_json))
        deadline = None if timeout is None else time.monotonic() + timeout
        heard = 0
        for event in _events(client, inbox, deadline):
            _show(event, as_json=as_json)
            heard += 1
            if heard == max_events:
                break
    _tell_dropped(inbox.dropped)
    if max_events is not None and heard < max_events:
        raise CommandError(f"{heard} of {max_events} events came within {timeout:g} s.", code="timeout")


class _Inbox:
    """What the client's handler thread puts in and the main thread prints; when it is full, the newest is dropped."""

    def __init__(self) -> None:
        self._waiting: queue.Queue[ThalovantEvent] = queue.Queue(MAX_WAITING)
        self.dropped = 0

    def put(self, event: ThalovantEvent) -> None:
        try:
            self._waiting.put_nowait(event)
        except queue.Full:
            self.dropped += 1

    def get(self, seconds: float) -> ThalovantEvent | None:
        """The next event; None when none comes within so many seconds."""
        try:
            return self._waiting.get(timeout=max(seconds, 0))
        except queue.Empty:
            return None


def _events(client: ThalovantClient, inbox: _Inbox, deadline: float | None) -> Iterator[ThalovantEvent]:
    """Each event until the deadline, or until nobody reads them any more.

    Raises ThalovantConnectionError when the client has lost its hub for good.
    """
    while True:
        rest = LOOK_AROUND if deadline is None else min(LOOK_AROUND, deadline - time.monotonic())
        event = inbox.get(rest)
        if event is not None:
            yield event
        elif (deadline is not None and time.monotonic() >= deadline) or _reader_has_gone():
            return
        else:
            _raise_if_over(client)


def _raise_if_over(client: ThalovantClient) -> None:
    with contextlib.suppress(ThalovantTimeoutError):
        client.wait_closed(0)
        client._core._keeper.refuse_if_over()  # raises what it was, with what to do
        raise ThalovantConnectionError(client.connection_info().last_error or "The connection to the hub ended.")


@contextlib.contextmanager
def _notices(*, as_json: bool) -> Iterator[None]:
    """Tell what the connection's log says of being cut off and back; why it was given up is the command's own error."""
    log, handler = logging.getLogger("thalovant.connection"), _Notices(as_json=as_json)
    before = log.level, log.propagate
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(before[0])
        log.propagate = before[1]


class _Notices(logging.Handler):
    """Prints a line on standard error a notice; with `as_json` as an object: `{"notice": ...}`."""

    def __init__(self, *, as_json: bool) -> None:
        super().__init__()
        self._as_json = as_json

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno < logging.ERROR:
            text = printable(record.getMessage())
            typer.echo(json_line({"notice": text}) if self._as_json else text, err=True)


def _show(event: ThalovantEvent, *, as_json: bool) -> None:
    if as_json:
        say(json_line(event.as_dict()))
    else:
        say(printable(f"{event.name}  {event.display_text or json_line(event.data)}"))


def _tell_dropped(count: int) -> None:
    if count:
        typer.echo(f"{count} events were dropped: what reads them is slower than the hub.", err=True)


def _reader_has_gone() -> bool:
    """Whether the program at the other end of our output has ended; without a look we would learn it when we write."""
    try:
        descriptor = sys.stdout.fileno()
        if not stat.S_ISFIFO(os.fstat(descriptor).st_mode):
            return False
        look = select.poll()
        look.register(descriptor, 0)  # an error is always told
        return bool(look.poll(0))
    except (OSError, ValueError, AttributeError):  # no file, or no poll here
        return False
