# SPDX-License-Identifier: Apache-2.0
"""`thalovant ask` and `emit`: one connection to a hub, one thing said."""

from __future__ import annotations

import contextlib
import queue
import sys
from typing import TYPE_CHECKING, Annotated, Any

import orjson
import typer

from thalovant.cli.errors import CommandError
from thalovant.cli.identity import chosen_identity
from thalovant.cli.options import AsJson, Carriers, ConfigFile, IdentityFile, Profile, roads
from thalovant.cli.output import examples, hint, print_json, printable, say
from thalovant.cli.progress import waiting
from thalovant.errors import ThalovantPolicyDeniedError
from thalovant.protocol.asks import DENIED
from thalovant.protocol.contexts import new_request_id, request_id_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from thalovant.events import ThalovantEvent
    from thalovant.identity import ThalovantIdentity
    from thalovant.sync_client import ThalovantClient

__all__ = ["ASK_EXAMPLES", "EMIT_EXAMPLES", "ask", "emit"]

ASK_EXAMPLES = examples(
    'thalovant ask "Is anybody there?"',
    'thalovant ask "Is anybody there?" --protocol mqtt --json',
    'thalovant ask "Is anybody there?" --protocol mqtt,wss,https',
    'thalovant ask "Is anybody there?" --profile kitchen',
)
EMIT_EXAMPLES = examples(
    'thalovant emit recognizer_loop:utterance \'{"utterances": ["hello"]}\'',
    "thalovant emit my.event - < data.json",
)

REFUSAL_WAIT = 0.25  # seconds a hub has for refusing what was emitted; it says nothing when it takes it
MAX_INPUT = 4 << 20

Words = Annotated[list[str], typer.Argument(help="What to say.", metavar="TEXT")]
EventType = Annotated[str, typer.Argument(help="Type of the message, like my.event.", metavar="TYPE")]
Data = Annotated[str, typer.Argument(help="The data, a JSON object; - reads standard input.", metavar="DATA")]


def ask(
    words: Words,
    protocol: Carriers = None,
    identity: IdentityFile = None,
    profile: Profile = None,
    config: ConfigFile = None,
    timeout: Annotated[float, typer.Option(help="How long to wait for the answer.", min=0.1, metavar="SECONDS")] = 12.0,
    lang: Annotated[str, typer.Option(help="Language of the text.", metavar="LANG")] = "en-us",
    as_json: AsJson = False,
) -> None:
    """Ask a hub and print its answer."""
    text = " ".join(words).strip()
    if not text:
        raise typer.BadParameter("say something: the text is empty")
    who = chosen_identity(identity, profile, config)
    with waiting("the hub has not answered yet"), _connected(who, protocol) as client:
        reply = client.ask(text, timeout=timeout, lang=lang)
    if as_json:
        print_json(reply.as_dict())
    else:
        say(reply.display_text)
    if not reply.ok:
        raise CommandError("The answer was cut short.", code="incomplete")


def emit(
    event_type: EventType,
    data: Data = "{}",
    context: Annotated[str, typer.Option(help="The context, a JSON object.", metavar="JSON")] = "{}",
    protocol: Carriers = None,
    identity: IdentityFile = None,
    profile: Profile = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Send a hub one bus message.

    A hub that takes it says nothing. One that refuses it has a quarter of a second for saying so: an error.
    """
    if not event_type.strip():
        raise typer.BadParameter("say which message: TYPE is empty")
    content, around = _object(data, "DATA"), _object(context, "--context")
    if request_id_of(around, None) is None:
        around["request_id"] = new_request_id()  # a refusal names it
    who = chosen_identity(identity, profile, config)
    refusals: queue.SimpleQueue[ThalovantEvent] = queue.SimpleQueue()
    with waiting("the hub has not taken it yet"), _connected(who, protocol) as client:
        client.on(DENIED, refusals.put, request_id=request_id_of(around, None))
        sent = client.emit(event_type, content, around)
        _raise_if_refused(refusals)
    if as_json:
        print_json({"sent": sent.payload})
    else:
        say(f"Sent {event_type}.")


@contextlib.contextmanager
def _connected(identity: ThalovantIdentity, protocol: str | None) -> Iterator[ThalovantClient]:
    """A client of the hub, connected and in the end closed; a person hears why it took another road."""
    # Only what talks to a hub needs the data plane; the other commands start faster without it.
    from thalovant.sync_client import ThalovantClient

    with ThalovantClient(identity, **roads(protocol)) as client:
        yield client
        if because := client.connection_info().moved_because:
            hint(printable(because))


def _raise_if_refused(refusals: queue.SimpleQueue[ThalovantEvent]) -> None:
    with contextlib.suppress(queue.Empty):
        raise ThalovantPolicyDeniedError.from_event(refusals.get(timeout=REFUSAL_WAIT))


def _object(text: str, name: str) -> dict[str, Any]:
    """Read a JSON object that was typed, or for `-` the one on standard input."""
    if text == "-":
        text = sys.stdin.read(MAX_INPUT + 1)
        if len(text) > MAX_INPUT:
            raise CommandError(f"Standard input holds more than {MAX_INPUT} characters.", code="too_large")
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise typer.BadParameter(f"{name} is not JSON: {error.msg} at character {error.pos + 1}") from None
    if not isinstance(value, dict):
        raise typer.BadParameter(f'{name} is JSON but no object, like {{"key": "value"}}')
    return value
