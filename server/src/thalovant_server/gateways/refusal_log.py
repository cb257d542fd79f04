# SPDX-License-Identifier: Apache-2.0
"""Refusals in the log: the first of a kind in a minute as a warning, its repetitions as a number.

A poller whose key was revoked knocks 18 times a second (contract section 10.2) and would otherwise fill a disk. Each
single one is the hub's debug line. What is remembered is bounded, and with it what is written.

It will not log a key: a fingerprint tells two of them apart, and means nothing outside this process.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable

import structlog

from thalovant_server.hub.refusal import Refusal

log = structlog.get_logger("thalovant.refusals")

WINDOW_SECONDS = 60.0
# Kinds of refusals a minute; who comes after that is only counted.
KINDS = 1_024

_SALT = secrets.token_bytes(16)


class RefusalLog:
    """The refusals of one carrier. `now` is a monotonic clock in seconds."""

    __slots__ = ("_carrier", "_now", "_seen", "_since", "_unsaid")

    def __init__(self, carrier: str, now: Callable[[], float]) -> None:
        self._carrier = carrier
        self._now = now
        self._since = now()
        self._seen: set[tuple[str, str, str]] = set()
        self._unsaid = 0

    def note(self, why: Refusal, remote: str, access_key: str = "") -> None:
        """Somebody at the address `remote` was refused; a warning, once a minute per code, address and key."""
        self._turn_over()
        key = fingerprint(access_key)
        kind = (why.code, remote, key)
        if kind in self._seen or len(self._seen) >= KINDS:
            self._unsaid += 1
            return
        self._seen.add(kind)
        log.warning("refused", carrier=self._carrier, code=why.code, remote=remote, fingerprint=key)

    def _turn_over(self) -> None:
        now = self._now()
        if now - self._since < WINDOW_SECONDS:
            return
        if self._unsaid:
            log.warning("refused_again", carrier=self._carrier, times=self._unsaid)
        self._since = now
        self._unsaid = 0
        self._seen.clear()


def fingerprint(access_key: str) -> str:
    """Eight hex digits that stand for a key in this process's log."""
    return hashlib.blake2b(access_key.encode("utf-8", "replace"), digest_size=4, key=_SALT).hexdigest()
