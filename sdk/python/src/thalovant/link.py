# SPDX-License-Identifier: Apache-2.0
"""One Noise session on one carrier: from opening the carrier to losing it, never used twice.

It carries out what `protocol.session` says and tells its owner what came. It keeps no pin, dials nothing again and
does not know what an ask is. Frames run through it within the carrier's read callback, without a task between.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import TypeAlias

from thalovant.diagnoses import diagnose, diagnosed, of_refusal
from thalovant.errors import ThalovantConnectionError, ThalovantHubRefusedError, ThalovantTimeoutError
from thalovant.last_word import OTHER_KEY, loss_of
from thalovant.protocol import noise
from thalovant.protocol.binary import BinaryFrame
from thalovant.protocol.messages import HiveMessage
from thalovant.protocol.session import (
    ClientSession,
    Failed,
    NeedPsk,
    Output,
    Ready,
    Received,
    ReceivedBinary,
    SendClear,
    SendSealed,
    clear_hello,
)
from thalovant.rivals import HungUpError
from thalovant.transports.base import Loss, Transport

__all__ = ["HandshakeFailedError", "HandshakeTimeoutError", "Incoming", "Link"]

REFUSING_CODES = (1000, 1005, 1008)
BUSY_CODES = (1012, 1013)
STANDING = ("client_paused/told", "mqtt_elsewhere")  # what a hub says of a session that was up, too
REFUSAL_WINDOW = 0.75  # seconds after the handshake (contract 10.1)
KK_PATIENCE = 5.0  # seconds for message 2 where a hub refuses by silence
MAX_SESSIONS = 256
QUIET_LOOKS = 2  # looks at a silent link before it is asked for a sign of life


Incoming: TypeAlias = HiveMessage | BinaryFrame
"""What a hub sends inside a session; a frame is one of type `bin`."""


class HandshakeTimeoutError(ThalovantConnectionError, ThalovantTimeoutError):
    """The hub was reached and did not complete the handshake in time."""

    code = "handshake_timeout"


class HandshakeFailedError(ThalovantConnectionError):
    """The handshake failed; `reason` is the code of `protocol.session.Failed`."""

    code = "handshake_failed"

    def __init__(self, failed: Failed) -> None:
        super().__init__(failed.text)
        self.reason = failed.code


class Link:
    """A session on a carrier. Open it, `send` on it, `close` it.

    `on_message` gets the link and each message of the hub. `on_lost` gets the link and an error that says why it ended
    by itself: at most once, only after `open` has returned, never after `close`.
    """

    def __init__(
        self,
        transport: Transport,
        session: ClientSession,
        session_id: str,
        site_id: str,
        password: str,
        *,
        on_message: Callable[[Link, Incoming], None],
        on_lost: Callable[[Link, ThalovantConnectionError], None],
    ) -> None:
        self.transport = transport
        self.session = session
        self.session_id = session_id
        self._site_id = site_id
        self._password = password
        self._on_message = on_message
        self._on_lost = on_lost
        self._loop = asyncio.get_running_loop()
        self._ready: asyncio.Future[Ready] = self._loop.create_future()
        self._stretching: asyncio.Task[None] | None = None
        self._deadline: asyncio.Timeout | None = None
        self._is_open = False  # `open` has returned
        self.heard = False  # a frame of the hub has authenticated
        self.stretched: bytes | None = None
        self._sent = False  # anything but the HELLO
        self._told = asyncio.Event()  # the hub has been heard, or the link is over
        self.hung_up_on = False  # right after the handshake, by who has no word for a refusal
        self.hung_up_idle = False  # the same, and nothing but the HELLO was sent: it can only be about the handshake
        self.refused_at_once = False  # right after the handshake, before anything of the hub authenticated
        self.dropped = False  # ended by itself, not by `close`
        self._closed = False
        self._sessions: dict[str, None] = {}
        self._users = 0
        self._unused = asyncio.Event()
        self._quiet = 0  # looks in a row that found nothing heard
        self.error: ThalovantConnectionError | None = None
        self.opened_at: float | None = None
        self.ready_at: float | None = None

    @property
    def handled_is_last(self) -> bool:
        """Whether this hub's `ovos.utterance.handled` is always the very last event of an ask."""
        return "handled" in self.session.hub_capabilities

    async def open(self, handshake_timeout: float) -> Ready:
        """Open the carrier and shake hands; what the hub showed is returned, nothing of it is kept here.

        Raises `ThalovantConnectionError` and its like, `HandshakeFailedError` and `HandshakeTimeoutError`. The
        carrier is left to `close` in every case.
        """
        await self.transport.open(self._receive, self._carrier_lost)
        self._note_opening()
        if self.transport.speaks_first:
            self.transport.send_clear(clear_hello(self.session_id, self._site_id))
        try:
            async with asyncio.timeout(handshake_timeout) as self._deadline:
                ready = await self._ready
        except TimeoutError:
            raise self._too_late(handshake_timeout) from None
        self._is_open = True
        return ready

    def send(self, message: HiveMessage) -> None:
        """Seal and queue a message. Raises what `ClientSession.send` raises."""
        frames = [output.frame for output in self.session.send(message)]
        self._sent = True
        self.transport.send_sealed(frames)

    def note_session(self, session_id: str | None) -> None:
        """Something was said in this session; the latest ones are known to `has_session`."""
        if session_id is not None and session_id != self.session_id and session_id not in self._sessions:
            self._sessions[session_id] = None
            if len(self._sessions) > MAX_SESSIONS:
                del self._sessions[next(iter(self._sessions))]

    def has_session(self, session_id: str | None) -> bool:
        """Whether an event of this session answers what was said on this link."""
        return session_id == self.session_id or session_id in self._sessions

    def hold(self) -> None:
        """Somebody waits for something on this link: it is not to be closed for a better one yet."""
        self._users += 1

    def release(self) -> None:
        """One that held it waits no more."""
        self._users -= 1
        if not self._users:
            self._unused.set()

    async def unused(self) -> None:
        """Wait until nobody holds it."""
        while self._users:
            self._unused.clear()
            await self._unused.wait()

    def look_after(self, seconds: float) -> None:
        """To be called every second while an answer is awaited: ask a hub that is silent for two for a sign of life.

        The link is lost when none comes within about so many `seconds`.
        """
        self._quiet += 1
        if self._quiet == QUIET_LOOKS:
            self.transport.check(seconds)
        elif self._quiet >= QUIET_LOOKS + seconds:
            self._quiet = 0

    async def settle(self) -> None:
        """Send nothing until the hub has spoken, hung up, or had its time to (`REFUSAL_WINDOW`)."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(REFUSAL_WINDOW):
                await self._told.wait()

    async def close(self) -> None:
        """End the session and the carrier. Does nothing the second time."""
        if self._closed:
            return
        self._closed = True
        self.error = self.error or ThalovantConnectionError("The connection was closed.")
        if not self._ready.cancel() and not self._ready.cancelled():
            self._ready.exception()  # has been seen: a failure that `open` did not get to wait for
        stretching = self._stretching
        if stretching is not None:
            stretching.cancel()
        try:
            await self.transport.close()  # first, and begun before this yields: the carrier may get another link
        finally:
            if stretching is not None:
                await asyncio.gather(stretching, return_exceptions=True)

    def _receive(self, data: bytes | str, sealed: bool | None) -> None:
        if self.error is not None:
            return
        self._note_opening()
        self._quiet = 0
        session = self.session
        greeted, inside = session.state == "hello", session.state == "ready"
        if isinstance(data, bytes) and sealed is not False:
            outputs = session.receive(data) if sealed is None else session.receive_sealed(data)
        else:
            outputs = session.receive_clear(data)
        if greeted and session.state != "hello":
            self.transport.announced(session.hub_capabilities)
        if inside and session.state == "ready" and session.heard:
            self.heard = True
            self._told.set()
        self._perform(outputs)

    def _note_opening(self) -> None:
        """The carrier stands when it says so, or when the first frame comes, which may be earlier."""
        if self.opened_at is None:
            self.opened_at = time.monotonic()

    def _perform(self, outputs: list[Output]) -> None:
        for output in outputs:
            if isinstance(output, Received):
                self._on_message(self, output.message)
            elif isinstance(output, ReceivedBinary):
                self._on_message(self, output.frame)
            elif isinstance(output, SendSealed):
                self.transport.send_sealed([output.frame])
            elif isinstance(output, SendClear):
                self.transport.send_clear(output.data)
                self._shorten_patience()
            elif isinstance(output, NeedPsk):
                self._stretching = asyncio.create_task(self._stretch(output.node_id), name="thalovant-stretch")
            elif isinstance(output, Ready):
                self._session_is_up(output)
            elif isinstance(output, Failed):
                self._fail(self._failed(output))

    async def _stretch(self, node_id: str) -> None:
        psk = await asyncio.to_thread(noise.stretch, self._password, node_id)
        if self.error is None:
            self.stretched = psk
            self._perform(self.session.provide_psk(psk))

    def _session_is_up(self, ready: Ready) -> None:
        self.ready_at = time.monotonic()
        self.transport.ready()
        if not self._ready.done():
            self._ready.set_result(ready)

    def _shorten_patience(self) -> None:
        """A hub that refuses KK says so by silence where it cannot close the carrier; XX is tried then."""
        if self.session.pattern == "KKpsk0" and self.transport.speaks_first and self._deadline is not None:
            due = self._deadline.when()
            patience = self._loop.time() + KK_PATIENCE
            self._deadline.reschedule(patience if due is None else min(due, patience))

    def _carrier_lost(self, loss: Loss) -> None:
        self._fail(self._error_of(loss))

    def _failed(self, failed: Failed) -> ThalovantConnectionError:
        if failed.refusal is not None:
            return self._error_of(loss_of(failed.refusal, failed.text))
        return HandshakeFailedError(failed) if self.ready_at is None else _broken(failed)

    def _error_of(self, loss: Loss) -> ThalovantConnectionError:
        young = self._is_young(polled=loss.refused)
        self.hung_up_on = loss.hung_up and not loss.has_words and young and self.ready_at is not None
        self.hung_up_idle = self.hung_up_on and not self._sent
        if loss.error is not None:
            return loss.error
        refusing = loss.refused or (loss.close_code in REFUSING_CODES and young)
        if not refusing:
            if loss.close_code in BUSY_CODES:
                code = of_refusal(loss.text) or "server_busy"
                return diagnosed(ThalovantConnectionError, diagnose(code, told=loss.text))
            return HungUpError(loss.text) if self._may_be_a_rivals(loss) else ThalovantConnectionError(loss.text)
        self.refused_at_once = young and self.ready_at is not None and loss.refusal in ("", OTHER_KEY)
        said = of_refusal(loss.text)
        later = said if said in STANDING else "credential_withdrawn"
        code = (said or "credential_refused") if young else later
        told = f"{loss.text} It does not accept this identity." if young else loss.text
        protocol = self.transport.protocol.upper()
        return diagnosed(ThalovantHubRefusedError, diagnose(code, told=told, said=told, protocol=protocol))

    def _may_be_a_rivals(self, loss: Loss) -> bool:
        """Whether a broker may have done that because another program came; a hub may have, for what was asked of it.

        A hub that has words for that uses them; in MQTT 3.1.1 it has none.
        """
        about_us = loss.hung_up and not loss.has_words and self._users
        return self.ready_at is not None and (
            loss.taken_over or (loss.hung_up and not loss.says_takeover and not about_us)
        )

    def _is_young(self, *, polled: bool) -> bool:
        """Whether the hub may still be judging the handshake: nothing of it has authenticated, and little time passed.

        A polling carrier needs some round trips to hear of it; the handshake has shown how long those are.
        """
        if self.ready_at is None or self.heard:
            return not self.heard
        shaking_hands = self.ready_at - (self.opened_at or self.ready_at)
        window = max(REFUSAL_WINDOW, 2 * shaking_hands) if polled else REFUSAL_WINDOW
        return time.monotonic() - self.ready_at <= window

    def _fail(self, error: ThalovantConnectionError) -> None:
        if self.error is not None:
            return
        self.error = error
        self.dropped = True
        self._told.set()
        if self._is_open:
            self._on_lost(self, error)
        elif not self._ready.done():
            self._ready.set_exception(error)

    def _too_late(self, seconds: float) -> HandshakeTimeoutError:
        if self.session.state == "hello":
            return diagnosed(HandshakeTimeoutError, diagnose("hub_silent", seconds=f"{seconds:g}"))
        return diagnosed(HandshakeTimeoutError, diagnose("handshake_slow", seconds=f"{seconds:g}"))


def _broken(failed: Failed) -> ThalovantConnectionError:
    return ThalovantConnectionError(f"The session ended: {failed.text}")
