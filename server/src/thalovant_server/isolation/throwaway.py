# SPDX-License-Identifier: Apache-2.0
"""Two clients made for a proof over the control plane, and removed again in any case.

Everything that the proof knows of a broker comes from their identities.
"""

from __future__ import annotations

import secrets
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from thalovant import AsyncThalovantControlPlane, ThalovantIdentity
from thalovant.addresses import mqtt_address
from thalovant.transports.tls import client_context
from thalovant_server.errors import ProofError
from thalovant_server.isolation.attacker import Dial
from thalovant_server.isolation.moves import Party, Scene
from thalovant_server.isolation.streams import over_tls, over_websocket


@dataclass(frozen=True, slots=True)
class Throwaway:
    """A client that was made for a proof."""

    client_id: str
    identity: ThalovantIdentity = field(repr=False)

    @property
    def party(self) -> Party:
        """It, as the moves know it."""
        block = self.identity.mqtt
        if block is None or not block.topic_prefix:
            raise ProofError("the hub gives out no MQTT credentials: turn MQTT on for it, or name another --hub")
        return Party(block.username, block.password, block.topic_prefix)

    @property
    def dial(self) -> Dial:
        """The way to its broker."""
        address = mqtt_address(self.identity)
        return over_tls(address.host, address.port, self._context())

    def dial_websocket(self, url: str) -> Dial:
        """The way to its broker over a WebSocket, whose address no identity has."""
        return over_websocket(url, self._context())

    def _context(self) -> ssl.SSLContext:
        return client_context(self.identity.ca_pem)


@asynccontextmanager
async def two_clients(plane: AsyncThalovantControlPlane, hub: Mapping[str, Any]) -> AsyncIterator[list[Throwaway]]:
    """Make the attacker and the neighbour, in this order; both are gone at the end.

    Raises:
        ThalovantAPIError: the control plane does not let them be made or removed.
    """
    mark = secrets.token_hex(4)
    async with AsyncExitStack() as removals:
        made: list[Throwaway] = []
        for role in ("attacker", "neighbour"):
            result = await plane.create_client_identity(hub, name=f"prove-isolation-{role}-{mark}")
            made.append(Throwaway(result.client_id or "", result.identity))
            removals.push_async_callback(plane.delete_client, made[-1].client_id)
        yield made


def scene_of(attacker: Throwaway, neighbour: Throwaway) -> Scene:
    """Both of them, as the moves know them."""
    return Scene(attacker.party, neighbour.party)


async def choose_hub(plane: AsyncThalovantControlPlane, wanted: str | None) -> dict[str, Any]:
    """The hub with that id or slug; without one the first active hub that has MQTT on.

    Raises:
        ProofError: there is none.
    """
    cursor: str | None = None
    while True:
        page = await plane.list_hubs(cursor=cursor)
        for hub in page["data"]:
            if wanted in (hub["id"], hub["slug"]) if wanted else _has_mqtt(hub):
                return dict(hub)
        cursor = page.get("meta", {}).get("next")
        if not cursor:
            raise ProofError(f"there is no hub {wanted!r}" if wanted else "no hub has MQTT on")


def is_behind_broker(hub: Mapping[str, Any]) -> bool:
    """Whether its clients reach it through an outside broker."""
    return bool(hub.get("spec", {}).get("protocols", {}).get("mqtt", {}).get("via") == "link")


def _has_mqtt(hub: Mapping[str, Any]) -> bool:
    protocols = hub.get("spec", {}).get("protocols", {})
    return bool(hub.get("active")) and bool(protocols.get("mqtt", {}).get("enabled"))
