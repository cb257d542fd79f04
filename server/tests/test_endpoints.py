# SPDX-License-Identifier: Apache-2.0
"""Addresses always write their port, and an IPv6 host its brackets."""

from __future__ import annotations

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
