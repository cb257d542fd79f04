# SPDX-License-Identifier: Apache-2.0
"""`thalovant hubs`: list the hubs that one may use; make, change, remove one.

Those are one's own and the public ones of this server, in which every account may have clients of its own.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from thalovant.cli.asked import confirmed
from thalovant.cli.errors import CommandError
from thalovant.cli.mqtt_option import Mqtt, MqttCommand, MqttOption, MqttWord, mqtt_change, mqtt_shown, said_of_mqtt
from thalovant.cli.options import AsJson
from thalovant.cli.output import examples, print_json, print_table, say
from thalovant.cli.pages import every_row
from thalovant.cli.progress import waiting
from thalovant.control_plane import ThalovantControlPlane
from thalovant.hub_endpoints import hub_display_name

__all__ = ["app", "every_hub", "hub_called"]

HEAD = ("HUB", "NAME", "ID", "CARRIERS", "VISIBILITY", "AGENT")
NOT_YOURS = "public, not yours"

Wss = Annotated[bool, typer.Option("--wss/--no-wss", help="With WSS.")]
Https = Annotated[bool, typer.Option("--https/--no-https", help="With HTTPS.")]

app = typer.Typer(invoke_without_command=True, rich_markup_mode=None)


@app.callback(
    epilog=examples(
        "thalovant hubs", "thalovant hubs create garden --agent echo", "thalovant hubs set demo --mqtt --agent echo"
    )
)
def hubs(context: typer.Context, as_json: AsJson = False) -> None:
    """List the hubs you may use, yours and public ones; make, change, remove one."""
    if context.invoked_subcommand is None:
        _list_hubs(as_json=as_json)


@app.command("list", epilog=examples("thalovant hubs list --json"))
def list_hubs(as_json: AsJson = False) -> None:
    """List the hubs you may use, as `thalovant hubs` does."""
    _list_hubs(as_json=as_json)


@app.command(
    "create",
    cls=MqttCommand,
    epilog=examples("thalovant hubs create garden", "thalovant hubs create lobby --public --no-mqtt"),
)
def create_hub(
    name: Annotated[str, typer.Argument(help="Its name, like garden.", metavar="NAME")],
    agent: Annotated[
        str | None, typer.Option(help="Name of the agent that answers; the server's default one else.", metavar="AGENT")
    ] = None,
    mqtt: Mqtt = "on",
    wss: Wss = True,
    https: Https = True,
    public: Annotated[bool, typer.Option("--public", help="Every account may have clients there.")] = False,
    as_json: AsJson = False,
) -> None:
    """Make a hub of your own."""
    protocols = {"wss": {"enabled": wss}, "http": {"enabled": https}, "mqtt": mqtt_change(mqtt)}
    if not any(one["enabled"] for one in protocols.values()):
        raise typer.BadParameter("a hub needs a carrier: leave out --no-mqtt, --no-wss or --no-https")
    spec: dict[str, Any] = {"version": "1", "protocols": protocols}
    if agent is not None:
        spec["agent"] = agent
    with waiting("making the hub"), ThalovantControlPlane() as api:
        made = api.create_hub({"name": name, "visibility": _visibility(public), "spec": spec})
    if as_json:
        print_json(made)
        return
    print_table(HEAD, [_row(made)])
    say(f"Next: thalovant identity create {shlex.quote(_called(made))} --name NAME")


@app.command("remove", epilog=examples("thalovant hubs remove garden", "thalovant hubs remove garden --yes"))
def remove_hub(
    hub: Annotated[str, typer.Argument(help="Slug or id of the hub.", metavar="HUB")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Remove a hub and all its clients for good.

    Their connections end at once, and their identities never work again. Asks first.
    """
    with ThalovantControlPlane() as api:
        with waiting("asking for the hub"):
            known = hub_called(api, hub)
        about = f"Remove the hub {_called(known)} and all its clients for good?"
        if not confirmed(about, yes=yes):
            raise CommandError("Nothing was removed.", code="not_removed")
        with waiting("removing the hub"):
            api.delete_hub(known["id"], etag=str(known.get("etag")))
    if as_json:
        print_json({"hub_id": known["id"], "slug": known.get("slug"), "removed": True})
        return
    say(f"Removed the hub {_called(known)} and all its clients.")


@app.command(
    "set",
    cls=MqttCommand,
    epilog=examples(
        "thalovant hubs set demo --mqtt", "thalovant hubs set demo --mqtt link", "thalovant hubs set demo --no-agent"
    ),
)
def set_hub(
    hub: Annotated[str, typer.Argument(help="Slug or id of the hub.", metavar="HUB")],
    mqtt: Annotated[MqttWord | None, MqttOption] = None,
    wss: Annotated[bool | None, typer.Option(help="Switch WSS on or off.")] = None,
    https: Annotated[bool | None, typer.Option(help="Switch HTTPS on or off.")] = None,
    agent: Annotated[str | None, typer.Option(help="Name of the agent that answers.")] = None,
    no_agent: Annotated[bool, typer.Option("--no-agent", help="Let the server's default agent answer.")] = False,
    public: Annotated[
        bool | None, typer.Option("--public/--private", help="Whether every account may have clients there.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Change a hub's carriers, its agent, or who may use it."""
    flags = {"wss": wss, "http": https}
    protocols: dict[str, Any] = {name: {"enabled": flag} for name, flag in flags.items() if flag is not None}
    if mqtt is not None:
        protocols["mqtt"] = mqtt_change(mqtt)
    spec: dict[str, Any] = {"protocols": protocols} if protocols else {}
    if agent is not None and no_agent:
        raise typer.BadParameter("give --agent or --no-agent, not both")
    if agent is not None or no_agent:
        spec["agent"] = agent
    payload: dict[str, Any] = {"spec": spec} if spec else {}
    if public is not None:
        payload["visibility"] = _visibility(public)
    if not payload:
        raise typer.BadParameter(
            "say what to change: --mqtt (on, off, embedded, link), --wss, --https, --agent NAME, --no-agent, --public "
            "or --private"
        )
    with waiting("changing the hub"), ThalovantControlPlane() as api:
        known = hub_called(api, hub)
        changed = api.update_hub(known["id"], payload, etag=str(known.get("etag")))
    if as_json:
        print_json(changed)
        return
    print_table(HEAD, [_row(changed)])
    if mqtt is not None and (said := said_of_mqtt(known, changed)):
        say(said)


def hub_called(api: ThalovantControlPlane, wanted: str | None) -> dict[str, Any]:
    """Return the hub with that id or slug, one's own before public ones; the only one when none is named.

    Raises CommandError.
    """
    found = list(every_hub(api))
    if wanted is None and len(found) == 1:
        return found[0]
    if (own := _of(found, wanted)) is not None:
        return own
    others = _public_hubs(api, found)
    found = [*found, *others]
    if (public := others[0] if wanted is None and len(found) == 1 else _of(others, wanted)) is not None:
        return api.get_hub(str(public["id"]))
    names = ", ".join(map(_called, found)) or "none yet; thalovant hubs create NAME makes one"
    if wanted is None:
        raise CommandError(f"Say which hub; there are: {names}.", code="which_hub")
    raise CommandError(f"There is no hub {wanted!r}; there are: {names}.", code="unknown_hub")


def _of(hubs: list[dict[str, Any]], wanted: str | None) -> dict[str, Any] | None:
    """The hub with that id, else that slug."""
    return next((hub for key in ("id", "slug") for hub in hubs if wanted is not None and hub.get(key) == wanted), None)


def _called(hub: dict[str, Any]) -> str:
    return str(hub.get("slug") or hub.get("id"))


def _visibility(public: bool) -> str:
    return "public" if public else "private"


def _list_hubs(*, as_json: bool) -> None:
    with waiting("asking for the hubs"), ThalovantControlPlane() as api:
        found = list(every_hub(api))
        others = _public_hubs(api, found)
    if as_json:
        print_json([*found, *others])
    elif found or others:
        print_table(HEAD, [*(_row(hub) for hub in found), *(_row(hub, NOT_YOURS) for hub in others)])
    else:
        say("There is no hub yet. To make one: thalovant hubs create NAME")


def every_hub(api: ThalovantControlPlane) -> Iterator[dict[str, Any]]:
    """Every hub of one's own; an admin's are everybody's."""
    return every_row(lambda cursor: api.list_hubs(cursor=cursor))


def _public_hubs(api: ThalovantControlPlane, own: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The public hubs of others."""
    ids = {hub.get("id") for hub in own}
    every = every_row(lambda cursor: api.list_public_hubs(limit=100, cursor=cursor))
    return [hub for hub in every if hub.get("id") not in ids]


def _row(hub: dict[str, Any], visibility: str | None = None) -> tuple[str, ...]:
    spec = hub.get("spec")
    agent = spec.get("agent") if isinstance(spec, dict) else None
    carriers = mqtt_shown(hub)
    seen = visibility or str(hub.get("visibility") or "private")
    said = "" if visibility else str(agent or "(default)")  # of others' hubs that is not told
    return str(hub.get("slug") or ""), hub_display_name(hub), str(hub.get("id")), carriers, seen, said
