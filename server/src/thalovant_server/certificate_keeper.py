# SPDX-License-Identifier: Apache-2.0
"""Keeps the server's certificates fresh while it runs: issued anew in time, read again when their files change.

Nobody who is connected notices. What cannot be used is logged with the way to mend it, and what was in use stays.
"""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import Callable

import structlog

from thalovant_server.certificate_source import CertificateSource, Served, Stamp
from thalovant_server.errors import ThalovantServerError

log = structlog.get_logger("thalovant.certificates")

LOOK_SECONDS = 5.0
AGAIN = datetime.timedelta(hours=1)  # after a failure, when no file changes meanwhile
WARN_BEFORE_END = datetime.timedelta(days=14)
WARN_EVERY = datetime.timedelta(days=1)

Clock = Callable[[], datetime.datetime]


def utc_now() -> datetime.datetime:
    """Return the time of day, in UTC."""
    return datetime.datetime.now(datetime.UTC)


class CertificateKeeper:
    """One task's work: `run`, until it is cancelled.

    Args:
        source: where certificates come from.
        served: what is in use, as `source` gave it.
        stamp: of the files from before `served` was read.
        use: takes new ones into use, on the event loop.
        clock: the time of day.
        look_seconds: how often to look at the files.
    """

    def __init__(
        self,
        source: CertificateSource,
        served: Served,
        stamp: Stamp,
        use: Callable[[Served], None],
        *,
        clock: Clock = utc_now,
        look_seconds: float = LOOK_SECONDS,
    ) -> None:
        self._source, self._served, self._use = source, served, use
        self._clock, self._look_seconds = clock, look_seconds
        self._read = self._seen = stamp
        self._due = served.due
        self._warn_at = clock()
        self._asked: list[Callable[[], None]] = []
        self._wake = asyncio.Event()

    def reload(self, done: Callable[[], None] = lambda: None) -> None:
        """Read everything again now, as SIGHUP wants it; `done` is called when that is over, well or not."""
        self._asked.append(done)
        self._wake.set()

    async def run(self) -> None:
        """Look, for ever."""
        while True:
            await self._wait()
            asked, self._asked = self._asked, []
            try:
                await self._look(bool(asked))
            except Exception:
                log.exception("certificates_not_looked_at")
            for done in asked:
                done()

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout(self._look_seconds):
                await self._wake.wait()
        except TimeoutError:
            return
        self._wake.clear()

    async def _look(self, asked: bool) -> None:
        stamp = await asyncio.to_thread(self._source.stamp)
        now = self._clock()
        # A change counts once it stands still for a look: a certificate and its key are not written at once.
        changed, still = stamp != self._read, stamp == self._seen
        self._seen = stamp
        if asked or now >= self._due or (changed and still):
            self._read = stamp
            await self._load(now, asked)
        self._warn_of_the_end(now)

    async def _load(self, now: datetime.datetime, asked: bool) -> None:
        try:
            served = await asyncio.to_thread(self._source.load, now)
        except ThalovantServerError as error:
            self._due = now + AGAIN
            log.error("certificates_kept", mend=error.sentence, note="those in use stay")  # noqa: TRY400 - a sentence
            return
        self._due = served.due
        if served.digest != self._served.digest:
            self._served = served
            self._use(served)
            log.info("certificates_changed", authority=served.authority.fingerprint)
            say_notes(served)
        elif asked:
            log.info("certificates_unchanged")

    def _warn_of_the_end(self, now: datetime.datetime) -> None:
        ends = self._served.ends
        if ends is None or now < max(ends - WARN_BEFORE_END, self._warn_at):
            return
        self._warn_at = now + WARN_EVERY
        log.warning("certificate_ends", on=f"{ends:%Y-%m-%d %H:%M} UTC", mend="renew the files of --certificate")


def say_notes(served: Served) -> None:
    """Log what the operator should read."""
    for note in served.notes:
        log.warning("certificates", note=note)
