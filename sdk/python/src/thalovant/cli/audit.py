# SPDX-License-Identifier: Apache-2.0
"""`thalovant audit`: who did what to which hub or client, and what was refused; and the whole log as a signed file."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator
from itertools import islice, takewhile
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from thalovant.cli.client_named import HubName, client_called
from thalovant.cli.errors import CommandError
from thalovant.cli.hubs import hub_called
from thalovant.cli.options import AsJson
from thalovant.cli.output import examples, json_line, print_json, print_table, printable, say
from thalovant.cli.pages import every_row
from thalovant.cli.progress import waiting
from thalovant.cli.times import local_time, moment
from thalovant.control_plane import ThalovantControlPlane
from thalovant.errors import ThalovantAPIUnreachableError

__all__ = ["app"]

POLL = 2.0  # seconds between two looks at the log
_LOOK_BACK = 1000  # removals among which a name is looked for
_SHOWN = 5
HEAD = ("TIME", "WHO", "FROM", "ACTION", "OF", "OUTCOME")

app = typer.Typer(invoke_without_command=True, rich_markup_mode=None)


@app.callback(
    epilog=examples(
        "thalovant audit",
        "thalovant audit --client kitchen-light --denied",
        "thalovant audit export audit.jsonl",
    )
)
def audit(
    context: typer.Context,
    hub: HubName = None,
    client: Annotated[
        str | None, typer.Option(help="Of this client: its name or its id, also after it is gone.", metavar="CLIENT")
    ] = None,
    action: Annotated[str | None, typer.Option(help="Only this, like credential.rotated.", metavar="ACTION")] = None,
    denied: Annotated[bool, typer.Option("--denied", help="Only what was refused.")] = False,
    limit: Annotated[int, typer.Option(help="So many, newest first.", min=1, metavar="NUMBER")] = 50,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Newest last, and go on; Ctrl-C ends.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show who did what, newest first, and what was refused."""
    if context.invoked_subcommand is not None:
        return
    with ThalovantControlPlane() as api:
        with waiting("asking for the audit log"):
            filters: dict[str, Any] = {"action": action, "outcome": "denied" if denied else None}
            filters["client_id"] = _client_id(api, client, hub) if client else None
            filters["hub_id"] = _hub_id(api, hub)
            found = list(islice(_newest_first(api, filters, min(limit, 100)), limit))
        if follow:
            _follow(api, filters, found, as_json=as_json)
    if as_json:
        print_json(found)
    elif found:
        print_table(HEAD, [_row(one) for one in found])
    else:
        say("Nothing of that kind is in the audit log.")


def _newest_first(api: ThalovantControlPlane, filters: dict[str, Any], limit: int = 100) -> Iterator[dict[str, Any]]:
    return every_row(lambda cursor: api.list_audit(**filters, limit=limit, cursor=cursor))


def _follow(
    api: ThalovantControlPlane, filters: dict[str, Any], found: list[dict[str, Any]], *, as_json: bool
) -> NoReturn:
    """Print what is there, and what comes, until Ctrl-C; a server that is away for a while is waited for."""
    newest = found[0].get("id") if found else None
    while True:
        for one in reversed(found):
            say(json_line(one) if as_json else printable("  ".join(_row(one))))
        time.sleep(POLL)
        found = _newer_than(newest, api, filters)
        newest = found[0].get("id") if found else newest


def _newer_than(newest: object, api: ThalovantControlPlane, filters: dict[str, Any]) -> list[dict[str, Any]]:
    """What came since, newest first; nothing while the server is not to be reached."""
    try:
        return list(takewhile(lambda one: one.get("id") != newest, _newest_first(api, filters)))
    except ThalovantAPIUnreachableError:
        return []


@app.command(
    "export",
    epilog=examples("thalovant audit export audit.jsonl", "thalovant audit export november.jsonl --since 2026-11-01"),
)
def export(
    file: Annotated[Path, typer.Argument(help="File to write (mode 0600).", metavar="FILE")],
    since: Annotated[str | None, typer.Option(help="From then on, like 2026-11-01.", metavar="TIME")] = None,
    until: Annotated[str | None, typer.Option(help="Until just before.", metavar="TIME")] = None,
    hub: HubName = None,
    client: Annotated[str | None, typer.Option(help="Of this client: its name or id.", metavar="CLIENT")] = None,
    as_json: AsJson = False,
) -> None:
    """Write the audit log as JSON lines, signed by the server.

    `thalovant-server verify-audit` checks such a file, also on a machine without a server.
    """
    since, until = moment(since, "--since"), moment(until, "--until")
    with waiting("exporting the audit log"), ThalovantControlPlane() as api:
        which = {"client_id": _client_id(api, client, hub) if client else None, "hub_id": _hub_id(api, hub)}
        count = api.export_audit(file, since=since, until=until, **which)
        key = api.get_audit_key()
    if as_json:
        print_json({"file": str(file), "entries": count, "public_key": key})
        return
    say(f"{count} entries are in {file}, signed by the server.")
    say(f"To check it: thalovant-server verify-audit {shlex.quote(str(file))} --public-key {key}")


def _hub_id(api: ThalovantControlPlane, hub: str | None) -> str | None:
    return str(hub_called(api, hub)["id"]) if hub else None


def _client_id(api: ThalovantControlPlane, client: str, hub: str | None) -> str:
    """The id of a client, also of one that is gone: the log outlives its clients."""
    if client.startswith("client-"):
        return client
    try:
        return str(client_called(api, client, hub)["id"])
    except CommandError as error:
        if error.code != "unknown_client":
            raise
        gone = _removed_clients(api, client, hub)
        if len(gone) == 1:
            return gone[0]
        if not gone:
            raise CommandError(
                f"No client is called {client!r}, nor was one of late; one that is gone for long is found by its id: "
                "thalovant audit --client ID",
                code=error.code,
            ) from None
        raise CommandError(
            f"{len(gone)} clients that are gone were called {client!r}; say which by its id: thalovant audit --client "
            f"ID, newest first {', '.join(gone[:_SHOWN])}.",
            code="which_client",
        ) from None


def _removed_clients(api: ThalovantControlPlane, name: str, hub: str | None) -> list[str]:
    """The ids of the clients of that name that are gone, newest first, as far back as is looked."""
    asked: dict[str, Any] = {"action": "client.removed", "hub_id": _hub_id(api, hub)}
    removed = [one.get("target") or {} for one in islice(_newest_first(api, asked), _LOOK_BACK)]
    return list(dict.fromkeys(str(one.get("id")) for one in removed if one.get("name") == name))


def _row(one: dict[str, Any]) -> tuple[str, ...]:
    times = one.get("times")
    many = f" x{times}" if isinstance(times, int) and times > 1 else ""
    code = f" ({one['code']})" if one.get("code") else ""
    return (
        local_time(one.get("at")),
        _named(one.get("actor")),
        str(one.get("address") or ""),
        str(one.get("action")),
        _named(one.get("target")),
        f"{one.get('outcome')}{code}{many}",
    )


def _named(who: object) -> str:
    if not isinstance(who, dict):
        return ""
    return str(who.get("name") or who.get("id") or who.get("kind") or "")
