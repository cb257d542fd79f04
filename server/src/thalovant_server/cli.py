# SPDX-License-Identifier: Apache-2.0
"""`thalovant-server`: the operator's command line. It holds no logic of the server, only its options and its words."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from thalovant_server import __version__
from thalovant_server.errors import ThalovantServerError
from thalovant_server.settings import API_PORT, MQTT_PORT, Settings

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
def up(
    data: Annotated[Path, typer.Option(help="Where the server keeps its files; made at the first start.")],
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    public_host: Annotated[
        list[str] | None,
        typer.Option(help="Name or address by which clients reach this machine; may be given several times."),
    ] = None,
    api_port: Annotated[
        int, typer.Option(min=0, max=65535, help="TLS port of the API, WebSocket and HTTPS.")
    ] = API_PORT,
    mqtt_port: Annotated[int, typer.Option(min=0, max=65535, help="TLS port of MQTT.")] = MQTT_PORT,
    agent: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=python:MODULE:FUNCTION",
            help="An agent that hubs may name; `default=…` answers for every hub that names none.",
        ),
    ] = None,
    certificate: Annotated[Path | None, typer.Option(help="Your own certificate, PEM.")] = None,
    certificate_key: Annotated[Path | None, typer.Option(help="Its private key, PEM.")] = None,
    certificate_authority: Annotated[Path | None, typer.Option(help="The authority to hand out.")] = None,
    ready_file: Annotated[
        Path | None,
        typer.Option(help="Write how the server is reached to this file (JSON) once everything accepts."),
    ] = None,
) -> None:
    """Start the server; Ctrl-C or SIGTERM stops it once the asks under way are answered."""
    from thalovant_server.app import serve  # the parts take a moment to load: --help need not wait for them

    settings = Settings(
        data=data,
        host=host,
        public_hosts=tuple(public_host or ()),
        api_port=api_port,
        mqtt_port=mqtt_port,
        agents=tuple(agent or ()),
        certificate=certificate,
        certificate_key=certificate_key,
        certificate_authority=certificate_authority,
        ready_file=ready_file,
    )
    serve(settings)


def main() -> None:
    """Run the command line: exit code 0 when all went well, 1 on an error that is told in a sentence, 130 on Ctrl-C."""
    try:
        app()
    except ThalovantServerError as error:
        typer.echo(f"error: {error} ({error.code})", err=True)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
