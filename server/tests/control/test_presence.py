# SPDX-License-Identifier: Apache-2.0
"""Who is online, as the API tells it: lists, one client, and the stream of events. The sessions are made up."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from sqlalchemy import update

from thalovant_server.control import presence
from thalovant_server.control.answers import time_text
from thalovant_server.errors import StorageError
from thalovant_server.hub import refusal, watchers
from thalovant_server.hub.refusal import Refusal
from thalovant_server.store.tables import hubs
from thalovant_server.testing.control import World

InWorld = Callable[[Callable[[World], Awaitable[None]]], None]


class FakeConnection:
    """Stands in for `hub.connection.Connection`: a session that is ready until the test ends it."""

    numbers = itertools.count(1)

    def __init__(self, world: World, client_id: str, carrier: str = "wss", remote: str = "192.0.2.7") -> None:
        self.credential = world.services.directory.credentials_of(client_id)[-1]
        self.number = next(self.numbers)
        self.carrier, self.remote = carrier, remote
        self.patience: float | None = None
        self.refusal: Refusal | None = None
        self.why = ""
        self._watch = world.services.presence
        self._watch.ready(self)  # type: ignore[arg-type]

    def silence(self) -> float:
        return 0.0

    def end(self, why: str = "connection_lost", refused: Refusal | None = None) -> None:
        self.why, self.refusal = why, refused
        self._watch.ended(self)  # type: ignore[arg-type]


class Stream:
    """One reader of an event stream: the server's next piece is taken only when the test asks for an event."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.largest = 0
        self.hung_up = asyncio.Event()
        self._pieces: asyncio.Queue[dict[str, Any]] = asyncio.Queue(1)
        self._text = ""

    async def receive(self) -> dict[str, Any]:
        await self.hung_up.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {name.decode(): value.decode() for name, value in message["headers"]}
        else:
            await self._pieces.put(message)

    async def next(self) -> tuple[str, Any]:
        """The next event's name and data; `comment` and its text; `end`."""
        while "\n\n" not in self._text:
            piece = await asyncio.wait_for(self._pieces.get(), 5)
            self._text += piece.get("body", b"").decode()
            self.largest = max(self.largest, len(piece.get("body", b"")))
            if not piece.get("more_body", False):
                return "end", self._text
        block, self._text = self._text.split("\n\n", 1)
        if block.startswith(":"):
            return "comment", block[1:].strip()
        lines = dict(line.split(": ", 1) for line in block.split("\n"))
        return lines["event"], json.loads(lines["data"])

    async def until_ready(self) -> list[Any]:
        """The states of the beginning."""
        found = []
        while True:
            name, data = await self.next()
            if name == "ready":
                return found
            assert name == "presence"
            found.append(data)


@contextlib.asynccontextmanager
async def watching(world: World, reference: str = "demo", token: str | None = None) -> AsyncIterator[Stream]:
    """Open an event stream; hang up at the end, and see that the server has noticed."""
    stream = Stream()
    path = f"/v1/hubs/{reference}/presence/events"
    scope = {
        "type": "http", "http_version": "1.1", "method": "GET", "scheme": "https", "path": path,
        "raw_path": path.encode(), "query_string": b"", "root_path": "",
        "server": ("hub.example.test", 8443), "client": ("192.0.2.1", 5000),
        "headers": [(b"authorization", f"Bearer {token or world.token}".encode())], "asgi": {"spec_version": "2.3"},
    }  # fmt: skip
    first = iter([{"type": "http.request", "body": b"", "more_body": False}])

    async def receive() -> Any:
        return next(first, None) or await stream.receive()

    serving = asyncio.create_task(world.app(scope, receive, stream.send))  # type: ignore[arg-type]
    try:
        yield stream
    finally:
        stream.hung_up.set()
        await asyncio.wait_for(serving, 5)


def _text(seconds: float) -> str:
    return time_text(int(seconds * 1_000_000))


async def presence_of(world: World, client_id: str, **call: Any) -> Any:
    answer = await world.call("GET", f"/v1/clients/{client_id}/presence", **call)
    assert answer.status_code == 200, answer.text
    return answer.json()


# -- lists and single clients


def test_the_states_of_a_client_in_turn(in_world: InWorld) -> None:
    async def scenario(world: World) -> None:
        client = await world.make_client()
        at = world.clock.seconds
        nothing = {"since": None, "carrier": None, "address": None, "why": None, "sessions": 0, "last_seen_at": None}
        who = {"client_id": client["id"], "hub_id": client["hub_id"], "name": "lamp"}
        assert await presence_of(world, client["id"]) == {**who, "state": "never_seen", **nothing}
        session = FakeConnection(world, client["id"], "mqtt", "192.0.2.9")
        seen = {"since": _text(at), "carrier": "mqtt", "address": "192.0.2.9", "last_seen_at": _text(at)}
        online = {**who, **nothing, **seen, "state": "online", "sessions": 1}
        assert await presence_of(world, client["id"]) == online
        world.clock.seconds += 60
        session.end(refused=refusal.UNRESPONSIVE)
        offline = {**online, "state": "offline", "sessions": 0, "why": "no_sign_of_life", "since": _text(at + 60)}
        assert await presence_of(world, client["id"]) == {**offline, "last_seen_at": _text(at + 60)}

    in_world(scenario)


def test_a_list_has_every_client_of_the_hub_once_over_pages(in_world: InWorld) -> None:
    async def scenario(world: World) -> None:
        other = await world.make_hub("elsewhere")
        made = [(await world.make_client(name=f"lamp-{number}"))["id"] for number in range(5)]
        await world.make_client(other["id"])
        FakeConnection(world, made[3], "https")
        first = (await world.call("GET", "/v1/hubs/demo/presence?limit=3")).json()
        second = (await world.call("GET", first["links"]["next"])).json()
        listed = first["data"] + second["data"]
        assert [each["client_id"] for each in listed] == made
        assert [each["state"] for each in listed] == ["never_seen"] * 3 + ["online", "never_seen"]
        assert (first["meta"]["count"], second["meta"]["next"]) == (3, None)

    in_world(scenario)


def test_only_the_owner_and_admins_see_a_hubs_clients(in_world: InWorld) -> None:
    async def scenario(world: World) -> None:
        client, token = await world.make_client(), await world.add_account("ann")
        demo = client["hub_id"]
        for path in (f"/v1/hubs/{demo}/presence", f"/v1/hubs/{demo}/presence/events"):
            assert (await world.call("GET", path, token=token)).json()["code"] == "ownership_required"
        assert (await world.call("GET", f"/v1/clients/{client['id']}/presence", token=token)).status_code == 404
        private = await world.make_hub("private")
        for reference in (private["id"], "no-such-hub"):
            for end in ("presence", "presence/events"):
                answer = await world.call("GET", f"/v1/hubs/{reference}/{end}", token=token)
                assert (answer.status_code, answer.json()["code"]) == (404, "hub_not_found")

    in_world(scenario)


# -- the stream


def test_a_stream_begins_with_every_client_and_then_tells_changes_in_order(in_world: InWorld, monkeypatch: Any) -> None:
    monkeypatch.setattr(presence, "PIECE", 2)

    async def scenario(world: World) -> None:
        made = [(await world.make_client(name=f"lamp-{number}"))["id"] for number in range(3)]
        one = FakeConnection(world, made[1])
        async with watching(world) as stream:
            beginning = await stream.until_ready()
            assert [each["client_id"] for each in beginning] == made
            assert [each["state"] for each in beginning] == ["never_seen", "online", "never_seen"]
            assert stream.status == 200 and stream.headers["content-type"].startswith("text/event-stream")
            one.end("disconnected")
            name, data = await stream.next()
            assert (name, data["client_id"]) == ("presence", made[1])
            assert (data["state"], data["why"]) == ("offline", "disconnected")
            assert data == await presence_of(world, made[1])
            two = FakeConnection(world, made[0], "mqtt")
            assert (await stream.next())[1]["state"] == "online"
            more = FakeConnection(world, made[0], "wss")
            told = (await stream.next())[1]
            assert (told["sessions"], told["carrier"]) == (2, "wss")
            more.end()
            told = (await stream.next())[1]
            assert (told["sessions"], told["carrier"], told["state"]) == (1, "mqtt", "online")
            two.end()
            assert (await stream.next())[1]["why"] == "connection_lost"
        assert len(world.services.presence.watchers) == 0

    in_world(scenario)


def test_much_at_once_is_told_in_pieces_and_all_of_it(in_world: InWorld, monkeypatch: Any) -> None:
    monkeypatch.setattr(presence, "PIECE", 2)

    async def scenario(world: World) -> None:
        made = [(await world.make_client(name=f"lamp-{number}"))["id"] for number in range(5)]
        async with watching(world) as stream:
            await stream.until_ready()
            for client_id in made:
                FakeConnection(world, client_id)
            assert [(await stream.next())[1]["client_id"] for _ in made] == made
            assert stream.largest < 3 * 300  # bytes

    in_world(scenario)


def test_a_token_that_is_limited_to_a_hub_sees_that_hubs_clients_only(in_world: InWorld) -> None:
    async def scenario(world: World) -> None:
        mine, other = await world.make_hub("mine"), await world.make_hub("other")
        clients = {hub["id"]: (await world.make_client(hub["id"]))["id"] for hub in (mine, other)}
        asked = {"name": "panel", "scopes": ["clients:read"], "hub_ids": [mine["id"]]}
        token = (await world.call("POST", "/v1/auth/api-tokens", asked)).json()["access_token"]
        async with watching(world, mine["id"], token) as stream:
            assert [each["client_id"] for each in await stream.until_ready()] == [clients[mine["id"]]]
        for path in (f"hubs/{other['id']}/presence", f"hubs/{other['id']}/presence/events", "hubs/demo/presence"):
            assert (await world.call("GET", f"/v1/{path}", token=token)).status_code in (403, 404)
        statuses = [(await world.call("GET", f"/v1/clients/{each}/presence", token=token)).status_code
                    for each in clients.values()]  # fmt: skip
        assert statuses == [200, 404]

    in_world(scenario)


def test_made_and_removed_clients_are_told_and_those_of_other_hubs_are_not(in_world: InWorld) -> None:
    async def scenario(world: World) -> None:
        other = await world.make_hub("elsewhere")
        async with watching(world) as stream:
            assert await stream.until_ready() == []
            elsewhere = await world.make_client(other["id"])
            FakeConnection(world, elsewhere["id"])
            client = await world.make_client()
            name, data = await stream.next()
            assert (name, data["client_id"], data["state"]) == ("presence", client["id"], "never_seen")
            session = FakeConnection(world, client["id"])
            assert (await stream.next())[1]["state"] == "online"
            await world.call("DELETE", f"/v1/clients/{client['id']}", if_match=client["etag"])
            session.end(refused=refusal.REVOKED)
            told = (await stream.next())[1]
            assert (told["state"], told["why"], told["sessions"], told["name"]) == ("revoked", "removed", 0, "lamp")
            assert world.services.presence.of(client["id"]) is None

    in_world(scenario)


def test_nothing_is_told_of_a_change_that_leaves_the_state_as_it_is(in_world: InWorld) -> None:
    async def scenario(world: World) -> None:
        client, second = await world.make_client(), await world.make_client(name="second")
        FakeConnection(world, client["id"])
        async with watching(world) as stream:
            await stream.until_ready()
            await world.call("POST", f"/v1/clients/{client['id']}/credentials/1/reset-key")
            FakeConnection(world, second["id"])
            assert (await stream.next())[1]["client_id"] == second["id"]

    in_world(scenario)


def test_a_reader_that_is_too_slow_hears_so_and_that_is_the_end(in_world: InWorld, monkeypatch: Any) -> None:
    monkeypatch.setattr(watchers, "QUEUE", 4)

    async def scenario(world: World) -> None:
        client = await world.make_client()
        async with watching(world) as stream, watching_nothing(world) as quick:
            await stream.until_ready()
            for number in range(12):
                session = FakeConnection(world, client["id"])
                assert (await quick.next())[1]["state"] == "online"
                session.end()
                assert (await quick.next())[1]["state"] == "offline", number
            heard = [(await stream.next())[0]]
            while heard[-1] == "presence":
                heard.append((await stream.next())[0])
            assert heard[-1] == "overflow" and len(heard) < 12
            assert await stream.next() == ("end", "")

    in_world(scenario)


@contextlib.asynccontextmanager
async def watching_nothing(world: World) -> AsyncIterator[Stream]:
    """A second reader, past its beginning, that takes everything at once."""
    stream = Stream()
    watcher = world.services.presence.watch((await world.demo())["id"], "user-other")

    async def next_one() -> tuple[str, Any]:
        while True:
            taken = watcher.take()
            if taken:
                assert len(taken) == 1
                return "presence", presence.shown(taken[0])
            await watcher.wait()

    stream.next = next_one  # type: ignore[method-assign]
    try:
        yield stream
    finally:
        watcher.close()


def test_a_comment_comes_from_time_to_time_and_a_revoked_token_ends_the_stream(
    in_world: InWorld, monkeypatch: Any
) -> None:
    monkeypatch.setattr(presence, "KEEP_ALIVE_SECONDS", 0.02)
    monkeypatch.setattr(presence, "LOOK_SECONDS", 0.02)

    async def scenario(world: World) -> None:
        login = (await world.log_in()).json()
        async with watching(world, token=login["access_token"]) as stream:
            await stream.until_ready()
            assert await stream.next() == ("comment", "keep-alive")
            assert await stream.next() == ("comment", "keep-alive")
            gone = await world.call("DELETE", f"/v1/auth/api-tokens/{login['token_id']}")
            assert gone.status_code == 204
            await ends(stream)

    in_world(scenario)


async def ends(stream: Stream) -> None:
    async with asyncio.timeout(5):
        while (found := await stream.next())[0] in ("comment", "presence"):
            pass
    assert found == ("end", "")


def test_a_stream_that_always_has_something_to_tell_ends_with_its_token_too(
    in_world: InWorld, monkeypatch: Any
) -> None:
    monkeypatch.setattr(presence, "KEEP_ALIVE_SECONDS", 0.02)
    monkeypatch.setattr(presence, "LOOK_SECONDS", 0.02)

    async def scenario(world: World) -> None:
        login, client = (await world.log_in()).json(), await world.make_client()

        async def always() -> None:
            while True:
                session = FakeConnection(world, client["id"])
                await asyncio.sleep(0)
                session.end()
                await asyncio.sleep(0)

        changing = asyncio.create_task(always())
        async with watching(world, token=login["access_token"]) as stream:
            await stream.until_ready()
            await world.call("DELETE", f"/v1/auth/api-tokens/{login['token_id']}")
            await ends(stream)
        changing.cancel()

    in_world(scenario)


def test_a_database_that_cannot_be_read_ends_no_stream_under_way_and_lets_none_begin(
    in_world: InWorld, monkeypatch: Any
) -> None:
    monkeypatch.setattr(presence, "KEEP_ALIVE_SECONDS", 0.02)
    monkeypatch.setattr(presence, "LOOK_SECONDS", 0.02)

    async def scenario(world: World) -> None:
        client, database = await world.make_client(), world.services.database
        read, asked = database.read, itertools.count(1)

        def unreadable(after: int) -> Any:
            return read() if next(asked) <= after else _broken()

        async with watching(world) as stream:
            await stream.until_ready()
            monkeypatch.setattr(database, "read", lambda: _broken())
            assert [await stream.next() for _ in range(3)] == [("comment", "keep-alive")] * 3
            FakeConnection(world, client["id"])
            while (found := await stream.next())[0] == "comment":
                pass
            assert found[1]["state"] == "online"
        monkeypatch.setattr(database, "read", lambda: unreadable(2))  # who calls and which hub is known
        async with watching(world) as stream:
            assert await stream.next() == ("end", "") and stream.status == 200

    in_world(scenario)


@contextlib.asynccontextmanager
async def _broken() -> AsyncIterator[None]:
    raise StorageError("The disk is gone.")
    yield


@pytest.mark.parametrize("how", ["expired", "owner changed"])
def test_who_may_no_longer_see_the_hub_hears_no_more_of_it(in_world: InWorld, monkeypatch: Any, how: str) -> None:
    monkeypatch.setattr(presence, "KEEP_ALIVE_SECONDS", 0.02)
    monkeypatch.setattr(presence, "LOOK_SECONDS", 0.02)

    async def scenario(world: World) -> None:
        token = await world.add_account("ann")
        hub = (await world.call("POST", "/v1/hubs", {"name": "anns", "spec": {"version": "1"}}, token=token)).json()
        async with watching(world, hub["id"], token) as stream:
            await stream.until_ready()
            if how == "expired":
                world.clock.seconds += world.services.token_seconds + 1
            else:
                admin = (await world.call("GET", "/v1/users/profile")).json()["data"]["id"]
                given = update(hubs).where(hubs.c.id == hub["id"]).values(owner_id=admin)
                await world.services.database.write(lambda transaction: transaction.connection.execute(given))
            await ends(stream)

    in_world(scenario)


def test_the_end_of_the_hub_and_of_the_server_end_a_stream(in_world: InWorld) -> None:
    async def scenario(world: World) -> None:
        hub = await world.make_hub("short-lived")
        async with watching(world, hub["id"]) as stream, watching(world) as other:
            await stream.until_ready()
            await other.until_ready()
            await world.call("DELETE", f"/v1/hubs/{hub['id']}", if_match=hub["etag"])
            assert await stream.next() == ("end", "")
            world.services.presence.watchers.dismiss()
            assert await other.next() == ("end", "")
        late = await world.call("GET", "/v1/hubs/demo/presence/events")
        assert (late.status_code, late.json()["code"]) == (503, "overloaded")

    in_world(scenario)


@pytest.mark.parametrize(("how", "last"), [("hub removed", "end"), ("overflow", "overflow")])
def test_a_beginning_that_is_not_whole_is_never_called_ready(
    in_world: InWorld, monkeypatch: Any, how: str, last: str
) -> None:
    monkeypatch.setattr(presence, "PIECE", 1)
    if how == "overflow":
        monkeypatch.setattr(watchers, "QUEUE", 1)

    async def scenario(world: World) -> None:
        hub = await world.make_hub("short-lived")
        made = [(await world.make_client(hub["id"], name=f"lamp-{number}"))["id"] for number in range(6)]
        async with watching(world, hub["id"]) as stream:
            assert (await stream.next())[1]["client_id"] == made[0]
            if how == "overflow":
                for client_id in made[:2]:
                    FakeConnection(world, client_id)
                await asyncio.sleep(0)
            else:
                await world.call("DELETE", f"/v1/hubs/{hub['id']}", if_match=hub["etag"])
            told = [(await stream.next())[0]]
            while told[-1] == "presence":
                told.append((await stream.next())[0])
            assert told[-1] == last  # and not ready

    in_world(scenario)


def test_one_token_leaves_streams_to_the_accounts_others(in_world: InWorld, monkeypatch: Any) -> None:
    monkeypatch.setattr(presence, "WATCHERS_OF_TOKEN", 1)

    async def scenario(world: World) -> None:
        another = await world.token_for()
        async with watching(world) as stream:
            await stream.until_ready()
            answer = await world.call("GET", "/v1/hubs/demo/presence/events")
            assert (answer.status_code, answer.json()["code"]) == (429, "too_many_watchers")
            async with watching(world, token=another) as second:
                assert await second.until_ready() == []

    in_world(scenario)


def test_a_change_after_the_token_was_revoked_is_not_told(in_world: InWorld, monkeypatch: Any) -> None:
    monkeypatch.setattr(presence, "LOOK_SECONDS", 0.0)  # the last look is always old; comments are far away

    async def scenario(world: World) -> None:
        client, login = await world.make_client(), (await world.log_in()).json()
        async with watching(world, token=login["access_token"]) as stream:
            await stream.until_ready()
            await world.call("DELETE", f"/v1/auth/api-tokens/{login['token_id']}")
            FakeConnection(world, client["id"])
            assert await stream.next() == ("end", "")

    in_world(scenario)


def test_an_account_and_the_server_have_so_many_streams_at_most(in_world: InWorld, monkeypatch: Any) -> None:
    monkeypatch.setattr(presence, "WATCHERS_OF_ACCOUNT", 1)
    monkeypatch.setattr(presence, "WATCHERS", 2)

    async def scenario(world: World) -> None:
        path = "/v1/hubs/demo/presence/events"
        async with watching(world) as stream:
            await stream.until_ready()
            answer = await world.call("GET", path)
            assert (answer.status_code, answer.json()["code"]) == (429, "too_many_watchers")
            assert answer.json()["retry_after_seconds"] == int(answer.headers["retry-after"])
            other = world.services.presence.watch("anywhere", "user-other")
            monkeypatch.setattr(presence, "WATCHERS_OF_ACCOUNT", 9)
            assert (await world.call("GET", path)).status_code == 503
            other.close()
            async with watching(world) as second:
                assert await second.until_ready() == []

    in_world(scenario)
