# SPDX-License-Identifier: Apache-2.0
"""Something the control plane has accepted and is still doing (contract 1.6).

Values only; api_calls does the polling.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from thalovant.errors import ThalovantAPIError

OperationStatus = Literal["requested", "committed", "applied", "ready", "failed", "timed_out"]

_REQUIRED = ("id", "kind", "aggregate_type", "status", "created_at", "updated_at")
_OPTIONAL = (
    "aggregate_id",
    "git_commit_sha",
    "error_code",
    "error_message",
    "committed_at",
    "applied_at",
    "ready_at",
    "terminal_at",
)


@dataclass(frozen=True)
class OperationResource:
    """One operation. Times are ISO 8601 text as the server wrote it; `details` and `links` are handed through."""

    id: str
    kind: str
    aggregate_type: str
    aggregate_id: str | None
    status: OperationStatus
    details: dict[str, Any]
    git_commit_sha: str | None
    error_code: str | None
    error_message: str | None
    created_at: str
    updated_at: str
    committed_at: str | None
    applied_at: str | None
    ready_at: str | None
    terminal_at: str | None
    links: dict[str, str | None]

    @classmethod
    def from_dict(cls, payload: Mapping[str, Any]) -> OperationResource:
        """Read an operation; a status this SDK does not know is kept as it is.

        Raises ThalovantAPIError naming the required field that is missing.
        """
        texts: dict[str, Any] = {name: _required(payload, name) for name in _REQUIRED}
        texts |= {name: _optional(payload, name) for name in _OPTIONAL}
        details, links = payload.get("details"), payload.get("links")
        return cls(
            **texts,
            details=dict(details) if isinstance(details, Mapping) else {},
            links=_texts(links) if isinstance(links, Mapping) else {},
        )

    @property
    def is_ready(self) -> bool:
        """Whether it is done."""
        return self.status == "ready"

    @property
    def is_failed(self) -> bool:
        """Whether it has ended without being done."""
        return self.status in ("failed", "timed_out")


def _required(payload: Mapping[str, Any], name: str) -> str:
    value = payload.get(name)
    if not isinstance(value, str) or not value:
        raise ThalovantAPIError(f"The operation resource is missing {name}.")
    return value


def _optional(payload: Mapping[str, Any], name: str) -> str | None:
    value = payload.get(name)
    return value if isinstance(value, str) else None


def _texts(links: Mapping[str, Any]) -> dict[str, str | None]:
    return {str(name): link for name, link in links.items() if link is None or isinstance(link, str)}
