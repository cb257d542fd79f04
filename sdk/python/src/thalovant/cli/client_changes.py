# SPDX-License-Identifier: Apache-2.0
"""`thalovant clients pause`, `resume`, `rename`, `remove`, `reset-key`: change one client."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from thalovant.cli.client_named import ClientName, HubName, client_called, label, refuse_taken_name
from thalovant.cli.errors import CommandError
from thalovant.cli.options import AsJson
from thalovant.cli.output import print_json, say
from thalovant.cli.progress import waiting
from thalovant.control_plane import ThalovantControlPlane

__all__ = ["COMMANDS"]


def pause(client: ClientName, hub: HubName = None, as_json: AsJson = False) -> None:
    """Cut a client off until it is resumed.

    Its connections end at once; its credentials and topics stay.
    """
    with waiting("pausing the client"), ThalovantControlPlane() as api:
        changed = api.pause_client(client_called(api, client, hub)["id"])
    _tell(changed, f"{label(changed)} is paused: it is cut off and refused until `thalovant clients resume`.", as_json)


def resume(client: ClientName, hub: HubName = None, as_json: AsJson = False) -> None:
    """Let a paused client in again.

    With the credentials and topics that it had.
    """
    with waiting("resuming the client"), ThalovantControlPlane() as api:
        changed = api.resume_client(client_called(api, client, hub)["id"])
    _tell(changed, f"{label(changed)} may connect again.", as_json)


def rename(
    client: ClientName,
    name: Annotated[str, typer.Argument(help="Its new name.", metavar="NAME")],
    hub: HubName = None,
    as_json: AsJson = False,
) -> None:
    """Give a client another name. Its identity stays as it is."""
    with waiting("renaming the client"), ThalovantControlPlane() as api:
        known = client_called(api, client, hub)
        if name != known.get("name"):
            refuse_taken_name(api, name, {"id": known.get("hub_id")}, "choose another name.")
        changed = api.update_client(known["id"], {"name": name})
    _tell(changed, f"{label(known)} is called {changed.get('name')} now.", as_json)


def remove(
    client: ClientName,
    hub: HubName = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Remove a client for good.

    Its connections end at once, and its identity never works again. Asks first.
    """
    with ThalovantControlPlane() as api:
        with waiting("asking for the client"):
            known = client_called(api, client, hub)
        if not yes:
            _ask(f"Remove {label(known)} for good? Its identity will never work again. [y/N] ")
        with waiting("removing the client"):
            api.delete_client(known["id"])
    if as_json:
        print_json({"client_id": known["id"], "name": known.get("name"), "removed": True})
    else:
        say(f"Removed {label(known)}.")


def reset_key(
    client: ClientName,
    number: Annotated[
        int | None, typer.Option(help="Number of its credential; needed when it has two.", min=1, metavar="NUMBER")
    ] = None,
    hub: HubName = None,
    as_json: AsJson = False,
) -> None:
    """Let a client in with a new Noise key.

    After its device was wiped, or lost the folder with the key that it had.
    """
    with waiting("resetting the key"), ThalovantControlPlane() as api:
        known = client_called(api, client, hub)
        number = _number(known) if number is None else number
        api.reset_client_key(known["id"], number)
    if as_json:
        print_json({"client_id": known["id"], "number": number, "reset": True})
    else:
        say(f"The key of {label(known)} is reset: the next one that it connects with is the one that counts.")


def _number(client: dict[str, Any]) -> int:
    """The only credential's number. Raises CommandError when there are two."""
    found = client.get("credentials") or [{"number": 1}]
    if len(found) > 1:
        several = ", ".join(f"{one.get('number')} ({one.get('state')})" for one in found)
        raise CommandError(f"{label(client)} has several; say which with --number: {several}.", code="which_credential")
    return int(found[0]["number"])


def _ask(question: str) -> None:
    if not sys.stdin.isatty():
        raise typer.BadParameter("there is nobody to ask; give --yes")
    try:
        answer = input(question)
    except EOFError:
        raise KeyboardInterrupt from None
    if answer.strip().lower() not in ("y", "yes"):
        raise CommandError("Nothing was removed.", code="not_removed")


def _tell(changed: dict[str, Any], text: str, as_json: bool) -> None:
    if as_json:
        print_json(changed)
    else:
        say(text)


COMMANDS = (
    ("pause", pause, ("thalovant clients pause kitchen-light",)),
    ("resume", resume, ("thalovant clients resume kitchen-light",)),
    ("rename", rename, ("thalovant clients rename kitchen-light hall-light",)),
    ("remove", remove, ("thalovant clients remove kitchen-light", "thalovant clients remove kitchen-light --yes")),
    ("reset-key", reset_key, ("thalovant clients reset-key kitchen-light",)),
)
"""Name, command, examples; the group mounts them."""
