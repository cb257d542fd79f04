# SPDX-License-Identifier: Apache-2.0
"""`thalovant identity`: make a client of a hub and keep its identity, rotate it, let one in with a new key."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from thalovant.bootstrap import BootstrapIdentityResult
from thalovant.cli import identity_rotation
from thalovant.cli.admission import is_admitted
from thalovant.cli.client_named import refuse_taken_name
from thalovant.cli.hubs import hub_called
from thalovant.cli.identity_saving import Keeping, file_for, usable_carriers
from thalovant.cli.options import AsJson, ConfigFile, Profile, carrier
from thalovant.cli.output import examples, help_without_a_command, print_json, say
from thalovant.cli.progress import waiting
from thalovant.control_plane import ThalovantControlPlane
from thalovant.errors import ThalovantAPIError, ThalovantError
from thalovant.hub_endpoints import DEFAULT_PROTOCOL_PREFERENCE, HubProtocol

__all__ = ["app"]

app = typer.Typer(invoke_without_command=True, rich_markup_mode=None)


@app.callback()
def identities(context: typer.Context) -> None:
    """Identities: what a device connects with."""
    help_without_a_command(context)


@app.command(
    "create",
    epilog=examples(
        "thalovant identity create demo --name kitchen-light",
        "thalovant identity create --name kitchen-light --profile kitchen",
    ),
)
def create_identity(
    hub: Annotated[
        str | None, typer.Argument(help="Slug or id of the hub; not needed when there is one.", metavar="HUB")
    ] = None,
    name: Annotated[str, typer.Option(help="Name of the client, like kitchen-light.", metavar="NAME")] = ...,  # type: ignore[assignment]
    out: Annotated[
        Path | None, typer.Option(help="File to write; default ./NAME.identity.json.", metavar="FILE")
    ] = None,
    profile: Profile = None,
    config: ConfigFile = None,
    protocol: Annotated[
        list[str] | None, typer.Option(help="A carrier it must have; may be repeated.", metavar="PROTOCOL")
    ] = None,
    again: Annotated[
        bool, typer.Option("--again", help="Another client, also when one of the hub is called so already.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Create a client of a hub and save its identity.

    In a file (mode 0600), or as a profile of the configuration.
    """
    wanted = [carrier(one) for one in protocol or ()]
    keeping = Keeping.chosen(out, file_for(name), profile, config)
    with waiting("creating the client"), ThalovantControlPlane() as api:
        where = hub_called(api, hub)
        if not again:
            typed = shlex.quote(name)
            way_out = (
                f"`thalovant clients rotate {typed}` gives it a new identity; --again makes another one of that name."
            )
            refuse_taken_name(api, name, where, way_out)
        result = api.create_client_identity(where, name=name, preferred_protocols=_preferred(wanted))
        try:
            for one in wanted:
                api.require_runtime_protocol(result, protocol=one)
            keeping.save(result.identity)
        except ThalovantError:
            _undo(api, result)
            raise
    admitted = is_admitted(result, keeping.place)
    _tell(result, name, keeping, admitted, as_json=as_json)


app.command("rotate", epilog=examples("thalovant identity rotate", "thalovant identity rotate --profile kitchen"))(
    identity_rotation.rotate_identity
)


@app.command("reset-key", epilog=examples("thalovant identity reset-key CLIENT-ID"))
def reset_key(
    client_id: Annotated[
        str, typer.Argument(help="Id of the client; `thalovant clients` lists them.", metavar="CLIENT_ID")
    ],
    number: Annotated[int, typer.Option(help="Number of its credential.", min=1, metavar="NUMBER")] = 1,
    as_json: AsJson = False,
) -> None:
    """Let a client in with a new Noise key, after it lost the one it had. `thalovant clients reset-key` takes names."""
    with waiting("resetting the key"), ThalovantControlPlane() as api:
        api.reset_client_key(client_id, number)
    if as_json:
        print_json({"client_id": client_id, "number": number, "reset": True})
        return
    say(f"The key of {client_id} is reset: the next one that it connects with is the one that counts.")


def _tell(result: BootstrapIdentityResult, name: str, keeping: Keeping, admitted: bool, *, as_json: bool) -> None:
    carriers = usable_carriers(result.identity)
    if as_json:
        said = {"client_id": result.client_id, "name": name, "carriers": carriers, "admitted": admitted}
        print_json({**said, **keeping.as_dict()})
        return
    where = f"its identity is in {keeping.place}. Carriers: {', '.join(carriers) or 'none'}."
    say(f"Created {name} ({result.client_id}); {where}")
    say(f'Next: thalovant ask "Is anybody there?" {keeping.options}')


def _preferred(wanted: list[HubProtocol]) -> tuple[HubProtocol, ...]:
    return (*wanted, *(one for one in DEFAULT_PROTOCOL_PREFERENCE if one not in wanted))


def _undo(api: ThalovantControlPlane, result: BootstrapIdentityResult) -> None:
    """Delete a client whose identity nobody holds; the error that follows matters more than a failure here."""
    try:
        if result.client_id:
            api.delete_client(result.client_id)
    except ThalovantAPIError:
        typer.echo(f"The client {result.client_id} was left behind.", file=sys.stderr)
