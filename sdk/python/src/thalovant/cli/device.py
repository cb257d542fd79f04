# SPDX-License-Identifier: Apache-2.0
"""`thalovant device`: answer a device or program that shows a code and waits to be signed in."""

from __future__ import annotations

import shlex
from dataclasses import asdict
from typing import Annotated

import typer

from thalovant.cli.asked import confirmed
from thalovant.cli.hubs import hub_called
from thalovant.cli.options import AsJson
from thalovant.cli.output import examples, help_without_a_command, print_json, printable, say
from thalovant.cli.progress import waiting
from thalovant.cli.tokens import HubLimits, Scopes
from thalovant.control_plane import ThalovantControlPlane
from thalovant.device_login import DeviceLoginRequest

__all__ = ["app"]

Code = Annotated[str, typer.Argument(help="The code that the device shows, like BCDF-GHJK.", metavar="CODE")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask whether to.")]

APPROVE = examples("thalovant device approve BCDF-GHJK", "thalovant device approve BCDF-GHJK --hub demo")

app = typer.Typer(invoke_without_command=True, rich_markup_mode=None)


@app.callback(epilog=examples("thalovant device show BCDF-GHJK", "thalovant device approve BCDF-GHJK"))
def device(context: typer.Context) -> None:
    """Approve or deny a device that shows a code."""
    help_without_a_command(context)


@app.command("show", epilog=examples("thalovant device show BCDF-GHJK"))
def show(code: Code, as_json: AsJson = False) -> None:
    """Show who asks for what."""
    with waiting("asking who it is"), ThalovantControlPlane() as api:
        asked_for = api.describe_device_login(code)
    if as_json:
        print_json(asdict(asked_for))
        return
    _describe(asked_for)


@app.command("approve", epilog=APPROVE)
def approve(code: Code, scope: Scopes = None, hub: HubLimits = None, yes: Yes = False, as_json: AsJson = False) -> None:
    """Sign a device in as you, with what it asks for or with less."""
    with ThalovantControlPlane() as api:
        if not yes:
            _describe(api.describe_device_login(code))
            if not confirmed("Did you begin this yourself, just now? Sign it in?", yes=False):
                say("Not signed in; it still waits. To refuse it: thalovant device deny CODE")
                raise typer.Exit(1)
        hub_ids = [hub_called(api, one)["id"] for one in hub] if hub else None
        with waiting("signing it in"):
            granted = api.approve_device_login(code, scopes=scope, hub_ids=hub_ids)
    if as_json:
        print_json(granted)
        return
    where = f" for {', '.join(hub)} only" if hub else ""
    name = printable(str(granted.get("client_name") or "device"))  # as its token will be called
    say(f"Signed in{where}, with {' '.join(granted.get('scopes') or ())}.")
    say(f"To end it: thalovant tokens revoke {shlex.quote(name)}")


@app.command("deny", epilog=examples("thalovant device deny BCDF-GHJK"))
def deny(code: Code, as_json: AsJson = False) -> None:
    """Refuse a device; it is told so."""
    with waiting("refusing it"), ThalovantControlPlane() as api:
        api.deny_device_login(code)
    if as_json:
        print_json({"user_code": code, "denied": True})
        return
    say("Refused.")


def _describe(login: DeviceLoginRequest) -> None:
    name = printable(login.client_name or "A program that gives no name")
    checked = "" if login.client_verified else " (nobody has checked that name)"
    say(f"{name}{checked} asks for: {' '.join(login.scopes)}")
