# SPDX-License-Identifier: Apache-2.0
"""`thalovant identity rotate`: a new credential for the identity that this machine itself uses, in its place.

The new one is written beside the old and connects before it takes the old one's place. What breaks off in between is
taken up by the next try, or undone: a machine is never left without an identity that works.
"""

from __future__ import annotations

import contextlib
import re
import shlex
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import typer

from thalovant.bootstrap import BootstrapIdentityResult
from thalovant.cli.admission import wait_until_admitted
from thalovant.cli.client_named import advised, label
from thalovant.cli.client_rotation import Grace, grace_seconds, old_credential_ends, rotation_advice
from thalovant.cli.errors import CommandError
from thalovant.cli.identity import IdentityPlace, chosen_place
from thalovant.cli.identity_saving import usable_carriers
from thalovant.cli.options import AsJson, ConfigFile, IdentityFile, Profile, config_path
from thalovant.cli.output import print_json, say
from thalovant.cli.progress import waiting
from thalovant.cli.times import zoned_time
from thalovant.control_plane import ThalovantControlPlane
from thalovant.errors import ThalovantAPIError, ThalovantConnectionError, ThalovantError, ThalovantTimeoutError
from thalovant.identity import ThalovantIdentity
from thalovant.profiles import read_profiles

__all__ = ["rotate_identity"]

PATIENCE = 24.0  # seconds for the new identity to connect
MEANWHILE = 600  # seconds of grace, until the new one has taken the old one's place
LOOK_EVERY = 0.1  # seconds between two questions whether it has


def rotate_identity(
    identity: IdentityFile = None,
    profile: Profile = None,
    config: ConfigFile = None,
    grace: Grace = "24h",
    as_json: AsJson = False,
) -> None:
    """Rotate the identity that this machine uses.

    A new one takes its place once it has connected. Needs a sign-in that may change the client (`thalovant login`).
    Programs that run go on with the old one for the time of --grace; restart them within it.
    """
    seconds = grace_seconds(grace)
    place = chosen_place(identity, profile, config)
    if place is None:
        raise CommandError(
            "The identity is in environment variables, which no command can change; type `thalovant clients rotate` "
            "and set them anew.",
            code="identity_in_environment",
        )
    holder = _Holder(place, place.read())
    with ThalovantControlPlane() as api:
        made, new = _rotated(api, holder, seconds)
        client = made.client if isinstance(made, BootstrapIdentityResult) else made
        with _undone_on_failure(api, client, holder):
            if isinstance(made, BootstrapIdentityResult):
                wait_until_admitted(made)
            _connect(api, client, new)
        holder.replace(new)
        if not seconds:
            api.finish_rotation(client["id"], force=True)
    _tell(client, holder, seconds, as_json=as_json)


@dataclass(frozen=True)
class _Holder:
    """An identity in its place, and the file beside it where the new one is until it has connected."""

    place: IdentityPlace
    old: ThalovantIdentity

    @property
    def path(self) -> Path:
        """The file itself, also where a link leads to it."""
        return (self.place.file.expanduser() if self.place.file else config_path(self.place.config)).resolve()

    @property
    def profile(self) -> str | None:
        """The name of the profile, None for a file."""
        return None if self.place.file else self.place.profile or read_profiles(self.path).in_use

    @property
    def beside(self) -> Path:
        what = "" if self.profile is None else re.sub(r"[^\w-]+", "-", f".{self.profile}")
        return self.path.with_name(f"{self.path.name}{what}.new")

    def keep(self, new: ThalovantIdentity) -> ThalovantIdentity:
        """Write the new one beside; what its owner has put into the old one goes along."""
        metadata = {**self.old.metadata, **new.metadata}
        whole = replace(new, ca_pem=new.ca_pem or self.old.ca_pem, metadata=metadata)
        return replace(whole, source_path=str(whole.save(self.beside, overwrite=True)))

    def left_over(self, api: ThalovantControlPlane, client_id: str) -> ThalovantIdentity | None:
        """What an earlier try has left beside, if it is this client's and still works."""
        if not self.beside.exists():
            return None
        new = ThalovantIdentity.from_file(self.beside)
        try:
            found = api.lookup_credential(new.access_key)
        except ThalovantAPIError as error:
            if error.status_code != 404:
                raise
            return None
        is_ours = found.get("status") == "live" and found["client"]["id"] == client_id
        return new if is_ours and new.access_key != self.old.access_key else None

    def replace(self, new: ThalovantIdentity) -> None:
        """Put the new one in the old one's place, at once or not at all."""
        if self.profile is None:
            new.save(self.path, overwrite=True)
        else:
            new.save_to_config(self.path, profile=self.profile, overwrite=True)
        self.drop()

    def drop(self) -> None:
        """Remove the one beside."""
        self.beside.unlink(missing_ok=True)


def _rotated(
    api: ThalovantControlPlane, holder: _Holder, seconds: int
) -> tuple[dict[str, Any] | BootstrapIdentityResult, ThalovantIdentity]:
    """What was made, and the new identity in the file beside; of a try that was interrupted, only the client.

    Where the old one is to end at once it has a grace all the same, until the new one has taken its place.
    """
    with waiting("asking for the client"), advised(credential_not_found=_NOT_FOUND):
        found = api.lookup_credential(holder.old.access_key)
    known = found.get("client") or {}
    if (new := holder.left_over(api, str(known.get("id")))) is not None:
        return known, new
    client = _current(found)
    if not seconds:
        with contextlib.suppress(ThalovantAPIError):  # a still older one makes room
            api.finish_rotation(client["id"], force=True)
    with waiting("rotating"), rotation_advice(str(client.get("name"))):
        result = api.rotate_client_identity(client["id"], grace_seconds=seconds or MEANWHILE)
    try:
        return result, holder.keep(result.identity)
    except ThalovantError:
        _cancel(api, result.client)
        raise


_NOT_FOUND = (
    "The server that you are signed in to does not know this identity, or it is somebody else's: sign in where it was "
    "made (`thalovant login URL`), as its owner."
)


def _current(found: dict[str, Any]) -> dict[str, Any]:
    """The client, when the credential is its newest and may connect. Raises CommandError."""
    client = found.get("client")
    status, name = found.get("status"), shlex.quote(str((client or {}).get("name")))
    if status == "ended" or not isinstance(client, dict):
        raise CommandError(
            f"This identity ended on {zoned_time(found.get('ended_at'))} ({found.get('why')}); create a new one: "
            "thalovant identity create --name NAME",
            code="credential_ended",
        )
    if status == "grace":
        raise CommandError(
            f"This identity was rotated already: bring the newer one here, or drop that with `thalovant clients cancel "
            f"{name}` and rotate again.",
            code="rotation_in_progress",
        )
    if not client.get("active", True):
        raise CommandError(
            f"{label(client)} is paused; type `thalovant clients resume {name}` first.", code="client_paused"
        )
    return client


def _connect(api: ThalovantControlPlane, client: dict[str, Any], new: ThalovantIdentity) -> None:
    """Connect with the new identity until the server says that it was used; raises what the client raises."""
    from thalovant.sync_client import ThalovantClient

    carriers: Any = usable_carriers(new)
    how = {"protocols": carriers} if len(carriers) > 1 else {"protocol": carriers[0] if carriers else None}
    deadline = time.monotonic() + PATIENCE
    with (
        waiting("connecting with the new identity"),
        contextlib.closing(ThalovantClient(new, auto_reconnect=False, **how)) as connection,
    ):
        connection.connect(PATIENCE)
        while not _is_used(api.get_client(str(client.get("id")))):
            with contextlib.suppress(ThalovantTimeoutError):
                connection.wait_closed(LOOK_EVERY)
                raise ThalovantConnectionError(connection.connection_info().last_error or "The hub hung up.")
            if time.monotonic() > deadline:
                raise ThalovantTimeoutError(f"The hub did not take it up within {PATIENCE:g} seconds.")


def _is_used(client: dict[str, Any]) -> bool:
    """Whether the newest credential has connected."""
    found = client.get("credentials") or [{}]
    return bool(found[-1].get("last_used"))


@contextlib.contextmanager
def _undone_on_failure(api: ThalovantControlPlane, client: dict[str, Any], holder: _Holder) -> Any:
    try:
        yield
    except ThalovantError as error:
        _cancel(api, client)
        holder.drop()
        raise CommandError(
            f"Nothing was changed, for the new identity could not connect: {error}", code=error.code
        ) from error


def _cancel(api: ThalovantControlPlane, client: dict[str, Any]) -> None:
    """Drop the new credential; the error that follows matters more than a failure here."""
    try:
        api.cancel_rotation(str(client.get("id")))
    except ThalovantAPIError:
        name = shlex.quote(str(client.get("name")))
        typer.echo(f"The new credential is left behind: thalovant clients cancel {name}", err=True)


def _tell(client: dict[str, Any], holder: _Holder, seconds: int, *, as_json: bool) -> None:
    if as_json:
        place = {"file": str(holder.path)} if holder.profile is None else {"profile": holder.profile}
        print_json({"client_id": client.get("id"), "name": client.get("name"), "grace_seconds": seconds, **place})
        return
    where = str(holder.path) if holder.profile is None else f"the profile {holder.profile}"
    say(f"Rotated {label(client)}: {where} holds the new identity, and {old_credential_ends(client, seconds)}.")
    name = shlex.quote(str(client.get("name")))
    if seconds:
        say(f"Next: restart what still uses the old one; `thalovant clients finish {name}` ends it early.")
    else:
        say("Next: restart what still uses the old one.")
