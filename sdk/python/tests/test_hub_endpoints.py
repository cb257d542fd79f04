# SPDX-License-Identifier: Apache-2.0
"""Where a hub is and which carriers it has on, read from whatever a control plane sends (contract 3.3)."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalovant.hub_endpoints import (
    DEFAULT_PROTOCOL_PREFERENCE,
    HubDataPlaneEndpoints,
    HubProtocolSettings,
    hub_display_name,
    mqtt_via,
    read_flag,
    select_data_plane_endpoint,
    without_user_info,
)

HUB = {"id": "h", "domain": "hub.example"}


def test_a_domain_fills_in_what_is_switched_on_but_never_mqtt() -> None:
    everything = {"spec": {"protocols": {"http": True, "mqtt": {"enabled": "on"}}}}
    assert HubDataPlaneEndpoints.from_hub(HUB) == HubDataPlaneEndpoints(wss="wss://hub.example")
    ported = {**HUB, **everything, "domain": "http://hub.example:88/"}
    assert HubDataPlaneEndpoints.from_hub(ported) == HubDataPlaneEndpoints(
        "https://hub.example:88", "wss://hub.example:88"
    )


@pytest.mark.parametrize("name", ["data_plane_endpoints", "dataPlaneEndpoints", "endpoints"])
def test_named_addresses_win(name: str) -> None:
    hub = {**HUB, name: {"ws": "wss://a:1/", "http": "ftp://x", "mqtts": "mqtts://q"}}
    assert HubDataPlaneEndpoints.from_hub(hub) == HubDataPlaneEndpoints(None, "wss://a:1", "mqtts://q")


def test_protocols_are_found_where_the_contract_says() -> None:
    group = {"websocket": "off", "https": 1, "mqtt": {"enabled": True}}
    expected = HubProtocolSettings(False, True, True)
    for hub in ({"spec": {"protocols": group}}, {"protocols": group}, {"network": group}, group):
        assert HubProtocolSettings.from_mapping(hub) == expected
    ignored = {"protocols": {"mqtt": True}, "network": {"http": True}}
    assert HubProtocolSettings.from_mapping(ignored) == HubProtocolSettings(mqtt=True)
    assert HubProtocolSettings.from_mapping(None) == HubProtocolSettings()
    assert HubProtocolSettings.from_mapping(expected.as_dict()) == expected
    assert expected.https


def test_the_first_preferred_carrier_that_is_on_and_known_is_taken() -> None:
    endpoints = HubDataPlaneEndpoints(wss="wss://a", mqtt="mqtts://b")
    settings = HubProtocolSettings(http=True, mqtt=True)
    chosen = select_data_plane_endpoint(endpoints, settings, ("https", "mqtt", "wss"))
    assert chosen is not None
    assert (chosen.protocol, chosen.endpoint) == ("mqtt", "mqtts://b")
    assert select_data_plane_endpoint(endpoints, settings, ("https",)) is None


@pytest.mark.parametrize(
    "address", ["", "ftp://x", "hub.example", "https://", "https://a:b", "https://a\x1bb", 5, None, "https://[", {}]
)
def test_what_is_no_address_is_dropped(address: Any) -> None:
    assert HubDataPlaneEndpoints.from_mapping({"https": address, "wss": "wss://a/"}).as_dict() == {"wss": "wss://a"}


@pytest.mark.parametrize("values", [None, [], "x", {"https": None}])
def test_nothing_known_is_nothing(values: Any) -> None:
    assert HubDataPlaneEndpoints.from_mapping(values) == HubDataPlaneEndpoints()


@pytest.mark.parametrize(
    ("https", "master", "path", "base"),
    [
        ("https://a", "https://m", "p", "https://a:5679"),
        ("https://a:1/x/", "https://m", "p", "https://a:1/x"),
        (None, "https://m", "/p/", "https://m:5679/p"),
        (None, "wss://m:7", "", "https://m:7"),
        (None, "ws://m", "", "http://m:5679"),
        (None, "m", "", "https://m:5679"),
    ],
)
def test_the_base_of_https_has_its_port_written(https: str | None, master: str, path: str, base: str) -> None:
    assert HubDataPlaneEndpoints(https=https).http_base(master, 5679, path) == base


def test_no_password_of_an_address_is_shown() -> None:
    endpoints = HubDataPlaneEndpoints(mqtt="mqtts://who:what@b:1")
    assert "what" not in repr(endpoints) and "mqtts://b:1" in repr(endpoints)
    assert endpoints.as_dict() == {"mqtt": "mqtts://who:what@b:1"}
    assert without_user_info("https://[") == "<unreadable address>"


@pytest.mark.parametrize(
    ("value", "flag"),
    [
        (True, True),
        (0, False),
        (" On ", True),
        ("no", False),
        ({"enabled": "1"}, True),
        ({}, None),
        (2, None),
        ([], None),
    ],
)
def test_flags(value: Any, flag: bool | None) -> None:
    assert read_flag(value) is flag


def test_an_unknown_carrier_is_off_and_nowhere() -> None:
    unknown: Any = "pigeon"
    assert HubDataPlaneEndpoints("https://a").endpoint_for(unknown) is None
    assert not HubProtocolSettings(True, True, True).is_enabled(unknown)


def test_the_carriers_that_are_on_come_in_the_order_of_preference() -> None:
    assert HubProtocolSettings(True, True, True).enabled_protocols() == DEFAULT_PROTOCOL_PREFERENCE
    assert HubProtocolSettings(False, True, False).enabled_protocols() == ("https",)


@pytest.mark.parametrize(
    ("hub", "shown"),
    [
        ({"spec": {"catalog": {"title": " Kitchen "}}, "name": "n", "slug": "s"}, "Kitchen"),
        ({"name": "My hub", "slug": "my-hub"}, "My hub"),
        ({"name": "my-hub", "slug": "my-hub"}, "My Hub"),
        ({"slug": "a_b-c"}, "A B C"),
        ({}, "A Thalovant hub"),
    ],
)
def test_the_name_to_show(hub: dict[str, Any], shown: str) -> None:
    assert hub_display_name(hub) == shown


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
NAMES = ["domain", "spec", "protocols", "network", "endpoints", "https", "wss", "ws", "mqtt", "name", "slug"]


@given(st.dictionaries(st.sampled_from(NAMES), VALUES))
def test_whatever_a_hub_looks_like_it_is_read(hub: dict[str, Any]) -> None:
    endpoints, settings = HubDataPlaneEndpoints.from_hub(hub), HubProtocolSettings.from_mapping(hub)
    selected = select_data_plane_endpoint(endpoints, settings)
    assert selected is None or settings.is_enabled(selected.protocol)
    assert hub_display_name(hub)
    assert HubDataPlaneEndpoints.from_mapping(endpoints.as_dict()) == endpoints


@pytest.mark.parametrize(
    ("mqtt", "via"),
    [
        ({"enabled": True, "via": "link"}, "link"),
        ({"enabled": False, "via": "link"}, "link"),
        ({"enabled": True, "via": "embedded"}, "embedded"),
        ({"enabled": True, "via": "elsewhere"}, "embedded"),
        ({"enabled": True}, "embedded"),
        (True, "embedded"),
        (None, "embedded"),
    ],
)
def test_where_a_hubs_mqtt_is(mqtt: object, via: str) -> None:
    for hub in ({"spec": {"protocols": {"mqtt": mqtt}}}, {"protocols": {"mqtt": mqtt}}):
        assert mqtt_via(hub) == via
    assert mqtt_via({}) == "embedded"
