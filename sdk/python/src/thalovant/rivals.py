# SPDX-License-Identifier: Apache-2.0
"""Two programs with one identity at a broker that keeps only the newest connection of a user, and says nothing of it.

Each would end the other's connection whenever it dials, for ever. What shows it is that a link ends without a word,
soon after it was up, time and again. Then the pauses grow as if the dials had failed, for calls too, and the error says
what is most likely wrong. Sans-I/O; it dials nothing and knows no clock.
"""

from __future__ import annotations

from typing import Final

from thalovant.diagnoses import diagnose, diagnosed
from thalovant.errors import ThalovantConnectionError

__all__ = ["HungUpError", "Rivals"]

STEADY: Final = 120.0
"""Seconds after which a link has stood: longer than a rival pauses, so that two that take turns never look steady."""
FIRST_PAUSE: Final = 5.0
LONGEST_PAUSE: Final = 60.0
SUSPICIOUS: Final = 3  # in a row: a broker that restarts, or `thalovant doctor` beside the program, is one


class HungUpError(ThalovantConnectionError):
    """The other side closed a link that was up, and did not say why."""


class Rivals:
    """Counts the links of one client that were cut without a word soon after they were up."""

    def __init__(self) -> None:
        self._cuts = 0

    def cut(self, stood: float) -> None:
        """Be told that a link which was up for `stood` seconds ended so."""
        self._cuts = 1 if stood >= STEADY else self._cuts + 1

    @property
    def suspected(self) -> bool:
        """Whether it can hardly be anything else."""
        return self._cuts >= SUSPICIOUS

    @property
    def pause(self) -> float:
        """Seconds to wait before the next dial, give or take half; 0 when there is no reason to wait longer."""
        return min(FIRST_PAUSE * 2.0 ** (min(self._cuts, 10) - 1), LONGEST_PAUSE) if self._cuts > 1 else 0.0

    def error(self, said: object) -> ThalovantConnectionError:
        """The error for whoever suffers from it; `said` is what the carrier told."""
        return diagnosed(HungUpError, diagnose("identity_in_use", said=said, times=self._cuts))
