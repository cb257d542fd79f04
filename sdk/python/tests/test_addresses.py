# SPDX-License-Identifier: Apache-2.0
"""Addresses equal to the vectors, and the refusals around them."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalovant import addresses
from thalovant.errors import ThalovantConnectionError, ThalovantError, ThalovantUnsupportedProtocolError
from thalovant.identity import ThalovantIdentity

VECTORS = json.loads((Path(__file__).parents[3] / "contract/vectors/addresses.json").read_text())
CASES = VECTORS["cases"]
AGENT = "agent/1"
PLAIN = {"access_key": "k", "password": "p", "site_id": "s", "default_master": "https://hub.example"}


def identity_of(case: dict[str, Any]) -> ThalovantIdentity:
    return ThalovantIdentity.from_mapping(case["identity"])


def with_mqtt(**mqtt: Any) -> ThalovantIdentity:
    block = {"endpoint": "mqtts://broker.example", "username": "u", "password": "p", "topic_prefix": "t"} | mqtt
    return ThalovantIdentity.from_mapping(PLAIN | {"mqtt": block})


def test_the_authorization_is_that_of_the_example() -> None:
    assert addresses.authorization_value(AGENT, "0123456789abcdef0123456789abcdef") == VECTORS["example"]


@pytest.mark.parametrize("case", CASES)
def test_https_base(case: dict[str, Any]) -> None:
    assert addresses.https_base(identity_of(case)) == case["https_base"]
    assert addresses.pin_name(identity_of(case), "https") == case["https_base"]


@pytest.mark.parametrize("case", CASES)
def test_wss_request_and_pin(case: dict[str, Any]) -> None:
    identity = identity_of(case)
    if "wss_pin" not in case:
        with pytest.raises(ThalovantConnectionError) as caught:
            addresses.wss_request(identity, AGENT)
        assert type(caught.value).__name__ == case["wss_request"]
    else:
        assert addresses.wss_request(identity, AGENT) == case["wss_request"]
        assert addresses.pin_name(identity, "wss") == case["wss_pin"]


@pytest.mark.parametrize("case", CASES)
def test_default_protocol(case: dict[str, Any]) -> None:
    expected = {"HiveMindWSSTransport": "wss", "HiveMindHTTPTransport": "https"}[case["default_protocol"]]
    assert addresses.choose_protocol(identity_of(case), None) == expected


@pytest.mark.parametrize("case", [case for case in CASES if case["mqtt"]])
def test_mqtt_address(case: dict[str, Any]) -> None:
    broker = addresses.mqtt_address(identity_of(case))
    assert f"mqtts://{broker.host}:{broker.port}" == case["mqtt"]
    assert addresses.pin_name(identity_of(case), "mqtt") == case["https_base"]


@pytest.mark.parametrize(
    ("endpoint", "tls", "expected"),
    [
        ("mqtts://b.example", True, ("b.example", 8883)),
        ("mqtts://b.example:1234", False, ("b.example", 1234)),
        ("ssl://b.example", False, ("b.example", 8883)),
        ("tcp://[::1]:8884", True, ("::1", 8884)),
        ("mqtt://b.example", True, ("b.example", 8883)),
    ],
)
def test_mqtt_is_dialled_with_tls_always(endpoint: str, tls: bool, expected: tuple[str, int]) -> None:
    broker = addresses.mqtt_address(with_mqtt(endpoint=endpoint, tls=tls))
    assert (broker.host, broker.port) == expected


@pytest.mark.parametrize("endpoint", ["mqtt://b.example", "tcp://b.example"])
def test_mqtt_without_tls_is_refused(endpoint: str) -> None:
    with pytest.raises(ThalovantConnectionError, match="mqtts://"):
        addresses.mqtt_address(with_mqtt(endpoint=endpoint, tls=False))


@pytest.mark.parametrize("endpoint", ["b.example", "ws://b.example", "mqtts://", "mqtts://b:99999", "mqtts://[::1"])
def test_what_is_no_broker_address_is_refused(endpoint: str) -> None:
    with pytest.raises(ThalovantConnectionError):
        addresses.mqtt_address(with_mqtt(endpoint=endpoint, tls=True))


def test_no_mqtt_credentials_is_an_unsupported_protocol() -> None:
    identity = ThalovantIdentity.from_mapping(PLAIN)
    for call in (lambda: addresses.mqtt_address(identity), lambda: addresses.choose_protocol(identity, "mqtt")):
        with pytest.raises(ThalovantUnsupportedProtocolError, match="create a fresh identity"):
            call()


def test_an_unknown_protocol_is_named() -> None:
    with pytest.raises(ThalovantUnsupportedProtocolError, match="'carrier pigeon'"):
        addresses.choose_protocol(ThalovantIdentity.from_mapping(PLAIN), "carrier pigeon")  # type: ignore[arg-type]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "127.8.8.8", "a.localhost"])
def test_plain_addresses_are_for_this_machine(host: str) -> None:
    values = PLAIN | {"data_plane_endpoints": {"wss": f"ws://{host}:1", "https": f"http://{host}:2"}}
    identity = ThalovantIdentity.from_mapping(values)
    assert addresses.wss_request(identity, AGENT).startswith(f"ws://{host}:1")
    assert addresses.https_base(identity) == f"http://{host}:2"


@pytest.mark.parametrize("host", ["hub.example", "10.0.0.1", "[fe80::1]", "localhost.example", "127.0.0.1.example"])
def test_plain_addresses_to_other_machines_are_refused(host: str) -> None:
    values = PLAIN | {"data_plane_endpoints": {"wss": f"ws://{host}:1", "https": f"http://{host}:2"}}
    identity = ThalovantIdentity.from_mapping(values)
    for call in (lambda: addresses.wss_request(identity, AGENT), lambda: addresses.https_base(identity)):
        with pytest.raises(ThalovantConnectionError, match="not encrypted"):
            call()


@given(agent=st.text(min_size=1), key=st.text(min_size=1))
def test_the_hub_can_read_any_authorization_back(agent: str, key: str) -> None:
    agent = agent.encode("utf-8", "replace").decode()
    key = key.encode("utf-8", "replace").decode()
    query = addresses.authorization_query(agent, key)
    assert base64.b64decode(parse_qs(query)["authorization"][0]).decode() == f"{agent}:{key}"
    assert unquote(query.removeprefix("authorization=")) == addresses.authorization_value(agent, key)


@given(address=st.text())
def test_any_address_is_dialled_or_refused_cleanly(address: str) -> None:
    identity = ThalovantIdentity("k", "p", address, "s")
    try:
        assert urlsplit(addresses.https_base(identity)).scheme in ("http", "https")
    except ThalovantError as error:
        assert error.code
