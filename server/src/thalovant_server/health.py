# SPDX-License-Identifier: Apache-2.0
"""Asks the server of this machine whether it is well, as `thalovant-server health` and a container's check do.

It dials where the server listens and holds its certificate against the name localhost, which every server has.
"""

from __future__ import annotations

import http.client
import json
import socket
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thalovant_server.certificate_files import AUTHORITY_CERTIFICATE
from thalovant_server.errors import NotHealthyError, SettingsError
from thalovant_server.settings import Settings

TIMEOUT_SECONDS = 5.0
LARGEST_ANSWER = 64 * 1024
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - to dial, not to listen


@dataclass(frozen=True, slots=True)
class Health:
    """What a server says of itself: its version, and how its outside broker is; "" where there is none."""

    version: str
    broker: str = ""
    broker_told: str = ""

    def __str__(self) -> str:
        broker = f"\nbroker: {self.broker}{self.broker_told}" if self.broker else ""
        return f"ok: thalovant-server {self.version}{broker}"


def check_health(settings: Settings, timeout: float = TIMEOUT_SECONDS) -> Health:
    """Return what the server says that answers that it is well (blocking).

    Raises:
        NotHealthyError: it does not answer, or something else does.
        SettingsError: the settings do not say where it listens.
    """
    host, port = _EVERYWHERE.get(settings.listen_host, settings.listen_host), api_port(settings)
    where = f"https://{f'[{host}]' if ':' in host else host}:{port}"
    try:
        with (
            socket.create_connection((host, port), timeout) as raw,
            _context(settings).wrap_socket(raw, server_hostname="localhost") as connection,
        ):
            return _ask(connection)
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise NotHealthyError(where, _in_words(error, timeout)) from error


def _in_words(error: Exception, timeout: float) -> str:
    """What happened, without the number and the source line that the system has for it."""
    if isinstance(error, ConnectionRefusedError):
        return "nothing listens there"
    if isinstance(error, TimeoutError):
        return f"it did not answer within {timeout:g} s"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate verify failed: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"what listens there does not speak TLS ({(error.reason or 'no reason').lower().replace('_', ' ')})"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror[0].lower() + error.strerror[1:]
    return str(error) or type(error).__name__


def _ask(connection: ssl.SSLSocket) -> Health:
    """`http.client` over a connection of ours: it would check the name that was dialled."""
    connection.sendall(b"GET /v1/health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
    answer = http.client.HTTPResponse(connection)
    answer.begin()
    said = json.loads(answer.read(LARGEST_ANSWER))
    if answer.status != 200 or not isinstance(said, dict) or said.get("status") != "ok":
        raise ValueError(f"it answered {answer.status}")
    broker = said.get("broker")
    version = str(said.get("version"))
    return Health(version) if not isinstance(broker, dict) else _with_broker(version, broker)


def _with_broker(version: str, broker: dict[str, Any]) -> Health:
    told = f" since {broker['since']}" if broker.get("since") else ""
    told += f": {broker['fault']}" if broker.get("fault") else ""
    return Health(version, str(broker.get("state")), told)


def _context(settings: Settings) -> ssl.SSLContext:
    context = ssl.create_default_context()
    for path in (settings.data / AUTHORITY_CERTIFICATE, settings.certificate_authority):
        if path is not None and path.exists():
            context.load_verify_locations(path)
    return context


def api_port(settings: Settings) -> int:
    """Return the port on which this machine's server has its API (blocking).

    Raises:
        NotHealthyError: it is a free one, and no server runs that says which.
        SettingsError: it is a free one, and there is no file that says which.
    """
    if settings.api_port:
        return settings.api_port
    if settings.ready_file is None:
        raise SettingsError("--api-port 0 is a free port: name the --ready-file, too, where the server wrote which")
    return _port_in(settings.ready_file)


def _port_in(ready_file: Path) -> int:
    try:
        return int(json.loads(ready_file.read_bytes())["api_url"].rpartition(":")[2])
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise NotHealthyError(str(ready_file), "there is no ready file: the server is not up") from error
