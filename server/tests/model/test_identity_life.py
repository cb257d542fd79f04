# SPDX-License-Identifier: Apache-2.0
"""Identities lived at random, over the real API and real sockets, held against a model of a few dictionaries.

What must hold after every step: a credential that is revoked, expired, paused or replaced has no session and gets
none; one that is good gets one; a client has at most two; no two ever share a topic prefix; the audit log has one entry
a change. And in the end none of the secrets shows in what server and clients wrote.
"""

from __future__ import annotations

import itertools
import os
import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from thalovant import ThalovantClient, ThalovantIdentity
from thalovant.errors import ThalovantConnectionError
from thalovant.hub_endpoints import HubProtocol
from thalovant.protocol import noise
from thalovant_server.testing.canary import Canary
from thalovant_server.testing.directory import cheap_stretch
from thalovant_server.testing.in_process import InProcessServer, MovedClock

WHICH = st.sampled_from(["newest", "oldest", "ended"])
HOUR = 3600
PATIENCE = 20.0  # far beyond what is allowed: whoever waits so long has found a fault


@dataclass(eq=False)
class Credential:
    """One credential as the model knows it; `device` numbers the Noise key that its holder has."""

    number: int
    identity: ThalovantIdentity
    prefix: str
    expires_at: int | None = None
    used: bool = False
    device: int = 0
    pinned: int | None = None


@dataclass(eq=False)
class Client:
    """One client as the model knows it."""

    id: str
    credentials: list[Credential]
    ended: list[Credential] = field(default_factory=list)
    active: bool = True
    removed: bool = False
    changes: list[str] = field(default_factory=lambda: ["client.created"])

    def end(self, *over: Credential) -> None:
        self.credentials = [each for each in self.credentials if each not in over]
        self.ended += over

    def pick(self, which: str) -> Credential:
        """One of its credentials, good or not."""
        if which == "ended" and self.ended:
            return self.ended[-1]
        return self.credentials[0 if which == "oldest" else -1]

    def allows(self, credential: Credential) -> bool:
        return self.active and not self.removed and credential in self.credentials


@dataclass(eq=False)
class Session:
    """An open connection."""

    client: Client
    credential: Credential
    connection: ThalovantClient


class World:
    """The server, and the API as an operator's script calls it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = MovedClock()
        self.server = InProcessServer(folder / "data", clock=self.clock).start()
        self._trusted = ssl.create_default_context(cafile=self.server.ready["ca_file"])
        self._http = self._new_http()
        self._token = "none yet"
        self.hub = self.server.ready["hub_id"]
        self.devices = itertools.count(1)
        self.prefixes: list[str] = []
        self.canary = Canary()

    def _new_http(self) -> httpx2.Client:
        return httpx2.Client(base_url=self.server.ready["api_url"], verify=self._trusted, timeout=PATIENCE)

    def call(self, method: str, path: str, body: Any = None, **headers: str) -> httpx2.Response:
        answer = self._send(method, path, body, headers)
        if answer.status_code == 401:  # the clock was moved past the token's end
            email, password = self.server.admin
            login = self._http.post("/v1/auth/token", json={"email": email, "password": password})
            self._token = login.json()["access_token"]
            answer = self._send(method, path, body, headers)
        return answer

    def _send(self, method: str, path: str, body: Any, headers: dict[str, str]) -> httpx2.Response:
        sent = {**headers, "authorization": f"Bearer {self._token}"}
        return self._http.request(method, path, json=body, headers=sent)

    def etag(self, client: Client) -> dict[str, str]:
        return {"if-match": self.call("GET", f"/v1/clients/{client.id}").json()["etag"]}

    def hub_resource(self) -> dict[str, Any]:
        return dict(self.call("GET", f"/v1/hubs/{self.hub}").json())

    def credential(self, answer: dict[str, Any], number: int) -> Credential:
        hub = self.hub_resource()
        known = {name: hub[name] for name in ("data_plane_endpoints",)}
        protocols = dict.fromkeys(("wss", "http", "mqtt"), True)
        identity = ThalovantIdentity.from_mapping({**answer["initial_identify"], **known, "protocols": protocols})
        prefix = answer["initial_identify"]["mqtt"]["topic_prefix"]
        self.prefixes.append(prefix)
        self.canary.plant("a password", identity.password)
        self.canary.plant("a broker password", answer["initial_identify"]["mqtt"]["password"])
        return Credential(number, identity, prefix)

    def restart(self) -> None:
        self._http.close()
        self.server.stop()
        self.server.start()
        self._http = self._new_http()

    def close(self) -> None:
        self._http.close()
        self.server.stop()


WORLD: list[World] = []


class Lives(RuleBasedStateMachine):
    """Clients that are made, used, rotated, paused, revoked, in any order."""

    clients: Bundle[Client] = Bundle("clients")
    sessions: Bundle[Session] = Bundle("sessions")

    def __init__(self) -> None:
        super().__init__()
        self.world = WORLD[0]
        self.all_clients: list[Client] = []
        self.open: list[Session] = []

    # -- what an operator does

    @initialize(target=clients)
    def create_the_first(self) -> Client:
        return self._create()

    @rule(target=clients)
    def create(self) -> Any:
        return self._create() if len(self.all_clients) < 3 else multiple()

    def _create(self) -> Client:
        answer = self.world.call("POST", "/v1/clients", {"hub_id": self.world.hub, "name": "lamp"})
        assert answer.status_code == 201, answer.text
        client = Client(answer.json()["id"], [self.world.credential(answer.json(), 1)])
        self.all_clients.append(client)
        return client

    @rule(client=clients)
    def rotate_at_once(self, client: Client) -> None:
        self._rotate(client, 0)

    @rule(client=clients, grace=st.sampled_from([HOUR, 24 * HOUR]))
    def rotate(self, client: Client, grace: int) -> None:
        self._rotate(client, grace)

    def _rotate(self, client: Client, grace: int) -> None:
        answer = self.world.call("POST", f"/v1/clients/{client.id}/rotate", {"grace_seconds": grace})
        if client.removed:
            assert answer.status_code == 404
            return
        if len(client.credentials) == 2 and grace:
            assert (answer.status_code, answer.json()["code"]) == (409, "rotation_in_progress")
            return
        assert answer.status_code == 201, answer.text
        client.changes.append("credential.rotated")
        fresh = self.world.credential(answer.json(), answer.json()["credentials"][-1]["number"])
        if grace:
            client.credentials[0].expires_at = self.world.clock() + grace * 1_000_000
        else:
            client.end(*client.credentials)
        client.credentials.append(fresh)

    @rule(client=clients, force=st.booleans())
    def finish(self, client: Client, force: bool) -> None:
        answer = self.world.call("POST", f"/v1/clients/{client.id}/rotate/finish", {"force": force})
        if client.removed:
            assert answer.status_code == 404
        elif len(client.credentials) < 2:
            assert (answer.status_code, answer.json()["code"]) == (409, "no_rotation")
        elif not force and not client.credentials[1].used:
            assert (answer.status_code, answer.json()["code"]) == (409, "new_credential_unused")
        else:
            assert answer.status_code == 200, answer.text
            client.end(client.credentials[0])
            client.changes.append("credential.finished")

    @rule(client=clients)
    def cancel(self, client: Client) -> None:
        answer = self.world.call("POST", f"/v1/clients/{client.id}/rotate/cancel")
        if client.removed:
            assert answer.status_code == 404
        elif len(client.credentials) < 2:
            assert (answer.status_code, answer.json()["code"]) == (409, "no_rotation")
        else:
            assert answer.status_code == 200, answer.text
            client.end(client.credentials[1])
            client.credentials[0].expires_at = None
            client.changes.append("credential.cancelled")

    @rule(client=clients, active=st.booleans())
    def pause_or_resume(self, client: Client, active: bool) -> None:
        if client.removed:
            return
        answer = self.world.call("PATCH", f"/v1/clients/{client.id}", {"active": active}, **self.world.etag(client))
        assert answer.status_code == 200, answer.text
        if client.active != active:
            client.changes.append("client.resumed" if active else "client.paused")
        client.active = active

    @rule(client=clients)
    def revoke(self, client: Client) -> None:
        if client.removed:
            return
        answer = self.world.call("DELETE", f"/v1/clients/{client.id}", **self.world.etag(client))
        assert answer.status_code == 204, answer.text
        client.removed = True
        client.changes.append("client.removed")

    @rule(client=clients)
    def change_with_an_old_etag(self, client: Client) -> None:
        answer = self.world.call("PATCH", f"/v1/clients/{client.id}", {"active": False}, **{"if-match": 'W/"0"'})
        assert answer.status_code == (404 if client.removed else 412)

    @rule(client=clients, which=WHICH)
    def reset_key(self, client: Client, which: str) -> None:
        credential = client.pick(which)
        answer = self.world.call("POST", f"/v1/clients/{client.id}/credentials/{credential.number}/reset-key")
        if client.removed or credential not in client.credentials:
            assert answer.status_code == 404
            return
        assert answer.status_code == 204
        credential.pinned = None
        client.changes.append("credential.key_reset")

    # -- what happens to everybody

    @rule(sure=st.integers(0, 3))
    def restart(self, sure: int) -> None:
        if sure != 3:
            return
        for session in self.open:
            session.connection.close()
        self.open.clear()
        self.world.restart()

    @rule(hours=st.sampled_from([25, 1]))
    def time_passes(self, hours: int) -> None:
        self.world.clock.ahead += hours * HOUR
        now = self.world.clock()
        for client in self.all_clients:
            over = [each for each in client.credentials if each.expires_at is not None and each.expires_at <= now]
            client.end(*over)
            if over and not client.removed:
                self._connect(client, over[0], "wss")  # refused before anybody has ended it
                client.changes.append("credential.expired")
                self._wait_for_the_end(client)

    def _wait_for_the_end(self, client: Client) -> None:
        """The server looks at its clock once a second while a grace runs."""
        deadline = time.monotonic() + PATIENCE
        while self._audited(client) != client.changes:
            assert time.monotonic() < deadline, "a grace is over and its credential was not ended"

    # -- what a device does

    @rule(client=clients, which=WHICH)
    def wipe_the_device(self, client: Client, which: str) -> None:
        client.pick(which).device = next(self.world.devices)

    @rule(target=sessions, client=clients, which=WHICH)
    def connect_over_mqtt(self, client: Client, which: str) -> Any:
        return self._connect(client, client.pick(which), "mqtt")

    @rule(target=sessions, client=clients, which=WHICH)
    def connect_over_wss(self, client: Client, which: str) -> Any:
        return self._connect(client, client.pick(which), "wss")

    @rule(target=sessions, client=clients, which=WHICH)
    def connect_over_https(self, client: Client, which: str) -> Any:
        return self._connect(client, client.pick(which), "https")

    def _connect(self, client: Client, credential: Credential, carrier: HubProtocol) -> Any:
        keys = str(self.world.folder / f"{credential.identity.access_key}-{credential.device}")
        connection = ThalovantClient(
            credential.identity,
            protocol=carrier,
            auto_reconnect=False,
            noise_state_dir=str(keys),
            connect_timeout=PATIENCE,
        )
        welcome = client.allows(credential) and credential.pinned in (None, credential.device)
        try:
            connection.connect(PATIENCE)
            answer = connection.ask("Is anybody there?", timeout=PATIENCE).text
        except ThalovantConnectionError as error:
            connection.close()
            assert not welcome, f"a good credential was refused over {carrier}: {error!r}"
            return multiple()
        assert welcome, f"a credential that is not good got a session over {carrier}"
        assert answer == "Is anybody there?"
        credential.used, credential.pinned = True, credential.device
        session = Session(client, credential, connection)
        self.open.append(session)
        return session

    @rule(session=sessions)
    def ask(self, session: Session) -> None:
        if session in self.open:
            assert session.connection.ask("Again.", timeout=PATIENCE).text == "Again."

    @rule(session=consumes(sessions))
    def disconnect(self, session: Session) -> None:
        if session in self.open:
            self.open.remove(session)
            session.connection.close()

    # -- what must hold

    @invariant()
    def whoever_is_not_good_is_cut(self) -> None:
        for session in list(self.open):
            if not session.client.allows(session.credential):
                session.connection.wait_closed(PATIENCE)
                session.connection.close()
                self.open.remove(session)

    @invariant()
    def the_api_tells_what_the_model_knows(self) -> None:
        for client in self.all_clients:
            answer = self.world.call("GET", f"/v1/clients/{client.id}")
            if client.removed:
                assert answer.status_code == 404
                continue
            shown = answer.json()
            live = [(each["number"], each["expires_at"] is not None) for each in shown["credentials"]]
            assert 1 <= len(live) <= 2
            assert shown["active"] is client.active
            assert live == [(each.number, each.expires_at is not None) for each in client.credentials]

    @invariant()
    def no_two_credentials_share_a_prefix(self) -> None:
        assert len(set(self.world.prefixes)) == len(self.world.prefixes)

    def teardown(self) -> None:
        for session in self.open:
            session.connection.close()
        for client in self.all_clients:
            assert self._audited(client) == client.changes

    def _audited(self, client: Client) -> list[str]:
        """What the audit log says was done to a client, oldest first."""
        answer = self.world.call("GET", f"/v1/audit?limit=1000&outcome=done&client_id={client.id}")
        assert answer.status_code == 200, answer.text
        return [entry["action"] for entry in reversed(answer.json()["data"])]


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Iterator[World]:
    monkeypatch.setattr(noise, "stretch", cheap_stretch)
    WORLD.append(World(tmp_path))
    yield WORLD[0]
    over = WORLD.pop()
    over.close()
    told = capfd.readouterr()
    assert "request_refused" in told.out
    over.canary.look("the log", told.out + told.err)
    over.canary.look_in_files(tmp_path)
    over.canary.check()


def test_identities_lived_at_random(world: World) -> None:
    """`make soak` sets THALOVANT_MODEL_EXAMPLES for a long run."""
    examples = int(os.environ.get("THALOVANT_MODEL_EXAMPLES", "8"))
    chosen = settings(
        max_examples=examples,
        stateful_step_count=30,
        deadline=None,
        phases=[Phase.generate],  # each step takes real time: a failing life is told as it was lived, not made shorter
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(Lives, settings=chosen)
