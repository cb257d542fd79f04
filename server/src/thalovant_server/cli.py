# SPDX-License-Identifier: Apache-2.0
"""`thalovant-server`: the operator's command line. It holds no logic of the server, only its options and its words."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from thalovant_server import __version__, settings_shown
from thalovant_server.cli_options import takes_settings
from thalovant_server.errors import ThalovantServerError
from thalovant_server.settings_sources import ReadSettings

app = typer.Typer(
    name="thalovant-server",
    help="Run hubs that devices, apps and agents reach over MQTT, WebSocket and HTTPS.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"thalovant-server {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Run hubs that devices, apps and agents reach over MQTT, WebSocket and HTTPS."""


@app.command()
@takes_settings
def up(read: ReadSettings) -> None:
    """Start the server; Ctrl-C or SIGTERM stops it once the asks under way are answered."""
    from thalovant_server.app import serve  # the parts take a moment to load: --help need not wait for them

    serve(read.settings)


@app.command()
@takes_settings
def config(
    read: ReadSettings,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Show every setting, its value and where it comes from: option, environment, file or default."""
    typer.echo(settings_shown.as_json(read) if as_json else settings_shown.as_text(read))


def main() -> None:
    """Run the command line: exit code 0 when all went well, 1 on an error that is told in a sentence, 130 on Ctrl-C."""
    try:
        app()
    except ThalovantServerError as error:
        typer.echo(f"error: {error} ({error.code})", err=True)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
