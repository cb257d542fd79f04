# SPDX-License-Identifier: Apache-2.0
"""The HTTPS carrier as every hub speaks it: frames are posted, and fetched by polling, over one line (contract 10.2).

One task does all of it, so that sends and polls stay in order: it sends what is queued, then asks for what the hub
holds: clear frames until the session is up, sealed ones from then on. It asks again after 5 to 20 ms while an answer
is awaited and every 100 ms otherwise. A connection that ended between two requests is dialled again. One that breaks
while a request is under way loses the link: its answer may have held a frame, and a session cannot go on without it.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from thalovant.errors import ThalovantConnectionError
from thalovant.protocol.exchange import Frame
from thalovant.transports.http_line import HttpLine
from thalovant.transports.hub_requests import HubRequests

__all__ = ["MAX_WAITING", "Owner", "Polling"]

IDLE_PAUSE = 0.1
FIRST_PAUSE = 0.005
LONGEST_PAUSE = 0.02
CLOSE_PATIENCE = 1.0
MAX_WAITING = 64


class Owner(Protocol):
    """What the carrier's modes need of the carrier."""

    @property
    def expecting(self) -> bool:
        """Whether an answer is awaited."""

    @property
    def send_timeout(self) -> float:
        """Seconds without a sign of the hub until a request is given up."""

    async def dial(self, line: HttpLine) -> None:
        """Dial a line in time. Raises ThalovantConnectionError."""

    def received(self, data: bytes | str, sealed: bool) -> None:
        """A frame came. What it raises loses the link."""

    def lost(self, error: Exception) -> None:
        """The link is lost."""


class Polling:
    """One admission at the hub, fetched by polling until `done` says that there is a better way."""

    def __init__(self, owner: Owner, requests: HubRequests, line: HttpLine, done: Callable[[], bool]) -> None:
        """`done`: asked after each poll; once it is True the task ends, and `line` and `waiting` are the caller's."""
        self._owner = owner
        self._requests = requests
        self._line = line
        self._done = done
        self.waiting: deque[Frame] = deque()
        self._wake = asyncio.Event()
        self._room = asyncio.Event()
        self._over = False
        self._sealed = False
        self._task = asyncio.create_task(self._work(), name="thalovant-https-poll")

    @property
    def congested(self) -> bool:
        """Whether so many frames wait that the sender should."""
        return len(self.waiting) >= MAX_WAITING and not self._over

    def put(self, frame: Frame) -> None:
        """Queue a frame; dropped when the link is over."""
        if not self._over:
            self.waiting.append(frame)
            self._wake.set()

    def ready(self) -> None:
        """Fetch sealed frames from now on."""
        self._sealed = True

    async def drain(self) -> None:
        """Wait until fewer frames wait."""
        while self.congested:
            self._room.clear()
            await self._room.wait()

    def check(self, seconds: float) -> None:
        """Nothing to do: each poll is a question that must be answered."""

    async def close(self) -> None:
        """Send what is queued, then POST /disconnect."""
        self._over = True
        self._room.set()
        self._wake.set()
        try:
            async with asyncio.timeout(CLOSE_PATIENCE):
                await asyncio.shield(self._task)
        except TimeoutError:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        finally:
            self._line.hang_up()
        await self._line.gone()

    async def _work(self) -> None:
        try:
            if await self._send_and_poll():
                return
            await self._asked("disconnect")
        except Exception as error:  # noqa: BLE001 - whatever ends this task has ended the link
            self._line.hang_up()
            if not self._over:
                self._over = True
                self._room.set()
                self._owner.lost(error)

    async def _send_and_poll(self) -> bool:
        """Until it is over; True when there is a better way."""
        pause = FIRST_PAUSE
        while not self._over:
            if await self._send_waiting() | await self._poll():
                pause = FIRST_PAUSE
            if self._goes_over():
                return True
            if not self.waiting:
                await self._rest(pause if self._owner.expecting or not self._sealed else IDLE_PAUSE)
            pause = min(pause * 1.5, LONGEST_PAUSE)
        await self._send_waiting()
        return False

    def _goes_over(self) -> bool:
        if self._over or not self._done():
            return False
        self._over = True
        self._room.set()
        return True

    async def _send_waiting(self) -> bool:
        sent = False
        while self.waiting:
            sealed, data = self.waiting[0]
            text = base64.b64encode(data).decode("ascii") if sealed else data.decode()
            await self._asked("send_message", {"message": text, "binary": "1"} if sealed else {"message": text})
            self.waiting.popleft()
            self._room.set()
            sent = True
        return sent

    async def _poll(self) -> bool:
        if self._over:
            return False
        sealed = self._sealed
        frames = await (self._sealed_frames() if sealed else self._clear_frames())
        for frame in frames:
            if not self._over:
                self._owner.received(frame, sealed)
        return bool(frames)

    async def _clear_frames(self) -> list[str]:
        return _texts(await self._asked("get_messages"), "messages")

    async def _sealed_frames(self) -> list[bytes]:
        held = _texts(await self._asked("get_binary_messages"), "b64_messages")
        try:
            return [base64.b64decode(text, validate=True) for text in held]
        except binascii.Error:
            raise ThalovantConnectionError("The hub's answer holds a frame that is not base64.") from None

    async def _asked(self, name: str, fields: dict[str, str] | None = None) -> dict[str, Any]:
        request = self._requests.plain(name) if fields is None else self._requests.form(name, fields)
        if not self._line.connected:
            await self._owner.dial(self._line)
        return self._requests.json(name, await self._line.ask(request, self._owner.send_timeout))

    async def _rest(self, seconds: float) -> None:
        """Wait, unless there is something to send or the end has come."""
        self._wake.clear()
        if self._over:
            return
        alarm = asyncio.get_running_loop().call_later(seconds, self._wake.set)
        try:
            await self._wake.wait()
        finally:
            alarm.cancel()


def _texts(body: dict[str, Any], key: str) -> list[str]:
    texts = body.get(key)
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise ThalovantConnectionError(f"The hub's answer has no list of texts in {key!r}.")
    return texts
