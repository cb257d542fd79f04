# SPDX-License-Identifier: Apache-2.0
"""Denials in the log: a client's first in a minute as a warning, those that follow as a number.

A client that may not do what it tries can try thousands of times a second. What is remembered is bounded.

It will not decide or send a denial, nor log what the client said.
"""

from __future__ import annotations

from collections import OrderedDict

import structlog

log = structlog.get_logger("thalovant.hub")

WINDOW_SECONDS = 60.0
# Clients remembered at once; when there are more, the one remembered longest is summed up early.
CLIENTS = 1_024


class DenialLog:
    """Who was denied lately, the longest ago first. Time is passed in: a monotonic clock in seconds."""

    __slots__ = ("_clients",)

    def __init__(self) -> None:
        self._clients: OrderedDict[str, tuple[float, int]] = OrderedDict()  # since when, and how many more

    def note(self, now: float, client_id: str, code: str, denied_type: str) -> None:
        """A client was denied: a warning, or one more of its number."""
        self._sum_up(now)
        known = self._clients.get(client_id)
        if known is not None:
            self._clients[client_id] = (known[0], known[1] + 1)
            return
        if len(self._clients) >= CLIENTS:
            self._say(*self._clients.popitem(last=False))
        self._clients[client_id] = (now, 0)
        log.warning("denied", code=code, client_id=client_id, denied_type=denied_type[:200])

    def close(self) -> None:
        """Say what was not said yet."""
        while self._clients:
            self._say(*self._clients.popitem(last=False))

    def _sum_up(self, now: float) -> None:
        while self._clients:
            since, _ = next(iter(self._clients.values()))
            if now - since < WINDOW_SECONDS:
                return
            self._say(*self._clients.popitem(last=False))

    def _say(self, client_id: str, known: tuple[float, int]) -> None:
        if known[1]:
            log.warning("denied_again", client_id=client_id, times=known[1])
