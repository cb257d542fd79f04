# SPDX-License-Identifier: Apache-2.0
"""What an attacker is denied on the data plane is in the audit log, on each carrier, and the neighbour is not in it."""

from __future__ import annotations

import base64
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest
import uvloop
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect as connect_websocket

from thalovant import ThalovantClient, ThalovantControlPlane, ThalovantError, ThalovantIdentity
from thalovant_server.isolation.moves import moves
from thalovant_server.isolation.proof import prove
from thalovant_server.isolation.throwaway import Throwaway, scene_of
from thalovant_server.testing.certificates import for_two_threads
from thalovant_server.testing.in_process import InProcessServer

PLANTED = "planted-access-key-that-nobody-has-000000"
Identify = Callable[[str], tuple[str, ThalovantIdentity]]
Entry = dict[str, Any]
Tried = Callable[..., tuple[list[Entry], list[Entry]]]


@pytest.fixture
def identify(plane: ThalovantControlPlane, running: InProcessServer) -> Identify:
    """Make a client on the hub `demo`: its id and its identity."""

    def make(name: str) -> tuple[str, ThalovantIdentity]:
        made = plane.create_client_identity(running.ready["hub_id"], name=name)
        return made.client_id or "", made.identity

    return make


@pytest.fixture
def tls(running: InProcessServer) -> ssl.SSLContext:
    """Trusts the server."""
    return for_two_threads(ssl.create_default_context(cafile=running.ready["ca_bundle"]))


def denied(plane: ThalovantControlPlane, **filters: str) -> list[Entry]:
    return list(plane.list_audit(outcome="denied", limit=1000, **filters)["data"])


def test_every_kind_of_move_over_mqtt_is_there_and_the_neighbour_is_not(
    plane: ThalovantControlPlane, identify: Identify, running: InProcessServer
) -> None:
    attacker, neighbour = (Throwaway(*identify(name)) for name in ("attacker", "neighbour"))
    uvloop.run(prove(scene_of(attacker, neighbour), attacker.dial, moves()))
    entries = denied(plane, client_id=attacker.client_id)
    assert {each["action"] for each in entries} == {"topic.denied", "session.refused"}
    assert {each["code"] for each in entries} >= {"denied_subscribe", "denied_publish", "bad_login", "bad_will"}
    assert {each["target"]["name"] for each in entries} == {"attacker"}
    assert {(each["hub_id"], each["address"]) for each in entries} == {(running.ready["hub_id"], "127.0.0.1")}
    assert {each["actor"]["kind"] for each in entries if each["action"] == "topic.denied"} == {"client"}
    assert all(each["after"]["carrier"] == "mqtt" for each in entries)
    named = [each["after"]["what"] for each in entries if each["action"] == "topic.denied"]
    assert named and all(what.isprintable() for what in named)
    assert {each["code"] for each in denied(plane, client_id=neighbour.client_id)} <= {"bad_login"}


@pytest.fixture
def tried(plane: ThalovantControlPlane, identify: Identify) -> Tried:
    """Make these moves over MQTT 5; the denied entries of the attacker, and those of the neighbour."""

    def make(*names: str) -> tuple[list[Entry], list[Entry]]:
        attacker, neighbour = (Throwaway(*identify(f"tried-{each}")) for each in "ab")
        wanted = [each for each in moves() if each.name in names]
        assert len(wanted) == len(names)
        uvloop.run(prove(scene_of(attacker, neighbour), attacker.dial, wanted, [5]))
        return denied(plane, client_id=attacker.client_id), denied(plane, client_id=neighbour.client_id)

    return make


def test_who_tries_a_neighbours_password_shows_at_the_neighbour(tried: Tried) -> None:
    own, neighbours = tried("log in as a neighbour with the own password")
    assert own == [] and [each["action"] for each in neighbours] == ["session.refused"]


def test_repetitions_are_a_number(tried: Tried) -> None:
    names = [each.name for each in moves() if each.name.startswith("subscribe to neighbour/")]
    own, _ = tried(*names)
    assert len(names) > 4 and len(own) == 1


def test_a_key_that_nobody_has_is_there_as_a_fingerprint(
    plane: ThalovantControlPlane, running: InProcessServer, tls: ssl.SSLContext
) -> None:
    query = base64.b64encode(f"tests/1:{PLANTED}".encode()).decode()
    url = f"{running.ready['wss_endpoint']}?authorization={query}"
    with connect_websocket(url, ssl=tls, proxy=None) as socket, pytest.raises(ConnectionClosed):
        socket.recv()
    url = f"{running.ready['https_endpoint']}/connect?authorization={query}"
    assert httpx2.post(url, verify=tls).status_code == 403
    entries = [each for each in denied(plane, action="session.refused") if each["code"] == "unknown_key"]
    assert {each["after"]["carrier"] for each in entries} == {"wss", "https"}
    assert {(each["actor"]["kind"], each["client_id"], each["hub_id"]) for each in entries} == {("nobody", None, None)}
    assert len({each["after"]["key"] for each in entries}) == 1
    assert PLANTED not in repr(entries)


def test_a_credential_that_is_tried_on_another_hub_is_there(
    plane: ThalovantControlPlane, identify: Identify, running: InProcessServer, tls: ssl.SSLContext
) -> None:
    client_id, identity = identify("astray")
    hub = plane.create_hub({"name": "elsewhere", "spec": {"version": "1"}})
    query = base64.b64encode(f"tests/1:{identity.access_key}".encode()).decode()
    path = f"hubs/{hub['id']}?authorization={query}"
    host = running.ready["api_url"].removeprefix("https://")
    with connect_websocket(f"wss://{host}/{path}", ssl=tls, proxy=None) as socket, pytest.raises(ConnectionClosed):
        socket.recv()
    assert httpx2.post(f"https://{host}/{path.replace('?', '/connect?')}", verify=tls).status_code == 403
    entries = denied(plane, client_id=client_id)
    assert {(each["action"], each["after"]["carrier"]) for each in entries} == {
        ("session.refused", "wss"),
        ("session.refused", "https"),
    }
    assert {each["hub_id"] for each in entries} == {running.ready["hub_id"]}  # its own: whose client it is


def test_a_message_that_a_client_may_not_send_is_there_with_its_type(
    plane: ThalovantControlPlane, identify: Identify
) -> None:
    client_id, identity = identify("talkative")
    with ThalovantClient(identity, protocol="wss") as client:
        for _ in range(3):
            with pytest.raises(ThalovantError):
                client.propagate("dinner", {"at": 7})
    [entry] = denied(plane, client_id=client_id)
    assert (entry["action"], entry["after"]["what"]) == ("message.denied", "propagate")
    assert entry["actor"]["id"] == client_id


def test_whoever_knows_the_key_but_not_the_cookie_of_a_session_over_https_is_there(
    plane: ThalovantControlPlane, identify: Identify, running: InProcessServer, tls: ssl.SSLContext
) -> None:
    client_id, identity = identify("polled")
    query = base64.b64encode(f"tests/1:{identity.access_key}".encode()).decode()
    with ThalovantClient(identity, protocol="https") as client:
        client.ask("hello")
        for method, name in (("GET", "get_messages"), ("POST", "send_message"), ("POST", "disconnect")):
            url = f"{running.ready['https_endpoint']}/{name}?authorization={query}"
            httpx2.request(method, url, verify=tls)
        assert client.ask("hello again").text  # it notices nothing
    [entry] = denied(plane, client_id=client_id)
    assert (entry["code"], entry["actor"]["kind"]) == ("wrong_session", "nobody")


def test_what_was_denied_before_a_stop_is_there_after_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = InProcessServer(tmp_path / "data").start()
    try:
        monkeypatch.setenv("SSL_CERT_FILE", server.ready["ca_bundle"])
        trusting = ssl.create_default_context(cafile=server.ready["ca_bundle"])
        query = base64.b64encode(f"tests/1:{PLANTED}".encode()).decode()
        for _ in range(3):
            url = f"{server.ready['https_endpoint']}/connect?authorization={query}"
            assert httpx2.post(url, verify=trusting).status_code == 403
        server.stop()
        server.start()
        with ThalovantControlPlane(server.ready["api_url"]) as again:
            again.login(*server.admin)
            entries = denied(again)
        assert [(each["code"], each["times"]) for each in entries] == [("unknown_key", 2), ("unknown_key", 1)]
    finally:
        server.stop()
