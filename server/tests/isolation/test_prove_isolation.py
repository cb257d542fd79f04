# SPDX-License-Identifier: Apache-2.0
"""`thalovant-server prove-isolation` against a real server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import uvloop

from thalovant import ThalovantControlPlane
from thalovant_server.errors import ProofError
from thalovant_server.isolation import table
from thalovant_server.isolation.moves import moves
from thalovant_server.isolation.proof import prove
from thalovant_server.isolation.running import SignIn, Target, elsewhere, read_password, run
from thalovant_server.isolation.throwaway import Throwaway, scene_of
from thalovant_server.isolation.verdicts import Verdict
from thalovant_server.testing.in_process import InProcessServer

# A client id belongs to its credential: another one's may have the same.
HARMLESS = "connect with a neighbour's client id"


@pytest.fixture
def target(running: InProcessServer) -> Target:
    """That server, with the first admin's password."""
    email, password = running.admin
    return Target(running.ready["api_url"], SignIn(None, email, password), Path(running.ready["ca_file"]).read_text())


def clients_of(api: ThalovantControlPlane) -> list[str]:
    return [each["name"] for each in api.list_clients()["data"]]


def test_this_machines_server_is_proven_and_nothing_is_left(
    running: InProcessServer, plane: ThalovantControlPlane, tmp_path: Path
) -> None:
    """Typed, with the server's own settings and nobody's login."""
    before = clients_of(plane)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("THALOVANT_")}
    port = str(urlsplit(running.ready["api_url"]).port)
    typed = subprocess.run(
        [sys.executable, "-m", "thalovant_server", "prove-isolation", "--data", running.data, "--api-port", port,
         "--json", "--websocket", running.ready["mqtt_websocket_endpoint"]],
        capture_output=True, text=True, env={**environment, "HOME": str(tmp_path)}, timeout=100,
    )  # fmt: skip
    assert typed.returncode == 0, typed.stdout + typed.stderr
    said = json.loads(typed.stdout)
    assert said["isolated"] is True
    seen = {(each["move"], each["mqtt"], each["road"]): each["verdict"] for each in said["moves"]}
    for road in ("TLS", "WebSocket"):
        for level in ("3.1.1", "5"):
            for move in moves():
                expected = "no effect" if move.name == HARMLESS else "denied"
                assert seen.pop((move.name, level, road)) == expected, (move.name, level, road)
    assert set(seen.values()) == {"denied"} and len(seen) == 6  # what is left to a credential that was taken away
    assert clients_of(plane) == before


def test_a_token_is_enough(target: Target, plane: ThalovantControlPlane, running: InProcessServer) -> None:
    outcomes = run(replace(target, sign_in=SignIn(plane.access_token)), running.ready["hub_slug"])
    assert table.summary(outcomes) == "ISOLATED: 146 moves, 144 denied, 2 no effect."


def test_what_stands_in_the_way_is_told(target: Target, tmp_path: Path) -> None:
    with pytest.raises(ProofError, match="there is no hub 'nowhere'"):
        run(target, "nowhere")
    with pytest.raises(ProofError, match="Isolation is neither proven nor found broken"):
        run(replace(target, sign_in=SignIn(None, "nobody@example.test", "wrong")))
    stale = SignIn(None, None, "the first password", tmp_path / "admin-password")
    with pytest.raises(ProofError, match="was changed since: give --email and --password-file, or set THALOVANT_API_"):
        run(replace(target, sign_in=stale))
    with pytest.raises(ProofError, match="name another --password-file"):
        read_password(tmp_path / "nothing")
    with pytest.raises(ProofError, match="set THALOVANT_API_TOKEN"):
        elsewhere("https://localhost:1", SignIn())


def test_the_clients_are_removed_when_the_proof_breaks_off(target: Target, plane: ThalovantControlPlane) -> None:
    before = clients_of(plane)
    with pytest.raises(ProofError, match="cannot be reached"):
        run(target, websocket="wss://localhost:1/mqtt")
    assert clients_of(plane) == before


def test_no_secret_is_shown(target: Target) -> None:
    assert str(target.sign_in.password) not in repr(target)


def test_hubs_are_as_far_apart_as_clients(running: InProcessServer, plane: ThalovantControlPlane) -> None:
    """The attacker of one hub, the neighbour on another."""
    made = plane.create_client_identity(running.ready["hub_id"], name="near")
    attacker = Throwaway(made.client_id or "", made.identity)
    on = {name: {"enabled": True} for name in ("wss", "http", "mqtt")}
    hub = plane.create_hub({"name": "other-hub", "spec": {"version": "1", "protocols": on}})
    made = plane.create_client_identity(hub["id"], name="far")
    neighbour = Throwaway(made.client_id or "", made.identity)
    apart = [each for each in moves() if "neighbour" in each.name and each.name != HARMLESS]
    outcomes = uvloop.run(prove(scene_of(attacker, neighbour), attacker.dial, apart, [5]))
    assert {each.verdict for each in outcomes} == {Verdict.DENIED} and len(outcomes) > 20
