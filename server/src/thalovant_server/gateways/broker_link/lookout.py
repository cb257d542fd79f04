# SPDX-License-Identifier: Apache-2.0
"""Sees that no other server serves the same topics before this one begins to: two would take each other's clients.

A broker with one connection a user would drop the first server for the second, and the first would come back and drop
the second. So whoever comes looks at what the one that is there has said; a dead one's last will takes a while.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from thalovant_server.errors import BrokerTakenError
from thalovant_server.gateways.broker_link.presence import is_another, is_past

LOOK_SECONDS = 1.0  # between two looks


async def look_out(
    where: str,
    read: Callable[[], Awaitable[bytes | None]],
    instance: bytes,
    patience: float,
    *,
    is_ours: bool = False,
    pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> None:
    """Return once no other server is there.

    Args:
        where: the broker, as `host:port`.
        read: returns what is retained as the server's presence.
        instance: ours.
        patience: seconds that the last will of a dead server may take.
        is_ours: whether the broker is this server's own child, and so has heard no will since it was started.
        pause: waits so many seconds.

    Raises:
        BrokerTakenError: another one is there, and stays.
        BrokerAwayError, BrokerRefusedError: the broker cannot be asked.
    """
    waited = 0.0
    while is_another(said := await read(), instance):
        # After a power cut the broker still has what the server said before, and will never have its last will.
        if is_past(said, instance) and (is_ours or waited >= patience):
            return
        if waited >= patience:
            raise BrokerTakenError(
                where,
                "is served by another thalovant-server, which has the same topics: stop that one, or give this one "
                "topics of its own with --broker-root NAME. (Where that one is gone for good, remove its retained "
                "message from the topic server/status below the root)",
            )
        await pause(LOOK_SECONDS)
        waited += LOOK_SECONDS
