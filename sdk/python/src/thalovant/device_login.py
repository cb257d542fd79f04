# SPDX-License-Identifier: Apache-2.0
"""Device login as values (contract 4.4): what was begun, what somebody is asked to approve, and the token. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from thalovant.errors import ThalovantAPIError

__all__ = ["ApiToken", "DeviceAuthorization", "DeviceLoginRequest"]

DEFAULT_INTERVAL = 5.0
DEFAULT_EXPIRES_IN = 900
LONGEST_INTERVAL = 3_600.0


@dataclass(frozen=True)
class DeviceAuthorization:
    """A device login that began: show `user_code` and `verification_uri`; `device_code` is a secret.

    `interval` is how many seconds to wait between two questions at least, `expires_in` how many are left.
    """

    device_code: str = field(repr=False)
    user_code: str
    verification_uri: str
    verification_uri_complete: str | None
    interval: float
    expires_in: int

    @classmethod
    def from_dict(cls, payload: Mapping[str, Any]) -> DeviceAuthorization:
        """Read the answer of a server.

        Raises ThalovantAPIError when a required text is missing, or an address is none that may be opened: absolute,
        http or https, without a user.
        """
        texts = {name: _text(payload, name) for name in ("device_code", "user_code", "verification_uri")}
        complete = payload.get("verification_uri_complete")
        complete = complete if isinstance(complete, str) and complete else None
        for address in (texts["verification_uri"], complete):
            if address is not None:
                _check_address(address)
        return cls(**texts, verification_uri_complete=complete, interval=_interval(payload), expires_in=_left(payload))

    def as_dict(self) -> dict[str, Any]:
        """Return all of it, the secret `device_code` too."""
        return {name: getattr(self, name) for name in type(self).__dataclass_fields__}


@dataclass(frozen=True)
class ApiToken:
    """A token that was just given; `access_token` is a secret. `expires_at` None: good until it is revoked."""

    access_token: str = field(repr=False)
    token_type: str
    scopes: tuple[str, ...]
    expires_at: datetime | None
    token_id: str | None

    @classmethod
    def from_dict(cls, payload: Mapping[str, Any]) -> ApiToken:
        """Read the answer of a server. Raises ThalovantAPIError when there is no token in it."""
        kind, token_id = payload.get("token_type"), payload.get("token_id")
        return cls(
            _text(payload, "access_token"),
            kind if isinstance(kind, str) and kind else "bearer",
            _texts(payload.get("scopes")),
            _time(payload.get("expires_at")),
            token_id if isinstance(token_id, str) and token_id else None,
        )

    def as_dict(self) -> dict[str, Any]:
        """Return all of it as JSON has it, the secret `access_token` too."""
        expires_at = None if self.expires_at is None else self.expires_at.isoformat()
        return {
            "access_token": self.access_token,
            "token_type": self.token_type,
            "scopes": list(self.scopes),
            "expires_at": expires_at,
            "token_id": self.token_id,
        }


@dataclass(frozen=True)
class DeviceLoginRequest:
    """Who asks to be signed in, and for what. A name is verified only where `client_verified` says so."""

    scopes: tuple[str, ...]
    client_name: str | None
    expires_at: datetime | None
    client_id: str | None = None
    client_verified: bool = False
    device_name: str | None = None

    @classmethod
    def from_dict(cls, payload: Mapping[str, Any]) -> DeviceLoginRequest:
        """Read the answer of a server; `client_verified` counts only together with `client_id` (contract 4.4)."""
        names = {name: payload.get(name) for name in ("client_name", "client_id", "device_name")}
        texts = {name: value if isinstance(value, str) and value else None for name, value in names.items()}
        return cls(
            _texts(payload.get("scopes")),
            texts["client_name"],
            _time(payload.get("expires_at")),
            texts["client_id"],
            texts["client_id"] is not None and payload.get("client_verified") is True,
            texts["device_name"],
        )


def _text(payload: Mapping[str, Any], name: str) -> str:
    value = payload.get(name)
    if not isinstance(value, str) or not value:
        raise ThalovantAPIError(f"The Thalovant API answered the device login without {name}.")
    return value


def _check_address(address: str) -> None:
    """It is opened in a browser, so a server must not have anything else opened."""
    try:
        parts = urlsplit(address)
        fine = parts.scheme in ("http", "https") and bool(parts.hostname) and "@" not in parts.netloc
    except ValueError:
        fine = False
    if not fine or not address.isprintable() or " " in address:
        raise ThalovantAPIError("The Thalovant API answered the device login with an address that may not be opened.")


def _interval(payload: Mapping[str, Any]) -> float:
    value = payload.get("interval")
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= LONGEST_INTERVAL:
        return DEFAULT_INTERVAL
    return float(value)


def _left(payload: Mapping[str, Any]) -> int:
    value = payload.get("expires_in")
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else DEFAULT_EXPIRES_IN


def _texts(value: object) -> tuple[str, ...]:
    return tuple(one for one in value if isinstance(one, str)) if isinstance(value, list) else ()


def _time(value: object) -> datetime | None:
    if not isinstance(value, str):
        return None
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        return None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
