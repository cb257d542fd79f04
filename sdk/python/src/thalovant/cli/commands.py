# SPDX-License-Identifier: Apache-2.0
"""The command `thalovant`: sign in, look at hubs and clients, create and keep identities, ask, listen, emit.

What it does is the SDK's; this and the files beside it are only words. No secret is an argument (others can read a
process's arguments), and none is printed unless it is asked for. Reference: docs/command-line.md.
"""

from __future__ import annotations

from typing import Annotated, NoReturn

import typer

from thalovant.cli import (
    audit,
    clients,
    config,
    device,
    doctor,
    health,
    hubs,
    identities,
    joining,
    listen,
    login,
    talk,
    tokens,
    users,
)
from thalovant.cli.errors import run
from thalovant.cli.identity import ORDER
from thalovant.cli.output import examples, help_without_a_command, say
from thalovant.version import __version__

app = typer.Typer(
    name="thalovant",
    invoke_without_command=True,
    rich_markup_mode=None,
    epilog=examples(
        "thalovant login https://localhost:8443 --ca data/ca.pem",
        "thalovant identity create demo --name kitchen-light",
        'thalovant ask "Is anybody there?" --protocol mqtt',
    ),
    pretty_exceptions_enable=False,
)
app.command(epilog=login.EPILOG)(login.login)
app.command(epilog=examples("thalovant logout"))(login.logout)
app.command(epilog=joining.JOIN_EXAMPLES)(joining.join)
app.command(epilog=joining.PASSWORD_EXAMPLES)(joining.password)
app.add_typer(hubs.app, name="hubs")
app.add_typer(identities.app, name="identity")
app.add_typer(clients.app, name="clients")
app.add_typer(audit.app, name="audit")
app.add_typer(tokens.app, name="tokens")
app.add_typer(users.app, name="users")
app.add_typer(device.app, name="device")
app.add_typer(config.app, name="config")
app.command(epilog=f"{ORDER}\n\n{talk.ASK_EXAMPLES}")(talk.ask)
app.command(epilog=f"{ORDER}\n\n{listen.LISTEN_EXAMPLES}")(listen.listen)
app.command(epilog=f"{ORDER}\n\n{talk.EMIT_EXAMPLES}")(talk.emit)
app.command(epilog=f"{ORDER}\n\n{health.HEALTH_EXAMPLES}")(health.health)
app.command(epilog=f"{ORDER}\n\n{doctor.DOCTOR_EXAMPLES}")(doctor.doctor)


def main() -> NoReturn:
    """Run the command line and leave with its exit code."""
    raise SystemExit(run(app))


@app.callback()
def thalovant(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """Talk to a self-hosted Thalovant: sign in, look at hubs, create identities, ask, listen."""
    if version:
        say(f"thalovant {__version__}")
        raise typer.Exit
    help_without_a_command(context)
