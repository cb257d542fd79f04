# SPDX-License-Identifier: Apache-2.0
"""`thalovant join` and `thalovant password`: choose the password of an invitation, change one's own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from thalovant.api_address import normalized_root
from thalovant.cli.asked import new_password, secret
from thalovant.cli.login import CaFile, CaFingerprint, authority, kept_login
from thalovant.cli.options import AsJson
from thalovant.cli.output import examples, hint, print_json, say
from thalovant.cli.progress import waiting
from thalovant.config import Login, save_login
from thalovant.control_plane import ThalovantControlPlane
from thalovant.http_client import trusting_only

__all__ = ["join", "password"]

JOIN_EXAMPLES = examples(
    "thalovant join https://hub.home:8443 --ca-fingerprint 3b:0c:...",
    "thalovant join https://hub.home:8443 --ca ca.pem --token-file invitation",
)
PASSWORD_EXAMPLES = examples("thalovant password")


def join(
    url: Annotated[str, Argument(help="Address of the server, like https://hub.home:8443.", metavar="URL")],
    ca: CaFile = None,
    ca_fingerprint: CaFingerprint = None,
    token_file: Annotated[Path | None, Option(help="File with the invitation; asked for else.", metavar="FILE")] = None,
    password_file: Annotated[
        Path | None, Option(help="File with the password to have; asked for else.", metavar="FILE")
    ] = None,
    name: Annotated[str | None, Option(help="Name to show.", metavar="NAME")] = None,
    as_json: AsJson = False,
) -> None:
    """Choose your password with an invitation, sign in and remember it."""
    root = normalized_root(url if "://" in url else f"https://{url}")
    ca_pem = authority(root, ca, ca_fingerprint)
    token = secret(token_file, "invitation", "--token-file")
    chosen = new_password(password_file, "--password-file")
    with trusting_only(ca_pem) as session, ThalovantControlPlane(root, session=session) as api:
        with waiting("joining"):
            account = api.accept_invitation(token, chosen, display_name=name)
            api.login(str(account.get("email")), chosen)
        saved = save_login(Login(root, ca_pem, api.access_token, api.token_id, str(account.get("email"))))
    if as_json:
        print_json({"api_url": root, "email": account.get("email"), "saved_in": str(saved)})
        return
    say(f"Joined {root} as {account.get('email')}; signed in, kept in {saved}.")
    say("Next: thalovant hubs")


def password(
    current_password_file: Annotated[
        Path | None, Option("--password-file", help="File with the present password; asked for else.", metavar="FILE")
    ] = None,
    new_password_file: Annotated[
        Path | None, Option(help="File with the new password; asked for else.", metavar="FILE")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Change the password of the account that is signed in here.

    Every other sign-in of yours ends, by password or on a device; tokens for programs stay.
    """
    login = kept_login()
    if login.email:
        hint(f"Of {login.email}, at {login.api_url}.")
    current = secret(current_password_file, "present password", "--password-file")
    chosen = new_password(new_password_file, "--new-password-file")
    here = ThalovantControlPlane(login.api_url, access_token=login.access_token)
    with waiting("changing the password"), here as api:
        api.change_password(current, chosen)
    if as_json:
        print_json({"changed": True})
        return
    say(f"The password of {login.email or 'your account'} is changed; you stay signed in here.")
    say(f"Elsewhere your sign-ins have ended, also those of devices; there type: thalovant login {login.api_url}")
    say("Tokens that programs use stay: thalovant tokens")
