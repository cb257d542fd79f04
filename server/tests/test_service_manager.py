# SPDX-License-Identifier: Apache-2.0
"""States reach whoever listens at the socket, and nobody's silence stops the server."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from thalovant_server.service_manager import ServiceManager


class Manager:
    """The other end, as systemd has it."""

    def __init__(self, address: str) -> None:
        self.environ = {"NOTIFY_SOCKET": address}
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(f"\0{address[1:]}" if address.startswith("@") else address)
        self._socket.settimeout(5)

    def heard(self) -> list[str]:
        return self._socket.recv(4096).decode().split("\n")

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    address = str(tmp_path / "notify") if request.param == "path" else f"@thalovant-{secrets.token_hex(8)}"
    made = Manager(address)
    yield made
    made.close()


def test_each_state_is_one_datagram(manager: Manager) -> None:
    to = ServiceManager(manager.environ)
    to.ready("Serving https://localhost:1")
    assert manager.heard() == ["READY=1", "STATUS=Serving https://localhost:1"]
    to.reloading()
    first, second = manager.heard()
    assert first == "RELOADING=1"
    assert second.startswith("MONOTONIC_USEC=") and second.partition("=")[2].isdigit()
    to.stopping()
    assert manager.heard()[0] == "STOPPING=1"


def test_a_status_stays_one_line(manager: Manager) -> None:
    ServiceManager(manager.environ).ready("one\nMAINPID=1")
    assert manager.heard() == ["READY=1", "STATUS=one MAINPID=1"]


@pytest.mark.parametrize("address", [None, "", "vsock:2:1", "relative", "/nowhere/at/all", "@nobody-listens-here"])
def test_where_nobody_listens_nothing_happens(address: str | None) -> None:
    to = ServiceManager({} if address is None else {"NOTIFY_SOCKET": address})
    say: list[Callable[[], None]] = [lambda: to.ready("x"), to.reloading, to.stopping]
    for each in say:
        each()


def test_a_manager_that_does_not_read_holds_nobody_up(manager: Manager) -> None:
    to = ServiceManager(manager.environ)
    for _ in range(5000):
        to.stopping()
