# SPDX-License-Identifier: Apache-2.0
"""How a connection is doing, as values to look at: `ThalovantHealth`, `ThalovantConnectionInfo`.

Measures nothing and knows no connection; the client fills these in. Times of day are ISO 8601 texts in UTC,
durations are milliseconds. No field holds a credential.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from thalovant.hub_endpoints import HubProtocol

ThalovantConnectionPhase = Literal["idle", "connecting", "open", "handshake", "ready", "closed", "error"]
"""Where a connection stands, in the order it goes. `idle`: not tried; `open`: the carrier stands, the hub has
not spoken; `closed`: ended, by us or by a drop; `error`: ended by something that trying again does not mend."""


@dataclass(frozen=True)
class ThalovantConnectionInfo:
    """How the latest attempt to connect went.

    `transport_open_ms` is the time until the carrier stood, `socket_open_ms` until its socket did (when the
    carrier can tell), `handshake_ms` the Noise handshake, `connect_ms` all of it.

    `protocol` is the carrier that the client is on, or was on last; `attempts` those that did not lead to the hub
    lately, or that the identity has no way to use, each with the reason; `moved_because` says why the client is on
    another carrier than before, or than the one it prefers.
    """

    phase: ThalovantConnectionPhase = "idle"
    started_at: str | None = None
    connected_at: str | None = None
    transport_open_ms: float | None = None
    socket_open_ms: float | None = None
    handshake_ms: float | None = None
    connect_ms: float | None = None
    last_error: str | None = None
    protocol: HubProtocol | None = None
    attempts: tuple[tuple[HubProtocol, str], ...] = ()
    moved_because: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """All fields, ready for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class ThalovantHealth:
    """Is the connection usable now? `ok` sums the rest up."""

    connected: bool
    handshake_complete: bool
    transport_alive: bool
    last_error: str | None = None
    connection: ThalovantConnectionInfo | None = None

    @property
    def ok(self) -> bool:
        """Connected, safe, alive and without an error."""
        return self.connected and self.handshake_complete and self.transport_alive and not self.last_error

    def as_dict(self) -> dict[str, Any]:
        """`ok` and all fields, ready for JSON."""
        return {
            "ok": self.ok,
            "connected": self.connected,
            "handshake_complete": self.handshake_complete,
            "transport_alive": self.transport_alive,
            "last_error": self.last_error,
            "connection": self.connection.as_dict() if self.connection else None,
        }
