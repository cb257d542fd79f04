# SPDX-License-Identifier: Apache-2.0
"""What a broker is still to be told: removals first, then new accounts, then repairs, each kind oldest first. Pure.

It is a set: whatever happens, an account is in it once, and the last word about it counts.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["remove", "make", "repair", "orphan"]


@dataclass(frozen=True, slots=True)
class Job:
    """One thing to tell: about this user, and the role that makes it ours."""

    kind: Kind
    user: str | None
    role: str


@dataclass(slots=True)
class ProvisioningQueue:
    """The jobs, at most one a user, and one a role that nobody has."""

    _removals: dict[tuple[str, str], Job] = field(default_factory=dict)
    _makings: dict[str, Job] = field(default_factory=dict)
    _repairs: dict[str, Job] = field(default_factory=dict)
    _orphans: dict[str, Job] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self._removals) + len(self._makings) + len(self._repairs) + len(self._orphans)

    @property
    def has_removals(self) -> bool:
        """Whether somebody is to go."""
        return bool(self._removals)

    def make(self, user: str, role: str) -> None:
        """Have a new account made, ahead of repairs."""
        self._forget(user, role)
        self._makings[role] = Job("make", user, role)

    def repair(self, user: str, role: str) -> bool:
        """Have an account made or mended that should have been right; False: it waits to be made, and does so still."""
        if role in self._makings:
            return False
        self._forget(user, role)
        self._repairs[role] = Job("repair", user, role)
        return True

    def remove(self, user: str, role: str) -> None:
        """Have a user removed that was made for this role."""
        self._forget(user, role)
        self._removals[user, role] = Job("remove", user, role)

    def orphan(self, role: str) -> None:
        """Have a role removed that nobody has."""
        self._orphans[role] = Job("orphan", None, role)

    def put_back(self, job: Job) -> None:
        """Take in again what was taken and not done."""
        if job.user is None:
            self.orphan(job.role)
        else:
            {"remove": self.remove, "make": self.make, "repair": self.repair}[job.kind](job.user, job.role)

    def take(self) -> Job | None:
        """Return the next one, which is then no longer here."""
        if self._removals:
            return self._removals.pop(next(iter(self._removals)))
        for kind in (self._makings, self._repairs, self._orphans):
            if kind:
                return kind.pop(next(iter(kind)))
        return None

    def _forget(self, user: str, role: str) -> None:
        self._removals.pop((user, role), None)
        for kind in (self._makings, self._repairs, self._orphans):
            kind.pop(role, None)
