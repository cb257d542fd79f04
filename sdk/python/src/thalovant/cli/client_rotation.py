# SPDX-License-Identifier: Apache-2.0
"""`thalovant clients rotate`, `finish`, `cancel`: give a client a new credential without an outage."""

from __future__ import annotations

import shlex
import sys
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Annotated, Any

import typer

from thalovant.bootstrap import BootstrapIdentityResult
from thalovant.cli.admission import is_admitted
from thalovant.cli.client_named import ClientName, HubName, advised, client_called, label
from thalovant.cli.identity_saving import Keeping, file_for, usable_carriers
from thalovant.cli.options import AsJson, ConfigFile, Profile
from thalovant.cli.output import print_json, say
from thalovant.cli.progress import waiting
from thalovant.cli.times import seconds_of, zoned_time
from thalovant.control_plane import ThalovantControlPlane
from thalovant.errors import ThalovantAPIError, ThalovantError

__all__ = ["COMMANDS", "Grace", "grace_seconds", "old_credential_ends", "rotation_advice"]

LONGEST_GRACE = 30 * 86_400  # seconds

Grace = Annotated[
    str, typer.Option(help="How long the old one works on: 24h, 30m, 7d; 0 ends it at once.", metavar="TIME")
]


def rotate(
    client: ClientName,
    grace: Grace = "24h",
    out: Annotated[
        Path | None, typer.Option(help="File to write; default ./NAME.identity.json.", metavar="FILE")
    ] = None,
    profile: Profile = None,
    config: ConfigFile = None,
    hub: HubName = None,
    as_json: AsJson = False,
) -> None:
    """Make a new identity for a client.

    The old one works on for the time of --grace. The new one goes into a file (mode 0600), or into a profile of the
    configuration. For the identity that this machine itself uses, type `thalovant identity rotate`.
    """
    seconds = grace_seconds(grace)
    with ThalovantControlPlane() as api:
        with waiting("asking for the client"):
            known = client_called(api, client, hub)
        keeping = Keeping.chosen(out, _free_file(str(known.get("name"))), profile, config)
        with waiting("rotating"), rotation_advice(str(known.get("name"))):
            result = api.rotate_client_identity(known["id"], grace_seconds=seconds)
        try:
            keeping.save(result.identity)
        except ThalovantError:
            _undo(api, known, seconds)
            raise
    admitted = is_admitted(result, keeping.place)
    _tell(result, keeping, seconds, admitted, as_json=as_json)


def grace_seconds(text: str) -> int:
    """Read a grace. Raises `typer.BadParameter` for what is no time, and for more than the server keeps."""
    if (seconds := seconds_of(text, "--grace")) > LONGEST_GRACE:
        raise typer.BadParameter(f"--grace {text} is too long; the old credential works on for 30d at most")
    return seconds


def finish(
    client: ClientName,
    force: Annotated[bool, typer.Option("--force", help="Also when the new one has never connected.")] = False,
    hub: HubName = None,
    as_json: AsJson = False,
) -> None:
    """End a client's old credential now.

    Otherwise it ends when its time is over. Refused while the new one has never connected.
    """
    with waiting("ending the old credential"), ThalovantControlPlane() as api:
        known = client_called(api, client, hub)
        with rotation_advice(str(known.get("name"))):
            changed = api.finish_rotation(known["id"], force=force)
    if as_json:
        print_json(changed)
    else:
        say(f"The old credential of {label(changed)} has ended; the new one is the only one.")


def cancel(client: ClientName, hub: HubName = None, as_json: AsJson = False) -> None:
    """Drop a client's new credential; the old one stays."""
    with waiting("dropping the new credential"), ThalovantControlPlane() as api:
        known = client_called(api, client, hub)
        with rotation_advice(str(known.get("name"))):
            changed = api.cancel_rotation(known["id"])
    if as_json:
        print_json(changed)
    else:
        say(f"The new credential of {label(changed)} is dropped; the old one stays. Delete the file with the new one.")


def rotation_advice(name: str) -> AbstractContextManager[None]:
    """What to type when a rotation is refused."""
    typed = shlex.quote(name)
    return advised(
        rotation_in_progress=f"{name} has two credentials already. Type `thalovant clients finish {typed}` to end "
        f"the old, or `thalovant clients cancel {typed}` to drop the new, then rotate again; --grace 0 replaces both.",
        new_credential_unused=f"The new credential of {name} has not connected yet: bring its identity to the device "
        f"first, or type `thalovant clients finish {typed} --force`.",
        no_rotation=f"{name} has one credential only; `thalovant clients rotate {typed}` makes a new one.",
    )


def old_credential_ends(client: dict[str, Any], grace_seconds: int) -> str:
    """Say until when the old credential of a client that was just rotated works."""
    if grace_seconds == 0:
        return "the old one has ended"
    ends = [one.get("expires_at") for one in client.get("credentials") or () if one.get("expires_at")]
    return f"the old one works until {zoned_time(ends[0])}" if ends else "the old one works on for a while"


def _free_file(name: str) -> Path:
    """The client's usual file, or one beside it where the old identity is still there."""
    usual = file_for(name)
    return file_for(f"{name}.new") if usual.exists() or usual.is_symlink() else usual


def _tell(result: BootstrapIdentityResult, keeping: Keeping, seconds: int, admitted: bool, *, as_json: bool) -> None:
    client = result.client
    carriers = usable_carriers(result.identity)
    if as_json:
        said = {"client_id": result.client_id, "name": client.get("name"), "carriers": carriers, "admitted": admitted}
        print_json({**said, "grace_seconds": seconds, "credentials": client.get("credentials"), **keeping.as_dict()})
        return
    ends = old_credential_ends(client, seconds)
    say(f"Rotated {label(client)}; its new identity is in {keeping.place}, and {ends}.")
    typed = shlex.quote(str(client.get("name")))
    if seconds:
        say(f"Next: copy it to the device. When it has connected, `thalovant clients finish {typed}` ends the old one.")
    else:
        say("Next: copy it to the device, which is cut off until it has it.")


def _undo(api: ThalovantControlPlane, known: dict[str, Any], seconds: int) -> None:
    """Drop a credential that nobody holds; the error that follows matters more than a failure here."""
    try:
        if seconds:
            api.cancel_rotation(known["id"])
            return
    except ThalovantAPIError:
        pass
    typer.echo(f"{label(known)} has a new credential that was not saved: rotate again with --grace 0.", file=sys.stderr)


COMMANDS = (
    ("rotate", rotate, ("thalovant clients rotate kitchen-light", "thalovant clients rotate kitchen-light --grace 0")),
    ("finish", finish, ("thalovant clients finish kitchen-light",)),
    ("cancel", cancel, ("thalovant clients cancel kitchen-light",)),
)
"""Name, command, examples; the group mounts them."""
