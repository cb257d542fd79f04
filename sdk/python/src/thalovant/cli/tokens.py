# SPDX-License-Identifier: Apache-2.0
"""`thalovant tokens`: tokens for programs, such as a build: list, create, revoke.

A token is shown once, on standard output alone or in a file that only you can read.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from thalovant.cli.errors import CommandError
from thalovant.cli.hubs import hub_called
from thalovant.cli.options import AsJson
from thalovant.cli.output import examples, hint, print_json, print_table, say
from thalovant.cli.pages import every_row
from thalovant.cli.progress import waiting
from thalovant.cli.scopes import scopes_text
from thalovant.cli.secret_saving import kept_in
from thalovant.cli.times import ago, local_time, seconds_of
from thalovant.control_plane import ThalovantControlPlane

__all__ = ["HubLimits", "Scopes", "app"]

SHORTEST, LONGEST = 60, 10 * 366 * 86_400  # seconds
HEAD = ("NAME", "KIND", "SCOPES", "HUBS", "EXPIRES", "LAST USED", "ID")

Scopes = Annotated[list[str] | None, typer.Option("--scope", help="What it may do; may be repeated.", metavar="SCOPE")]
HubLimits = Annotated[
    list[str] | None, typer.Option("--hub", help="Only for this hub; may be repeated.", metavar="HUB")
]

app = typer.Typer(invoke_without_command=True, rich_markup_mode=None)


@app.callback(
    epilog=examples(
        "thalovant tokens",
        "thalovant tokens create nightly --scope hubs:read --scope clients:write --hub demo --expires 90d --out token",
        "thalovant tokens revoke nightly",
    )
)
def tokens(context: typer.Context, as_json: AsJson = False) -> None:
    """List your tokens; create and revoke them."""
    if context.invoked_subcommand is None:
        _list(None, as_json=as_json)


@app.command("list", epilog=examples("thalovant tokens list", "thalovant tokens list --sessions"))
def list_tokens(
    sessions: Annotated[bool, typer.Option("--sessions", help="Password logins instead.")] = False,
    as_json: AsJson = False,
) -> None:
    """List the tokens that are good, without themselves."""
    _list("session" if sessions else None, as_json=as_json)


CREATE = examples("thalovant tokens create nightly --scope hubs:read --expires 90d --out token")


@app.command("create", epilog=f"{scopes_text()}\n\n{CREATE}")
def create_token(
    name: Annotated[str, typer.Argument(help="What it is for, like nightly.", metavar="NAME")],
    scope: Scopes = None,
    hub: HubLimits = None,
    expires: Annotated[
        str | None, typer.Option(help="When it ends, like 90d; not until it is revoked without.", metavar="SPAN")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="New file (mode 0600) for it; printed else.", metavar="FILE")] = None,
    as_json: AsJson = False,
) -> None:
    """Make a token for a program; it is told this once. It can do no more than you."""
    if not scope:
        raise typer.BadParameter("say what it may do: --scope hubs:read, --scope clients:write, ...")
    seconds = None if expires is None else _lifetime(expires)
    with waiting("creating the token"), ThalovantControlPlane() as api:
        hub_ids = [hub_called(api, one)["id"] for one in hub] if hub else None

        def make() -> dict[str, Any]:
            return api.create_api_token(name, scopes=scope, hub_ids=hub_ids, expires_in_seconds=seconds)

        made = make() if out is None else kept_in(out, "access_token", make)
    _tell(made, out, as_json=as_json)


@app.command("revoke", epilog=examples("thalovant tokens revoke nightly"))
def revoke_token(
    token: Annotated[str, typer.Argument(help="Name or id of the token.", metavar="TOKEN")], as_json: AsJson = False
) -> None:
    """Make a token good for nothing, at once."""
    with waiting("revoking the token"), ThalovantControlPlane() as api:
        token_id = _called(api, token)
        api.revoke_api_token(token_id)
    if as_json:
        print_json({"id": token_id, "revoked": True})
        return
    say(f"Revoked {token}.")


def _list(kind: str | None, *, as_json: bool) -> None:
    with waiting("asking for the tokens"), ThalovantControlPlane() as api:
        found = list(every_row(lambda cursor: api.list_api_tokens(cursor=cursor, kind=kind)))
    if as_json:
        print_json(found)
    elif found:
        print_table(HEAD, [_row(one) for one in found])
    else:
        say("There is no token yet.")


def _lifetime(text: str) -> int:
    seconds = seconds_of(text, "--expires")
    if not SHORTEST <= seconds <= LONGEST:
        raise typer.BadParameter(f"--expires {text}: a token is good for {SHORTEST}s at least and ten years at most")
    return seconds


def _row(token: dict[str, Any]) -> tuple[str, ...]:
    hubs, end = token.get("hub_ids"), token.get("expires_at")
    return (
        str(token.get("name") or ""),
        str(token.get("kind")),
        " ".join(token.get("scopes") or ()),
        "all" if hubs is None else " ".join(hubs),
        local_time(end) if end else "never",
        ago(token.get("last_used_at")) or "never",
        str(token.get("id")),
    )


def _tell(made: dict[str, Any], out: Path | None, *, as_json: bool) -> None:
    if as_json:
        left_out = () if out is None else ("access_token",)
        shown = {name: value for name, value in made.items() if name not in left_out}
        print_json(shown if out is None else {**shown, "saved_in": str(out)})
    elif out is None:
        say(str(made["access_token"]))  # alone, so that a program can take it
        hint("Keep it now: it is not shown again. Programs find it in THALOVANT_API_TOKEN.")
    else:
        say(f"Created {made.get('name')}; it is in {out}.")
        say(f'Next: THALOVANT_API_TOKEN="$(cat {out})" thalovant hubs')


def _called(api: ThalovantControlPlane, wanted: str) -> str:
    rows = every_row(lambda cursor: api.list_api_tokens(cursor=cursor))
    found = [one["id"] for one in rows if wanted in (one.get("name"), one.get("id"))]
    if len(found) > 1:
        raise CommandError(f"{len(found)} tokens are called {wanted!r}: name one by its id.", code="which_token")
    return str(found[0]) if found else wanted
