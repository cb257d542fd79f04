# SPDX-License-Identifier: Apache-2.0
"""What is done with a client after it was made, by both twins, against a real HTTPS server that follows a script."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from thalovant.control_plane import AsyncThalovantControlPlane, ThalovantControlPlane
from thalovant.errors import ThalovantAPIError, ThalovantIdentityError

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
