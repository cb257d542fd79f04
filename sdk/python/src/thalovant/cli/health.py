# SPDX-License-Identifier: Apache-2.0
"""`thalovant health`: connect to a hub, tell how that went, and leave with an exit code that scripts can use."""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING, Annotated, Any

import typer

from thalovant.cli.errors import error_object
from thalovant.cli.identity import chosen_identity
from thalovant.cli.options import AsJson, Carriers, ConfigFile, IdentityFile, Profile, roads
from thalovant.cli.output import examples, print_json, printable, say
from thalovant.cli.progress import waiting
from thalovant.errors import ThalovantConnectionError, ThalovantError, ThalovantTimeoutError
from thalovant.hub_endpoints import HubProtocol, without_user_info

if TYPE_CHECKING:
    from thalovant.health import ThalovantConnectionInfo
    from thalovant.identity import ThalovantIdentity
    from thalovant.sync_client import ThalovantClient

__all__ = ["HEALTH_EXAMPLES", "health"]

HANG_UP_WAIT = 0.75  # seconds in which a hub that does not know this client's key hangs up (contract 10.1)
HEALTH_EXAMPLES = examples("thalovant health --protocol wss", "thalovant health --json && echo well")

_HUB = re.compile(r"(?:^|/)hubs/([^/?]+)")
_TIMES = {"connected in": "connect_ms", "carrier": "transport_open_ms", "handshake": "handshake_ms"}


def health(
    protocol: Carriers = None,
    identity: IdentityFile = None,
    profile: Profile = None,
    config: ConfigFile = None,
    timeout: Annotated[float, typer.Option(help="How long to wait.", min=0.1, metavar="SECONDS")] = 24.0,
    as_json: AsJson = False,
) -> None:
    """Connect to a hub and tell how it went.

    The exit code is 0 when it went well, else 1.
    """
    who = chosen_identity(identity, profile, config)
    from thalovant.sync_client import ThalovantClient

    seen: dict[str, Any] = {"ok": False}
    with contextlib.closing(ThalovantClient(who, auto_reconnect=False, **roads(protocol))) as client:
        try:
            with waiting("connecting to the hub"):
                _connect(client, timeout)
            seen["ok"] = True
        except ThalovantError as error:
            seen["error"] = error_object(error)
            raise
        finally:
            seen |= _described(who, client.connection_info())
            if as_json:
                print_json(seen)
    if not as_json:
        say(_sentence(seen))


def _connect(client: ThalovantClient, timeout: float) -> None:
    """Connect, and stay until a hub that does not know this client's key has had its time to hang up.

    Raises what connecting raises, and ThalovantConnectionError when the hub hung up.
    """
    client.connect(timeout)
    with contextlib.suppress(ThalovantTimeoutError):
        client.wait_closed(HANG_UP_WAIT)
        raise ThalovantConnectionError(client.connection_info().last_error or "The hub hung up.")


def _described(identity: ThalovantIdentity, info: ThalovantConnectionInfo) -> dict[str, Any]:
    address = _address(identity, info.protocol) if info.protocol else {"endpoint": None, "hub": None}
    return {"protocol": info.protocol, **address, "site_id": identity.site_id, "connection": info.as_dict()}


def _address(identity: ThalovantIdentity, road: HubProtocol) -> dict[str, Any]:
    """Where a connection goes. The hub's id is in the path or in the topics, where the server is one of ours."""
    broker = identity.mqtt if road == "mqtt" else None
    endpoint = without_user_info(broker.endpoint if broker else identity.endpoint_for(road) or "")
    hub = _HUB.search((broker.topic_prefix or "") if broker else endpoint)
    return {"endpoint": endpoint, "hub": hub[1] if hub else None}


def _sentence(seen: dict[str, Any]) -> str:
    times = {name: seen["connection"][key] for name, key in _TIMES.items()}
    took = ", ".join(f"{name} {value:.1f} ms" for name, value in times.items() if value is not None)
    hub = f", hub {seen['hub']}" if seen["hub"] else ""
    moved = f" {seen['connection']['moved_because']}" if seen["connection"]["moved_because"] else ""
    return printable(f"The hub is well: {seen['protocol']} to {seen['endpoint']}{hub}, {took}.{moved}")
