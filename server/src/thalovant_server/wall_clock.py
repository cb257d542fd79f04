# SPDX-License-Identifier: Apache-2.0
"""The one clock of stored times, so that a test can hold it still. Formats nothing."""

from __future__ import annotations

import time
from collections.abc import Callable

Clock = Callable[[], int]
"""Returns microseconds since 1970, UTC."""

SECOND = 1_000_000


def now() -> int:
    """Return microseconds since 1970, UTC."""
    return time.time_ns() // 1000
