# SPDX-License-Identifier: Apache-2.0
"""`thalovant identity`: make a client of a hub and keep its identity, let one in with a new key."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from thalovant.bootstrap import BootstrapIdentityResult
from thalovant.cli.errors import CommandError
from thalovant.cli.hubs import hub_called
from thalovant.cli.identity import SUFFIX
from thalovant.cli.options import AsJson, ConfigFile, Profile, carrier, config_path
from thalovant.cli.output import examples, help_without_a_command, print_json, say
from thalovant.cli.progress import waiting
from thalovant.control_plane import ThalovantControlPlane
from thalovant.errors import ThalovantAPIError, ThalovantError
from thalovant.hub_endpoints import DEFAULT_PROTOCOL_PREFERENCE, HubProtocol
from thalovant.profiles import read_profiles

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
    as_json: AsJson = False,
) -> None:
    """Create a client of a hub and save its identity.

    In a file (mode 0600), or as a profile of the configuration.
    """
    wanted = [carrier(one) for one in protocol or ()]
    if out is not None and profile is not None:
        raise typer.BadParameter("give --out or --profile, not both")
    target = out or Path(re.sub(r"[^\w.-]+", "-", name).strip("-.") + SUFFIX)
    _refuse_taken(target, profile, config)
    with waiting("creating the client"), ThalovantControlPlane() as api:
        result = api.create_client_identity(hub_called(api, hub), name=name, preferred_protocols=_preferred(wanted))
        try:
            for one in wanted:
                api.require_runtime_protocol(result, protocol=one)
            if profile is None:
                result.identity.save(target)
            else:
                result.identity.save_to_config(config, profile=profile)
        except ThalovantError:
            _undo(api, result)
            raise
    _tell(result, name, target, profile, config, as_json=as_json)


@app.command("reset-key", epilog=examples("thalovant identity reset-key CLIENT-ID"))
def reset_key(
    client_id: Annotated[
        str, typer.Argument(help="Id of the client, as `identity create` printed it.", metavar="CLIENT_ID")
    ],
    number: Annotated[int, typer.Option(help="Number of its credential.", min=1, metavar="NUMBER")] = 1,
    as_json: AsJson = False,
) -> None:
    """Let a client in with a new Noise key, after it lost the one it had."""
    with waiting("resetting the key"), ThalovantControlPlane() as api:
        api.reset_client_key(client_id, number)
    if as_json:
        print_json({"client_id": client_id, "number": number, "reset": True})
        return
    say(f"The key of {client_id} is reset: the next one that it connects with is the one that counts.")


def _refuse_taken(target: Path, profile: str | None, config: Path | None) -> None:
    """Look before a client is made that nobody would hold the identity of."""
    if profile is not None:
        if profile in read_profiles(config_path(config)).identities:
            raise CommandError(f"There is a profile {profile!r} already; choose another name.", code="exists")
    elif target.exists() or target.is_symlink():
        raise CommandError(f"{target} exists already; choose another --name or --out.", code="exists")


def _tell(
    result: BootstrapIdentityResult, name: str, target: Path, profile: str | None, config: Path | None, *, as_json: bool
) -> None:
    carriers = _usable(result)
    if as_json:
        place = {"profile": profile, "config": str(config_path(config))} if profile else {"file": str(target)}
        print_json({"client_id": result.client_id, "name": name, "carriers": carriers, **place})
        return
    kept, *option = (f"the profile {profile}", "--profile", profile) if profile else (target, "--identity", str(target))
    option += ["--config", str(config)] if profile and config else []
    said = f"its identity is in {kept}. Carriers: {', '.join(carriers) or 'none'}."
    say(f"Created {name} ({result.client_id}); {said}")
    say(f'Next: thalovant ask "Is anybody there?" {shlex.join(option)}')


def _preferred(wanted: list[HubProtocol]) -> tuple[HubProtocol, ...]:
    return (*wanted, *(one for one in DEFAULT_PROTOCOL_PREFERENCE if one not in wanted))


def _usable(result: BootstrapIdentityResult) -> list[str]:
    identity = result.identity
    enabled = identity.enabled_protocols()
    return [one for one in enabled if one != "mqtt" or identity.mqtt is not None]


def _undo(api: ThalovantControlPlane, result: BootstrapIdentityResult) -> None:
    """Delete a client whose identity nobody holds; the error that follows matters more than a failure here."""
    try:
        if result.client_id:
            api.delete_client(result.client_id)
    except ThalovantAPIError:
        typer.echo(f"The client {result.client_id} was left behind.", file=sys.stderr)
