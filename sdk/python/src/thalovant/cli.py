# SPDX-License-Identifier: Apache-2.0
"""The command `thalovant`: sign in, look at hubs, create and keep identities, ask, listen, emit.

What it does is the SDK's; this and the other `cli_` files are only words. No secret is an argument (others can read a
process's arguments), and none is printed unless it is asked for. Reference: docs/command-line.md.
"""

from __future__ import annotations

from typing import Annotated, NoReturn

import typer

from thalovant import cli_config, cli_health, cli_hubs, cli_identities, cli_listen, cli_login, cli_talk
from thalovant.cli_errors import run
from thalovant.cli_identity import ORDER
from thalovant.cli_output import examples, help_without_a_command, say
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
app.command(epilog=cli_login.EPILOG)(cli_login.login)
app.add_typer(cli_hubs.app, name="hubs")
app.add_typer(cli_identities.app, name="identity")
app.add_typer(cli_config.app, name="config")
app.command(epilog=f"{ORDER}\n\n{cli_talk.ASK_EXAMPLES}")(cli_talk.ask)
app.command(epilog=f"{ORDER}\n\n{cli_listen.LISTEN_EXAMPLES}")(cli_listen.listen)
app.command(epilog=f"{ORDER}\n\n{cli_talk.EMIT_EXAMPLES}")(cli_talk.emit)
app.command(epilog=f"{ORDER}\n\n{cli_health.HEALTH_EXAMPLES}")(cli_health.health)


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
