# SPDX-License-Identifier: Apache-2.0
"""`thalovant hubs`: list the hubs that one may use, and change one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

import typer

from thalovant.cli.errors import CommandError
from thalovant.cli.options import AsJson
from thalovant.cli.output import examples, print_json, print_table, say
from thalovant.cli.pages import every_row
from thalovant.cli.progress import waiting
from thalovant.control_plane import ThalovantControlPlane
from thalovant.hub_endpoints import HubProtocolSettings, hub_display_name

__all__ = ["app", "every_hub", "hub_called"]

HEAD = ("HUB", "NAME", "ID", "CARRIERS", "AGENT")

app = typer.Typer(invoke_without_command=True, rich_markup_mode=None)


@app.callback(epilog=examples("thalovant hubs", "thalovant hubs set demo --mqtt --agent echo"))
def hubs(context: typer.Context, as_json: AsJson = False) -> None:
    """List the hubs you may use; change one."""
    if context.invoked_subcommand is None:
        _list_hubs(as_json=as_json)


@app.command("list", epilog=examples("thalovant hubs list --json"))
def list_hubs(as_json: AsJson = False) -> None:
    """List the hubs you may use, as `thalovant hubs` does."""
    _list_hubs(as_json=as_json)


@app.command("set", epilog=examples("thalovant hubs set demo --mqtt", "thalovant hubs set demo --no-agent"))
def set_hub(
    hub: Annotated[str, typer.Argument(help="Slug or id of the hub.", metavar="HUB")],
    mqtt: Annotated[bool | None, typer.Option(help="Switch MQTT on or off.")] = None,
    wss: Annotated[bool | None, typer.Option(help="Switch WSS on or off.")] = None,
    https: Annotated[bool | None, typer.Option(help="Switch HTTPS on or off.")] = None,
    agent: Annotated[str | None, typer.Option(help="Name of the agent that answers.")] = None,
    no_agent: Annotated[bool, typer.Option("--no-agent", help="Let the server's default agent answer.")] = False,
    as_json: AsJson = False,
) -> None:
    """Change a hub's carriers or its agent."""
    flags = {"wss": wss, "http": https, "mqtt": mqtt}
    protocols = {name: {"enabled": flag} for name, flag in flags.items() if flag is not None}
    spec: dict[str, Any] = {"protocols": protocols} if protocols else {}
    if agent is not None and no_agent:
        raise typer.BadParameter("give --agent or --no-agent, not both")
    if agent is not None or no_agent:
        spec["agent"] = agent
    if not spec:
        raise typer.BadParameter("say what to change: --mqtt, --no-mqtt, --wss, --https, --agent NAME or --no-agent")
    with waiting("changing the hub"), ThalovantControlPlane() as api:
        known = hub_called(api, hub)
        changed = api.update_hub(known["id"], {"spec": spec}, etag=str(known.get("etag")))
    if as_json:
        print_json(changed)
        return
    print_table(HEAD, [_row(changed)])
    if mqtt and not HubProtocolSettings.from_mapping(known).mqtt:
        say("A client made before has no broker credential: thalovant clients rotate NAME gives it one.")


def hub_called(api: ThalovantControlPlane, wanted: str | None) -> dict[str, Any]:
    """Return the hub with that id or slug; the only one when none is named. Raises CommandError."""
    found = list(every_hub(api))
    if wanted is None and len(found) == 1:
        return found[0]
    names = ", ".join(str(hub.get("slug") or hub.get("id")) for hub in found) or "none yet"
    if wanted is None:
        raise CommandError(f"Say which hub; there are: {names}.", code="which_hub")
    for key in ("id", "slug"):
        for hub in found:
            if hub.get(key) == wanted:
                return hub
    raise CommandError(f"There is no hub {wanted!r}; there are: {names}.", code="unknown_hub")


def _list_hubs(*, as_json: bool) -> None:
    with waiting("asking for the hubs"), ThalovantControlPlane() as api:
        found = list(every_hub(api))
    if as_json:
        print_json(found)
    elif found:
        print_table(HEAD, [_row(hub) for hub in found])
    else:
        say("There is no hub yet.")


def every_hub(api: ThalovantControlPlane) -> Iterator[dict[str, Any]]:
    """Every hub that one may use."""
    return every_row(lambda cursor: api.list_hubs(cursor=cursor))


def _row(hub: dict[str, Any]) -> tuple[str, ...]:
    spec = hub.get("spec")
    agent = spec.get("agent") if isinstance(spec, dict) else None
    carriers = ",".join(HubProtocolSettings.from_mapping(hub).enabled_protocols())
    return str(hub.get("slug") or ""), hub_display_name(hub), str(hub.get("id")), carriers, str(agent or "(default)")
