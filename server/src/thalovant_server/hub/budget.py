# SPDX-License-Identifier: Apache-2.0
"""How many bytes the process may hold for its clients, and each client of them (architecture decision 11).

It will not know what the bytes are for, nor free anything: whoever takes gives back.
"""

from __future__ import annotations

from collections.abc import Hashable


class ByteBudget:
    """A counter with a ceiling, shared by every connection of the process.

    `most`: bytes for all. `share`: bytes for one owner, whatever it holds them with. `reserved`: the last bytes of
    `most`, which only owners get that hold no more than `little`: a few greedy ones cannot lock out the others.
    """

    __slots__ = ("_held", "_little", "_most", "_reserved", "_share", "_used")

    def __init__(self, most: int, *, share: int | None = None, reserved: int = 0, little: int = 0) -> None:
        self._most = most
        self._share = most if share is None else share
        self._reserved = reserved
        self._little = little
        self._used = 0
        self._held: dict[Hashable, int] = {}

    @property
    def used(self) -> int:
        """Bytes taken and not given back."""
        return self._used

    @property
    def owners(self) -> int:
        """Owners that hold something."""
        return len(self._held)

    def share(self, owner: Hashable, *, at_least: int = 0) -> Account:
        """The account of `owner`; all its accounts count together. `at_least` raises its bound to so many bytes."""
        return Account(self, owner, max(self._share, at_least))

    def held(self, owner: Hashable) -> int:
        """Bytes that `owner` has taken."""
        return self._held.get(owner, 0)

    def _take_for(self, owner: Hashable, count: int, most: int) -> bool:
        held = self.held(owner) + count
        rest = 0 if held <= self._little else self._reserved
        if held > most or self._used + count > self._most - rest:
            return False
        self._used += count
        self._keep(owner, held)
        return True

    def _give_for(self, owner: Hashable, count: int) -> None:
        self._used -= count
        self._keep(owner, self.held(owner) - count)

    def _keep(self, owner: Hashable, held: int) -> None:
        if held:
            self._held[owner] = held
        else:
            self._held.pop(owner, None)


class Account:
    """One owner's way to the budget, within its share. Made by `ByteBudget.share`."""

    __slots__ = ("_budget", "_most", "_owner")

    def __init__(self, budget: ByteBudget, owner: Hashable, most: int) -> None:
        self._budget = budget
        self._owner = owner
        self._most = most

    @property
    def used(self) -> int:
        """Bytes that the owner holds, through whatever account of its."""
        return self._budget.held(self._owner)

    def take(self, count: int) -> bool:
        """Take `count` bytes; False, and nothing taken, when the owner or the process holds too much already."""
        return self._budget._take_for(self._owner, count, self._most)

    def give(self, count: int) -> None:
        """Give back `count` bytes that were taken through an account of this owner."""
        self._budget._give_for(self._owner, count)
