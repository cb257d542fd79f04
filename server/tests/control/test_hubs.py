# SPDX-License-Identifier: Apache-2.0
"""Hubs over the API: shown, made, changed with If-Match, removed; and what the data plane hears."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from thalovant_server.control import hubs
from thalovant_server.directory import Change
from thalovant_server.store import hubs as rows
from thalovant_server.testing.control import BROKER_ENDPOINTS, ENDPOINTS, World

Run = Callable[[Callable[[World], Awaitable[None]]], None]
SAID: tuple[dict[str, str], ...] = ({}, {"via": "link"}, {"via": "embedded"})
MQTT_ON = {"spec": {"protocols": {"mqtt": {"enabled": True}}}}


def test_the_public_sees_the_demo_hub_by_slug_and_id(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        listed = (await world.call("GET", "/v1/public/hubs?limit=24", token=None)).json()
        row = listed["data"][0]
        assert listed["meta"] == {"count": 1, "next": None}
        assert listed["links"] == {"next": None}
        assert (row["slug"], row["title"], row["domain"]) == ("demo", "Demo", "hub.example.test:8443")
        assert row["data_plane_endpoints"] == {
            "wss": f"wss://hub.example.test:8443/hubs/{row['id']}",
            "https": f"https://hub.example.test:8443/hubs/{row['id']}",
            "mqtt": "mqtts://hub.example.test:8883",
        }
        for reference in (row["id"], row["slug"]):
            assert (await world.call("GET", f"/v1/public/hubs/{reference}", token=None)).json() == row
        assert "owner_id" not in row

    in_world(scenario)


def test_private_and_sleeping_hubs_are_not_public(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        private = await world.make_hub("private")
        asleep = await world.make_hub("asleep", visibility="public", active=False)
        for hub in (private, asleep):
            answer = await world.call("GET", f"/v1/public/hubs/{hub['slug']}", token=None)
            assert (answer.status_code, answer.json()["code"]) == (404, "hub_not_found")
        assert len((await world.call("GET", "/v1/public/hubs")).json()["data"]) == 1

    in_world(scenario)


def test_a_new_hub_has_all_that_sdks_look_at(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        hub = await world.make_hub("Kitchen hub", spec={"version": "1", "agent": "helper", "theme": {"x": 1}})
        assert hub["slug"] == "kitchen-hub"
        assert hub["title"] == hub["name"] == "Kitchen hub"
        assert hub["etag"] == 'W/"1"'
        assert hub["visibility"] == "private"
        assert hub["spec"]["theme"] == {"x": 1}
        assert list(hub["data_plane_endpoints"]) == ["wss"]
        assert hub["created_at"].endswith("Z")
        assert (await world.call("GET", f"/v1/hubs/{hub['id']}")).json() == hub
        assert world.changes == [Change("hub", "created", hub["id"])]
        entry = world.services.directory.hub(hub["id"])
        assert entry is not None
        assert (entry.agent, entry.protocols) == ("helper", {"wss"})

    in_world(scenario)


def test_hubs_of_one_name_get_slugs_of_their_own(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        slugs = [(await world.make_hub("Kitchen"))["slug"] for _ in range(5)]
        assert len(set(slugs)) == 5
        assert all(slug.startswith("kitchen") for slug in slugs)

    in_world(scenario)


def test_a_slug_in_use_is_a_409(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        body = {"name": "x", "slug": "demo", "spec": {"version": "1"}}
        answer = await world.call("POST", "/v1/hubs", body)
        assert (answer.status_code, answer.json()["code"]) == (409, "slug_in_use")

    in_world(scenario)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"name": "x"},
        {"name": "x", "spec": {}},
        {"name": "x", "spec": []},
        {"name": "x", "spec": {"version": 1}},
        {"name": "", "spec": {"version": "1"}},
        {"name": "a/b", "spec": {"version": "1"}},
        {"name": "e\u0301", "spec": {"version": "1"}},
        {"name": "x", "slug": "No Slug", "spec": {"version": "1"}},
        {"name": "x", "namespace": "a#b", "spec": {"version": "1"}},
        {"name": "x", "domain": "elsewhere.test", "spec": {"version": "1"}},
        {"name": "x", "visibility": "secret", "spec": {"version": "1"}},
        {"name": "x", "capacity_profile": "huge", "spec": {"version": "1"}},
        {"name": "x", "owner_id": "user-nobody", "spec": {"version": "1"}},
        {"name": "x", "spec": {"version": "1", "agent": "unknown"}},
        {"name": "x", "spec": {"version": "1", "agent": {"module": "os"}}},
        {"name": "x", "spec": {"version": "1", "agent_url": "http://x"}},
        {"name": "x", "spec": {"version": "1", "protocols": {"mqtt": "maybe"}}},
    ],
)
def test_unusable_hubs_are_refused_and_nothing_is_made(in_world: Run, body: dict[str, Any]) -> None:
    async def scenario(world: World) -> None:
        answer = await world.call("POST", "/v1/hubs", body)
        assert answer.status_code == 422, answer.text
        assert answer.json()["code"] == "validation_failed"
        assert answer.json()["errors"][0].keys() == {"loc", "msg", "type"}
        assert len((await world.call("GET", "/v1/hubs")).json()["data"]) == 1
        assert world.changes == []

    in_world(scenario)


def test_enabling_mqtt_is_a_merge_of_the_spec(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        hub = await world.make_hub(spec={"version": "1", "protocols": {"http": True}, "theme": "dark"})
        answer = await world.call("PATCH", f"/v1/hubs/{hub['id']}", MQTT_ON, if_match=hub["etag"])
        changed = answer.json()
        assert answer.status_code == 200
        assert changed["etag"] == 'W/"2"'
        assert changed["spec"]["theme"] == "dark"
        assert set(changed["data_plane_endpoints"]) == {"wss", "https", "mqtt"}
        assert world.changes[-1] == Change("hub", "changed", hub["id"])
        entry = world.services.directory.hub(hub["id"])
        assert entry is not None
        assert entry.protocols == {"wss", "https", "mqtt"}

    in_world(scenario)


@pytest.mark.parametrize("etag", [None, "", 'W/"0"', 'W/"2"', "*", '"1"'])
def test_a_stale_or_missing_etag_changes_nothing(in_world: Run, etag: str | None) -> None:
    async def scenario(world: World) -> None:
        hub = await world.make_hub()
        headers = {} if etag is None else {"if_match": etag}
        path = f"/v1/hubs/{hub['id']}"
        for method, body in (("PATCH", MQTT_ON), ("DELETE", None)):
            answer = await world.call(method, path, body, **headers)
            assert (answer.status_code, answer.json()["code"]) == (412, "etag_mismatch")
        assert (await world.call("GET", path)).json() == hub
        assert len(world.changes) == 1

    in_world(scenario)


@pytest.mark.parametrize(
    ("field", "value"),
    [("name", "other"), ("namespace", "other"), ("domain", "other.test"), ("slug", "other"), ("owner_id", "other")],
)
def test_what_cannot_change_is_a_400_when_it_would(in_world: Run, field: str, value: str) -> None:
    async def scenario(world: World) -> None:
        hub = await world.make_hub()
        path = f"/v1/hubs/{hub['id']}"
        answer = await world.call("PATCH", path, {field: value}, if_match=hub["etag"])
        assert (answer.status_code, answer.json()["code"]) == (400, "immutable_field")
        for same in (hub[field], None):
            answer = await world.call("PATCH", path, {field: same}, if_match=hub["etag"])
            assert answer.status_code == 200
            hub = answer.json()

    in_world(scenario)


def test_a_whole_hub_may_be_sent_back(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        hub = await world.make_hub()
        body = {**hub, "visibility": "public", "active": False, "capacity_profile": "autoscaling"}
        changed = (await world.call("PATCH", f"/v1/hubs/{hub['id']}", body, if_match=hub["etag"])).json()
        assert (changed["visibility"], changed["active"]) == ("public", False)
        assert changed["capacity_profile"] == "autoscaling"
        entry = world.services.directory.hub(hub["id"])
        assert entry is not None
        assert not entry.active

    in_world(scenario)


@pytest.mark.parametrize("spec", [{"version": None}, {"agent": "unknown"}, {"agentModule": "x"}, {"protocols": "x"}])
def test_an_unusable_change_leaves_the_hub_as_it_was(in_world: Run, spec: dict[str, Any]) -> None:
    async def scenario(world: World) -> None:
        hub = await world.make_hub()
        path = f"/v1/hubs/{hub['id']}"
        answer = await world.call("PATCH", path, {"spec": spec}, if_match=hub["etag"])
        assert answer.status_code == 422
        assert (await world.call("GET", path)).json() == hub

    in_world(scenario)


def test_removing_a_hub_removes_its_clients(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        hub = await world.make_hub()
        client = await world.make_client(hub["id"])
        world.changes.clear()
        answer = await world.call("DELETE", f"/v1/hubs/{hub['id']}", if_match=hub["etag"])
        assert (answer.status_code, answer.content) == (204, b"")
        assert [(change.kind, change.action) for change in world.changes] == [
            ("credential", "removed"),
            ("hub", "removed"),
        ]
        assert world.services.directory.credential(client["initial_identify"]["access_key"]) is None
        for path in (f"/v1/hubs/{hub['id']}", f"/v1/clients/{client['id']}"):
            assert (await world.call("GET", path)).status_code == 404

    in_world(scenario)


def test_pages_follow_each_other_without_gap_or_repeat(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        for number in range(6):
            await world.make_hub(f"hub {number}")
        seen, path = [], "/v1/hubs?limit=3"
        while path:
            body = (await world.call("GET", path)).json()
            assert body["meta"]["count"] == len(body["data"]) <= 3
            seen += [hub["slug"] for hub in body["data"]]
            path = body["links"]["next"]
            assert (path is None) == (body["meta"]["next"] is None)
        assert seen == ["demo", *(f"hub-{number}" for number in range(6))]

    in_world(scenario)


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=-1", "limit=x", "cursor=x", "cursor=%00", "cursor=AA", "cursor=" + "x" * 100]
)
def test_unusable_paging_is_refused(in_world: Run, query: str) -> None:
    async def scenario(world: World) -> None:
        answer = await world.call("GET", f"/v1/hubs?{query}")
        assert answer.status_code == 422
        assert isinstance(answer.json()["detail"], str)

    in_world(scenario)


def test_an_account_sees_its_own_hubs_and_public_ones(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        private, demo = await world.make_hub("private"), await world.demo()
        bob = await world.add_account("bob")
        assert (await world.call("GET", "/v1/hubs", token=bob)).json()["data"] == []
        assert (await world.call("GET", f"/v1/hubs/{demo['id']}", token=bob)).status_code == 200
        assert (await world.call("GET", f"/v1/hubs/{private['id']}", token=bob)).status_code == 404
        answer = await world.call("GET", f"/v1/hubs?owner_id={private['owner_id']}", token=bob)
        assert (answer.status_code, answer.json()["detail"]) == (403, "Ownership required")

    in_world(scenario)


def test_an_account_changes_only_its_own_hubs(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        bob = await world.add_account("bob")
        demo = await world.demo()
        for method in ("PATCH", "DELETE"):
            body = MQTT_ON if method == "PATCH" else None
            answer = await world.call(method, f"/v1/hubs/{demo['id']}", body, token=bob, if_match='W/"1"')
            assert (answer.status_code, answer.json()["detail"]) == (403, "Ownership required")
        body = {"name": "mine", "spec": {"version": "1"}}
        mine = (await world.call("POST", "/v1/hubs", body, token=bob)).json()
        assert mine["owner_id"] == "user-bob"
        refused = await world.call("POST", "/v1/hubs", {**body, "owner_id": "user-other"}, token=bob)
        assert refused.status_code == 403
        for_bob = (await world.call("POST", "/v1/hubs", {**body, "owner_id": "user-bob"})).json()
        assert for_bob["owner_id"] == "user-bob"
        assert len((await world.call("GET", "/v1/hubs?owner_id=user-bob")).json()["data"]) == 2

    in_world(scenario)


BIG = b"123456789012345678901234567890"


def test_a_number_that_cannot_be_written_back_is_refused_and_nothing_changes(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        hub = await world.make_hub()
        for method, path, headers in (
            ("PATCH", f"/v1/hubs/{hub['id']}", {"if_match": hub["etag"]}),
            ("POST", "/v1/hubs", {"idempotency_key": "k"}),
            ("POST", "/v1/clients", {}),
        ):
            body = b'{"hub_id":"%s","name":"x","spec":{"version":"1","catalog":{"big":%s}}}'
            answer = await world.call(method, path, body % (hub["id"].encode(), BIG), **headers)
            assert (answer.status_code, answer.json()["code"]) == (422, "malformed_json")
        assert (await world.call("GET", f"/v1/hubs/{hub['id']}")).json() == hub
        assert len((await world.call("GET", "/v1/hubs")).json()["data"]) == 2

    in_world(scenario)


def test_a_change_that_cannot_be_shown_is_not_committed(in_world: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(world: World) -> None:
        hub = await world.make_hub()
        path = f"/v1/hubs/{hub['id']}"
        with monkeypatch.context() as patched:
            patched.setattr(hubs, "time_text", lambda _: int(BIG))
            assert (await world.call("PATCH", path, MQTT_ON, if_match=hub["etag"])).status_code == 500
        assert (await world.call("GET", path)).json() == hub
        assert len(world.changes) == 1

    in_world(scenario)


def test_a_hub_that_cannot_be_shown_does_not_hide_the_others(in_world: Run, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(world: World) -> None:
        broken, fine = await world.make_hub("broken"), await world.make_hub("fine")
        spec = {**broken["spec"], "catalog": {"big": int(BIG)}}
        await world.services.database.write(lambda work: rows.change(work.connection, broken["id"], {"spec": spec}))
        listed = (await world.call("GET", "/v1/hubs")).json()
        assert [hub["slug"] for hub in listed["data"]] == ["demo", fine["slug"]]
        assert listed["meta"] == {"count": 2, "next": None}
        assert broken["id"] in caplog.text
        repair = {"spec": {"catalog": None}}
        answer = await world.call("PATCH", f"/v1/hubs/{broken['id']}", repair, if_match=broken["etag"])
        assert answer.status_code == 200
        assert len((await world.call("GET", "/v1/hubs")).json()["data"]) == 3

    in_world(scenario)


def test_a_spec_does_not_grow_without_end(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        hub = await world.make_hub()
        statuses = []
        for number in range(6):
            patch = {"spec": {"notes": {str(number): "x" * 16_000}}}
            answer = await world.call("PATCH", f"/v1/hubs/{hub['id']}", patch, if_match=hub["etag"])
            statuses.append(answer.status_code)
            hub = answer.json() if answer.status_code == 200 else hub
        assert statuses == [200, 200, 200, 200, 422, 422]

    in_world(scenario)


SECRETIVE = {
    "version": "1",
    "password": "canary-1",
    "catalog": {"title": "Open", "api_key": "canary-2"},
    "protocols": {"wss": {"enabled": True, "token": "canary-3"}},
    "upstream": {"host": "inner.example.test", "list": [{"apiKey": "canary-4"}]},
}


def test_a_hub_keeps_no_secret_and_shows_strangers_only_what_they_need(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        hub = await world.make_hub("open", visibility="public", spec=SECRETIVE)
        assert hub["spec"]["upstream"] == {"host": "inner.example.test", "list": [{}]}
        patch = {"spec": {"secret": "canary-5", "catalog": {"Access-Token": "canary-6"}}}
        hub = (await world.call("PATCH", f"/v1/hubs/{hub['id']}", patch, if_match=hub["etag"])).json()
        async with world.services.database.read() as connection:
            stored = await rows.by_id(connection, hub["id"])
        assert stored is not None
        assert "canary" not in str(stored.spec)
        bob = await world.add_account("bob")
        for path, token in (("/v1/public/hubs/open", None), (f"/v1/hubs/{hub['id']}", bob)):
            seen = (await world.call("GET", path, token=token)).json()
            assert seen["spec"] == {key: hub["spec"][key] for key in ("version", "catalog", "protocols")}
        listed = (await world.call("GET", "/v1/public/hubs", token=None)).json()["data"]
        assert "inner.example.test" not in str(listed)
        assert (await world.call("GET", f"/v1/hubs/{hub['id']}")).json() == hub

    in_world(scenario)


def test_a_secret_stored_by_an_older_version_is_not_shown(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        hub = await world.make_hub("open", visibility="public")
        spec = {**hub["spec"], **SECRETIVE, "protocols": hub["spec"]["protocols"]}
        await world.services.database.write(lambda work: rows.change(work.connection, hub["id"], {"spec": spec}))
        for path in (f"/v1/hubs/{hub['id']}", "/v1/hubs", "/v1/public/hubs", "/v1/public/hubs/open"):
            assert "canary" not in (await world.call("GET", path)).text

    in_world(scenario)


def test_a_signed_in_caller_may_use_a_slug(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        mine, demo = await world.make_hub("mine"), await world.demo()
        clash = await world.make_hub("clash", slug=mine["id"].lower())
        assert (await world.call("GET", "/v1/hubs/mine")).json() == mine
        assert (await world.call("GET", f"/v1/hubs/{clash['slug']}")).json() == clash
        bob = await world.add_account("bob")
        assert (await world.call("GET", "/v1/hubs/demo", token=bob)).json()["id"] == demo["id"]
        for reference in ("mine", mine["id"], "nothing"):
            refused = await world.call("GET", f"/v1/hubs/{reference}", token=bob)
            assert (refused.status_code, refused.json()["code"]) == (404, "hub_not_found")
            assert refused.json()["detail"] == "Hub not found: `thalovant hubs` lists those you may use"

    in_world(scenario)


def test_an_id_wins_over_the_slug_of_another_hub_unless_it_is_hidden(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        by_id, by_slug = await world.make_hub("a"), await world.make_hub("b", visibility="public")
        await world.services.database.write(
            lambda work: rows.change(work.connection, by_slug["id"], {"slug": by_id["id"]})
        )
        path = f"/v1/hubs/{by_id['id']}"
        assert (await world.call("GET", path)).json()["name"] == "a"
        bob = await world.add_account("bob")
        assert (await world.call("GET", path, token=bob)).json()["name"] == "b"

    in_world(scenario)


def via(hub: dict[str, Any]) -> str:
    return str(hub["spec"]["protocols"]["mqtt"]["via"])


def mqtt(**said: Any) -> dict[str, Any]:
    return {"version": "1", "protocols": {"mqtt": {"enabled": True, **said}}}


def test_a_new_hub_is_at_the_broker_where_there_is_one_and_its_maker_does_not_say(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        before = await world.make_hub("before", spec=mqtt())
        world.services.endpoints = BROKER_ENDPOINTS
        made = [await world.make_hub(f"h{number}", spec=mqtt(**said)) for number, said in enumerate(SAID)]
        assert [via(hub) for hub in made] == ["link", "link", "embedded"]
        addresses = [hub["data_plane_endpoints"]["mqtt"] for hub in made]
        assert addresses == [BROKER_ENDPOINTS.broker_url, BROKER_ENDPOINTS.broker_url, BROKER_ENDPOINTS.mqtt_url]
        entries = [world.services.directory.hub(hub["id"]) for hub in made]
        assert [entry and entry.mqtt_via for entry in entries] == ["link", "link", "embedded"]
        before = (await world.call("GET", f"/v1/hubs/{before['id']}")).json()
        assert (via(before), before["data_plane_endpoints"]["mqtt"]) == ("embedded", BROKER_ENDPOINTS.mqtt_url)

    in_world(scenario)


def test_a_hub_moves_to_the_broker_and_back_and_the_data_plane_and_the_audit_log_hear_of_it(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        world.services.endpoints = BROKER_ENDPOINTS
        hub = await world.make_hub("kitchen", spec=mqtt(via="embedded"))
        for there, back in (("link", "embedded"), ("embedded", "link")):
            patch = {"spec": {"protocols": {"mqtt": {"via": there}}}}
            moved = await world.call("PATCH", f"/v1/hubs/{hub['id']}", patch, if_match=hub["etag"])
            hub = moved.json()
            assert (moved.status_code, via(hub)) == (200, there)
            assert hub["data_plane_endpoints"]["mqtt"] == BROKER_ENDPOINTS.mqtt_for(there)
            entry = world.services.directory.hub(hub["id"])
            assert entry is not None and entry.serves_mqtt(there) and not entry.serves_mqtt(back)
            assert world.changes[-1] == Change("hub", "changed", hub["id"])
            logged = (await world.call("GET", f"/v1/audit?hub_id={hub['id']}&action=hub.changed")).json()["data"]
            assert {back, there} == {by["spec"]["protocols"]["mqtt"]["via"] for by in _both(logged, back, there)}

    in_world(scenario)


def _both(logged: list[dict[str, Any]], before: str, after: str) -> list[dict[str, Any]]:
    found = [entry for entry in logged if entry["after"] == {"spec": {"protocols": {"mqtt": {"via": after}}}}]
    assert len(found) == 1
    return [found[0]["before"], found[0]["after"]]


def test_without_a_broker_no_hub_can_be_led_to_one(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        hub = await world.make_hub("kitchen", spec=mqtt())
        made = await world.call("POST", "/v1/hubs", {"name": "x", "spec": mqtt(via="link")})
        patch = {"spec": mqtt(via="link")}
        moved = await world.call("PATCH", f"/v1/hubs/{hub['id']}", patch, if_match=hub["etag"])
        for answer in (made, moved):
            assert answer.status_code == 422
            assert "thalovant hubs set HUB --mqtt embedded" in answer.json()["detail"]
            assert "--broker mosquitto" in answer.json()["detail"]
        assert (await world.call("GET", f"/v1/hubs/{hub['id']}")).json()["etag"] == hub["etag"]

    in_world(scenario)


def test_a_road_that_is_none_is_a_422_that_names_the_two(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        answer = await world.call("POST", "/v1/hubs", {"name": "x", "spec": mqtt(via="broker")})
        assert answer.status_code == 422
        assert '"embedded"' in answer.json()["detail"] and '"link"' in answer.json()["detail"]

    in_world(scenario)


def test_a_hub_whose_broker_is_gone_may_be_changed_turned_off_and_led_back_but_not_turned_on(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        world.services.endpoints = BROKER_ENDPOINTS
        hub = await world.make_hub("kitchen", spec=mqtt())
        world.services.endpoints = ENDPOINTS
        assert "mqtt" not in (await world.call("GET", f"/v1/hubs/{hub['id']}")).json()["data_plane_endpoints"]
        off, on = ({"protocols": {"mqtt": flag}} for flag in (False, True))
        for spec, status in (({"theme": "dark"}, 200), (off, 200), (on, 422), (mqtt(via="embedded"), 200)):
            answer = await world.call("PATCH", f"/v1/hubs/{hub['id']}", {"spec": spec}, if_match=hub["etag"])
            assert answer.status_code == status, spec
            hub = answer.json() if status == 200 else hub
        assert (via(hub), hub["data_plane_endpoints"]["mqtt"]) == ("embedded", ENDPOINTS.mqtt_url)

    in_world(scenario)
