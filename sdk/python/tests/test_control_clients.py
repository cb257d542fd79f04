# SPDX-License-Identifier: Apache-2.0
"""What is done with a client after it was made, by both twins, against a real HTTPS server that follows a script."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from thalovant.control_plane import AsyncThalovantControlPlane, ThalovantControlPlane
from thalovant.errors import (
    ThalovantAPIError,
    ThalovantAPIUnreachableError,
    ThalovantAuthError,
    ThalovantIdentityError,
)

if TYPE_CHECKING:
    from conftest import Certificates, ScriptedServer, Seen

TOKEN = "tvpat_example0000000000000000"
CLIENT = {"id": "client-1", "hub_id": "hub-1", "name": "lamp", "etag": "e1", "spec": {"siteId": "lamp"}}
HUB = {
    "id": "hub-1",
    "spec": {"protocols": {"wss": {"enabled": True}, "mqtt": {"enabled": True}}},
    "data_plane_endpoints": {"wss": "wss://h:1/hubs/hub-1", "mqtt": "mqtts://h:2"},
}
IDENTITY = {
    "access_key": "the-new-key", "password": "the-new-password", "site_id": "lamp", "default_master": "wss://h:1",
    "default_port": 1,
    "mqtt": {"endpoint": "mqtts://h:2", "username": "the-new-key", "password": "p", "topic_prefix": "hubs/h/clients/c"},
}  # fmt: skip

Use = Callable[[Any], Any]
Call = Callable[[Use], Any]
Watched = Callable[[int], list[tuple[str, str]]]


@pytest.fixture(params=["sync", "async"])
def call(
    request: pytest.FixtureRequest, api_server: ScriptedServer, certificates: Certificates, lonely: object
) -> Call:
    """Runs `use(api)` with one of the two classes."""
    arguments: dict[str, Any] = {"access_token": TOKEN, "ca_pem": certificates.ca_pem}

    def blocking(use: Use) -> Any:
        with ThalovantControlPlane(api_server.url, **arguments) as api:
            return use(api)

    async def on_the_loop(use: Use) -> Any:
        async with AsyncThalovantControlPlane(api_server.url, **arguments) as api:
            return await use(api)

    return blocking if request.param == "sync" else lambda use: asyncio.run(on_the_loop(use))


def asked(server: ScriptedServer) -> list[str]:
    return [f"{seen.method} {seen.path}" for seen in server.seen]


class TestRotating:
    def test_the_answer_becomes_an_identity(self, call: Call, api_server: ScriptedServer) -> None:
        for answer in (CLIENT, HUB, CLIENT | {"initial_identify": IDENTITY}):
            api_server.will(200, answer)
        result = call(
            lambda api: api.rotate_client_identity(
                "client-1", grace_seconds=60, idempotency_key="k", preferred_protocols=("mqtt", "wss")
            )
        )
        assert asked(api_server) == [
            "GET /v1/clients/client-1",
            "GET /v1/hubs/hub-1",
            "POST /v1/clients/client-1/rotate",
        ]
        post = api_server.seen[2]
        assert post.headers["idempotency-key"] == "k"
        assert post.json["grace_seconds"] == 60
        assert {len(value) for value in post.json["spec"].values()} == {43}
        assert (result.identity.access_key, result.selected_protocol) == ("the-new-key", "mqtt")
        assert result.client_id == "client-1"
        assert "the-new-password" not in repr(result)

    def test_a_lost_answer_is_asked_for_again_with_the_same_secrets_and_key(
        self, call: Call, api_server: ScriptedServer
    ) -> None:
        posts: list[Seen] = []

        def script(seen: Seen) -> tuple[int, Any]:
            if seen.method == "GET":
                return 200, HUB if "hubs" in seen.path else CLIENT
            posts.append(seen)
            if len(posts) == 1:
                raise ConnectionResetError  # the connection ends without an answer
            return 201, CLIENT | {"initial_identify": IDENTITY}

        api_server.script = script
        assert call(lambda api: api.rotate_client_identity("client-1")).identity.access_key == "the-new-key"
        assert posts[0].json == posts[1].json
        assert posts[0].headers["idempotency-key"] == posts[1].headers["idempotency-key"] != ""

    def test_a_refusal_is_not_tried_twice(self, call: Call, api_server: ScriptedServer) -> None:
        api_server.will(200, CLIENT)
        api_server.will(200, HUB)
        api_server.will(409, {"detail": "Two live already", "code": "rotation_in_progress"})
        with pytest.raises(ThalovantAPIError, match="Two live already") as caught:
            call(lambda api: api.rotate_client_identity("client-1"))
        assert caught.value.code == "rotation_in_progress"

    def test_an_answer_without_a_secret_is_no_identity(self, call: Call, api_server: ScriptedServer) -> None:
        lacking = {name: value for name, value in IDENTITY.items() if name != "password"}
        for answer in (CLIENT, HUB, CLIENT | {"initial_identify": lacking}):
            api_server.will(200, answer)
        with pytest.raises(ThalovantIdentityError):
            call(lambda api: api.rotate_client_identity("client-1"))

    @pytest.mark.parametrize("answer", [{}, {"hub_id": ""}, {"hub_id": 7}], ids=["none", "empty", "number"])
    def test_a_client_without_a_hub_is_not_rotated(
        self, call: Call, api_server: ScriptedServer, answer: dict[str, Any]
    ) -> None:
        api_server.will(200, answer)
        with pytest.raises(ThalovantAPIError, match="without hub_id"):
            call(lambda api: api.rotate_client_identity("client-1"))
        assert len(api_server.seen) == 1

    def test_finishing_and_cancelling(self, call: Call, api_server: ScriptedServer) -> None:
        for _ in range(3):
            api_server.will(200, CLIENT)
        assert call(lambda api: api.finish_rotation("client-1")) == CLIENT
        assert call(lambda api: api.finish_rotation("client-1", force=True)) == CLIENT
        assert call(lambda api: api.cancel_rotation("client-1")) == CLIENT
        assert [seen.json for seen in api_server.seen] == [{"force": False}, {"force": True}, None]
        assert asked(api_server)[1:] == [f"POST /v1/clients/client-1/rotate/{what}" for what in ("finish", "cancel")]


CHANGES: dict[str, tuple[Use, str, Any]] = {
    "update": (lambda api: api.update_client("client-1", {"name": "l"}), "", {"name": "l"}),
    "pause": (lambda api: api.pause_client("client-1"), "", {"active": False}),
    "resume": (lambda api: api.resume_client("client-1"), "", {"active": True}),
    "policy": (lambda api: api.update_client_policy("client-1", {"daily_quota": 5}), "/policy", {"daily_quota": 5}),
}


class TestChanging:
    @pytest.mark.parametrize("name", CHANGES)
    def test_a_stale_etag_is_read_again_once(self, call: Call, api_server: ScriptedServer, name: str) -> None:
        use, suffix, body = CHANGES[name]
        path = f"/v1/clients/client-1{suffix}"
        api_server.will(200, {"etag": "e1"})
        api_server.will(412, {"detail": "ETag mismatch"})
        api_server.will(200, {"etag": "e2"})
        api_server.will(200, {"etag": "e3"})
        assert call(use) == {"etag": "e3"}
        assert asked(api_server) == [f"GET {path}", f"PATCH {path}"] * 2
        sent = [(seen.headers["if-match"], seen.json) for seen in api_server.seen if seen.method == "PATCH"]
        assert sent == [("e1", body), ("e2", body)]

    def test_after_two_stale_etags_it_is_told(self, call: Call, api_server: ScriptedServer) -> None:
        for _ in range(2):
            api_server.will(200, {"etag": "e"})
            api_server.will(412, {"detail": "ETag mismatch"})
        with pytest.raises(ThalovantAPIError) as caught:
            call(lambda api: api.update_client("client-1", {}))
        assert (caught.value.status_code, len(api_server.seen)) == (412, 4)

    @pytest.mark.parametrize("method", ["update_client", "update_client_policy"])
    def test_an_etag_that_was_given_is_the_only_one(self, call: Call, api_server: ScriptedServer, method: str) -> None:
        api_server.will(412, {"detail": "ETag mismatch"})
        with pytest.raises(ThalovantAPIError) as caught:
            call(lambda api: getattr(api, method)("client-1", {}, etag="mine"))
        assert (caught.value.status_code, len(api_server.seen)) == (412, 1)
        assert api_server.seen[0].headers["if-match"] == "mine"

    @pytest.mark.parametrize("status", [404, 422, 500])
    def test_another_refusal_is_told_at_once(self, call: Call, api_server: ScriptedServer, status: int) -> None:
        api_server.will(200, {"etag": "e"})
        api_server.will(status, {"detail": "no"})
        with pytest.raises(ThalovantAPIError) as caught:
            call(lambda api: api.update_client("client-1", {}))
        assert (caught.value.status_code, len(api_server.seen)) == (status, 2)


class TestAsking:
    def test_a_look_up_says_the_key_in_the_body_only(self, call: Call, api_server: ScriptedServer) -> None:
        api_server.will(200, {"status": "live"})
        assert call(lambda api: api.lookup_credential("a-key")) == {"status": "live"}
        (seen,) = api_server.seen
        assert (seen.method, seen.path, seen.query) == ("POST", "/v1/clients/lookup", {})
        assert seen.json == {"access_key": "a-key"}

    def test_a_policy(self, call: Call, api_server: ScriptedServer) -> None:
        api_server.will(200, {"can_escalate": True})
        assert call(lambda api: api.get_client_policy("a/b")) == {"can_escalate": True}
        assert asked(api_server) == ["GET /v1/clients/a%2Fb/policy"]

    def test_the_audit_log_by_what_is_asked_for(self, call: Call, api_server: ScriptedServer) -> None:
        for _ in range(2):
            api_server.will(200, {"data": []})
        call(lambda api: api.list_audit())
        call(lambda api: api.list_audit(hub_id="h", client_id="c", action="a", outcome="denied", limit=5, cursor="x"))
        every = {"hub_id": "h", "client_id": "c", "action": "a", "outcome": "denied", "limit": "5", "cursor": "x"}
        assert [seen.query for seen in api_server.seen] == [{"limit": "100"}, every]


def row(name: str, state: str) -> dict[str, Any]:
    return {"client_id": f"client-{name}", "hub_id": "hub-1", "name": name, "state": state}


def events(*rows: dict[str, Any], ready: bool = True) -> bytes:
    told = b"".join(b"event: presence\ndata: " + json.dumps(one).encode() + b"\n\n" for one in rows)
    return told + (b"event: ready\ndata: {}\n\n" if ready else b"")


class TestPresence:
    def test_every_page(self, call: Call, api_server: ScriptedServer) -> None:
        api_server.will(200, {"data": [row("a", "online")], "meta": {"next": "2"}})
        api_server.will(200, {"data": [row("b", "offline")], "meta": {"next": None}})
        found = call(lambda api: api.presence("hub-1"))
        assert [(one.name, one.state) for one in found] == [("a", "online"), ("b", "offline")]
        assert [seen.query.get("cursor") for seen in api_server.seen] == [None, "2"]

    def test_of_one_client(self, call: Call, api_server: ScriptedServer) -> None:
        api_server.will(200, row("a", "online"))
        assert call(lambda api: api.get_client_presence("client-a")).name == "a"
        assert asked(api_server) == ["GET /v1/clients/client-a/presence"]


class TestWatching:
    @pytest.fixture(autouse=True)
    def _at_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("thalovant.presence.FIRST_PAUSE", 0.0)

    @pytest.fixture(params=["sync", "async"])
    def watched(
        self, request: pytest.FixtureRequest, api_server: ScriptedServer, certificates: Certificates, lonely: object
    ) -> Watched:
        """The first so many that a watch tells; it is closed then."""
        arguments: dict[str, Any] = {"access_token": TOKEN, "ca_pem": certificates.ca_pem}

        def blocking(count: int) -> list[tuple[str, str]]:
            with (
                ThalovantControlPlane(api_server.url, **arguments) as api,
                contextlib.closing(api.watch_presence("hub-1")) as watch,
            ):
                return [
                    (one.name, one.state) for _, one in zip(range(count), watch, strict=False)
                ]  # never asks for one more

        async def on_the_loop(count: int) -> list[tuple[str, str]]:
            found: list[tuple[str, str]] = []
            async with (
                AsyncThalovantControlPlane(api_server.url, **arguments) as api,
                contextlib.aclosing(api.watch_presence("hub-1")) as watch,
            ):
                async for one in watch:
                    found.append((one.name, one.state))
                    if len(found) == count:
                        break
            return found

        return blocking if request.param == "sync" else lambda count: asyncio.run(on_the_loop(count))

    def streams(self, server: ScriptedServer, *bodies: bytes) -> None:
        for body in bodies:
            server.will(200, raw=body, content_type="text/event-stream")

    def test_after_a_lost_stream_it_goes_on(self, watched: Watched, api_server: ScriptedServer) -> None:
        self.streams(
            api_server,
            events(row("a", "online"), row("b", "online")),
            events(row("a", "online"), row("b", "offline")),
            events(row("a", "online")),
        )
        assert watched(4) == [("a", "online"), ("b", "online"), ("b", "offline"), ("b", "revoked")]
        assert {seen.headers["accept"] for seen in api_server.seen} == {"text/event-stream"}

    def test_a_slow_reader_begins_again(self, watched: Watched, api_server: ScriptedServer) -> None:
        self.streams(
            api_server,
            events(row("a", "online")) + b"event: overflow\ndata: {}\n\n" + events(row("a", "stale")),
            events(row("a", "offline")),
        )
        assert watched(2)[1] == ("a", "offline")

    def test_who_may_not_watch_is_told(self, watched: Watched, api_server: ScriptedServer) -> None:
        api_server.will(403, {"detail": "Insufficient scopes"})
        with pytest.raises(ThalovantAuthError, match="scopes"):
            watched(1)

    def test_a_hub_that_is_removed_ends_it(self, watched: Watched, api_server: ScriptedServer) -> None:
        self.streams(api_server, events())
        api_server.will(404, {"detail": "Hub not found", "code": "hub_not_found"})
        with pytest.raises(ThalovantAPIError, match="Hub not found"):
            watched(1)

    def test_nobody_there_is_told_at_once(self, watched: Watched, api_server: ScriptedServer) -> None:
        def nobody(_: Seen) -> tuple[int, Any]:
            raise ConnectionResetError

        api_server.script = nobody
        with pytest.raises(ThalovantAPIUnreachableError):
            watched(1)

    def test_silence_is_a_lost_stream(self, lonely: object, monkeypatch: pytest.MonkeyPatch) -> None:
        """The connection stays open and nothing comes any more, not even a comment."""
        monkeypatch.setattr("thalovant.control_base.SILENCE", 0.05)
        head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"
        kept = []

        def serve(listener: socket.socket) -> None:
            for state in ("online", "offline"):
                kept.append(listener.accept()[0])
                kept[-1].sendall(head + events(row("a", state)))

        with socket.create_server(("127.0.0.1", 0)) as listener, contextlib.ExitStack() as stack:
            thread = threading.Thread(target=serve, args=(listener,))
            thread.start()
            stack.callback(thread.join)
            url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            api = stack.enter_context(ThalovantControlPlane(url, access_token=TOKEN))
            watch = stack.enter_context(contextlib.closing(api.watch_presence("hub-1")))
            assert [next(watch).state for _ in range(2)] == ["online", "offline"]
        for connection in kept:
            connection.close()


EXPORT = b'{"id":"1"}\n{"signature":"s"}\n'


class TestExporting:
    def test_into_a_file(self, call: Call, api_server: ScriptedServer, tmp_path: Path) -> None:
        api_server.will(200, raw=EXPORT, content_type="application/x-ndjson")
        assert call(lambda api: api.export_audit(tmp_path / "audit.jsonl")) == 1
        assert (tmp_path / "audit.jsonl").read_bytes() == EXPORT
        assert (tmp_path / "audit.jsonl").stat().st_mode & 0o777 == 0o600

    def test_into_a_stream(self, call: Call, api_server: ScriptedServer) -> None:
        api_server.will(200, raw=EXPORT)
        out = io.BytesIO()
        assert call(lambda api: api.export_audit(out, since="2026-11-01", client_id="c")) == 1
        assert out.getvalue() == EXPORT
        assert api_server.seen[-1].query == {"since": "2026-11-01", "client_id": "c"}

    def test_the_key_that_signs(self, call: Call, api_server: ScriptedServer) -> None:
        api_server.will(200, {"algorithm": "Ed25519", "public_key": "a="})
        assert call(lambda api: api.get_audit_key()) == "a="

    def test_a_refusal_and_half_an_export_leave_no_file(
        self, call: Call, api_server: ScriptedServer, tmp_path: Path
    ) -> None:
        api_server.will(403, {"detail": "Insufficient scopes"})
        api_server.will(200, raw=EXPORT[:-3])
        for said in ("scopes", "signature"):
            with pytest.raises(ThalovantAPIError, match=said):
                call(lambda api: api.export_audit(tmp_path / "audit.jsonl"))
        assert list(tmp_path.iterdir()) == []
