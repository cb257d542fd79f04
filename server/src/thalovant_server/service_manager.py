# SPDX-License-Identifier: Apache-2.0
"""Tells the service manager how the server is (sd_notify(3): one datagram a state). Silent where nobody listens."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Mapping

SOCKET_VARIABLE = "NOTIFY_SOCKET"


class ServiceManager:
    """Whoever started the server and named a socket in the environment.

    Args:
        environ: where `NOTIFY_SOCKET` is looked up.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._address = environ.get(SOCKET_VARIABLE, "")

    def ready(self, status: str) -> None:
        """Everything accepts, also: again, after `reloading`."""
        self._tell("READY=1", f"STATUS={status}")

    def reloading(self) -> None:
        """Certificates are read again."""
        self._tell("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """Nobody new is let in; asks under way may end."""
        self._tell("STOPPING=1", "STATUS=Waiting for asks under way")

    def _tell(self, *lines: str) -> None:
        if not self._address.startswith(("/", "@")):  # nobody, or a kind of socket that we do not speak
            return
        address = f"\0{self._address[1:]}" if self._address.startswith("@") else self._address
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as to:
            to.setblocking(False)
            # A manager that does not listen, or not now, is not a reason for the server to fail.
            with contextlib.suppress(OSError):
                to.sendto("\n".join(line.replace("\n", " ") for line in lines).encode(), address)
