# SPDX-License-Identifier: Apache-2.0
"""`thalovant ask`, `emit` and `health`: one connection to a hub, one thing done, one line said about it."""

from __future__ import annotations

import contextlib
import queue
import re
import sys
from typing import TYPE_CHECKING, Annotated, Any

import orjson
import typer

from thalovant.addresses import choose_protocol
from thalovant.cli_errors import CommandError, error_object
from thalovant.cli_identity import chosen_identity
from thalovant.cli_options import AsJson, Carrier, ConfigFile, IdentityFile, Profile, carrier
from thalovant.cli_output import examples, print_json, printable, say
from thalovant.cli_progress import waiting
from thalovant.errors import (
    ThalovantConnectionError,
    ThalovantError,
    ThalovantPolicyDeniedError,
    ThalovantTimeoutError,
)
from thalovant.hub_endpoints import HubProtocol, without_user_info
from thalovant.protocol.asks import DENIED
from thalovant.protocol.contexts import new_request_id, request_id_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from thalovant.events import ThalovantEvent
    from thalovant.health import ThalovantConnectionInfo
    from thalovant.identity import ThalovantIdentity
    from thalovant.sync_client import ThalovantClient

__all__ = ["ASK_EXAMPLES", "EMIT_EXAMPLES", "HEALTH_EXAMPLES", "ask", "connected", "emit", "health"]

ASK_EXAMPLES = examples(
    'thalovant ask "Is anybody there?"',
    'thalovant ask "Is anybody there?" --protocol mqtt --json',
    'thalovant ask "Is anybody there?" --profile kitchen',
)
EMIT_EXAMPLES = examples(
    'thalovant emit recognizer_loop:utterance \'{"utterances": ["hello"]}\'',
    "thalovant emit my.event - < data.json",
)
HEALTH_EXAMPLES = examples("thalovant health --protocol wss", "thalovant health --json && echo well")

REFUSAL_WAIT = 0.25  # seconds a hub has for refusing what was emitted; it says nothing when it takes it
HANG_UP_WAIT = 0.75
MAX_INPUT = 4 << 20

_HUB = re.compile(r"(?:^|/)hubs/([^/?]+)")
_TIMES = {"connected in": "connect_ms", "carrier": "transport_open_ms", "handshake": "handshake_ms"}

Words = Annotated[list[str], typer.Argument(help="What to say.", metavar="TEXT")]
EventType = Annotated[str, typer.Argument(help="Type of the message, like my.event.", metavar="TYPE")]
Data = Annotated[str, typer.Argument(help="The data, a JSON object; - reads standard input.", metavar="DATA")]


@contextlib.contextmanager
def connected(identity: ThalovantIdentity, protocol: str | None) -> Iterator[ThalovantClient]:
    """A client of the hub, connected and in the end closed."""
    # Only what talks to a hub needs the data plane; the other commands start faster without it.
    from thalovant.sync_client import ThalovantClient

    with ThalovantClient(identity, protocol=carrier(protocol) if protocol else None) as client:
        yield client


def ask(
    words: Words,
    protocol: Carrier = None,
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
    with waiting("the hub has not answered yet"), connected(who, protocol) as client:
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
    protocol: Carrier = None,
    identity: IdentityFile = None,
    profile: Profile = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Send a hub one bus message.

    A hub that takes it says nothing. One that refuses it has a quarter of a second for saying so: an error.
    """
    content, around = _object(data, "DATA"), _object(context, "--context")
    if request_id_of(around, None) is None:
        around["request_id"] = new_request_id()  # a refusal names it
    who = chosen_identity(identity, profile, config)
    refusals: queue.SimpleQueue[ThalovantEvent] = queue.SimpleQueue()
    with waiting("the hub has not taken it yet"), connected(who, protocol) as client:
        client.on(DENIED, refusals.put, request_id=request_id_of(around, None))
        sent = client.emit(event_type, content, around)
        _raise_if_refused(refusals)
    if as_json:
        print_json({"sent": sent.payload})
    else:
        say(f"Sent {event_type}.")


def health(
    protocol: Carrier = None,
    identity: IdentityFile = None,
    profile: Profile = None,
    config: ConfigFile = None,
    timeout: Annotated[float, typer.Option(help="How long to wait.", min=0.1, metavar="SECONDS")] = 24.0,
    as_json: AsJson = False,
) -> None:
    """Connect to a hub and tell how it went.

    The exit code is 0 when it went well, else 1.
    """
    who = chosen_identity(identity, profile, config)
    road = choose_protocol(who, carrier(protocol) if protocol else None)
    seen = {**_address(who, road), "ok": False, "connection": None}
    try:
        with waiting(f"connecting over {road}"):
            seen["connection"] = _connection(who, road, timeout).as_dict()
        seen["ok"] = True
    except ThalovantError as error:
        seen["error"] = error_object(error)
        raise
    finally:
        if as_json:
            print_json(seen)
    if not as_json:
        say(_described(seen))


def _address(identity: ThalovantIdentity, road: HubProtocol) -> dict[str, Any]:
    """Where a connection goes. The hub's id is in the path or in the topics, where the server is one of ours."""
    broker = identity.mqtt if road == "mqtt" else None
    endpoint = without_user_info(broker.endpoint if broker else identity.endpoint_for(road) or "")
    place = (broker.topic_prefix or "") if broker else endpoint
    hub = _HUB.search(place)
    return {"protocol": road, "endpoint": endpoint, "hub": hub[1] if hub else None, "site_id": identity.site_id}


def _connection(identity: ThalovantIdentity, road: HubProtocol, timeout: float) -> ThalovantConnectionInfo:
    """Connect, and wait until a hub that does not know this client's key has had its time to hang up (contract 10.1).

    Raises what connecting raises, and ThalovantConnectionError when the hub hung up.
    """
    from thalovant.sync_client import ThalovantClient

    with contextlib.closing(ThalovantClient(identity, protocol=road, auto_reconnect=False)) as client:
        info = client.connect_with_info(timeout)
        with contextlib.suppress(ThalovantTimeoutError):
            client.wait_closed(HANG_UP_WAIT)
            raise ThalovantConnectionError(client.connection_info().last_error or "The hub hung up.")
        return info


def _described(seen: dict[str, Any]) -> str:
    times = {name: seen["connection"][key] for name, key in _TIMES.items()}
    took = ", ".join(f"{name} {value:.1f} ms" for name, value in times.items() if value is not None)
    hub = f", hub {seen['hub']}" if seen["hub"] else ""
    return f"The hub is well: {seen['protocol']} to {printable(seen['endpoint'] + hub)}, {took}."


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
