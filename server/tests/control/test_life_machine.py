# SPDX-License-Identifier: Apache-2.0
"""Any order of changes in a client's life, against a model of a few lines: what lives, is refused, and is logged.

The whole API in process, over one database and with a clock moved by hand; each run has a hub of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import uvloop
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from sqlalchemy import func, select

from thalovant_server.directory import CredentialEntry
from thalovant_server.directory_loading import open_directory
from thalovant_server.store.tables import audit
from thalovant_server.testing.control import World, open_world
from thalovant_server.testing.directory import cheap_stretch

SECOND = 1_000_000
Result = TypeVar("Result")


@dataclass
class Held:
    """A live credential, as the model has it."""

    number: int
    access_key: str
    expires_at: int | None = None
    used: bool = False


@dataclass
class Modelled:
    """A client, as the model has it."""

    id: str
    etag: str
    live: list[Held]
    made: int = 1
    active: bool = True
    ended: dict[str, str] = field(default_factory=dict)  # why, by access key

    def end(self, held: Held, why: str) -> None:
        self.live.remove(held)
        self.ended[held.access_key] = why


class Life(RuleBasedStateMachine):
    """The machine. `world` and `runner` are shared by all runs."""

    def __init__(self, world: World, runner: asyncio.Runner) -> None:
        super().__init__()
        self.world, self.runner = world, runner
        self.clients: list[Modelled] = []
        self.prefixes: set[str] = set()
        self.changes = 1  # the hub was created
        self.world.token = self.do(world.token_for())
        self.hub = self.do(world.make_hub("life"))["id"]

    def do(self, work: Coroutine[Any, Any, Result]) -> Result:
        return self.runner.run(work)

    def call(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, dict[str, Any]]:
        answer = self.do(self.world.call(method, f"/v1/clients{path}", body, **headers))
        return answer.status_code, answer.json() if answer.content else {}

    @property
    def now(self) -> int:
        return self.world.clock.micros()

    def pick(self, which: int) -> Modelled:
        return self.clients[which % len(self.clients)]

    def entries(self, client: Modelled) -> list[CredentialEntry]:
        return self.world.services.directory.credentials_of(client.id)

    def new_prefix(self, client: Modelled) -> None:
        prefix = self.entries(client)[-1].topic_prefix
        assert prefix not in self.prefixes
        self.prefixes.add(prefix)

    @precondition(lambda self: len(self.clients) < 3)
    @rule()
    def create(self) -> None:
        status, made = self.call("POST", "", {"hub_id": self.hub, "name": "lamp"})
        assert status == 201
        held = Held(1, made["initial_identify"]["access_key"])
        self.clients.append(Modelled(made["id"], made["etag"], [held]))
        self.new_prefix(self.clients[-1])
        self.changes += 1

    @precondition(lambda self: self.clients)
    @rule(which=st.integers(0, 2), grace=st.sampled_from([0, 10, 1000]))
    def rotate(self, which: int, grace: int) -> None:
        client = self.pick(which)
        status, made = self.call("POST", f"/{client.id}/rotate", {"grace_seconds": grace})
        if grace and len(client.live) == 2:
            assert (status, made["code"]) == (409, "rotation_in_progress")
            return
        client.made += 1
        if grace:
            client.live[0].expires_at = self.now + grace * SECOND
        else:
            for held in list(client.live):
                client.end(held, "replaced")
        client.live.append(Held(client.made, made["initial_identify"]["access_key"]))
        self.new_prefix(client)
        self.changes += 1

    @precondition(lambda self: self.clients)
    @rule(which=st.integers(0, 2), force=st.booleans())
    def finish(self, which: int, force: bool) -> None:
        client = self.pick(which)
        status, answer = self.call("POST", f"/{client.id}/rotate/finish", {"force": force})
        if len(client.live) < 2:
            assert (status, answer["code"]) == (409, "no_rotation")
        elif not force and not client.live[1].used:
            assert (status, answer["code"]) == (409, "new_credential_unused")
        else:
            assert status == 200
            client.end(client.live[0], "rotated")
            self.changes += 1

    @precondition(lambda self: self.clients)
    @rule(which=st.integers(0, 2))
    def cancel(self, which: int) -> None:
        client = self.pick(which)
        status, answer = self.call("POST", f"/{client.id}/rotate/cancel")
        if len(client.live) < 2:
            assert (status, answer["code"]) == (409, "no_rotation")
            return
        assert status == 200
        client.end(client.live[1], "cancelled")
        client.live[0].expires_at = None
        self.changes += 1

    @precondition(lambda self: self.clients)
    @rule(which=st.integers(0, 2), newest=st.booleans(), written=st.booleans())
    def use(self, which: int, newest: bool, written: bool) -> None:
        client = self.pick(which)
        place = -1 if newest else 0
        self.world.services.uses.note(self.entries(client)[place].id, "mqtt", "192.0.2.1")
        client.live[place].used = True
        if written:
            self.do(self.world.services.uses.write())

    @rule(seconds=st.sampled_from([1, 10, 1000]))
    def wait(self, seconds: int) -> None:
        self.world.clock.seconds += seconds
        self.do(self.world.services.grace.end_expired())
        for client in self.clients:
            for held in list(client.live):
                if held.expires_at is not None and held.expires_at <= self.now:
                    client.end(held, "rotated")
                    self.changes += 1

    @precondition(lambda self: self.clients)
    @rule(which=st.integers(0, 2), active=st.booleans(), stale=st.booleans())
    def pause(self, which: int, active: bool, stale: bool) -> None:
        client = self.pick(which)
        etag = 'W/"0"' if stale else client.etag
        status, answer = self.call("PATCH", f"/{client.id}", {"active": active}, if_match=etag)
        assert status == (412 if stale else 200)
        if not stale:
            self.changes += active != client.active
            assert (answer["etag"] == client.etag) == (active == client.active)
            client.active, client.etag = active, answer["etag"]

    @precondition(lambda self: self.clients)
    @rule(which=st.integers(0, 2))
    def delete(self, which: int) -> None:
        client = self.pick(which)
        assert self.call("DELETE", f"/{client.id}", if_match=client.etag)[0] == 204
        for held in list(client.live):
            client.end(held, "removed")
        self.clients.remove(client)
        assert not self.entries(client)
        self.check_ends(client)
        self.changes += 1

    def check_ends(self, client: Modelled) -> None:
        for access_key, why in client.ended.items():
            assert self.world.services.directory.credential(access_key) is None
            status, fate = self.call("POST", "/lookup", {"access_key": access_key})
            assert (status, fate["status"], fate["why"]) == (200, "ended", why)

    @invariant()
    def the_directory_is_as_the_model(self) -> None:
        for client in self.clients:
            assert 1 <= len(client.live) <= 2
            entries = self.entries(client)
            assert [(e.access_key, e.expires_at) for e in entries] == [
                (h.access_key, h.expires_at) for h in client.live
            ]
            assert {e.active for e in entries} == {client.active}

    @invariant()
    def each_change_is_one_entry(self) -> None:
        assert self.do(self.logged()) == self.changes

    async def logged(self) -> int:
        async with self.world.services.database.read() as connection:
            query = select(func.count()).where(audit.c.hub_id == self.hub, audit.c.outcome == "done")
            return int((await connection.execute(query)).scalar_one())

    def teardown(self) -> None:
        self.do(self.compare_with_the_database())
        for client in self.clients:
            self.check_ends(client)
            shown = self.call("GET", f"/{client.id}")[1]["credentials"]
            assert [each["number"] for each in shown] == [held.number for held in client.live]
            assert [each["last_used"] is not None for each in shown] == [held.used for held in client.live]

    async def compare_with_the_database(self) -> None:
        loaded = await open_directory(self.world.services.database, node_id="unused", stretch=cheap_stretch)
        for client in self.clients:
            fed = [replace(each, psk=None) for each in self.entries(client)]
            assert [replace(each, psk=None) for each in loaded.credentials_of(client.id)] == fed
        await loaded.stop()


def test_any_order_of_changes(tmp_path: Path) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        opened = open_world(tmp_path)
        world = runner.run(opened.__aenter__())
        try:
            run_state_machine_as_test(  # type: ignore[no-untyped-call]
                lambda: Life(world, runner),
                settings=settings(
                    max_examples=15,
                    stateful_step_count=20,
                    deadline=None,
                    suppress_health_check=list(HealthCheck),
                    phases=[Phase.generate],  # to shrink a failure would take minutes
                ),
            )
        finally:
            runner.run(opened.__aexit__(None, None, None))
