# SPDX-License-Identifier: Apache-2.0
"""Addresses always write their port, and an IPv6 host its brackets."""

from __future__ import annotations

import pytest

from thalovant_server.endpoints import Endpoints


def test_every_address_writes_its_port() -> None:
    endpoints = Endpoints("hub.example.test", 443, 8883, "pem")
    assert endpoints.api_url == "https://hub.example.test:443"
    assert endpoints.domain == "hub.example.test:443"
    assert endpoints.wss_for("hub-1") == "wss://hub.example.test:443/hubs/hub-1"
    assert endpoints.https_for("hub-1") == "https://hub.example.test:443/hubs/hub-1"
    assert endpoints.mqtt_url == "mqtts://hub.example.test:8883"
    assert endpoints.mqtt_websocket_url == "wss://hub.example.test:443/mqtt"


def test_an_ipv6_host_is_bracketed() -> None:
    endpoints = Endpoints("::1", 8443, 8883, "pem")
    assert endpoints.api_url == "https://[::1]:8443"
    assert endpoints.mqtt_url == "mqtts://[::1]:8883"
    assert endpoints.mqtt_websocket_url == "wss://[::1]:8443/mqtt"


def test_mqtt_is_here_or_at_the_broker() -> None:
    alone = Endpoints("hub.example.test", 8443, 8883, "ours\n")
    assert (alone.default_via, alone.mqtt_for("embedded"), alone.mqtt_for("link")) == ("embedded", alone.mqtt_url, "")
    joined = Endpoints("hub.example.test", 8443, 8883, "ours\n", broker_url="mqtts://broker.example.test:1234")
    assert (joined.default_via, joined.mqtt_for("embedded")) == ("link", joined.mqtt_url)
    assert joined.mqtt_for("link") == "mqtts://broker.example.test:1234"


@pytest.mark.parametrize(
    ("ours", "brokers", "at_the_broker"),
    [
        ("ours\n", "its\n", "ours\nits\n"),
        ("ours", "its\n", "ours\nits\n"),
        ("", "its\n", "its\n"),
        ("ours\n", "", "ours\n"),
        ("ours\n", "ours\n", "ours\n"),
        ("", "", ""),
    ],
)
def test_the_brokers_authority_is_for_those_who_go_there(ours: str, brokers: str, at_the_broker: str) -> None:
    endpoints = Endpoints("hub.example.test", 8443, 8883, ours, broker_url="mqtts://b:1", broker_ca=brokers)
    assert endpoints.authorities_for("link") == at_the_broker
    assert endpoints.authorities_for("embedded") == ours
