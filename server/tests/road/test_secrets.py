# SPDX-License-Identifier: Apache-2.0
"""Secrets planted through the whole API and every carrier of a real server, and then searched for in all it leaves.

Some show on purpose: the first password in its file; an access key, which names the client on the wire, in the database
and in the address that a foreign HTTP library dials.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import secrets
import ssl
import tempfile
import traceback
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect as connect_websocket

from thalovant import (
    AsyncThalovantClient,
    AsyncThalovantControlPlane,
    ThalovantClient,
    ThalovantControlPlane,
    ThalovantError,
    ThalovantIdentity,
)
from thalovant_server.data_directory import ADMIN_PASSWORD, DATABASE, SEAL_KEY
from thalovant_server.store import credentials, server_row
from thalovant_server.store.database import Database
from thalovant_server.store.sealing import Sealer
from thalovant_server.testing import ServerProcess
from thalovant_server.testing.canary import Canary
from thalovant_server.testing.certificates import for_two_threads

CARRIERS = ("wss", "https", "mqtt")
IN_DATABASE = (DATABASE, f"{DATABASE}-wal")
NOT_JSON = 'no JSON "%s"'


class Planter:
    """Makes secrets, plants them, uses them, and looks at what comes back."""

    def __init__(self, server: ServerProcess, api: ThalovantControlPlane) -> None:
        self.server, self.api, self.canary = server, api, Canary()
        self.tls = for_two_threads(ssl.create_default_context(cafile=server.ready["ca_bundle"]))
        self.http = httpx2.Client(base_url=server.ready["api_url"], verify=self.tls)
        self.tokens: list[str] = []

    def secret(self, name: str, *, allowed: tuple[str, ...] = ()) -> str:
        """A new secret."""
        made = f"planted-{secrets.token_urlsafe(30)}"
        self.canary.plant(name, made, allowed=allowed)
        return made

    def plant_identity(self, name: str, identity: ThalovantIdentity) -> None:
        """What a client was given."""
        self.canary.plant(f"{name}'s password", identity.password)
        self.canary.plant(f"{name}'s access key", identity.access_key, allowed=IN_DATABASE)
        if identity.mqtt is not None:
            self.canary.plant(f"{name}'s broker password", identity.mqtt.password)

    def refused(self, place: str, attempt: Callable[[], Any]) -> None:
        """Try what must fail, and look at the error."""
        with pytest.raises(ThalovantError) as caught:
            attempt()
        self.canary.look(place, "".join(traceback.format_exception_only(caught.value)) + repr(caught.value))

    def answer(self, method: str, path: str, *, refused: bool = False, **more: Any) -> httpx2.Response:
        """Send a request, signed in; look at its answer and at its headers."""
        bearer = {"authorization": f"Bearer {self.api.access_token}"}
        got = self.http.request(method, path, **{"headers": bearer, **more})
        assert got.is_success is not refused, (method, path, got.status_code)
        self.canary.look(f"{method} {path.partition('?')[0]}", got.content + repr(got.headers).encode())
        return got


@pytest.fixture(scope="module")
def planter(server: ServerProcess, api: ThalovantControlPlane) -> Iterator[Planter]:
    """On the server of this file."""
    made = Planter(server, api)
    made.canary.plant("the admin's password", server.admin[1], allowed=(ADMIN_PASSWORD,))
    made.canary.plant("the admin's token", api.access_token or "")
    yield made
    made.http.close()


def people_and_tokens(planter: Planter) -> None:
    """Sign in rightly and wrongly, invite, change passwords, make tokens, log a device in."""
    api, url = planter.api, planter.server.ready["api_url"]
    email, hub_id = planter.server.admin[0], planter.server.ready["hub_id"]
    for place in ("a wrong password", "a password as the e-mail"):
        typed = planter.secret(place)
        who = (email, typed) if place == "a wrong password" else (typed, typed)
        planter.refused(place, lambda who=who: ThalovantControlPlane(url).login(*who))
    invited = api.invite_user("ada@example.test")
    planter.canary.plant("an invitation", invited["invitation_token"])
    first, second = planter.secret("ada's first password"), planter.secret("ada's second password")
    api.accept_invitation(invited["invitation_token"], first)
    with ThalovantControlPlane(url) as ada:
        ada.login("ada@example.test", first)
        planter.canary.plant("ada's token", ada.access_token or "")
        planter.refused("a wrong present password", lambda: ada.change_password(planter.secret("a guess"), second))
        ada.change_password(first, second)
        planter.refused("a hub of another", lambda: ada.update_hub(hub_id, {"active": False}, etag='W/"1"'))
    made = api.create_api_token("nightly", scopes=["hubs:read"])
    planter.canary.plant("an API token", made["access_token"])
    with ThalovantControlPlane(url, access_token=made["access_token"]) as narrow:
        planter.refused("too narrow a token", lambda: narrow.list_audit())
        planter.canary.look("repr of a control plane", repr(narrow))
    with ThalovantControlPlane(url, access_token=planter.secret("a made-up token")) as nobody:
        planter.refused("a made-up token", lambda: nobody.list_hubs())
    device_login(planter, url)


def device_login(planter: Planter, url: str) -> None:
    """Log a device in, and refuse another."""
    with ThalovantControlPlane(url) as device:
        asked = device.begin_device_login(client_name="a television")
        planter.canary.plant("a device code", asked.device_code)
        planter.canary.look("repr of a device login", repr(asked))
        planter.refused("a pending device login", lambda: device.poll_device_login(asked))
        planter.api.approve_device_login(asked.user_code)
        token = device.poll_device_login(asked)
        planter.canary.plant("a device's token", token.access_token)
        planter.canary.look("repr of a device's token", repr(token) + repr(device))
        code = planter.secret("a made-up device code")
        planter.refused("a made-up device code", lambda: device.poll_device_login(code))


def hubs_and_clients(planter: Planter) -> ThalovantIdentity:
    """Make a hub and clients with secrets of one's own choice, rotate, look up, change the policy."""
    api = planter.api
    hub = api.create_hub({"name": "kitchen", "spec": {"version": "1", "password": planter.secret("a hub's password")}})
    api.update_hub(hub["id"], {"spec": {"apiKey": planter.secret("a hub's key")}}, etag=hub["etag"])
    access_key = planter.secret("a chosen access key", allowed=IN_DATABASE)
    spec = {"apiKey": access_key, "password": planter.secret("a chosen password")}
    chosen = planter.answer("GET", f"/v1/hubs/{hub['id']}").json()
    api.create_client({"hub_id": chosen["id"], "name": "own secrets", "spec": spec})
    made = api.create_client_identity(planter.server.ready["hub_id"], name="canary")
    planter.plant_identity("the first credential", made.identity)
    client_id = made.client_id or ""
    planter.canary.look("repr of a new client", repr(made) + repr(made.identity) + str(made.identity))
    rotated = api.rotate_client_identity(client_id)
    planter.plant_identity("the second credential", rotated.identity)
    planter.canary.look("repr of a rotation", repr(rotated))
    planter.answer("POST", "/v1/clients/lookup", json={"access_key": made.identity.access_key})
    unknown = {"access_key": planter.secret("a key that is looked up")}
    planter.answer("POST", "/v1/clients/lookup", json=unknown, refused=True)
    for path in ("presence", "policy"):
        planter.answer("GET", f"/v1/clients/{client_id}/{path}")
    return rotated.identity


def malformed(planter: Planter) -> None:
    """Requests that are wrong in some way, each with a secret in it."""
    secret = planter.secret("a secret in a malformed request")
    bodies: list[dict[str, Any]] = [
        {"content": (NOT_JSON % secret).encode()},
        {"json": {"name": [secret], "spec": secret}},
        {"json": {"name": f"{secret}\n", "spec": {"version": "1"}}},
        {"json": {"name": "x", "spec": {"version": "1", "agent": secret}}},
        {"json": {"name": "x", "spec": {"version": "1"}, secret: 1, "slug": f"{secret}!"}},
    ]
    for body in bodies:
        planter.answer("POST", "/v1/hubs", refused=True, **body)
    for path in (f"/v1/hubs/{secret}", f"/v1/clients/{secret}", f"/v1/audit?cursor={secret}", f"/v1/{secret}"):
        got = planter.answer("GET", path, refused=True)
        assert secret not in got.text
    planter.answer("GET", "/v1/hubs", refused=True, headers={"authorization": f"Basic {secret}"})


def talk(planter: Planter, identity: ThalovantIdentity) -> None:
    """Ask over every carrier, with the right secrets and with wrong ones."""
    wrong = replace(identity, password=planter.secret("a wrong client password"))
    for carrier in CARRIERS:
        with ThalovantClient(identity, protocol=carrier) as client:
            assert client.ask("hello").text
            planter.canary.look(f"repr of a client over {carrier}", repr(client) + repr(client.identity))
        planter.refused(f"a wrong password over {carrier}", lambda carrier=carrier: _ask(wrong, carrier))
        key = planter.secret(f"an unknown key over {carrier}")
        unknown = replace(identity, access_key=key)
        if identity.mqtt is not None:
            guess = planter.secret(f"a wrong broker password over {carrier}")
            unknown = replace(unknown, mqtt=replace(identity.mqtt, username=key, password=guess))
        planter.refused(f"an unknown key over {carrier}", lambda who=unknown, c=carrier: _ask(who, c))
    strangers(planter)


def _ask(identity: ThalovantIdentity, carrier: Any) -> None:
    """From a machine that has not talked to this server before: another remembers the right keys."""
    with (
        tempfile.TemporaryDirectory() as state,
        ThalovantClient(identity, protocol=carrier, noise_state_dir=state) as client,
    ):
        client.ask("hello")


def strangers(planter: Planter) -> None:
    """Foreign clients put a key where it is said to go, and where it is not."""
    key, ready = planter.secret("a stranger's key"), planter.server.ready
    query = base64.b64encode(f"stranger/1:{key}".encode()).decode()
    url = f"{ready['wss_endpoint']}?authorization={query}"
    with contextlib.suppress(ConnectionClosed), connect_websocket(url, ssl=planter.tls, proxy=None) as socket:
        socket.recv()
    for path in (f"connect?authorization={query}", f"connect?authorization={key}", f"{key}?{key}={key}"):
        assert not httpx2.post(f"{ready['https_endpoint']}/{path}", verify=planter.tls).is_success


async def asynchronous_objects(planter: Planter, identity: ThalovantIdentity) -> None:
    """The twins for asyncio show no more than the others."""
    token = planter.api.access_token
    async with AsyncThalovantControlPlane(planter.server.ready["api_url"], access_token=token) as plane:
        planter.canary.look("repr of the asynchronous control plane", repr(plane))
    client = AsyncThalovantClient(identity)
    planter.canary.look("repr of the asynchronous client", repr(client))
    await client.close()


def answers(planter: Planter) -> None:
    """Everything that the API shows."""
    hub_id = planter.server.ready["hub_id"]
    paths = ["/v1/hubs", "/v1/clients", "/v1/users", "/v1/auth/api-tokens", "/v1/users/profile", "/v1/health", "/v1/ca"]
    for path in [*paths, f"/v1/hubs/{hub_id}", f"/v1/hubs/{hub_id}/presence", "/v1/public/hubs", "/v1/openapi.json"]:
        planter.answer("GET", path)
    listed = planter.answer("GET", "/v1/audit?limit=1000").json()["data"]
    exported = planter.answer("GET", "/v1/audit/export").text.splitlines()
    assert [json.loads(line)["id"] for line in exported[:-1]][: len(listed)]
    assert {each["outcome"] for each in listed} == {"done", "denied"}
    kinds = {"login.refused", "request.refused", "session.refused", "credential.rotated", "token.created"}
    assert kinds <= {each["action"] for each in listed}


async def plant_what_is_sealed(canary: Canary, folder: Path) -> int:
    """The keys that the server keeps sealed, as only its own key opens them; return how many."""
    key = bytes.fromhex((folder / SEAL_KEY).read_text())
    canary.plant("the key that seals", key, allowed=(SEAL_KEY,))
    sealer = Sealer(key)
    database = await Database.open(folder / DATABASE, sealer, create=False)
    try:
        async with database.read() as connection:
            identity = await server_row.find(connection, sealer, folder / DATABASE)
            audit_key = await server_row.audit_key(connection, sealer)
            live = await credentials.all_of_them(connection, sealer)
    finally:
        await database.close()
    assert identity is not None and audit_key is not None
    sealed = {"the Noise key": identity.static_private, "the audit log's key": audit_key}
    sealed |= {f"the pre-shared key of {each.client_name}": each.psk for each in live if each.psk}
    for name, value in sealed.items():
        canary.plant(name, value)
    return len(sealed)


def test_no_secret_shows_where_it_must_not(planter: Planter) -> None:
    server, canary = planter.server, planter.canary
    people_and_tokens(planter)
    identity = hubs_and_clients(planter)
    malformed(planter)
    talk(planter, identity)
    asyncio.run(asynchronous_objects(planter, identity))
    answers(planter)
    canary.look_around(server)
    assert {"server output", "ready file", DATABASE, "server cmdline"} <= set(canary.places)
    server.stop()
    sealed = asyncio.run(plant_what_is_sealed(canary, server.data))
    assert sealed >= 3
    canary.look_around(server)
    canary.check()
