# SPDX-License-Identifier: Apache-2.0
"""Which connections are live, found by credential, by client id within it, and by hub, at a cost that does
not grow with the others.

It will not end a connection.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from thalovant_server.gateways.mqtt.connection import MqttConnection


class Roster:
    """The connections that are logged in."""

    __slots__ = ("_by_credential", "_by_hub")

    def __init__(self) -> None:
        self._by_credential: dict[int, dict[str, MqttConnection]] = {}
        self._by_hub: dict[str, set[MqttConnection]] = {}

    def add(self, connection: MqttConnection, credential_id: int, hub_id: str, client_id: str) -> None:
        """Take in a connection; the place of its client id is free."""
        self._by_credential.setdefault(credential_id, {})[client_id] = connection
        self._by_hub.setdefault(hub_id, set()).add(connection)

    def remove(self, connection: MqttConnection, credential_id: int, hub_id: str, client_id: str) -> None:
        """Forget a connection."""
        named = self._by_credential.get(credential_id, {})
        if named.get(client_id) is connection:
            del named[client_id]
        if not named:
            self._by_credential.pop(credential_id, None)
        group = self._by_hub.get(hub_id, set())
        group.discard(connection)
        if not group:
            self._by_hub.pop(hub_id, None)

    def find(self, credential_id: int, client_id: str) -> MqttConnection | None:
        """The connection of that client id; ids never meet across credentials."""
        return self._by_credential.get(credential_id, {}).get(client_id)

    def of_credential(self, credential_id: int) -> list[MqttConnection]:
        """The connections of a credential."""
        return list(self._by_credential.get(credential_id, {}).values())

    def of_hub(self, hub_id: str) -> list[MqttConnection]:
        """The connections of a hub's clients."""
        return list(self._by_hub.get(hub_id, ()))

    def count(self, credential_id: int) -> int:
        """How many connections a credential has."""
        return len(self._by_credential.get(credential_id, ()))
