# SPDX-License-Identifier: Apache-2.0
"""What an operator can set, checked before anything is opened (architecture decisions 8 and 13)."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from pathlib import Path

from thalovant_server.errors import SettingsError

API_PORT = 8443
MQTT_PORT = 8883
DRAIN_SECONDS = 10.0  # how long SIGTERM waits for asks under way

_HOST_NAME = re.compile(r"(?=.{1,253}\Z)[A-Za-z0-9](?:[A-Za-z0-9-]{0,62})(?:\.[A-Za-z0-9][A-Za-z0-9-]{0,62})*\Z")


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of `thalovant-server up`.

    Raises:
        SettingsError: an address or a name is not usable; says which line to type instead.
    """

    data: Path
    host: str = "127.0.0.1"
    public_hosts: tuple[str, ...] = ()
    api_port: int = API_PORT
    mqtt_port: int = MQTT_PORT
    agents: tuple[str, ...] = ()
    """Each `name=python:module:function`; declared by the operator alone."""
    certificate: Path | None = None
    certificate_key: Path | None = None
    certificate_authority: Path | None = None
    ready_file: Path | None = None
    drain_seconds: float = DRAIN_SECONDS

    def __post_init__(self) -> None:
        for host in self.public_hosts:
            _check_host(host)
        if self.api_port == self.mqtt_port != 0:
            raise SettingsError(f"--api-port and --mqtt-port are both {self.api_port}: give each its own")
        if not self.public_hosts and not _is_loopback(self.host):
            raise SettingsError(
                f"--host {self.host} is reachable from other machines, and no name is known by which they reach it. "
                f"Type: thalovant-server up --data {self.data} --host {self.host} --public-host NAME "
                "(the name or address that clients use)"
            )

    @property
    def listen_host(self) -> str:
        """The address to listen on; `localhost` may name two, of which the one every system has is taken."""
        return "127.0.0.1" if self.host == "localhost" else self.host

    @property
    def advertised_host(self) -> str:
        """The host in the addresses that clients are given."""
        return self.public_hosts[0] if self.public_hosts else "localhost"


def _check_host(host: str) -> None:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        if not _HOST_NAME.match(host):
            raise SettingsError(
                f"--public-host {host!r} is neither a host name nor an address: type it without scheme, port or path"
            ) from None


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
