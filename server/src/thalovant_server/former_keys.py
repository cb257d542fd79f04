# SPDX-License-Identifier: Apache-2.0
"""Whose an access key was that is none any more: by its keyed hash, the newest ends only, all of it in memory.

So a device that still comes with one can be named in the log and told why, without a look at the disk.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

MOST = 20_000
"""Keys that are remembered; of more, those that ended first are forgotten here (the store has them for longer)."""

End = Literal["rotated_out", "removed", "hub_removed"]


@dataclass(frozen=True, slots=True)
class FormerHolder:
    """The client that had the key, and how it lost it: to a rotation, with the client, or with the whole hub."""

    client_id: str
    client_name: str
    hub_id: str
    end: End


class FormerKeys:
    """A bounded map of keyed hashes. `most`: how many."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._holders: dict[bytes, FormerHolder] = {}  # the newest end last

    def __len__(self) -> int:
        """How many keys are remembered."""
        return len(self._holders)

    def load(self, holders: Iterable[tuple[bytes, FormerHolder]]) -> None:
        """Take in what ended before, oldest first."""
        for key_hash, holder in holders:
            self.add(key_hash, holder)

    def add(self, key_hash: bytes, holder: FormerHolder) -> None:
        """A key ended just now; of one that ended before, the last end counts."""
        self._holders.pop(key_hash, None)
        self._holders[key_hash] = holder
        if len(self._holders) > self._most:
            del self._holders[next(iter(self._holders))]

    def find(self, key_hash: bytes) -> FormerHolder | None:
        """Return who had the key with this hash."""
        return self._holders.get(key_hash)
