# SPDX-License-Identifier: Apache-2.0
"""`thalovant-server`: the operator's command line. It holds no logic of the server, only its options and its words."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from thalovant_server import __version__, service_installing, settings_shown
from thalovant_server.cli_broker import broker_app
from thalovant_server.cli_options import Typed, takes_settings
from thalovant_server.errors import SettingsError, ThalovantServerError
from thalovant_server.health import check_health
from thalovant_server.memory import uncollected

app = typer.Typer(
    name="thalovant-server",
    help="Run hubs that devices, apps and agents reach over MQTT, WebSocket and HTTPS.",
    no_args_is_help=True,
    rich_markup_mode=None,  # its boxes cut long options off
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(broker_app)


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


@app.command(short_help="Start the server.")
@takes_settings
def up(typed: Typed) -> None:
    """Start the server; Ctrl-C or SIGTERM stops it once the asks under way are answered."""
    with uncollected():
        from thalovant_server.app import serve  # the parts take a moment to load: --help need not wait for them
    serve(typed.read().settings)


@app.command(short_help="Show every setting and where it comes from.")
@takes_settings
def config(typed: Typed, as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False) -> None:
    """Show every setting, its value and where it comes from: option, environment, file or default."""
    read = typed.read()
    typer.echo(settings_shown.as_json(read) if as_json else settings_shown.as_text(read))


@app.command(short_help="Ask this machine's server whether it is well.")
@takes_settings
def health(
    typed: Typed,
    with_broker: Annotated[
        bool, typer.Option("--with-broker", help="Not well, either, while its outside broker is not connected.")
    ] = False,
) -> None:
    """Ask the server that runs on this machine with these settings whether it is well; exit code 1 if not.

    A server whose outside broker is away is well, and says so: to start it again would help nobody.
    """
    found = check_health(typed.read().settings)
    typer.echo(str(found))
    if with_broker and found.broker != "connected":
        raise typer.Exit(1)


@app.command("prove-isolation", short_help="Attack a running server with two throw-away clients.")
@takes_settings
def prove_isolation(
    typed: Typed,
    api: Annotated[str | None, typer.Option(metavar="URL", help="API of another server than this machine's.")] = None,
    hub: Annotated[str | None, typer.Option(metavar="HUB", help="Id or slug. Default: the first with MQTT.")] = None,
    email: Annotated[str | None, typer.Option(help="Who signs in. Default: the first admin.")] = None,
    password_file: Annotated[Path | None, typer.Option(metavar="FILE", help="Holds the password.")] = None,
    websocket: Annotated[
        str | None, typer.Option(metavar="URL", help="Try everything over MQTT in this WebSocket, too.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Attack a running server over MQTT with two clients made for it and removed again; exit code 1 if anything works.

    Signs in with THALOVANT_API_TOKEN, else with e-mail and password; for this machine's server the admin's are known.
    """
    from thalovant_server.isolation import running, table

    password = None if password_file is None else running.read_password(password_file)
    token = os.environ.get("THALOVANT_API_TOKEN") if password is None else None
    who = running.SignIn(token or None, email, password)
    target = running.this_machine(typed.read().settings, who) if api is None else running.elsewhere(api, who)
    outcomes = running.run(target, hub, websocket)
    typer.echo(table.as_json(outcomes) if as_json else table.as_text(outcomes))
    if not table.proven(outcomes):
        raise typer.Exit(1)


@app.command("verify-audit", short_help="Check an export of the audit log, offline.")
def verify_audit(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="As `thalovant audit export` wrote it.")],
    public_key: Annotated[
        str | None, typer.Option(metavar="KEY", help="Must have signed it; /v1/audit/key of the server has it.")
    ] = None,
) -> None:
    """Check that an export of the audit log is as the server wrote it; exit code 1 if anything was changed in it."""
    from thalovant_server import audit_export

    try:
        with file.open("rb") as lines:
            found = audit_export.verify(lines, public_key)
    except OSError as error:
        raise SettingsError(f"{file} cannot be read: {error.strerror}") from error
    typer.echo(audit_export.sentence(found, compared=public_key is not None))


@app.command("install-service", short_help="Make a systemd service of the server.")
@takes_settings
def install_service(
    typed: Typed,
    print_only: Annotated[bool, typer.Option("--print", help="Show the unit file, write nothing.")] = False,
    user: Annotated[bool, typer.Option("--user", help="A service of your own, without root.")] = False,
    run_as: Annotated[
        str | None, typer.Option(metavar="USER", help="Run as this user. Without, systemd makes one up.")
    ] = None,
    name: Annotated[str, typer.Option(help="Name of the service.")] = service_installing.NAME,
) -> None:
    """Make a systemd service that starts the server with these settings, shut in from the rest of the machine."""
    wanted = service_installing.Wanted(is_users=user, run_as=run_as, name=name)
    read = typed.read(data=service_installing.default_data(user))
    text = service_installing.make_unit(read, wanted)
    if print_only:
        typer.echo(text, nl=False)
        return
    folder = service_installing.unit_folder(user)
    is_new = service_installing.install(text, wanted, folder)
    typer.echo(service_installing.next_lines(read, wanted, is_new=is_new, path=folder / f"{name}.service"))


def main() -> None:
    """Run the command line: exit code 0 when all went well, 1 on an error that is told in a sentence, 130 on Ctrl-C."""
    try:
        app()
    except ThalovantServerError as error:
        typer.echo(f"error: {error} ({error.code})", err=True)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
