# SPDX-License-Identifier: Apache-2.0
"""Two machines with addresses of their own: signing in, asking on each road, and a link that goes and comes back."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from thalovant_server.testing import ServerProcess

ROADS = ("mqtt", "wss", "https")
HUB = "10.9.1.1"


@pytest.mark.parametrize("road", ROADS)
def test_a_second_machine_signs_in_with_the_fingerprint_and_asks(
    land: Any, make_identity: Callable[..., Path], typed: Callable[..., str], road: str
) -> None:
    identity = make_identity(land.edge, f"edge-{road}")
    said = typed(land.edge, "ask", f"over {road}", "--identity", str(identity), "--protocol", road)
    assert f"over {road}: run 1" in said


def test_an_identity_names_the_address_that_others_reach(land: Any, make_identity: Callable[..., Path]) -> None:
    identity = json.loads(make_identity(land.edge, "addresses").read_text())
    addresses = [*identity["data_plane_endpoints"].values(), identity["mqtt"]["endpoint"]]
    assert all(f"//{HUB}:" in address for address in addresses), addresses


def test_a_wrong_fingerprint_ends_before_the_password_is_told(
    land: Any, server: ServerProcess, home: dict[str, str], tmp_path: Path
) -> None:
    lines = len(server.output)
    words = ["login", server.ready["api_url"], "--ca-fingerprint", "00" * 32, "--email", server.ready["admin_email"]]
    done = subprocess.run(
        [*land.edge.inside, sys.executable, "-m", "thalovant", *words],
        input="not-the-password\n", capture_output=True, text=True, env=home, cwd=tmp_path, timeout=60,
    )  # fmt: skip
    assert done.returncode == 1
    assert "fingerprint" in done.stderr
    assert not any("login" in line for line in server.output[lines:])


@pytest.mark.parametrize("road", ROADS)
def test_a_link_that_is_lost_for_a_moment_costs_no_answer(
    land: Any, make_identity: Callable[..., Path], far_client: Callable[..., Any], road: str
) -> None:
    client = far_client(land.edge, make_identity(land.edge, f"moment-{road}"), protocol=road)
    assert client("ask", "answered", text=f"before {road}", timeout=20)["text"] == f"before {road}: run 1"
    client.tell("ask", text=f"slowly 1 {road}", timeout=40)
    land.to_edge.pull()
    with pytest.raises(subprocess.TimeoutExpired):  # three seconds without a link, and nothing of it is waited for
        subprocess.run(["sleep", "60"], timeout=3, check=True)
    land.to_edge.put_back()
    assert client.hear("answered")["text"] == f"slowly 1 {road}: run 1"


@pytest.mark.parametrize("road", ROADS)
def test_an_ask_without_a_link_ends_in_time_and_the_next_one_needs_no_new_client(
    land: Any, make_identity: Callable[..., Path], far_client: Callable[..., Any], road: str
) -> None:
    client = far_client(land.edge, make_identity(land.edge, f"gone-{road}"), protocol=road)
    assert client("ask", "answered", text=f"first {road}", timeout=20)["text"] == f"first {road}: run 1"
    land.to_edge.pull()
    failed = client("ask", "failed", text=f"lost {road}", timeout=4)
    assert failed["error"] in ("ThalovantTimeoutError", "ThalovantConnectionError", "HandshakeTimeoutError"), failed
    land.to_edge.put_back()
    assert client("ask", "answered", text=f"again {road}", timeout=40)["text"] == f"again {road}: run 1"
    assert len(client("heard", "heard")["heard"]) == len(set(client("heard", "heard")["heard"]))


def test_a_device_whose_link_is_lost_is_told_offline(
    land: Any, make_identity: Callable[..., Path], server: ServerProcess
) -> None:
    """A stock client with a keep alive of five seconds; whoever watches its status hears the will."""
    identity = json.loads(make_identity(land.edge, "presence").read_text())
    mqtt = identity["mqtt"]
    status = mqtt["status_topic"]
    login = ["-h", HUB, "-p", mqtt["endpoint"].rpartition(":")[2], "--cafile", server.ready["ca_file"]]
    login += ["-u", mqtt["username"], "-P", mqtt["password"], "-q", "1", "-t", status]
    will = ["--will-topic", status, "--will-payload", "offline", "--will-qos", "1", "--will-retain"]
    watcher = land.hub.start(["stdbuf", "-oL", "mosquitto_sub", *login], stdout=subprocess.PIPE, text=True)
    device = land.edge.start(
        ["mosquitto_pub", *login, "-k", "5", "-r", "-l", *will],
        stdin=subprocess.PIPE,
        text=True,
    )
    try:
        device.stdin.write("online\n")
        device.stdin.flush()
        assert watcher.stdout.readline() == "online\n"
        land.to_edge.pull()
        assert watcher.stdout.readline() == "offline\n"
    finally:
        land.to_edge.put_back()
        for each in (device, watcher):
            each.kill()
            each.communicate()
