# SPDX-License-Identifier: Apache-2.0
"""What one run of a program leaves to the next about its roads, so that a dead one is not paid for at every start.

One small file beside the Noise keys, `<name>.roads.json` (0600), there only while some road is set aside:

    {"order": ["mqtt", "wss"], "set_aside": {"mqtt": {"at": 1767225600.0, "times": 2}}}

It is a convenience: what is damaged, too old, from another order of roads or from the future counts as not there, and
nothing here raises. It holds no address and no secret. Every call blocks on the disk.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from thalovant.hub_endpoints import HubProtocol
from thalovant.private_files import PrivateFileError, read_private_text, write_private_text
from thalovant.roads import LONGEST_PROBE

__all__ = ["RoadMemory"]

OLDEST = 1.5 * LONGEST_PROBE  # seconds; a road is not set aside for longer than that
MOST_TIMES = 1000


class RoadMemory:
    """The memory in one file, for one order of roads. Ages are in seconds."""

    def __init__(self, file: Path, order: Sequence[HubProtocol]) -> None:
        self._file = file
        self._order = list(order)

    def load(self) -> dict[HubProtocol, tuple[float, int]]:
        """The roads set aside: how long ago, and for the how-manieth time; empty when nothing usable is there."""
        try:
            if self._file.is_symlink():
                return {}
            kept = json.loads(read_private_text(self._file))
        except (PrivateFileError, OSError, ValueError, RecursionError):
            return {}
        aside = kept.get("set_aside") if isinstance(kept, dict) and kept.get("order") == self._order else None
        if not isinstance(aside, dict):
            return {}
        now = time.time()
        read = {road: _read(aside.get(road), now) for road in self._order}
        return {road: entry for road, entry in read.items() if entry is not None}

    def save(self, aside: Mapping[HubProtocol, tuple[float, int]]) -> None:
        """Keep the roads set aside, as `load` gives them; no file when there are none."""
        now = time.time()
        entries = {
            road: {"at": round(now - age, 3), "times": min(times, MOST_TIMES)} for road, (age, times) in aside.items()
        }
        with contextlib.suppress(PrivateFileError, OSError):
            if entries:
                text = json.dumps({"order": self._order, "set_aside": entries})
                write_private_text(self._file, text + "\n", overwrite=True)
            else:
                self._file.unlink(missing_ok=True)


def _read(entry: Any, now: float) -> tuple[float, int] | None:
    at, times = (entry.get("at"), entry.get("times")) if isinstance(entry, dict) else (None, None)
    if not isinstance(at, int | float) or not isinstance(times, int) or isinstance(at, bool) or isinstance(times, bool):
        return None
    usable = now - OLDEST <= at <= now and 1 <= times <= MOST_TIMES
    return (now - at, times) if usable else None
