# SPDX-License-Identifier: Apache-2.0
"""`thalovant-server prove-isolation` against real servers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import uvloop

from thalovant import ThalovantControlPlane
from thalovant_server.isolation.moves import moves
from thalovant_server.isolation.proof import prove
from thalovant_server.isolation.throwaway import Throwaway, scene_of
from thalovant_server.isolation.verdicts import Verdict
from thalovant_server.testing import ServerProcess

# A client id belongs to its credential: another one's may have the same.
HARMLESS = "connect with a neighbour's client id"
Typed = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def typed(server: ServerProcess, tmp_path: Path) -> Typed:
    """Type the command, with the settings of that server and nobody's login."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("THALOVANT_")}
    where = ("--data", str(server.data), "--api-port", "0", "--ready-file", str(server.ready_file))

    def run(*words: str, at: tuple[str, ...] = where, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "thalovant_server", "prove-isolation", *at, *words], capture_output=True, text=True,
            env={**environment, "HOME": str(tmp_path), **more}, timeout=100, stdin=subprocess.DEVNULL,
        )  # fmt: skip

    return run


def clients_of(api: ThalovantControlPlane) -> list[str]:
    return [each["name"] for each in api.list_clients()["data"]]


def test_this_machines_server_is_proven_and_nothing_is_left(
    typed: Typed, server: ServerProcess, api: ThalovantControlPlane
) -> None:
    before = clients_of(api)
    run = typed("--json", "--websocket", server.ready["mqtt_websocket_endpoint"])
    assert run.returncode == 0, run.stdout + run.stderr
    said = json.loads(run.stdout)
    assert said["isolated"] is True
    seen = {(each["move"], each["mqtt"], each["road"]): each["verdict"] for each in said["moves"]}
    for road in ("TLS", "WebSocket"):
        for level in ("3.1.1", "5"):
            for move in moves():
                expected = "no effect" if move.name == HARMLESS else "denied"
                assert seen.pop((move.name, level, road)) == expected, (move.name, level, road)
    assert set(seen.values()) == {"denied"} and len(seen) == 6  # what is left to a credential that was taken away
    assert clients_of(api) == before


def test_a_token_is_enough_for_a_server_that_is_named(typed: Typed, server: ServerProcess) -> None:
    with ThalovantControlPlane(server.ready["api_url"], ca_pem=Path(server.ready["ca_file"]).read_text()) as plane:
        plane.login(*server.admin)
        token = str(plane.access_token)
    named = ("--api", server.ready["api_url"], "--hub", server.ready["hub_slug"])
    run = typed(at=named, THALOVANT_API_TOKEN=token, THALOVANT_CA_FILE=server.ready["ca_file"])
    assert run.returncode == 0, run.stdout + run.stderr
    assert run.stdout.splitlines()[-1] == "ISOLATED: 146 moves, 144 denied, 2 no effect."
    assert token not in run.stdout + run.stderr


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--hub", "nowhere"), "there is no hub 'nowhere'"),
        (("--password-file", "/nonexistent"), "name another --password-file"),
        (("--api", "https://localhost:1"), "set THALOVANT_API_TOKEN"),
        (("--email", "nobody@example.test"), "proof_not_run"),
    ],
)
def test_what_stands_in_the_way_is_told(words: tuple[str, ...], told: str, typed: Typed) -> None:
    run = typed(*words)
    assert run.returncode == 1 and told in run.stderr and run.stdout == ""


def test_the_clients_are_removed_when_the_proof_breaks_off(
    typed: Typed, server: ServerProcess, api: ThalovantControlPlane
) -> None:
    before = clients_of(api)
    run = typed("--websocket", "wss://localhost:1/mqtt")
    assert run.returncode == 1 and "cannot be reached" in run.stderr
    assert clients_of(api) == before


def test_hubs_are_as_far_apart_as_clients(
    throwaway: tuple[Throwaway, Throwaway], server: ServerProcess, api: ThalovantControlPlane
) -> None:
    """The attacker of one hub, the neighbour on another."""
    attacker, _ = throwaway
    on = {name: {"enabled": True} for name in ("wss", "http", "mqtt")}
    hub = api.create_hub({"name": "other-hub", "spec": {"version": "1", "protocols": on}})
    made = api.create_client_identity(hub["id"], name="far")
    neighbour = Throwaway(made.client_id or "", made.identity)
    apart = [each for each in moves() if "neighbour" in each.name and each.name != HARMLESS]
    outcomes = uvloop.run(prove(scene_of(attacker, neighbour), attacker.dial, apart, [5]))
    assert {each.verdict for each in outcomes} == {Verdict.DENIED} and len(outcomes) > 20
