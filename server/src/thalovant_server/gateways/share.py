# SPDX-License-Identifier: Apache-2.0
"""What one connection holds of the bytes that the whole process may hold (architecture decision 11).

It will not decide what is counted, nor what happens when there is no more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from thalovant_server.hub.budget import Account, ByteBudget

# The beginning of a packet or frame whose rest is on its way. Counting so little would cost more than it does.
UNCOUNTED = 4 * 1024


def strangers_of(budget: ByteBudget) -> Account:
    """The one account of all who did not log in yet: together they hold no more than one client may."""
    return budget.share("")


class Share:
    """One connection's part of an account."""

    __slots__ = ("_account", "_held")

    def __init__(self, account: Account) -> None:
        self._account = account
        self._held = 0

    def hold(self, count: int) -> bool:
        """Hold exactly `count` bytes from now on; False, and all as before, when the account has no more."""
        more = count - self._held
        if more > 0 and not self._account.take(more):
            return False
        if more < 0:
            self._account.give(-more)
        self._held = count
        return True

    def hold_partial(self, count: int) -> bool:
        """As `hold`, for `count` bytes that are not yet a whole message: a few KiB of those go uncounted."""
        return self.hold(count if count > UNCOUNTED else 0)

    def release(self) -> None:
        """Hold nothing any more."""
        self.hold(0)
