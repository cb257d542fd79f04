# SPDX-License-Identifier: Apache-2.0
"""`thalovant users`: the accounts of a server, for its admins: list, invite, disable, enable."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from thalovant.cli.errors import CommandError
from thalovant.cli.options import AsJson
from thalovant.cli.output import examples, hint, print_json, print_table, say
from thalovant.cli.pages import every_row
from thalovant.cli.progress import waiting
from thalovant.cli.secret_saving import kept_in
from thalovant.cli.times import local_time, zoned_time
from thalovant.control_plane import ThalovantControlPlane

__all__ = ["app"]

HEAD = ("E-MAIL", "NAME", "ROLE", "STATE", "SINCE", "ID")

Who = Annotated[str, typer.Argument(help="E-mail address or id.", metavar="USER")]

INVITE = examples("thalovant users invite ann@example.org", "thalovant users invite ann@example.org --again")

app = typer.Typer(invoke_without_command=True, rich_markup_mode=None)


@app.callback(
    epilog=examples(
        "thalovant users", "thalovant users invite ann@example.org", "thalovant users disable ann@example.org"
    )
)
def users(context: typer.Context, as_json: AsJson = False) -> None:
    """List the accounts of the server; invite, disable, enable (admins)."""
    if context.invoked_subcommand is None:
        _list(as_json=as_json)


@app.command("list", epilog=examples("thalovant users list --json"))
def list_users(as_json: AsJson = False) -> None:
    """List the accounts, as `thalovant users` does."""
    _list(as_json=as_json)


@app.command("invite", epilog=INVITE)
def invite(
    email: Annotated[str, typer.Argument(help="Whom.", metavar="E-MAIL")],
    name: Annotated[str | None, typer.Option(help="Name to show.", metavar="NAME")] = None,
    admin: Annotated[bool, typer.Option("--admin", help="May do everything.")] = False,
    again: Annotated[bool, typer.Option("--again", help="For who lost the first, or the password.")] = False,
    out: Annotated[
        Path | None, typer.Option(help="New file (mode 0600) for the invitation; printed else.", metavar="FILE")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Invite somebody; the invitation is told this once and good for seven days."""
    with waiting("inviting"), ThalovantControlPlane() as api:

        def make() -> dict[str, Any]:
            if again:
                return api.invite_user_again(_called(api, email)["id"])
            return api.invite_user(email, display_name=name, role="admin" if admin else "user")

        made = make() if out is None else kept_in(out, "invitation_token", make)
        root = api.api_url
    if as_json:
        left_out = () if out is None else ("invitation_token",)
        shown = {key: value for key, value in made.items() if key not in left_out}
        print_json(shown if out is None else {**shown, "saved_in": str(out)})
        return
    if out is None:
        say(str(made["invitation_token"]))  # alone, so that a program can take it
    else:
        say(f"Invited {made.get('email')}; the invitation is in {out}.")
    hint(f"Good until {zoned_time(made.get('invitation_expires_at'))}, once. {email} types:")
    hint(f"  thalovant join {shlex.quote(root)} --ca-fingerprint ...   (and then the invitation)")


@app.command("disable", epilog=examples("thalovant users disable ann@example.org"))
def disable(user: Who, as_json: AsJson = False) -> None:
    """Disable an account: it is signed out at once, everywhere. Its hubs and clients stay."""
    _change(user, as_json=as_json, active=False)


@app.command("enable", epilog=examples("thalovant users enable ann@example.org"))
def enable(user: Who, as_json: AsJson = False) -> None:
    """Let an account that was disabled sign in again."""
    _change(user, as_json=as_json, active=True)


def _change(user: str, *, as_json: bool, active: bool) -> None:
    with waiting("changing the account"), ThalovantControlPlane() as api:
        changed = api.update_user(_called(api, user)["id"], {"active": active})
    if as_json:
        print_json(changed)
        return
    print_table(HEAD, [_row(changed)])


def _list(*, as_json: bool) -> None:
    with waiting("asking for the accounts"), ThalovantControlPlane() as api:
        found = list(_everybody(api))
    if as_json:
        print_json(found)
        return
    print_table(HEAD, [_row(one) for one in found])


def _row(user: dict[str, Any]) -> tuple[str, ...]:
    state = "invited" if user.get("invited") else "active"
    return (
        str(user.get("email")),
        str(user.get("display_name")),
        str(user.get("role")),
        state if user.get("active") else "disabled",
        local_time(user.get("created_at")),
        str(user.get("id")),
    )


def _everybody(api: ThalovantControlPlane) -> Any:
    return every_row(lambda cursor: api.list_users(cursor=cursor))


def _called(api: ThalovantControlPlane, wanted: str) -> dict[str, Any]:
    folded = wanted.strip().lower()
    for one in _everybody(api):
        if wanted == one.get("id") or folded == one.get("email"):
            return dict(one)
    raise CommandError(f"There is no account {wanted!r}: `thalovant users` lists them.", code="unknown_user")
