# SPDX-License-Identifier: Apache-2.0
"""Which client a command means: by its id, or by its name where only one has it."""

from __future__ import annotations

import contextlib
import difflib
import shlex
from collections.abc import Iterator
from itertools import islice
from typing import Annotated, Any

import typer

from thalovant.cli.errors import CommandError
from thalovant.cli.hubs import hub_called
from thalovant.cli.output import printable
from thalovant.cli.pages import every_row
from thalovant.control_plane import ThalovantControlPlane
from thalovant.errors import ThalovantAPIError

__all__ = ["ClientName", "HubName", "advised", "client_called", "every_client", "label", "refuse_taken_name"]

ClientName = Annotated[str, typer.Argument(help="Name or id of the client.", metavar="CLIENT")]
HubName = Annotated[str | None, typer.Option("--hub", help="Slug or id of its hub.", metavar="HUB")]
_SHOWN = 5
_LOOKED_AT = 2_000


def client_called(api: ThalovantControlPlane, wanted: str, hub: str | None) -> dict[str, Any]:
    """Return the client with that id or, in that hub or all of them, that name. Raises CommandError."""
    hub_id = hub_called(api, hub)["id"] if hub else None
    if wanted.startswith("client-"):
        with _unknown():
            found = api.get_client(wanted)
            if hub_id in (None, found.get("hub_id")):
                return found
    clients = list(every_client(api, hub_id))
    same = [client for client in clients if wanted in (client.get("id"), client.get("name"))]
    if len(same) == 1:
        return same[0]
    if same:
        ids = ", ".join(f"{client.get('id')} (hub {client.get('hub_id')})" for client in same[:_SHOWN])
        raise CommandError(
            f"{len(same)} clients are called {wanted!r}; say which by its id: {ids}.", code="which_client"
        )
    raise CommandError(_unknown_text(wanted, clients), code="unknown_client")


def every_client(api: ThalovantControlPlane, hub_id: str | None = None) -> Iterator[dict[str, Any]]:
    """Every client of a hub, or of all hubs."""
    return every_row(lambda cursor: api.list_clients(hub_id=hub_id, cursor=cursor, include_spec=False))


def refuse_taken_name(api: ThalovantControlPlane, name: str, hub: dict[str, Any], way_out: str) -> None:
    """Raises CommandError when a client of the hub is called so: the commands that take a name would not know which.

    Looks at the first two thousand; a token that may not see clients looks at none.
    """
    try:
        same = next((one for one in islice(every_client(api, hub["id"]), _LOOKED_AT) if one.get("name") == name), None)
    except ThalovantAPIError as error:
        if error.code != "insufficient_scopes":
            raise
        return
    if same is not None:
        where = hub.get("slug") or hub.get("id")
        raise CommandError(f"{label(same)} is a client of {where} already: {way_out}", code="name_taken")


def label(client: dict[str, Any]) -> str:
    """Return how a client is spoken of."""
    return printable(f"{client.get('name')} ({client.get('id')})")


@contextlib.contextmanager
def advised(**advice: str) -> Iterator[None]:
    """Say of refusals with these codes what to type next; others go on as they are."""
    try:
        yield
    except ThalovantAPIError as error:
        if (sentence := advice.get(error.code)) is None:
            raise
        raise ThalovantAPIError(
            sentence, status_code=error.status_code, code=error.code, detail=error.detail, problem=error.problem
        ) from error


@contextlib.contextmanager
def _unknown() -> Iterator[None]:
    """An id that is none may yet be a name."""
    try:
        yield
    except ThalovantAPIError as error:
        if error.status_code != 404:
            raise


def _unknown_text(wanted: str, clients: list[dict[str, Any]]) -> str:
    names = [str(client.get("name")) for client in clients]
    if close := difflib.get_close_matches(wanted, names, n=1):
        return f"There is no client {wanted!r}; did you mean {shlex.quote(close[0])}?"
    return f"There is no client {wanted!r}; type `thalovant clients` for those there are."
