# SPDX-License-Identifier: Apache-2.0
"""`thalovant login`: whom to trust, who signs in, and what is kept of it.

The password is asked for or read from a file, never an argument, and goes to a server only whose certificate the named
authority vouches for.
"""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Annotated, Any

import typer

from thalovant.api_address import normalized_root
from thalovant.api_discovery import find_api, read_ca_file
from thalovant.ca_fingerprint import fetch_ca
from thalovant.cli.asked import asked, secret
from thalovant.cli.errors import CommandError
from thalovant.cli.options import AsJson
from thalovant.cli.output import examples, print_json, printable, say
from thalovant.cli.progress import waiting
from thalovant.config import Login, save_login
from thalovant.control_plane import ThalovantControlPlane
from thalovant.errors import ThalovantAuthError
from thalovant.http_client import trusting_only

__all__ = ["CaFile", "CaFingerprint", "authority", "login"]

TIMEOUT = 10.0
SCOPES = [
    *("hubs:read", "hubs:write", "clients:read", "clients:write", "audit:read"),
    *("tokens:write", "users:read", "users:write"),
]
"""All that the commands of `thalovant` need; whoever approves may grant less."""

CaFile = Annotated[Path | None, typer.Option("--ca", help="The server's CA certificate (PEM).", metavar="FILE")]
CaFingerprint = Annotated[
    str | None, typer.Option(help="SHA-256 of the server's CA certificate; the server prints it.", metavar="SHA256")
]
EPILOG = examples(
    "thalovant login https://localhost:8443 --ca data/ca.pem",
    "thalovant login https://hub.home:8443 --ca-fingerprint 3b:0c:...   (another machine)",
    "thalovant login https://hub.home:8443 --ca ca.pem --browser --no-open   (no keyboard, no browser)",
)


def login(
    url: Annotated[str, typer.Argument(help="Address of the server, like https://localhost:8443.", metavar="URL")],
    ca: CaFile = None,
    ca_fingerprint: CaFingerprint = None,
    email: Annotated[str | None, typer.Option(help="Who signs in; asked for else.", metavar="E-MAIL")] = None,
    password_file: Annotated[
        Path | None, typer.Option(help="File with the password; asked for else.", metavar="FILE")
    ] = None,
    browser: Annotated[
        bool, typer.Option("--browser", help="Sign in on a page of the server, here or on another device.")
    ] = False,
    open_page: Annotated[bool, typer.Option("--open/--no-open", help="With --browser: open the page here.")] = True,
    scope: Annotated[
        list[str] | None,
        typer.Option(help="With --browser: what to ask for; may be repeated.", metavar="SCOPE"),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Sign in and remember it.

    For this command and for ThalovantControlPlane().
    """
    root = normalized_root(url if "://" in url else f"https://{url}")
    ca_pem = authority(root, ca, ca_fingerprint)
    if browser and (email or password_file):
        raise typer.BadParameter("with --browser the page asks who you are: leave --email and --password-file out")
    person = None if browser else _person(email, password_file)
    with trusting_only(ca_pem) as session, ThalovantControlPlane(root, session=session) as api:
        if person is None:
            email = _sign_in_by_browser(api, scope or SCOPES, open_page=open_page)
        else:
            email = person[0]
            with waiting(f"signing in to {root}"):
                _sign_in(api, *person)
        saved = save_login(Login(root, ca_pem, api.access_token, api.token_id, email))
    if as_json:
        print_json({"api_url": root, "email": email, "saved_in": str(saved)})
        return
    say(f"Signed in to {root} as {email}; kept in {saved}.")
    say("Next: thalovant hubs")


def _person(email: str | None, password_file: Path | None) -> tuple[str, str]:
    email = email or asked("E-mail: ", "--email")
    return email, secret(password_file, "password", "--password-file")


def _sign_in_by_browser(api: ThalovantControlPlane, scopes: list[str], *, open_page: bool) -> str:
    """Return who signed in."""
    name = f"thalovant on {socket.gethostname()}"
    api.login_with_browser(scopes=scopes, client_name=name, open_browser=open_page, prompt=_show_code)
    return str(api.get_profile().get("email"))


def _show_code(begun: dict[str, Any]) -> None:
    """On standard error, also where nobody looks at a terminal: without the code nobody can go on."""
    where = printable(str(begun["verification_uri"]))
    typer.echo(f"Open {where} and type the code {printable(str(begun['user_code']))}", err=True)
    typer.echo("Waiting for the answer there ...", err=True)


def _sign_in(api: ThalovantControlPlane, email: str, password: str) -> None:
    try:
        api.login(email, password)
    except ThalovantAuthError as error:
        if error.status_code != 401:
            raise
        raise CommandError(
            f"{error.detail or 'The server does not accept this e-mail and password'}. The administrator's first "
            "password is in the server's data directory, in the file admin-password.",
            code=error.code,
        ) from error


def authority(root: str, ca: Path | None, fingerprint: str | None) -> str | None:
    """The certificates to trust for the sign-in: those that were named, else those of an earlier login."""
    if ca is not None and fingerprint is not None:
        raise typer.BadParameter("give --ca or --ca-fingerprint, not both")
    if fingerprint is not None:
        with waiting(f"asking {root} for its certificate"):
            return fetch_ca(root, fingerprint, timeout=TIMEOUT)
    return read_ca_file(ca) if ca is not None else find_api(root).ca_pem
