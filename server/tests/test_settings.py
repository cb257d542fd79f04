# SPDX-License-Identifier: Apache-2.0
"""Addresses are checked before anything is opened."""

from __future__ import annotations

from pathlib import Path

import pytest

from thalovant_server.errors import SettingsError
from thalovant_server.settings import Settings

DATA = Path("data")


def test_loopback_needs_no_public_host() -> None:
    assert Settings(data=DATA).advertised_host == "localhost"
    assert Settings(data=DATA, host="::1").advertised_host == "localhost"
    assert Settings(data=DATA, host="localhost").advertised_host == "localhost"


def test_two_listeners_need_two_ports() -> None:
    with pytest.raises(SettingsError, match="--api-port and --mqtt-port are both 9443"):
        Settings(data=DATA, api_port=9443, mqtt_port=9443)
    assert Settings(data=DATA, api_port=0, mqtt_port=0).api_port == 0


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "hub.example"])
def test_beyond_loopback_the_line_to_type_is_told(host: str) -> None:
    with pytest.raises(SettingsError, match=f"--host {host} --public-host NAME"):
        Settings(data=DATA, host=host)
    assert Settings(data=DATA, host=host, public_hosts=("hub.example",)).advertised_host == "hub.example"


@pytest.mark.parametrize(
    "name",
    [
        "",
        " ",
        "https://hub.example",
        "hub.example:8443",
        "hub/example",
        "-x",
        "a..b",
        "é.example",
        "x" * 300,
        "a\n",
    ],
)
def test_a_public_host_that_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(SettingsError, match="without scheme, port or path"):
        Settings(data=DATA, public_hosts=(name,))


@pytest.mark.parametrize("name", ["hub", "hub.example", "192.0.2.1", "2001:db8::1", "xn--9caa.example"])
def test_names_and_addresses_are_public_hosts(name: str) -> None:
    assert Settings(data=DATA, public_hosts=(name,)).advertised_host == name
