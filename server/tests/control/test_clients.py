# SPDX-License-Identifier: Apache-2.0
"""Clients over the API: a credential goes out once, is sealed at rest, and is cut when its client is removed."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import uvloop
from sqlalchemy import select

from thalovant_server.directory import Change
from thalovant_server.directory_loading import open_directory
from thalovant_server.store.credentials import CredentialKeeper
from thalovant_server.store.tables import credentials
from thalovant_server.testing.control import BROKER_CA, BROKER_ENDPOINTS, ENDPOINTS, World, open_world
from thalovant_server.testing.directory import cheap_stretch

Run = Callable[[Callable[[World], Awaitable[None]]], None]


def sdk_spec(**more: Any) -> dict[str, Any]:
    """A spec as the published SDK sends it."""
    return {
        "version": "1",
        "apiKey": secrets.token_urlsafe(32),
        "password": secrets.token_urlsafe(32),
        "siteId": "python-mqtt-client",
        **more,
    }


def test_a_new_client_gets_all_it_needs_to_connect(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        spec, hub = sdk_spec(connection_type="embedded", colour="red"), await world.demo()
        client = await world.make_client(hub["id"], name="python-mqtt-client", spec=spec)
        identity = client["initial_identify"]
        mqtt = identity.pop("mqtt")
        prefix = f"hubs/{hub['id']}/clients/{client['id']}"
        assert identity == {
            "access_key": spec["apiKey"],
            "password": spec["password"],
            "site_id": "python-mqtt-client",
            "default_master": f"wss://hub.example.test:8443/hubs/{hub['id']}",
            "default_port": 8443,
            "ca_pem": ENDPOINTS.ca_pem,
        }
        assert len(mqtt.pop("password")) == 43
        assert mqtt == {
            "endpoint": "mqtts://hub.example.test:8883",
            "username": spec["apiKey"],
            "topic_prefix": prefix,
            "c2s_topic": f"{prefix}/c2s",
            "s2c_topic": f"{prefix}/s2c",
            "status_topic": f"{prefix}/status",
            "qos": 1,
            "tls": True,
        }
        expected = {"version": "1", "siteId": "python-mqtt-client", "connection_type": "embedded", "colour": "red"}
        assert client["spec"] == expected
        assert client["etag"] == 'W/"1"'

    in_world(scenario)


def test_the_data_plane_knows_it_at_once(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        client = await world.make_client()
        identity, directory = client["initial_identify"], world.services.directory
        entry = directory.credential(identity["access_key"])
        assert entry is not None
        assert (entry.client_id, entry.client_name, entry.site_id) == (client["id"], "lamp", "lamp")
        assert entry.topic_prefix == identity["mqtt"]["topic_prefix"]
        assert directory.check_mqtt_password(entry, identity["mqtt"]["password"].encode())
        assert not directory.check_mqtt_password(entry, identity["password"].encode())
        assert [(change.action, change.client_id) for change in world.changes] == [("created", client["id"])]
        assert len(await directory.psk(entry)) == 32

    in_world(scenario)


def test_secrets_are_minted_when_none_are_sent(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        one, two = [(await world.make_client())["initial_identify"] for _ in range(2)]
        assert len({one["access_key"], one["password"], two["access_key"], two["password"]}) == 4
        assert {len(value) for value in (one["access_key"], one["password"])} == {43}

    in_world(scenario)


def test_a_hub_without_mqtt_gives_no_broker_credential_then_or_later(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        hub = await world.make_hub()
        early = await world.make_client(hub["id"])
        assert "mqtt" not in early["initial_identify"]
        change = {"spec": {"protocols": {"mqtt": {"enabled": True}}}}
        await world.call("PATCH", f"/v1/hubs/{hub['id']}", change, if_match=hub["etag"])
        late = await world.make_client(hub["id"])
        assert late["initial_identify"]["mqtt"]["endpoint"] == "mqtts://hub.example.test:8883"
        directory = world.services.directory
        entries = [directory.credential(each["initial_identify"]["access_key"]) for each in (early, late)]
        assert entries[0] is not None
        assert entries[1] is not None
        assert entries[0].mqtt_password_hash is None
        assert not directory.check_mqtt_password(entries[0], b"")
        assert entries[1].mqtt_password_hash is not None

    in_world(scenario)


def test_without_wss_the_master_is_the_https_address(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        hub = await world.make_hub(spec={"version": "1", "protocols": {"wss": False, "http": True}})
        identity = (await world.make_client(hub["id"]))["initial_identify"]
        assert identity["default_master"] == f"https://hub.example.test:8443/hubs/{hub['id']}"

    in_world(scenario)


def test_no_secret_is_shown_again_or_lies_open_in_the_database(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        nested = {"deep": [{"Private-Key": "hidden-value-of-mine"}], "apiKeyRef": "kept"}
        spec = sdk_spec(cryptoKey="c" * 43, access_token="hidden-value-of-mine", more=nested)
        client = await world.make_client(spec=spec)
        broker_password = client["initial_identify"]["mqtt"]["password"]
        shown = await world.call("GET", f"/v1/clients/{client['id']}")
        listed = await world.call("GET", "/v1/clients")
        hidden = [spec["password"], spec["cryptoKey"], broker_password, "hidden-value-of-mine"]
        assert shown.json()["spec"]["more"] == {"deep": [{}], "apiKeyRef": "kept"}
        for secret in [*hidden, spec["apiKey"]]:
            assert secret not in shown.text + listed.text
        entry = world.services.directory.credential(spec["apiKey"])
        assert entry is not None
        hidden_bytes = [each.encode() for each in hidden] + [await world.services.directory.psk(entry)]
        raw = b"".join(file.read_bytes() for file in world.services.database.path.parent.glob("thalovant.db*"))
        assert not [each for each in hidden_bytes if each in raw]

    in_world(scenario)


def test_a_key_in_use_is_refused_without_saying_whose(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        other = await world.make_hub()
        spec = sdk_spec()
        await world.make_client(name="first-owner", spec=spec)
        answer = await world.call("POST", "/v1/clients", {"hub_id": other["id"], "name": "second", "spec": spec})
        assert (answer.status_code, answer.json()["code"]) == (409, "access_key_in_use")
        assert "first-owner" not in answer.text
        assert spec["apiKey"] not in answer.text
        assert len((await world.call("GET", "/v1/clients")).json()["data"]) == 1
        await world.make_client(name="third")  # the refused transaction left nothing behind

    in_world(scenario)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("apiKey", "short"),
        ("apiKey", "a" * 31),
        ("apiKey", "a/" * 20),
        ("apiKey", 7),
        ("apiKey", "a" * 300),
        ("password", "short-and-secret"),
        ("password", ""),
        ("password", "ä" * 40),
        ("siteId", "a/b"),
        ("siteId", " "),
        ("siteId", 1),
        ("siteId", "x" * 200),
        ("connection_type", "a/b"),
        ("connection_type", 1),
        ("version", 1),
        ("version", ""),
    ],
)
def test_an_unusable_spec_is_refused_without_its_values(in_world: Run, field: str, value: Any) -> None:
    async def scenario(world: World) -> None:
        body = {"hub_id": (await world.demo())["id"], "name": "x", "spec": sdk_spec(**{field: value})}
        answer = await world.call("POST", "/v1/clients", body)
        assert answer.status_code == 422, answer.text
        assert answer.json()["errors"][0]["loc"] == ["body", "spec", field]
        for secret in (body["spec"]["apiKey"], body["spec"]["password"]):
            assert len(str(secret)) < 5 or str(secret) not in answer.text
        assert (await world.call("GET", "/v1/clients")).json()["data"] == []
        assert world.changes == []

    in_world(scenario)


@pytest.mark.parametrize("name", ["", "  ", "a/b", "a+b", "$a", "a#b", "a\x01b", "e\u0301", "x" * 201, 5, None])
def test_forbidden_names_make_nothing(in_world: Run, name: Any) -> None:
    async def scenario(world: World) -> None:
        body = {"hub_id": (await world.demo())["id"], "name": name}
        answer = await world.call("POST", "/v1/clients", body)
        assert answer.status_code == 422
        assert "connection_type" not in answer.text
        assert (await world.call("GET", "/v1/clients")).json()["data"] == []

    in_world(scenario)


def test_an_unknown_hub_is_a_404(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        answer = await world.call("POST", "/v1/clients", {"hub_id": "hub-none", "name": "x"})
        assert (answer.status_code, answer.json()["code"]) == (404, "hub_not_found")

    in_world(scenario)


def test_a_removed_client_is_cut_at_once(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        client = await world.make_client()
        path = f"/v1/clients/{client['id']}"
        for etag in ({}, {"if_match": 'W/"9"'}):
            assert (await world.call("DELETE", path, **etag)).status_code == 412
        world.changes.clear()
        assert (await world.call("DELETE", path, if_match=client["etag"])).status_code == 204
        assert [(change.kind, change.action) for change in world.changes] == [("credential", "removed")]
        assert world.services.directory.credential(client["initial_identify"]["access_key"]) is None
        for method in ("GET", "DELETE"):
            answer = await world.call(method, path, if_match=client["etag"])
            assert (answer.status_code, answer.json()["code"]) == (404, "client_not_found")

    in_world(scenario)


def test_a_pinned_key_is_reset_for_good_and_told(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        client, directory = await world.make_client(), world.services.directory
        access_key = client["initial_identify"]["access_key"]
        entry = directory.credential(access_key)
        assert entry is not None
        assert await directory.pin_key(entry.id, b"a" * 32)
        assert not await directory.pin_key(entry.id, b"b" * 32)
        world.changes.clear()
        for _ in range(2):  # may be repeated
            answer = await world.call("POST", f"/v1/clients/{client['id']}/credentials/1/reset-key")
            assert (answer.status_code, answer.content) == (204, b"")
        told = Change("credential", "changed", entry.hub_id, client["id"], entry.id)
        assert world.changes == [told, told]
        loaded = await open_directory(world.services.database, node_id="unused", stretch=cheap_stretch)
        for each in (directory, loaded):
            found = each.credential(access_key)
            assert found is not None
            assert found.pinned_key is None
        await loaded.stop()
        assert await directory.pin_key(entry.id, b"b" * 32)
        assert not await directory.pin_key(entry.id, b"a" * 32)
        assert (await world.call("GET", f"/v1/clients/{client['id']}")).json()["etag"] == client["etag"]

    in_world(scenario)


def test_a_key_is_reset_by_its_owner_only_and_only_where_there_is_one(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        client, bob = await world.make_client(), await world.add_account("bob")
        entry = world.services.directory.credential(client["initial_identify"]["access_key"])
        assert entry is not None
        assert await world.services.directory.pin_key(entry.id, b"a" * 32)
        path = f"/v1/clients/{client['id']}/credentials"
        for unknown in ("0", "-1", "2", "9" * 40):
            answer = await world.call("POST", f"{path}/{unknown}/reset-key")
            assert (answer.status_code, answer.json()["code"]) == (404, "credential_not_found")
        answer = await world.call("POST", "/v1/clients/client-none/credentials/1/reset-key")
        assert (answer.status_code, answer.json()["code"]) == (404, "client_not_found")
        assert (await world.call("POST", f"{path}/one/reset-key")).status_code == 422
        assert (await world.call("POST", f"{path}/1/reset-key", token=None)).status_code == 401
        assert (await world.call("POST", f"{path}/1/reset-key", token=bob)).status_code == 404
        reader = await world.token_for(scope="clients:read")
        assert (await world.call("POST", f"{path}/1/reset-key", token=reader)).status_code == 403
        assert not await world.services.directory.pin_key(entry.id, b"b" * 32)

    in_world(scenario)


def test_clients_are_listed_by_hub_with_and_without_spec(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        hub = await world.make_hub()
        ours = [await world.make_client(hub["id"], name=f"lamp {number}") for number in range(3)]
        await world.make_client(name="elsewhere")
        path, seen = f"/v1/clients?hub_id={hub['id']}&limit=2&include_spec=false", []
        while path:
            body = (await world.call("GET", path)).json()
            seen += body["data"]
            path = body["links"]["next"]
        assert [each["id"] for each in seen] == [each["id"] for each in ours]
        assert all("spec" not in each for each in seen)
        whole = (await world.call("GET", f"/v1/clients?hub_id={hub['id']}")).json()["data"]
        assert whole[0]["spec"] == {"version": "1", "siteId": "lamp-0"}

    in_world(scenario)


def test_accounts_see_their_own_clients_and_those_of_their_hubs(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        bob, demo = await world.add_account("bob"), await world.demo()
        private = await world.make_hub("private")
        admins = await world.make_client()
        refused = await world.call("POST", "/v1/clients", {"hub_id": private["id"], "name": "x"}, token=bob)
        assert refused.status_code == 404
        body = {"hub_id": demo["id"], "name": "bobs"}
        bobs = (await world.call("POST", "/v1/clients", body, token=bob)).json()
        assert bobs["owner_id"] == "user-bob"
        listed = (await world.call("GET", "/v1/clients", token=bob)).json()["data"]
        assert [each["id"] for each in listed] == [bobs["id"]]
        path = f"/v1/clients/{admins['id']}"
        for method in ("GET", "DELETE"):
            assert (await world.call(method, path, token=bob, if_match=admins["etag"])).status_code == 404
        assert (await world.call("GET", f"/v1/clients/{bobs['id']}")).status_code == 200
        refused = await world.call("POST", "/v1/clients", {**body, "owner_id": admins["owner_id"]}, token=bob)
        assert (refused.status_code, refused.json()["detail"]) == (403, "Ownership required")

    in_world(scenario)


def test_an_inactive_client_is_known_as_such(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        client = await world.make_client(active=False)
        entry = world.services.directory.credential(client["initial_identify"]["access_key"])
        assert entry is not None
        assert not entry.active

    in_world(scenario)


def test_many_at_once_each_get_their_own(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        hub = (await world.demo())["id"]
        made = await asyncio.gather(*(world.make_client(hub, name=f"lamp {number}") for number in range(30)))
        assert len({each["initial_identify"]["access_key"] for each in made}) == 30
        assert len({each["initial_identify"]["mqtt"]["topic_prefix"] for each in made}) == 30

    in_world(scenario)


def test_a_directory_filled_at_start_equals_the_one_fed_by_changes(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        hub = await world.make_hub()
        made = [await world.make_client(hub["id"], active=active) for active in (True, False)] + [
            await world.make_client()
        ]
        fed = world.services.directory
        entries = [fed.credential(each["initial_identify"]["access_key"]) for each in made]
        for entry in entries:
            assert entry is not None
            await fed.psk(entry)
        assert entries[0] is not None
        assert await fed.pin_key(entries[0].id, b"p" * 32)
        loaded = await open_directory(world.services.database, node_id="unused", stretch=cheap_stretch)
        for each in (hub, await world.demo()):
            assert loaded.hub(each["id"]) == fed.hub(each["id"])
            assert loaded.hub(each["id"]) is not None
        assert loaded.default_hub() == fed.default_hub()
        for each in made:
            key = each["initial_identify"]["access_key"]
            assert loaded.credential(key) == fed.credential(key)
            assert loaded.credential(key) is not None
        await loaded.stop()

    in_world(scenario)


async def link_hub(world: World, **mqtt: Any) -> str:
    """A hub at the outside broker; its id."""
    world.services.endpoints = BROKER_ENDPOINTS
    hub = await world.make_hub("behind", spec={"version": "1", "protocols": {"mqtt": {"enabled": True, **mqtt}}})
    return str(hub["id"])


def test_a_client_of_a_hub_at_the_broker_is_sent_there(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        hub_id = await link_hub(world)
        client = await world.make_client(hub_id)
        identity = client["initial_identify"]
        prefix = f"home/thalovant/hubs/{hub_id}/clients/{client['id']}"
        block = identity["mqtt"]
        assert (block["endpoint"], block["topic_prefix"]) == ("mqtts://broker.example.test:8884", prefix)
        assert (block["username"], block["c2s_topic"]) == (identity["access_key"], f"{prefix}/c2s")
        assert identity["ca_pem"] == ENDPOINTS.ca_pem + BROKER_CA
        assert identity["default_master"].startswith("wss://hub.example.test:8443/")
        entry = world.services.directory.credential(identity["access_key"])
        assert entry is not None and (entry.number, entry.has_broker_password) == (1, True)
        assert world.services.directory.check_mqtt_password(entry, block["password"].encode())
        assert client["credentials"][0]["topic_prefix"] == prefix
        rotated = (await world.call("POST", f"/v1/clients/{client['id']}/rotate", {})).json()
        assert rotated["initial_identify"]["mqtt"]["topic_prefix"] == f"{prefix}.2"

    in_world(scenario)


def test_the_password_that_a_broker_has_to_have_is_kept_sealed_until_its_credential_ends(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        keeper = CredentialKeeper(world.services.database)
        client = await world.make_client(await link_hub(world))
        identity = client["initial_identify"]
        entry = world.services.directory.credential(identity["access_key"])
        assert entry is not None
        assert await keeper.mqtt_password(entry.id) == identity["mqtt"]["password"]
        row = await _credential_row(world, entry.id)
        assert identity["mqtt"]["password"].encode() not in row.sealed_mqtt_password
        await world.call("DELETE", f"/v1/clients/{client['id']}", if_match=client["etag"])
        assert await keeper.mqtt_password(entry.id) is None
        assert await _credential_row(world, entry.id) is None

    in_world(scenario)


async def _credential_row(world: World, credential_id: int) -> Any:
    async with world.services.database.read() as connection:
        return (await connection.execute(select(credentials).where(credentials.c.id == credential_id))).first()


@pytest.mark.parametrize("mqtt", [{"via": "embedded"}, {"enabled": False}], ids=["embedded", "off"])
def test_no_other_credential_has_its_broker_password_kept(in_world: Run, mqtt: dict[str, Any]) -> None:
    async def scenario(world: World) -> None:
        identity = (await world.make_client(await link_hub(world, **mqtt)))["initial_identify"]
        entry = world.services.directory.credential(identity["access_key"])
        assert entry is not None and not entry.has_broker_password
        assert await CredentialKeeper(world.services.database).mqtt_password(entry.id) is None
        assert identity["ca_pem"] == ENDPOINTS.ca_pem

    in_world(scenario)


def test_a_hub_without_its_broker_gives_no_way_to_one(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        hub_id = await link_hub(world)
        world.services.endpoints = ENDPOINTS
        client = await world.make_client(hub_id)
        assert "mqtt" not in client["initial_identify"]
        assert client["credentials"][0]["mqtt"] is False

    in_world(scenario)


def test_a_credential_of_the_broker_is_found_again_after_a_restart(tmp_path: Path) -> None:
    async def make() -> dict[str, Any]:
        async with open_world(tmp_path) as world:
            return dict((await world.make_client(await link_hub(world)))["initial_identify"])

    async def look(identity: dict[str, Any]) -> None:
        async with open_world(tmp_path) as world:
            entry = world.services.directory.credential(identity["access_key"])
            assert entry is not None and (entry.number, entry.has_broker_password) == (1, True)
            hub = world.services.directory.hub(entry.hub_id)
            assert hub is not None and hub.mqtt_via == "link"

    identity = uvloop.run(make())
    uvloop.run(look(identity))
