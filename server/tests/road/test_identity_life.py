# SPDX-License-Identifier: Apache-2.0
"""The life of an identity over real sockets: rotated without an outage, paused, ended; the same words on every road."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx2
import pytest
from raw_mqtt import REASON_STRING, Client, Dialect, Login
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from thalovant import AsyncThalovantClient, ThalovantConnectionError, ThalovantControlPlane, ThalovantIdentity
from thalovant.bootstrap import BootstrapIdentityResult
from thalovant.errors import ThalovantAPIError
from thalovant.protocol import noise
from thalovant_server.testing.certificates import for_two_threads
from thalovant_server.testing.directory import cheap_stretch
from thalovant_server.testing.in_process import InProcessServer, MovedClock

CARRIERS = ("mqtt", "wss", "https")
HOUR = 3600


@pytest.fixture(scope="module")
def clock() -> MovedClock:
    """The server's time of day."""
    return MovedClock()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, clock: MovedClock) -> Iterator[InProcessServer]:
    """A server whose stretching is cheap, for this file's clients too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(noise, "stretch", cheap_stretch)
        with InProcessServer(tmp_path_factory.mktemp("life") / "data", clock=clock) as server:
            yield server


@pytest.fixture
def plane(running: InProcessServer) -> Iterator[ThalovantControlPlane]:
    """Signed in as the admin, for as long as the clock of one test goes."""
    authority = Path(running.ready["ca_file"]).read_text()
    with ThalovantControlPlane(running.ready["api_url"], ca_pem=authority) as signed_in:
        signed_in.login(*running.admin)
        yield signed_in


class Raw:
    """Bare sessions of one credential, one on each carrier and version: what each is told at its end, and after it."""

    def __init__(self, running: InProcessServer, identity: ThalovantIdentity, stack: contextlib.ExitStack) -> None:
        assert identity.mqtt is not None and identity.mqtt.topic_prefix is not None
        self._mqtt_address = running.ready["mqtt_endpoint"].removeprefix("mqtts://").rsplit(":", 1)
        self._login = Login(identity.mqtt.username, identity.mqtt.password, identity.mqtt.topic_prefix)
        self._tls = for_two_threads(ssl.create_default_context(cafile=running.ready["ca_file"]))
        key = base64.b64encode(f"raw/1:{identity.access_key}".encode()).decode()
        self._wss = f"{identity.data_plane_endpoints.wss}?authorization={quote(key, safe='')}"
        self._https = identity.data_plane_endpoints.https
        self._query = {"authorization": key}
        self._stack, self._http = stack, stack.enter_context(httpx2.Client(verify=self._tls, trust_env=False))

    def open(self) -> Raw:
        """Begin a session on each."""
        self._five, self._three = self._dial(5), self._dial(4)
        assert [self._enter(each) for each in (self._five, self._three)] == [("CONNACK", 0)] * 2
        self._socket = self._stack.enter_context(connect(self._wss, ssl=self._tls, compression=None, proxy=None))
        assert "hello" in str(self._socket.recv(10))
        assert self._call("POST", "connect") == 200
        return self

    def ends(self) -> dict[str, Any]:
        """What each is told; waits for it."""
        said = self._five.receive()
        assert said is not None and self._five.closed()
        return {
            "mqtt 5": (said.kind, said.code, said.properties[REASON_STRING]),
            "mqtt 3.1.1": "closed" if self._three.closed() else "open",
            "wss": self._close_frame(),
            "https": self._call("GET", "get_messages"),
        }

    def refused(self) -> dict[str, Any]:
        """What it is told when it comes again."""
        again = {f"mqtt {level}": self._enter(self._dial(level)) for level in (5, 4)}
        self._socket = self._stack.enter_context(connect(self._wss, ssl=self._tls, compression=None, proxy=None))
        return {**again, "wss": self._close_frame(), "https": self._call("POST", "connect")}

    def reaches(self, other: Raw) -> list[int]:
        """What it is answered when it subscribes to another's topics, and publishes there."""
        to_the_hub, from_the_hub = (other._login.topic(each) for each in ("c2s", "s2c"))
        heard = self._five.ask(self._five.write_as.subscribe(1, (from_the_hub, 1)))
        said = self._five.ask(self._five.write_as.publish(to_the_hub, b"{}", qos=1, packet_id=2))
        return [*heard.codes, said.code]

    def goes_on(self) -> bool:
        """Whether its MQTT sessions are open: whatever was to end them came before the answer to a ping."""
        return self._five.silent() and self._three.silent()

    def _dial(self, level: int) -> Client:
        client = Client(Dialect(level), (self._mqtt_address[0], int(self._mqtt_address[1])), self._tls)
        self._stack.callback(client.close)
        return client

    def _enter(self, client: Client) -> tuple[str, int]:
        said = client.ask(client.write_as.connect(self._login, f"raw-{client.write_as.level}"))
        return said.kind, said.code

    def _close_frame(self) -> tuple[int, str] | None:
        with pytest.raises(ConnectionClosed) as caught:
            while True:
                self._socket.recv(10)
        received = caught.value.rcvd
        return received and (received.code, received.reason)

    def _call(self, method: str, name: str) -> int:
        return self._http.request(method, f"{self._https}/{name}", params=self._query).status_code


@pytest.fixture
def raw(running: InProcessServer) -> Iterator[Callable[[ThalovantIdentity], Raw]]:
    """Make bare clients of an identity."""
    with contextlib.ExitStack() as stack:
        yield lambda identity: Raw(running, identity, stack)


def made(plane: ThalovantControlPlane, running: InProcessServer) -> BootstrapIdentityResult:
    return plane.create_client_identity(running.ready["hub_id"], name="life")


def id_of(result: BootstrapIdentityResult) -> str:
    assert result.client_id is not None
    return result.client_id


FRESH = b"This credential was revoked or changed. Use the newest identity of this client, or create a fresh one."
END = {
    "mqtt 5": ("DISCONNECT", 0x87, FRESH),
    "mqtt 3.1.1": "closed",
    "wss": (1008, "this credential was revoked"),
    "https": 403,
}
REFUSED = {"mqtt 5": ("CONNACK", 0x86), "mqtt 4": ("CONNACK", 5), "wss": (1008, "invalid api key"), "https": 403}
REPLACED = {**REFUSED, "wss": (1008, "this credential was replaced: use the client's newest identity")}
REMOVED = {**REFUSED, "wss": (1008, "this client was removed")}
PAUSED = {**REFUSED, "mqtt 5": ("CONNACK", 0x87), "wss": (1008, "this client is paused")}
END_OF_PAUSED = {
    **END,
    "mqtt 5": ("DISCONNECT", 0x87, b"This client is paused. Its owner can resume it."),
    "wss": PAUSED["wss"],
}


@pytest.mark.parametrize("how", ["finished", "cancelled", "replaced", "expired", "paused", "removed"])
def test_a_credential_that_ends_is_cut_on_every_carrier_and_refused(
    how: str, plane: ThalovantControlPlane, running: InProcessServer, clock: MovedClock, raw: Callable[..., Raw]
) -> None:
    first = made(plane, running)
    client, old, rotated = id_of(first), raw(first.identity).open(), None
    if how in ("finished", "cancelled", "expired"):
        rotated = raw(plane.rotate_client_identity(client, grace_seconds=HOUR).identity).open()
    lost, kept = (rotated, old) if how == "cancelled" else (old, rotated)
    assert lost is not None and old.goes_on()
    if how == "finished":
        plane.finish_rotation(client, force=True)
    elif how == "cancelled":
        plane.cancel_rotation(client)
    elif how == "replaced":
        plane.rotate_client_identity(client, grace_seconds=0)
    elif how == "expired":
        clock.ahead += HOUR
    elif how == "paused":
        plane.pause_client(client)
    else:
        plane.delete_client(client)
    assert lost.ends() == (END_OF_PAUSED if how == "paused" else END)
    assert kept is None or kept.goes_on()
    assert lost.refused() == {"paused": PAUSED, "removed": REMOVED}.get(how, REPLACED)
    denied = plane.list_audit(client_id=client, action="session.refused")["data"]
    code = how if how in ("paused", "removed") else "rotated_out"
    assert {(each["code"], each["hub_id"], each["target"]["name"]) for each in denied} == {
        (code, running.ready["hub_id"], "life")
    }
    if how == "paused":
        plane.resume_client(client)
        assert lost.open().goes_on()


def test_the_two_credentials_of_a_client_do_not_reach_each_others_topics(
    plane: ThalovantControlPlane, running: InProcessServer, raw: Callable[..., Raw]
) -> None:
    first = made(plane, running)
    second = plane.rotate_client_identity(id_of(first))
    old, new = raw(first.identity).open(), raw(second.identity).open()  # with the same MQTT client ids
    assert [old.reaches(new), new.reaches(old)] == [[0x87, 0x87]] * 2
    assert old.goes_on() and new.goes_on()
    assert [old.reaches(old), new.reaches(new)] == [[1, 0]] * 2


@pytest.mark.parametrize("off", CARRIERS)
def test_a_protocol_that_is_turned_off_ends_its_own_sessions_only(off: str, plane: ThalovantControlPlane) -> None:
    spelled = {"https": "http"}.get(off, off)
    on = {name: {"enabled": True} for name in ("wss", "http", "mqtt")}
    hub = plane.create_hub({"name": f"off {off}", "spec": {"version": "1", "protocols": on}})
    identity = plane.create_client_identity(hub["id"], name="one").identity

    async def main() -> None:
        clients = {each: AsyncThalovantClient(identity, protocol=each, auto_reconnect=False) for each in CARRIERS}
        await asyncio.gather(*(client.connect() for client in clients.values()))
        change = {"spec": {"protocols": {spelled: {"enabled": False}}}}
        await asyncio.to_thread(plane.update_hub, hub["id"], change, etag=hub["etag"])
        await clients[off].wait_closed(10)
        for carrier, client in clients.items():
            if carrier != off:
                assert (await client.ask("still here")).text == "still here"
            await client.close()
        with pytest.raises(ThalovantConnectionError):
            await AsyncThalovantClient(identity, protocol=off, auto_reconnect=False).connect()

    asyncio.run(main())


def test_both_credentials_ask_on_every_carrier_until_the_grace_is_over(
    plane: ThalovantControlPlane, running: InProcessServer, clock: MovedClock
) -> None:
    first = made(plane, running)
    client = id_of(first)

    def dial(identity: ThalovantIdentity) -> list[AsyncThalovantClient]:
        return [AsyncThalovantClient(identity, protocol=each, auto_reconnect=False) for each in CARRIERS]

    async def ask(clients: list[AsyncThalovantClient]) -> None:
        answers = await asyncio.gather(*(each.ask("hello") for each in clients))
        assert [each.text for each in answers] == ["hello"] * 3

    async def main() -> None:
        old = dial(first.identity)
        await ask(old)
        second = await asyncio.to_thread(plane.rotate_client_identity, client, grace_seconds=HOUR)
        with pytest.raises(ThalovantAPIError, match="new_credential_unused"):
            await asyncio.to_thread(plane.finish_rotation, client)
        new = dial(second.identity)
        await asyncio.gather(ask(old), ask(new))
        shown = (await asyncio.to_thread(plane.get_client, client))["credentials"]
        assert [each["last_used"]["address"] for each in shown] == ["127.0.0.1"] * 2
        clock.ahead += HOUR
        await asyncio.gather(*(each.wait_closed(10) for each in old))
        await ask(new)
        for late in dial(first.identity):
            with pytest.raises(ThalovantConnectionError):
                await late.connect()
        for each in [*old, *new]:
            await each.close()

    asyncio.run(main())
    assert plane.lookup_credential(first.identity.access_key)["why"] == "rotated"


def test_a_finish_goes_through_once_the_new_credential_has_connected_and_after_a_restart(
    plane: ThalovantControlPlane, running: InProcessServer
) -> None:
    first = made(plane, running)
    second = plane.rotate_client_identity(id_of(first))

    async def connect_once() -> None:
        async with AsyncThalovantClient(second.identity, protocol="mqtt") as client:
            await client.ask("hello")

    asyncio.run(connect_once())
    running.stop()
    running.start()
    (left,) = plane.finish_rotation(id_of(first))["credentials"]
    assert (left["number"], left["last_used"]["carrier"], left["key_pinned"]) == (2, "mqtt", True)
    asyncio.run(connect_once())


def test_a_grace_that_ended_while_the_server_was_down_is_over_at_its_start(
    plane: ThalovantControlPlane, running: InProcessServer, clock: MovedClock, raw: Callable[..., Raw]
) -> None:
    first = made(plane, running)
    plane.rotate_client_identity(id_of(first), grace_seconds=HOUR)
    running.stop()
    clock.ahead += HOUR
    running.start()
    assert raw(first.identity).refused() == REPLACED
    (denied, *_) = plane.list_audit(client_id=id_of(first), action="session.refused")["data"]
    assert (denied["code"], denied["hub_id"]) == ("rotated_out", running.ready["hub_id"])
    found = plane.lookup_credential(first.identity.access_key)
    assert (found["status"], found["why"], found["credential"]) == ("ended", "rotated", None)
