# SPDX-License-Identifier: Apache-2.0
"""`thalovant-server broker init`: a broker's configuration, and the lines to type next. Starts nothing."""

from __future__ import annotations

import os
import shlex
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from thalovant_server.brokers import mosquitto_files, mosquitto_installed
from thalovant_server.brokers.mosquitto_files import Wanted, Written
from thalovant_server.brokers.names import BrokerAddress
from thalovant_server.errors import DataDamagedError, DataDirectoryError, SettingsError
from thalovant_server.settings import BROKER_PORT, is_loopback, plain_host, plain_public_hosts, to_listen_on

broker_app = typer.Typer(
    name="broker", help="Set up a broker at which hubs meet their clients.", no_args_is_help=True, rich_markup_mode=None
)


class Kind(StrEnum):
    """The brokers that a configuration can be written for."""

    MOSQUITTO = "mosquitto"


@broker_app.callback()
def _broker() -> None:
    """Set up a broker at which hubs meet their clients."""


@broker_app.command(short_help="Write a broker's complete configuration.")
def init(
    kind: Annotated[Kind, typer.Argument(metavar="mosquitto", help="The kind of broker.")],
    directory: Annotated[Path, typer.Option("--dir", metavar="DIR", help="Of its own; made where there is none.")],
    public_host: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Name or address by which it is dialled. May be given several times."),
    ] = None,
    host: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="Address to listen on; `::` is every one. Default: 127.0.0.1."),
    ] = None,
    port: Annotated[
        int | None, typer.Option(metavar="PORT", min=1, max=65535, help=f"TLS port. Default: {BROKER_PORT}.")
    ] = None,
    renew: Annotated[
        bool, typer.Option("--renew", help="Make a new certificate, also where there is a good one.")
    ] = False,
) -> None:
    """Write a complete configuration of Mosquitto: TLS, nobody let in but whom thalovant-server lets in.

    Typed again it keeps every secret, the authority, what the broker has written, and what of address, port and names
    is not given; it renews the certificate once two thirds of its life are over.
    """
    wanted = _wanted(directory, host, port, tuple(public_host or ()))
    installed = _installed()
    plugin = installed.plugin if installed else mosquitto_installed.usual_plugin()
    try:
        written = mosquitto_files.write(wanted, plugin, renew=renew)
    except DataDamagedError as error:
        raise SettingsError(
            f"{error.path} is damaged: {error.fault}. Restore it, or move {directory} away to start afresh"
        ) from error
    except DataDirectoryError as error:
        raise SettingsError(f"--dir {directory} cannot be used: {error.fault}") from error
    typer.echo(_text(kind, wanted, written, installed))


def _wanted(directory: Path, host: str | None, port: int | None, public_hosts: tuple[str, ...]) -> Wanted:
    folder = directory.expanduser().absolute()
    before = Wanted.before(folder) or Wanted(folder, "127.0.0.1", BROKER_PORT)
    host, public_hosts = host or before.listen_host, public_hosts or before.public_hosts
    try:
        names = plain_public_hosts(public_hosts)
    except ValueError as error:
        raise SettingsError(f"--public-host: {error}") from error
    listen = to_listen_on(plain_host(host))
    if not names and not is_loopback(listen):
        raise SettingsError(
            f"--host {host} is reachable from other machines, and no name is known by which they reach it: add "
            "--public-host NAME (the name or address that clients and thalovant-server use)"
        )
    return Wanted(folder, listen, port or before.port, names)


def _installed() -> mosquitto_installed.Installed | None:
    try:
        return mosquitto_installed.find_installed()
    except SettingsError:
        return None


def _text(kind: Kind, wanted: Wanted, written: Written, installed: mosquitto_installed.Installed | None) -> str:
    folder = wanted.directory
    names = ", ".join(("localhost", *written.names))
    state = "now holds" if written.is_new else "still holds"
    made = "made just now" if written.renewed else "as it was"
    return "\n".join(
        [
            f"{folder} {state} a {kind.capitalize()} that lets in nobody but whom thalovant-server lets in.",
            "",
            f"  certificate      for {names}; until {written.ends:%Y-%m-%d}; {made}",
            f"  authority        {folder / mosquitto_files.AUTHORITY}",
            f"  administrator    password in {folder / mosquitto_files.ADMIN_PASSWORD}",
            "",
            *_to_start(wanted, installed),
            "",
            *_to_join(wanted),
        ]
    )


def _to_start(wanted: Wanted, installed: mosquitto_installed.Installed | None) -> list[str]:
    line = shlex.join(["mosquitto", "-c", str(wanted.directory / mosquitto_files.CONFIGURATION)])
    if installed is None:
        return [
            "Mosquitto is not installed on this machine. Where it shall run, type",
            f"  {mosquitto_installed.INSTALL}",
            "and this command again, which finds its plugin. Then start it:",
            "",
            f"  {line}",
        ]
    root = ["Do not start it as root: type this command as the user who shall run it."] if os.geteuid() == 0 else []
    line = shlex.join([str(installed.program), *shlex.split(line)[1:]])
    again = "Where it runs already, `kill -HUP` has it read a new certificate."
    return [*root, f"Start it. {again}", "", f"  {line}"]


def _to_join(wanted: Wanted) -> list[str]:
    host = wanted.public_hosts[0] if wanted.public_hosts else "localhost"
    authority, password = mosquitto_files.AUTHORITY, mosquitto_files.ADMIN_PASSWORD
    options = {
        "--data": "data",
        "--broker-url": str(BrokerAddress(host, wanted.port)),
        "--broker-ca": str(wanted.directory / authority),
        "--broker-password-file": str(wanted.directory / password),
    }
    words = [word for option in options.items() for word in option]
    return [
        f"Join it. On another machine, from copies of {authority} and {password}:",
        "",
        f"  {shlex.join(['thalovant-server', 'up', *words])}",
    ]
