# SPDX-License-Identifier: Apache-2.0
"""What is no matter of MQTT: other people's HTTPS sessions, credentials that are none, and hubs that would run code."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from thalovant import ThalovantAPIError, ThalovantClient, ThalovantControlPlane, ThalovantIdentity
from thalovant.addresses import authorization_query, https_base, wss_request
from thalovant_server.isolation.attacker import Attack
from thalovant_server.isolation.moves import Move, Party, Scene, stale
from thalovant_server.isolation.packets import Wire
from thalovant_server.isolation.throwaway import Throwaway, scene_of
from thalovant_server.isolation.verdicts import Verdict, judge
from thalovant_server.testing.certificates import for_two_threads
from thalovant_server.testing.in_process import InProcessServer

AGENT = "isolation/1"
NOT_CONNECTED = {"error": "Client is not connected"}
Make = Callable[..., ThalovantIdentity]


@pytest.fixture
def make(plane: ThalovantControlPlane, running: InProcessServer) -> Make:
    """Make an identity, of the hub `demo` unless another is named."""
    return lambda hub=None: plane.create_client_identity(hub or running.ready["hub_id"], name="sessions").identity


@pytest.fixture
def make_hub(plane: ThalovantControlPlane) -> Callable[..., dict[str, Any]]:
    """Make a hub with these carriers."""

    def made(name: str, *carriers: str) -> dict[str, Any]:
        protocols = {each: {"enabled": each in carriers} for each in ("wss", "http", "mqtt")}
        return plane.create_hub({"name": name, "spec": {"version": "1", "protocols": protocols}})

    return made


@pytest.fixture
def http(running: InProcessServer) -> Iterator[httpx2.Client]:
    """A client of HTTP that trusts the server and keeps no cookie."""
    tls = ssl.create_default_context(cafile=running.ready["ca_file"])
    with httpx2.Client(verify=tls, trust_env=False) as client:
        yield client


def ask(http: httpx2.Client, identity: ThalovantIdentity, name: str, base: str = "", **more: Any) -> httpx2.Response:
    """Knock as somebody who knows the access key and nothing else."""
    method = "GET" if name.startswith("get") else "POST"
    http.cookies.clear()
    query = authorization_query(AGENT, identity.access_key)
    return http.request(method, f"{base or https_base(identity)}/{name}?{query}", **more)


@pytest.mark.parametrize(
    ("name", "status", "said"),
    [
        ("get_messages", 200, NOT_CONNECTED),
        ("get_binary_messages", 200, NOT_CONNECTED),
        ("send_message", 409, NOT_CONNECTED),
        ("exchange", 409, NOT_CONNECTED),
        ("disconnect", 200, {"error": "Already Disconnected"}),
    ],
)
@pytest.mark.parametrize("cookie", ["", "hivemind_http_replica=guessed"])
def test_the_access_key_alone_is_no_session(
    name: str, status: int, said: dict[str, str], cookie: str, make: Make, http: httpx2.Client
) -> None:
    identity = make()
    with ThalovantClient(identity, protocol="https") as owner:
        assert owner.ask("mine").text == "mine"
        form = {"data": {"message": "AAAA", "binary": "1"}} if name == "send_message" else {}
        got = ask(http, identity, name, headers={"cookie": cookie} if cookie else {}, **form)
        assert (got.status_code, got.json()) == (status, said)
        assert owner.ask("still mine").text == "still mine"


def test_a_second_connect_takes_nothing_from_the_first(make: Make, http: httpx2.Client) -> None:
    identity = make()
    with ThalovantClient(identity, protocol="https") as owner:
        assert owner.ask("mine").text == "mine"
        for _ in range(6):  # more than the unfinished sessions that one credential may have
            assert ask(http, identity, "connect").status_code == 200
        assert owner.ask("still mine").text == "still mine"


# -- credentials


def knock(http: httpx2.Client, identity: ThalovantIdentity, hub_id: str | None = None) -> tuple[int, int]:
    """The status of /connect and the close code of a WebSocket, below another hub's path if one is named."""
    base, wss = https_base(identity), wss_request(identity, AGENT)
    if hub_id is not None:
        base = f"{base.rpartition('/')[0]}/{hub_id}"
        parts = urlsplit(wss)
        wss = parts._replace(path=f"/hubs/{hub_id}").geturl()
    status = ask(http, identity, "connect", base).status_code
    tls = for_two_threads(ssl.create_default_context(cadata=identity.ca_pem))
    with connect(wss, ssl=tls, proxy=None) as socket, pytest.raises(ConnectionClosed) as ended:
        while True:
            socket.recv(timeout=20)
    assert ended.value.rcvd is not None
    return status, ended.value.rcvd.code


def test_a_credential_of_one_hub_is_none_on_another(
    make: Make, make_hub: Callable[..., dict[str, Any]], http: httpx2.Client
) -> None:
    other = make_hub("elsewhere", "wss", "http", "mqtt")
    assert knock(http, make(), other["id"]) == (403, 1008)
    assert knock(http, make(other["id"]), "no-such-hub") == (403, 1008)


@pytest.mark.parametrize(
    "spelt", [str.swapcase, lambda key: key[:-1], lambda key: f"{key} "], ids=["case", "cut", "space"]
)
def test_an_access_key_spelt_otherwise_is_none(spelt: Callable[[str], str], make: Make, http: httpx2.Client) -> None:
    identity = make()
    assert knock(http, replace(identity, access_key=spelt(identity.access_key))) == (403, 1008)


def test_a_revoked_and_a_rotated_credential_are_none(
    make: Make, plane: ThalovantControlPlane, running: InProcessServer, http: httpx2.Client
) -> None:
    revoked = plane.create_client_identity(running.ready["hub_id"], name="revoked")
    rotated = plane.create_client_identity(running.ready["hub_id"], name="rotated")
    plane.delete_client(revoked.client_id or "")
    plane.rotate_client_identity(rotated.client_id or "", grace_seconds=0)
    for each in (revoked, rotated):
        assert knock(http, each.identity) == (403, 1008)


def test_a_rotated_credential_past_its_grace_is_none_on_any_carrier(
    plane: ThalovantControlPlane, running: InProcessServer, http: httpx2.Client
) -> None:
    attacker, neighbour = (plane.create_client_identity(running.ready["hub_id"], name=f"grace-{n}") for n in (1, 2))
    plane.rotate_client_identity(attacker.client_id or "", grace_seconds=60)
    with ThalovantClient(attacker.identity, protocol="wss") as within:
        assert within.ask("within the grace").text == "within the grace"
    running.clock.ahead += 61  # type: ignore[attr-defined]
    try:
        assert knock(http, attacker.identity) == (403, 1008)
        first, second = throwaway_of(attacker), throwaway_of(neighbour)
        move = stale("a rotated credential past its grace")
        assert tried(move, scene_of(first, second), first) == {Verdict.DENIED}
    finally:
        running.clock.ahead -= 61  # type: ignore[attr-defined]


def test_an_identity_made_before_mqtt_was_enabled_has_no_way_in(
    plane: ThalovantControlPlane, make_hub: Callable[..., dict[str, Any]], running: InProcessServer
) -> None:
    """Not even with the password that it has for the other carriers, on the topics that it would have had."""
    hub = make_hub("before-mqtt", "wss", "http")
    early = plane.create_client_identity(hub["id"], name="early")
    assert early.identity.mqtt is None
    plane.update_hub(hub["id"], {"spec": {"protocols": {"mqtt": {"enabled": True}}}}, etag=hub["etag"])
    neighbour = throwaway_of(plane.create_client_identity(hub["id"], name="late"))
    prefix = f"hubs/{hub['id']}/clients/{early.client_id}"
    guessed = Party(early.identity.access_key, early.identity.password, prefix)
    move = stale("an identity made before MQTT was enabled")
    assert tried(move, Scene(guessed, neighbour.party), neighbour) == {Verdict.DENIED}
    for password in ("", early.identity.access_key):
        other = Party(early.identity.access_key, password, prefix)
        assert tried(move, Scene(other, neighbour.party), neighbour) == {Verdict.DENIED}


def throwaway_of(made: Any) -> Throwaway:
    return Throwaway(made.client_id, made.identity)


def tried(move: Move, scene: Scene, through: Throwaway) -> set[Verdict]:
    """What becomes of a move at both versions of MQTT, at the broker of that identity."""

    async def main() -> set[Verdict]:
        verdicts = set()
        for level in (4, 5):
            attack = Attack(move, scene, Wire(level))
            await attack.begin(through.dial)
            await attack.end()
            verdicts.add(judge(move, level, attack.seen).verdict)
        return verdicts

    return asyncio.run(main())


# -- the control plane


def test_an_expired_token_is_none(plane: ThalovantControlPlane, running: InProcessServer, http: httpx2.Client) -> None:
    api = running.ready["api_url"]
    body = {"name": "soon over", "scopes": ["hubs:read"], "expires_in_seconds": 3600}
    mine = {"authorization": f"Bearer {plane.access_token}"}
    made = http.post(f"{api}/v1/auth/api-tokens", json=body, headers=mine).json()
    token = {"authorization": f"Bearer {made['access_token']}"}
    assert http.get(f"{api}/v1/hubs", headers=token).status_code == 200
    running.clock.ahead += 3601  # type: ignore[attr-defined]
    try:
        refused = http.get(f"{api}/v1/hubs", headers=token)
    finally:
        running.clock.ahead -= 3601  # type: ignore[attr-defined]
    assert refused.status_code == 401 and refused.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    "spec",
    [
        {"agent": "python:os:system"},
        {"agent": "/bin/sh"},
        {"agent": "https://attacker.example/agent"},
        {"agent": "../../agent"},
        {"agent_module": "os"},
        {"agentUrl": "https://attacker.example"},
        {"command": "sh"},
    ],
    ids=lambda spec: "=".join(map(str, next(iter(spec.items())))),
)
def test_who_may_write_hubs_may_not_name_code_a_path_or_an_address(
    spec: dict[str, str], plane: ThalovantControlPlane, make_hub: Callable[..., dict[str, Any]]
) -> None:
    before = plane.get_hub(running_hub(plane))
    with pytest.raises(ThalovantAPIError) as made:
        plane.create_hub({"name": "code", "spec": {"version": "1", **spec}})
    with pytest.raises(ThalovantAPIError) as changed:
        plane.update_hub(before["id"], {"spec": spec}, etag=before["etag"])
    assert made.value.status_code == changed.value.status_code == 422
    assert plane.get_hub(before["id"]) == before


def running_hub(plane: ThalovantControlPlane) -> str:
    return str(plane.list_hubs()["data"][0]["id"])
