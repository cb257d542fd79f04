# SPDX-License-Identifier: Apache-2.0
"""`thalovant login`: whom to trust, who signs in, and what is kept of it.

The password is asked for or read from a file, never an argument, and goes to a server only whose certificate the named
authority vouches for.
"""

from __future__ import annotations

import getpass
import sys
from pathlib import Path
from typing import Annotated

import typer

from thalovant.api_address import normalized_root
from thalovant.api_discovery import find_api, read_ca_file
from thalovant.ca_fingerprint import fetch_ca
from thalovant.cli.errors import CommandError
from thalovant.cli.options import AsJson
from thalovant.cli.output import examples, print_json, say
from thalovant.cli.progress import waiting
from thalovant.config import Login, save_login
from thalovant.control_plane import ThalovantControlPlane
from thalovant.errors import ThalovantAuthError
from thalovant.http_client import trusting_only

__all__ = ["login"]

TIMEOUT = 10.0
EPILOG = examples(
    "thalovant login https://localhost:8443 --ca data/ca.pem",
    "thalovant login https://hub.home:8443 --ca-fingerprint 3b:0c:...   (another machine)",
)


def login(
    url: Annotated[str, typer.Argument(help="Address of the server, like https://localhost:8443.", metavar="URL")],
    ca: Annotated[Path | None, typer.Option("--ca", help="The server's CA certificate (PEM).", metavar="FILE")] = None,
    ca_fingerprint: Annotated[
        str | None, typer.Option(help="SHA-256 of the server's CA certificate; the server prints it.", metavar="SHA256")
    ] = None,
    email: Annotated[str | None, typer.Option(help="Who signs in; asked for else.", metavar="E-MAIL")] = None,
    password_file: Annotated[
        Path | None, typer.Option(help="File with the password; asked for else.", metavar="FILE")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Sign in and remember it.

    For this command and for ThalovantControlPlane().
    """
    root = normalized_root(url if "://" in url else f"https://{url}")
    ca_pem = _authority(root, ca, ca_fingerprint)
    email = email or _asked("E-mail: ", "--email")
    password = _password(password_file)
    with trusting_only(ca_pem) as session, ThalovantControlPlane(root, session=session) as api:
        with waiting(f"signing in to {root}"):
            _sign_in(api, email, password)
        saved = save_login(Login(root, ca_pem, api.access_token, api.token_id, email))
    if as_json:
        print_json({"api_url": root, "email": email, "saved_in": str(saved)})
        return
    say(f"Signed in to {root} as {email}; kept in {saved}.")
    say("Next: thalovant hubs")


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


def _authority(root: str, ca: Path | None, fingerprint: str | None) -> str | None:
    """The certificates to trust for the sign-in: those that were named, else those of an earlier login."""
    if ca is not None and fingerprint is not None:
        raise typer.BadParameter("give --ca or --ca-fingerprint, not both")
    if fingerprint is not None:
        with waiting(f"asking {root} for its certificate"):
            return fetch_ca(root, fingerprint, timeout=TIMEOUT)
    return read_ca_file(ca) if ca is not None else find_api(root).ca_pem


def _asked(prompt: str, option: str, *, hidden: bool = False) -> str:
    if not sys.stdin.isatty():
        raise typer.BadParameter(f"there is nobody to ask; give {option}")
    try:
        answer = getpass.getpass(prompt) if hidden else input(prompt).strip()
    except EOFError:
        raise KeyboardInterrupt from None
    if not answer:
        raise typer.BadParameter(f"give {option}")
    return answer


def _password(file: Path | None) -> str:
    if file is None:
        return _asked("Password: ", "--password-file", hidden=True)
    try:
        with file.expanduser().open(encoding="utf-8") as stream:
            password = stream.read(4096).rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise CommandError(f"Unable to read the password file {file}: {reason}.", code="unreadable") from None
    if not password:
        raise CommandError(f"The password file {file} is empty.", code="empty")
    return password
