# SPDX-License-Identifier: Apache-2.0
"""Who may give a client how much: a policy belongs to the owner of the hub that has to bear it.

Whoever makes a client on somebody else's public hub gets the default there, or less. Stores nothing.
"""

from __future__ import annotations

from typing import Any

from thalovant_server import client_spec
from thalovant_server.client_presets import DEFAULT
from thalovant_server.control.callers import Caller
from thalovant_server.directory import Permissions
from thalovant_server.errors import ApiError
from thalovant_server.store.hubs import HubRecord


def of_new_client(caller: Caller, hub: HubRecord, spec: dict[str, Any]) -> dict[str, Any]:
    """Return a new client's checked spec as it is kept.

    A `connection_type` says what a client is and not what it may do, so that anybody may name one; of its preset,
    only the hub's owner gives more than the default.

    Raises:
        ApiError: 403, it sets more than the default, and the hub is not the caller's.
    """
    if caller.owns(hub.owner_id, hub.id):
        return spec
    check_raise(caller, hub, DEFAULT, client_spec.permissions({**spec, "connection_type": None}))
    kept = client_spec.permissions(spec)
    return {**spec, **{name: _capped(name, kept) for name in client_spec.exceeds(kept, DEFAULT)}}


def check_raise(caller: Caller, hub: HubRecord, before: Permissions, after: Permissions) -> None:
    """Let a change of a client's permissions pass when it gives nothing more, or the caller owns the hub.

    Raises:
        ApiError: 403 `ownership_required`, naming what only the hub's owner may give.
    """
    more = client_spec.exceeds(after, before)
    if more and not caller.owns(hub.owner_id, hub.id):
        only = f"Ownership required: only the hub's owner gives more of {', '.join(more)}"
        raise ApiError(403, only, "ownership_required")


def _capped(name: str, wanted: Permissions) -> Any:
    """Of a part that is more than the default's: what both permit."""
    value, most = getattr(wanted, name), getattr(DEFAULT, name)
    return sorted(value & most) if isinstance(most, frozenset) else most
