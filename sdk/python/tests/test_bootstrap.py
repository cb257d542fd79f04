# SPDX-License-Identifier: Apache-2.0
"""From a hub to the body that makes a client, and from the answer to an identity that connects (contract 3.4)."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalovant.bootstrap import (
    BootstrapIdentityResult,
    client_body,
    connection_type_of,
    normalized_site_id,
    require_runtime_protocol,
    result_of,
)
from thalovant.errors import ThalovantAPIError, ThalovantIdentityError, ThalovantUnsupportedProtocolError
from thalovant.hub_endpoints import DEFAULT_PROTOCOL_PREFERENCE

HUB = {
    "id": "h",
    "domain": "hub.example",
    "data_plane_endpoints": {"https": "https://hub.example:8443/hub", "mqtt": "mqtts://broker.example"},
    "spec": {"protocols": {"wss": True, "http": True, "mqtt": True}},
}
BROKER = {"endpoint": "mqtts://broker.example", "username": "u", "password": "broker-secret", "topic_prefix": "a/b"}
IDENTIFY = {"access_key": "the-key", "password": "the-password", "site_id": "kitchen", "default_master": "https://m"}


def body(hub: Any = HUB, **changes: Any) -> dict[str, Any]:
    values: dict[str, Any] = {"name": "kiosk", "site_id": None, "spec": None, "owner_id": None, "active": True}
    return client_body(hub, **values | {"connection_type": None} | changes)


def result(client: dict[str, Any], hub: Any = HUB, preferred: Any = DEFAULT_PROTOCOL_PREFERENCE) -> Any:
    return result_of(hub, body(), client, preferred)


def test_a_body_has_new_secrets_and_what_was_asked_for() -> None:
    made = body(spec={"note": 1, "cryptoKey": "x", "version": "2"}, owner_id="o", connection_type="toaster")
    spec = made.pop("spec")
    assert made == {"hub_id": "h", "name": "kiosk", "active": True, "owner_id": "o"}
    secrets = [spec.pop("apiKey"), spec.pop("password")]
    assert all(re.fullmatch(r"[\w-]{43}", secret) for secret in secrets) and len(set(secrets)) == 2
    assert spec == {"version": "2", "note": 1, "connection_type": "toaster", "siteId": "kiosk"}
    assert "owner_id" not in body() and body()["spec"]["apiKey"] not in secrets


@pytest.mark.parametrize("hub", [{}, {"id": ""}, {"id": 5}])
def test_a_hub_without_an_id_makes_no_client(hub: dict[str, Any]) -> None:
    with pytest.raises(ThalovantAPIError, match="missing id"):
        body(hub)


@pytest.mark.parametrize(
    ("text", "site"), [(" my kitchen ", "my-kitchen"), ("a_b", "a-b"), ("a \t\n b", "a-b"), ("ä", "ä")]
)
def test_site_ids(text: str, site: str) -> None:
    assert normalized_site_id(text) == site


@given(st.text())
def test_a_site_id_is_never_empty_and_stays_as_it_is(text: str) -> None:
    site = normalized_site_id(text)
    assert site and "_" not in site
    assert normalized_site_id(site) == site


def test_what_the_server_says_of_the_identity_decides() -> None:
    made = result({"id": "c", "initial_identify": {**IDENTIFY, "mqtt": BROKER}})
    identity = made.identity
    assert (identity.access_key, identity.password, identity.site_id) == ("the-key", "the-password", "kitchen")
    assert identity.mqtt is not None and identity.mqtt.topic_prefix == "a/b"
    assert made.selected_protocol == "wss" and made.endpoint.endpoint == "wss://hub.example"
    assert identity.enabled_protocols() == ("wss", "https", "mqtt")
    assert (made.client_id, made.operation) == ("c", None)


def test_the_first_preferred_carrier_is_selected() -> None:
    assert result({"initial_identify": IDENTIFY}, preferred=("mqtt", "wss")).selected_protocol == "mqtt"


@pytest.mark.parametrize("missing", sorted(IDENTIFY))
def test_an_identity_that_lacks_a_field_is_an_error(missing: str) -> None:
    with pytest.raises(ThalovantIdentityError, match=missing):
        result({"initial_identify": {name: value for name, value in IDENTIFY.items() if name != missing}})


@pytest.mark.parametrize(
    ("hub", "master"),
    [
        (HUB, "https://hub.example:8443"),
        ({"id": "h", "domain": "http://hub.example/"}, "https://hub.example"),
        ({"id": "h", "endpoints": {"wss": "wss://w:1"}}, "wss://w:1"),
    ],
)
def test_a_server_that_sends_no_identity_gets_a_local_one(hub: dict[str, Any], master: str) -> None:
    sent = body(hub)
    identity = result_of(hub, sent, {"id": "c"}, DEFAULT_PROTOCOL_PREFERENCE).identity
    assert (identity.access_key, identity.password) == (sent["spec"]["apiKey"], sent["spec"]["password"])
    assert (identity.default_master, identity.default_port) == (master, 443)


def test_when_nothing_says_where_to_connect_it_is_an_error() -> None:
    with pytest.raises(ThalovantAPIError, match="where to connect"):
        result({"id": "c"}, {"id": "h"})


@pytest.mark.parametrize("operation", [None, 5, {}, {"id": "op"}])
def test_an_operation_that_cannot_be_read_is_dropped(operation: Any) -> None:
    assert result({"initial_identify": IDENTIFY, "operation": operation}).operation is None


@pytest.mark.parametrize("client", [{}, {"spec": 5}, {"spec": {"connection_type": ""}}, {"id": 5}])
def test_what_a_client_does_not_say_is_none(client: dict[str, Any]) -> None:
    assert connection_type_of(client) is None
    made: BootstrapIdentityResult = result({**client, "initial_identify": IDENTIFY})
    assert (made.client_id, made.connection_type) == (None, None)


def test_no_secret_is_shown_unless_asked_for() -> None:
    client = {"id": "c", "initial_identify": {**IDENTIFY, "mqtt": BROKER}, "spec": {"apiKey": "the-key", "a": 1}}
    made = result(client)
    for secret in ("the-key", "the-password", "broker-secret"):
        assert secret not in repr(made) and secret not in repr(made.as_dict())
        assert secret in repr(made.as_dict(include_secrets=True))
    assert made.as_dict()["client"] == {"id": "c", "spec": {"a": 1}}


def test_a_carrier_that_is_required_is_there_or_the_error_says_what_to_do() -> None:
    made = result({"initial_identify": IDENTIFY})
    assert require_runtime_protocol(made).protocol == "wss"
    assert require_runtime_protocol(made, "https").endpoint == "https://hub.example:8443/hub"
    with pytest.raises(ThalovantUnsupportedProtocolError, match="no MQTT credentials"):
        require_runtime_protocol(made, "mqtt")
    unknown: Any = "pigeon"
    with pytest.raises(ThalovantUnsupportedProtocolError, match="pigeon"):
        require_runtime_protocol(made, unknown)
    without = result({"initial_identify": IDENTIFY}, {**HUB, "spec": {"protocols": {"wss": True}}})
    with pytest.raises(ThalovantUnsupportedProtocolError, match="does not expose HTTPS"):
        require_runtime_protocol(without, "https")
