# SPDX-License-Identifier: Apache-2.0
"""How many bytes the whole process may hold for its clients (architecture decision 11).

It will not know what the bytes are for, nor free anything: whoever takes gives back.
"""


class ByteBudget:
    """A counter with a ceiling, shared by every connection of the process."""

    __slots__ = ("_most", "_used")

    def __init__(self, most: int) -> None:
        self._most = most
        self._used = 0

    @property
    def used(self) -> int:
        """Bytes taken and not given back."""
        return self._used

    def take(self, count: int) -> bool:
        """Take `count` bytes; False, and nothing taken, when that would pass the ceiling."""
        if self._used + count > self._most:
            return False
        self._used += count
        return True

    def give(self, count: int) -> None:
        """Give back `count` bytes that were taken."""
        self._used -= count
