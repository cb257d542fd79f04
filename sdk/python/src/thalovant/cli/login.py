# SPDX-License-Identifier: Apache-2.0
"""`thalovant login` and `logout`: whom to trust, who signs in, what is kept of it, and that it ends.

The password is asked for or read from a file, never an argument, and goes to a server only whose certificate the named
authority vouches for.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Annotated, Any

import typer

from thalovant.api_address import normalized_root
from thalovant.api_discovery import find_api, read_ca_file
from thalovant.ca_fingerprint import fetch_ca
from thalovant.cli.asked import asked, secret
from thalovant.cli.errors import TOKEN_VARIABLE, CommandError
from thalovant.cli.options import AsJson
from thalovant.cli.output import examples, print_json, printable, say
from thalovant.cli.progress import waiting
from thalovant.cli.scopes import DAILY, scopes_text
from thalovant.config import Login, read_login, save_login
from thalovant.control_plane import ThalovantControlPlane
from thalovant.errors import ThalovantAPIError, ThalovantAPIUnreachableError, ThalovantAuthError
from thalovant.http_client import trusting_only

__all__ = ["CaFile", "CaFingerprint", "authority", "kept_login", "login", "logout"]

TIMEOUT = 10.0
CaFile = Annotated[Path | None, typer.Option("--ca", help="The server's CA certificate (PEM).", metavar="FILE")]
CaFingerprint = Annotated[
    str | None, typer.Option(help="SHA-256 of the server's CA certificate; the server prints it.", metavar="SHA256")
]
EPILOG = examples(
    "thalovant login https://localhost:8443 --ca data/ca.pem",
    "thalovant login https://hub.home:8443 --ca-fingerprint 3b:0c:...   (another machine)",
    "thalovant login https://hub.home:8443 --ca ca.pem --browser --no-open   (no keyboard, no browser)",
)
EPILOG = f"{scopes_text()}\n\n{EPILOG}"


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
        typer.Option(help=f"With --browser: ask for this besides {', '.join(DAILY)}.", metavar="SCOPE"),
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
            email = _sign_in_by_browser(api, [*dict.fromkeys((*DAILY, *(scope or ())))], open_page=open_page)
        else:
            email = person[0]
            with waiting(f"signing in to {root}"):
                _sign_in(api, *person)
        saved = save_login(Login(root, ca_pem, api.access_token, api.token_id, email))
    if as_json:
        print_json({"api_url": root, "email": email, "saved_in": str(saved)})
        return
    say(f"Signed in to {root} as {email}; kept in {saved}.")
    if os.environ.get(TOKEN_VARIABLE, "").strip():
        say(f"But {TOKEN_VARIABLE} is set and goes before this sign-in. To use the sign-in: unset {TOKEN_VARIABLE}")
    say("Next: thalovant hubs")


def logout(
    forget: Annotated[
        bool, typer.Option("--forget", help="Forget it here also when the server does not answer.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Sign out: the sign-in is good for nothing any more, anywhere, and forgotten here."""
    login = kept_login()
    revoked = False
    with waiting("signing out"), ThalovantControlPlane(login.api_url, access_token=login.access_token) as api:
        try:
            if login.token_id:
                api.revoke_api_token(login.token_id)
                revoked = True
        except ThalovantAPIUnreachableError:
            if not forget:
                raise
        except ThalovantAPIError as error:
            if error.status_code not in (401, 404):  # it is over already
                raise
            revoked = True
    save_login(Login(login.api_url, login.ca_pem))  # whom to trust there is no secret, and the next sign-in needs it
    if as_json:
        print_json({"api_url": login.api_url, "revoked": revoked})
        return
    left = "" if revoked else " Its token could not be revoked and works until it ends."
    say(f"Signed out of {login.api_url}.{left}")
    if os.environ.get(TOKEN_VARIABLE, "").strip():
        say(f"But {TOKEN_VARIABLE} is set and still used: unset {TOKEN_VARIABLE}")


def kept_login() -> Login:
    """The sign-in that is kept here, with its token; never that of a variable. Raises CommandError without one."""
    login = read_login()
    if login is None or not login.access_token:
        but = f" ({TOKEN_VARIABLE} is not used for this)" if os.environ.get(TOKEN_VARIABLE, "").strip() else ""
        raise CommandError(f"Nobody is signed in here{but}; type thalovant login URL.", code="not_signed_in")
    return login


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
