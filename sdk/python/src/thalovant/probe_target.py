# SPDX-License-Identifier: Apache-2.0
"""What the looks along a road share: where it leads, how long one may take, and how a step says that it has failed."""

from __future__ import annotations

from dataclasses import dataclass, field

from thalovant.diagnoses import Diagnosis
from thalovant.transports.http_proxy import HttpProxy, authority

__all__ = ["Patience", "StopError", "Target"]


@dataclass(frozen=True)
class Patience:
    """Seconds for one look at the network, and for the ask."""

    look: float = 4.0
    ask: float = 12.0


@dataclass
class Target:
    """Where the road leads: what is dialled, and by way of which proxy."""

    host: str
    port: int
    tls: bool
    proxy: HttpProxy | None = None
    addresses: list[str] = field(default_factory=list)

    @property
    def where(self) -> str:
        """Host and port, as a sentence names them."""
        return authority(self.host, self.port)

    @property
    def first(self) -> tuple[str, int]:
        """What the first socket leads to."""
        return (self.proxy.host, self.proxy.port) if self.proxy else (self.host, self.port)


class StopError(Exception):
    """A step has failed: `diagnosis`, and what else is to be seen there."""

    def __init__(self, diagnosis: Diagnosis, more: str = "") -> None:
        super().__init__(diagnosis.code)
        self.diagnosis = diagnosis
        self.more = more
