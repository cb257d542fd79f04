# SPDX-License-Identifier: Apache-2.0
"""`thalovant clients`: who there is, who is online, and what is done with each. The commands are in files beside this.

A client is named by its name or its id; what is typed after `clients` and is no command names a hub.
"""

from __future__ import annotations

import contextlib
import shlex
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from thalovant.cli import client_changes, client_rotation, policy
from thalovant.cli.client_named import ClientName, HubName, client_called, every_client, label
from thalovant.cli.errors import CommandError
from thalovant.cli.hubs import every_hub, hub_called
from thalovant.cli.options import AsJson
from thalovant.cli.output import examples, hint, json_line, print_json, print_table, printable, say
from thalovant.cli.progress import waiting
from thalovant.cli.times import ago, clock, local_time, seconds_left, span
from thalovant.control_plane import ThalovantControlPlane
from thalovant.errors import ThalovantAPIError
from thalovant.presence import ClientPresence

__all__ = ["app"]

HEAD = ("NAME", "STATE", "SINCE", "CARRIER", "ADDRESS", "CREDENTIALS", "ID")
CREDENTIAL_HEAD = ("CREDENTIAL", "STATE", "MADE", "LAST USED", "OVER", "FROM", "KEY", "MQTT")

Watch = Annotated[bool, typer.Option("--watch", "-w", help="Go on, and print each change.")]


class _HubOrCommand(TyperGroup):
    """Takes a first word that is no command for the hub to list."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        words = [one for one in args if not one.startswith("-")]
        is_hub = len(words) == 1 and words[0] not in self.commands
        return super().parse_args(ctx, ["list", *args] if is_hub else args)


app = typer.Typer(cls=_HubOrCommand, invoke_without_command=True, rich_markup_mode=None)


@app.callback(
    epilog=examples(
        "thalovant clients",
        "thalovant clients demo --watch",
        "thalovant clients rotate kitchen-light",
        "thalovant clients pause kitchen-light",
    )
)
def clients(context: typer.Context, watch: Watch = False, as_json: AsJson = False) -> None:
    """List clients and who of them is online; rotate, pause, revoke one. New ones: `thalovant identity create`."""
    if context.invoked_subcommand is None:
        _list(None, watch=watch, as_json=as_json)


@app.command("list", epilog=examples("thalovant clients list demo", "thalovant clients list demo --watch --json"))
def list_clients(
    hub: Annotated[
        str | None, typer.Argument(help="Slug or id of the hub; all of them without.", metavar="HUB")
    ] = None,
    named: HubName = None,
    watch: Watch = False,
    as_json: AsJson = False,
) -> None:
    """List a hub's clients, as `thalovant clients HUB` does."""
    _list(hub or named, watch=watch, as_json=as_json)


@app.command("show", epilog=examples("thalovant clients show kitchen-light"))
def show_client(client: ClientName, hub: HubName = None, as_json: AsJson = False) -> None:
    """Show one client and its credentials.

    Whether it is online, and when, over what and from where each credential was last used.
    """
    with waiting("asking for the client"), ThalovantControlPlane() as api:
        found = api.get_client(client_called(api, client, hub)["id"])
        present = api.get_client_presence(found["id"])
    if as_json:
        print_json({**found, "presence": present.as_dict()})
        return
    spec = found.get("spec") or {}
    say(f"{label(found)}, hub {printable(str(found.get('hub_id')))}, site {printable(str(spec.get('siteId') or '-'))}")
    say(printable(_state_sentence(present)))
    if rows := [_credential_row(one) for one in _credentials(found)]:
        print_table(CREDENTIAL_HEAD, rows)


for name, command, lines in (*client_rotation.COMMANDS, *client_changes.COMMANDS, *policy.COMMANDS):
    app.command(name, epilog=examples(*lines))(command)


def _list(hub: str | None, *, watch: bool, as_json: bool) -> None:
    with ThalovantControlPlane() as api:
        with waiting("asking for the clients"):
            hubs = [_hub(api, hub)] if hub or watch else list(every_hub(api))
            found = list(every_client(api, hubs[0]["id"] if hub or watch else None))
            states = _states(api, hubs, found)
        if not watch:
            _print_all(found, states, hubs, as_json=as_json)
        else:
            if not as_json:
                _print_all(found, states, hubs, as_json=False)
                hint("Watching; Ctrl-C ends.")
            _follow(api, hubs[0]["id"], {} if as_json else states, as_json=as_json)


def _hub(api: ThalovantControlPlane, wanted: str | None) -> dict[str, Any]:
    """The hub; a client's name in its place is told what to type."""
    try:
        return hub_called(api, wanted)
    except CommandError as error:
        if error.code != "unknown_hub" or all(wanted != one.get("name") for one in every_client(api)):
            raise
        typed = shlex.quote(str(wanted))
        raise CommandError(
            f"{wanted} is a client and no hub; type `thalovant clients show {typed}`.", code=error.code
        ) from None


def _states(
    api: ThalovantControlPlane, hubs: list[dict[str, Any]], found: list[dict[str, Any]]
) -> dict[str, ClientPresence]:
    """How the clients are; one's own in somebody else's public hub are asked for one by one."""
    states: dict[str, ClientPresence] = {}
    told = set()
    for each in hubs:
        try:
            states |= {one.client_id: one for one in api.presence(each["id"])}
            told.add(each["id"])
        except ThalovantAPIError as error:
            if error.code != "ownership_required":
                raise
    elsewhere = [str(one["id"]) for one in found if one.get("hub_id") not in told]
    return states | {client_id: api.get_client_presence(client_id) for client_id in elsewhere}


def _print_all(
    found: list[dict[str, Any]], states: dict[str, ClientPresence], hubs: list[dict[str, Any]], *, as_json: bool
) -> None:
    if as_json:
        print_json([{**one, "presence": _as_dict(states.get(str(one.get("id"))))} for one in found])
    elif found:
        names = {str(hub.get("id")): str(hub.get("slug") or hub.get("id")) for hub in hubs}
        rows = [_row(one, states.get(str(one.get("id")))) for one in found]
        where = [names.get(str(one.get("hub_id")), str(one.get("hub_id"))) for one in found]
        if len(hubs) == 1 and {*where} <= {*names.values()}:
            print_table(HEAD, rows)
        else:
            print_table(("HUB", *HEAD), [(one, *row) for one, row in zip(where, rows, strict=True)])
    else:
        say("There is no client yet; type: thalovant identity create --name NAME")


def _follow(api: ThalovantControlPlane, hub_id: str, known: dict[str, ClientPresence], *, as_json: bool) -> None:
    """Print each change that shows until Ctrl-C, or until the hub is no more."""
    shown = {client_id: _state(one) for client_id, one in known.items()}  # the first round tells it again
    names = {client_id: one.name for client_id, one in known.items()}
    with contextlib.closing(api.watch_presence(hub_id)) as changes:
        for one in changes:
            names[one.client_id] = one.name
            if as_json:
                say(json_line(one.as_dict()))
            elif shown.get(one.client_id) != _state(one):  # an ask beside another session changes nothing to see
                shown[one.client_id] = _state(one)
                name = one.name if [*names.values()].count(one.name) == 1 else f"{one.name} ({one.client_id})"
                say(printable(f"{clock()}  {name}  {_state(one)}".rstrip()))


def _as_dict(one: ClientPresence | None) -> dict[str, Any] | None:
    return one.as_dict() if one else None


def _row(client: dict[str, Any], one: ClientPresence | None) -> tuple[str, ...]:
    state = (_words(one.state), _since(one), one.carrier or "", one.address or "") if one else ("",) * 4
    return str(client.get("name") or ""), *state, _credential_count(client), str(client.get("id"))


def _since(one: ClientPresence) -> str:
    return ": ".join(filter(None, (ago(one.since), _words(one.why))))


def _state(one: ClientPresence) -> str:
    over = " ".join(filter(None, (one.carrier, one.address)))
    return "  ".join(filter(None, (_words(one.state), over, _words(one.why))))


def _state_sentence(one: ClientPresence) -> str:
    if one.state == "online":
        many = f", {one.sessions} connections" if one.sessions > 1 else ""
        return f"Online since {local_time(one.since)} over {one.carrier} from {one.address}{many}."
    why = f": {_words(one.why)}" if one.why else ""
    since = f" since {local_time(one.since)}" if one.since else ""
    return f"{_words(one.state).capitalize()}{since}{why}."


def _words(word: str | None) -> str:
    """A word of the API as people say it."""
    return (word or "").replace("_", " ")


def _credentials(client: dict[str, Any]) -> list[dict[str, Any]]:
    found = client.get("credentials")
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def _credential_count(client: dict[str, Any]) -> str:
    found = _credentials(client)
    ends = [left for one in found if (left := seconds_left(one.get("expires_at"))) is not None]
    return f"{len(found)} (rotating, {span(min(ends))} left)" if ends else str(len(found))


def _credential_row(one: dict[str, Any]) -> tuple[str, ...]:
    used = one.get("last_used") or {}
    left = seconds_left(one.get("expires_at"))
    state = str(one.get("state")) if left is None else f"{one.get('state')}, {span(left)} left"
    last = ago(used.get("at")) or "never"
    flags = ("known" if one.get("key_pinned") else "none yet", "yes" if one.get("mqtt") else "no")
    over, address = str(used.get("carrier") or ""), str(used.get("address") or "")
    return str(one.get("number")), state, local_time(one.get("created_at")), last, over, address, *flags
