# SPDX-License-Identifier: Apache-2.0
"""The proof against our own endpoint, broken on purpose: each fault is found, and by the moves that it lets through."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
import uvloop

from thalovant_server.agents.catalog import Catalog
from thalovant_server.directory import CARRIERS, CredentialEntry, Directory, HubEntry
from thalovant_server.gateways.mqtt import endpoint
from thalovant_server.gateways.mqtt.endpoint import MqttGateway
from thalovant_server.hub.hub import Hub
from thalovant_server.isolation.moves import Kind, Party, moves
from thalovant_server.isolation.proof import prove
from thalovant_server.isolation.streams import TlsStream
from thalovant_server.isolation.verdicts import Outcome, Verdict
from thalovant_server.testing.directory import directory_of, mqtt_password_hash


def credential(number: int, party: Party) -> CredentialEntry:
    return CredentialEntry(
        number, f"client-{number}", "h1", party.username, "name", "site", party.prefix,
        mqtt_password_hash=mqtt_password_hash(party.password.encode()), psk=bytes(32),
    )  # fmt: skip


def outcomes_at_our_endpoint(scene: Any, *kinds: Kind) -> list[Outcome]:
    """Make the moves of these kinds against our endpoint and a real hub in this process, without TLS."""

    async def main() -> list[Outcome]:
        hubs = [HubEntry("h1", "h1", "h1", None, CARRIERS, True)]
        directory = directory_of(hubs, [credential(1, scene.attacker), credential(2, scene.neighbour)])
        hub = Hub(directory, Catalog([]), static_private=bytes(range(32)), node_id="node", version="0")
        gateway = MqttGateway(hub, directory)
        server = await asyncio.get_running_loop().create_server(gateway.protocol, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]

        async def dial() -> TlsStream:
            return TlsStream(*await asyncio.open_connection("127.0.0.1", port))

        try:
            return await prove(scene, dial, [each for each in moves() if each.kind in kinds], [5])
        finally:
            server.close()
            await hub.stop(0)
            await gateway.close(1)
            await directory.stop()

    return uvloop.run(asyncio.wait_for(main(), 60))


def worked(scene: Any, *kinds: Kind) -> set[str]:
    return {each.move for each in outcomes_at_our_endpoint(scene, *kinds) if each.verdict is Verdict.WORKED}


def test_in_order_nothing_works(rig: SimpleNamespace) -> None:
    assert worked(rig.SCENE, *Kind) == set()


def test_a_password_that_is_not_checked(rig: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Directory, "check_mqtt_password", lambda *_: True)
    assert worked(rig.SCENE, Kind.CONNECT) == {
        "log in as a neighbour with its client id and a wrong password",
        "log in as a neighbour with the own password",
        "log in with a will and a wrong password",
        "log in with a clean start, the own client id and a wrong password",
    }


def test_topics_that_everybody_has(rig: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    own, neighbours = endpoint.segments, endpoint.segments(rig.SCENE.neighbour.prefix)
    monkeypatch.setattr(endpoint, "segments", lambda prefix: {**neighbours, **own(prefix)})
    found = worked(rig.SCENE, Kind.PUBLISH, Kind.SUBSCRIBE)
    assert found >= {f"publish to neighbour/{each}, QoS 1" for each in ("c2s", "in", "status")}
    assert all("neighbour" in each for each in found)


def test_a_client_id_that_belongs_to_nobody(rig: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    find = endpoint.Roster.find

    def find_anybodys(roster: Any, _: int, name: str) -> Any:
        return find(roster, 1, name) or find(roster, 2, name)

    monkeypatch.setattr(endpoint.Roster, "find", find_anybodys)
    assert worked(rig.SCENE, Kind.CONNECT) == {"connect with a neighbour's client id"}
